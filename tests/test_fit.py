"""What a fit reports: restarts, types, families by code, the kernel, units."""

import dataclasses

import jax
import numpy as np
import pytest

import jaxgmm
from jaxgmm import Status, UsageError
from tests.helpers import (
    D,
    K,
    N,
    start,
)
from tests.oracles import numpy_gmm as oracle


def fit(x, family="full", **options):
    """A fit from the poor start of the small data."""
    return jaxgmm.fit(x, K, **{"covariance_type": family, "init": start(family)} | options)


def test_restarts_are_all_reported(small):
    result = jaxgmm.fit(small.x, K, key=3, n_restarts=8, init="random_from_data", max_iter=300)
    shapes = {a.shape for a in (result.restart_log_likelihoods, result.restart_status, result.restart_n_iter)}
    assert shapes == {(8,)}
    assert result.restart_history.shape[0] == 8
    best = result.best_restart
    assert result.log_likelihood == result.restart_log_likelihoods[best] == result.restart_log_likelihoods.max()
    assert result.n_iter == result.restart_n_iter[best] == len(result.history) - 1
    assert result.history[-1] == pytest.approx(result.log_likelihood, rel=1e-12)
    near = np.abs(result.restart_log_likelihoods - result.log_likelihood) <= 1e-5 * (1 + abs(result.log_likelihood))
    assert result.best_share == near.mean()
    assert 1 / 8 <= result.best_share < 1
    # More restarts can only do better than the first few of them did.
    assert len(set(np.round(result.restart_log_likelihoods, 3))) > 1


def test_the_share_of_the_best_counts_no_failures(small):
    """A singular restart often has a higher, meaningless likelihood: it did not reach the best optimum."""
    healthy = fit(small.x, max_iter=3)
    log_likelihood = healthy.log_likelihood
    result = dataclasses.replace(
        healthy,
        restart_log_likelihoods=log_likelihood + np.array([0.0, -50.0, 0.0, 900.0, -np.inf]),
        restart_status=np.array([Status.CONVERGED, Status.CONVERGED] + 3 * [Status.SINGULAR]),
        best_restart=0,
    )
    assert result.best_share == 0.2


def test_codes_of_mclust_name_the_families(small):
    codes = {
        "VVV": "full",
        "EEE": "tied",
        "VVI": "diag",
        "VII": "spherical",
        "EEI": "tied_diag",
        "EII": "tied_spherical",
    }
    for code, name in codes.items():
        result = jaxgmm.fit(small.x, K, covariance_type=code, init=start(name), max_iter=1)
        assert result.covariance_type == name


def test_types_of_a_result(small, dtype):
    result = fit(small.x.astype(dtype), max_iter=3, sample_weight=small.counts)
    assert result.params.dtype == dtype
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(result.params))
    assert (result.n_components, result.n_features, result.n_samples) == (K, D, N)
    assert result.weight_sum == small.counts.sum()
    assert result.n_parameters == oracle.n_parameters("full", K, D)
    assert result.score == pytest.approx(result.log_likelihood / small.counts.sum())
    for name in ("log_likelihood", "score", "aic", "bic", "icl", "best_share"):
        assert isinstance(getattr(result, name), float), name
    assert result.options["max_iter"] == 3
    assert result.options["tol"] == pytest.approx(1e-8)
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.params.weights = None


# The kernel


def test_the_kernel_is_reported_and_can_be_chosen(small):
    by = {name: jaxgmm.fit(small.x, K, init=start("full"), kernel=name) for name in ("auto", "features", "whitening")}
    assert by["auto"].kernel == by["features"].kernel == "features"
    assert by["whitening"].kernel == "whitening"
    assert by["features"].log_likelihood == pytest.approx(by["whitening"].log_likelihood, rel=1e-12)
    with pytest.raises(UsageError, match=r"kernel 'feature'; did you mean 'features'"):
        jaxgmm.fit(small.x, K, key=0, kernel="feature")


# Units


@pytest.mark.parametrize("exponent", [-300, -40, 30, 300])
def test_a_power_of_two_changes_the_units_and_nothing_else(small, exponent):
    """Squares of such data would leave the floating range in plain arithmetic."""
    unit = 2.0**exponent
    plain = jaxgmm.fit(small.x, K, init=start("full"), reg_covar=0.0, max_iter=5, tol=0.0)
    begin = start("full")
    begin = dataclasses.replace(begin, means=begin.means * unit, covariances=begin.covariances * unit * unit)
    scaled = jaxgmm.fit(small.x * unit, K, init=begin, reg_covar=0.0, max_iter=5, tol=0.0)
    np.testing.assert_array_equal(scaled.params.weights, plain.params.weights)
    np.testing.assert_array_equal(scaled.params.means, plain.params.means * unit)
    np.testing.assert_array_equal(scaled.params.covariances, plain.params.covariances * unit * unit)
    volume = N * D * exponent * np.log(2.0)
    assert scaled.log_likelihood == pytest.approx(plain.log_likelihood - volume, rel=1e-12)
