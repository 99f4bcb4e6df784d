"""Where a fit begins: the methods by name, the key, and starts that are given."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm
from jaxgmm._checks import precision_context
from jaxgmm.stats import collect_assigned
from jaxgmm.steps import m_step
from tests.helpers import (
    D,
    K,
    N,
    assert_params_close,
    params_distance,
    params_of,
    parts_of,
    start,
    tolerance,
)
from tests.oracles import numpy_gmm as oracle


@pytest.mark.parametrize("init", jaxgmm.INIT_METHODS)
def test_the_same_key_gives_the_same_fit(small, init):
    options = {"covariance_type": "diag", "init": init, "n_restarts": 3, "max_iter": 20}
    one, two, other = (jaxgmm.fit(small.x, K, key=key, **options) for key in (5, jax.random.key(5), 6))
    assert one.init == init
    np.testing.assert_array_equal(one.restart_log_likelihoods, two.restart_log_likelihoods)
    for a, b in zip(jax.tree.leaves(one.params), jax.tree.leaves(two.params), strict=True):
        np.testing.assert_array_equal(a, b)
    if init == "orthant":
        assert len(one.restart_status) == 1
        np.testing.assert_array_equal(one.history, other.history)
    else:
        assert len(one.restart_status) == 3
        assert (one.restart_history[:, 0] != other.restart_history[:, 0]).any()
        assert len(set(one.restart_history[:, 0])) > 1


def test_a_start_depends_on_the_rows_not_on_their_padding(small):
    """Rows of weight 0 and the size of the bucket leave a random start alone."""
    options = {"covariance_type": "diag", "key": 2, "max_iter": 0}
    plain = jaxgmm.fit(small.x[:100], K, **options)
    padded = jaxgmm.fit(small.x, K, sample_weight=np.arange(N) < 100, **options)
    assert_params_close(padded.params, plain.params, tolerance(np.float64, 1000))


@pytest.mark.parametrize("init", ["kmeans", "random"])
def test_every_family_from_every_kind_of_start(small, family, init):
    result = jaxgmm.fit(small.x, K, covariance_type=family, key=0, init=init, tol=1e-10)
    assert result.converged
    assert result.covariance_type == family
    assert result.params.means.shape == (K, D)
    assert result.params.weights.sum() == pytest.approx(1)
    assert np.diff(result.history).min() > -1e-3  # reg_covar is above 0
    # Better than the one Gaussian that the best single component gives.
    one = oracle.e_step(small.x, *oracle.m_step(small.x, np.ones((N, 1)), family), family)[1]
    assert result.log_likelihood > one


def test_given_starts_lead_to_the_same_fit(small):
    x, labels = small.x, small.labels
    hard = np.eye(K)[labels]
    wanted, absolute = params_of(oracle.m_step(x, hard, "full", 1e-6), "full"), {"reg_kind": "absolute"}
    weights, means, covariances, _ = parts_of(wanted)
    starts = {
        "labels": jaxgmm.params_from_labels(x, labels, **absolute),
        "names": jaxgmm.params_from_labels(x, np.array(["a", "b", "c"])[labels], **absolute),
        "responsibilities": jaxgmm.params_from_responsibilities(x, hard, **absolute),
        "params": jaxgmm.make_params(weights, means, covariances),
        "precisions": jaxgmm.make_params(weights, means, precisions=np.linalg.inv(covariances)),
    }
    for name, init in starts.items():
        assert params_distance(init, wanted) < 1e-9, name
        result = jaxgmm.fit(x, K, init=init, max_iter=3, **absolute)
        assert result.init == "given"
        expected = oracle.fit(x, weights, means, covariances, "full", 3, 1e-6)[1]
        np.testing.assert_allclose(result.history, expected, rtol=1e-9)


@pytest.mark.parametrize("shift", [0.0, 1000.0])
def test_a_start_from_means_takes_the_nearest_rows(small, shift):
    centres = np.array([[5.0, -3.0, 2.0], [6.5, -1.5, 1.0], [4.0, -2.0, 4.0]]) + shift
    x = small.x + shift
    nearest = ((x[:, None] - centres) ** 2).sum(axis=2).argmin(axis=1)
    found = jaxgmm.params_from_means(x, centres, covariance_type="diag")
    assert_params_close(found, jaxgmm.params_from_labels(x, nearest, covariance_type="diag"), 1e-12)


def test_moments_of_a_hard_partition(family, dtype):
    """Narrow groups far apart, a row of none, and rows of weight 0 that are not finite; the pivots are near."""
    rng = np.random.default_rng(3)
    centres = np.array([[10.0, 0.0, -5.0], [-10.0, 2.0, 0.0], [0.0, 8.0, 10.0]])
    labels = np.arange(80) % (K + 1)
    x = np.append(centres, [[1e3, 1e3, 1e3]], axis=0)[labels] + rng.integers(-64, 65, (80, D)) / 256
    weight = rng.integers(1, 4, 80).astype(np.float64)
    weight[:8] = 0.0
    owner = np.eye(K + 1)[labels][:, :K]
    wanted = params_of(oracle.m_step(x, owner, family, sample_weight=weight * owner.sum(axis=1)), family)
    x[:8] = np.nan
    with precision_context(dtype):
        start_rows = (jnp.asarray(x, dtype), jnp.asarray(owner, dtype))
        pivot = jnp.asarray(centres + 0.125, dtype)
        stats = collect_assigned(lambda _, own: own, start_rows, jnp.asarray(weight, dtype), pivot, family)
        blank = jax.tree.map(lambda a: jnp.asarray(a, dtype), start(family))
        found = m_step(blank, stats, 0.0)
    assert float(stats.weight_sum) == weight.sum()
    assert params_distance(found, wanted) < tolerance(dtype, 100)


def test_precisions_in_every_family(small, family):
    params = start(family)
    weights, means, covariances, _ = parts_of(params)
    matrix = family in ("full", "tied")
    precisions = np.linalg.inv(covariances) if matrix else 1 / covariances
    made = jaxgmm.make_params(weights, means, covariance_type=family, precisions=precisions)
    assert_params_close(made, params, 1e-12)


def test_a_start_may_have_inactive_components(small):
    weights, means, covariances, _ = parts_of(start("full", 2))
    padded = params_of(
        (np.append(weights, 0.0), np.vstack([means, [[0, 0, 0]]]), np.concatenate([covariances, np.eye(3)[None]])),
        "full",
    )
    result = jaxgmm.fit(small.x, K, init=padded, max_iter=5)
    assert result.empty_components == (2,)
    smaller = jaxgmm.fit(small.x, 2, init=start("full", 2), max_iter=5)
    np.testing.assert_allclose(result.history, smaller.history, rtol=1e-12)
