"""Stepwise EM: statistics averaged over batches, against EM itself and against arithmetic written out."""

import itertools
import pickle
from functools import partial

import jax
import numpy as np
import optax
import pytest

from jaxgmm import (
    DataError,
    FitError,
    GaussianMixture,
    UsageError,
    fit,
    fit_stepwise,
    make_params,
    responsibilities,
    score,
)
from jaxgmm._checks import precision_context
from jaxgmm.scale import stepwise
from tests.helpers import D, K, N, start

FAMILIES = ("full", "tied", "diag", "spherical", "tied_diag", "tied_spherical")


def mixture(n_rows, seed=0, drift=0.0):
    """Rows in random order from three clouds, whose first coordinate moves by `drift` from the first to the last."""
    rng = np.random.default_rng(seed)
    means = np.array([[-4.0, 0.0], [0.0, 3.0], [5.0, -1.0]])
    x = means[rng.choice(3, n_rows, p=[0.5, 0.3, 0.2])] + rng.normal(size=(n_rows, 2)) * [1.0, 0.7]
    x[:, 0] += drift * np.linspace(0.0, 1.0, n_rows)
    return x


@pytest.mark.parametrize("family", FAMILIES)
def test_one_batch_of_all_rows_is_an_iteration_of_em(small, family):
    there = fit_stepwise(small.x, K, init=start(family), covariance_type=family, batch_size=N)
    here = fit(small.x, K, init=start(family), covariance_type=family, max_iter=1)
    for name in ("weights", "means", "covariances"):
        np.testing.assert_allclose(getattr(there.params, name), getattr(here.params, name), rtol=1e-9, atol=1e-12)
    assert there.scores == pytest.approx([here.restart_history[0][0] / N], rel=1e-12)
    assert (there.n_steps, there.n_samples) == (1, N)


@pytest.mark.parametrize("family", FAMILIES)
def test_steps_are_averages_of_statistics(small, family):
    """Two batches with step size 1/4: as if the first had three times the weight of the second."""
    first = fit_stepwise(small.x[:100], K, init=start(family), covariance_type=family, batch_size=100, reg_covar=0.0)
    both = fit_stepwise(
        small.x, K, init=start(family), covariance_type=family, batch_size=100, reg_covar=0.0, step_size=lambda t: 0.25
    )
    # By hand, full moments about zero: responsibilities of each batch under the mixture before it.
    moments = 0.0
    for share, x, params in ((0.75, small.x[:100], start(family)), (0.25, small.x[100:], first.params)):
        resp = np.asarray(responsibilities(params, x)) / 100
        extended = np.concatenate([np.ones((100, 1)), x], axis=1)
        moments = moments + share * np.einsum("nk,ni,nj->kij", resp, extended, extended)
    weights = moments[:, 0, 0]
    means = moments[:, 0, 1:] / weights[:, None]
    np.testing.assert_allclose(both.params.weights, weights, rtol=1e-9)
    np.testing.assert_allclose(both.params.means, means, rtol=1e-9)
    full = moments[:, 1:, 1:] / weights[:, None, None] - np.einsum("ki,kj->kij", means, means)
    with precision_context(np.dtype(np.float64)):
        expected = both.params.family.from_full(jax.numpy.asarray(full), jax.numpy.asarray(weights))
    np.testing.assert_allclose(both.params.covariances, expected, rtol=1e-8, atol=1e-10)


def test_two_passes_come_close_to_em():
    x = mixture(40_000)
    best = fit(x, 3, key=0, n_restarts=4)
    found = fit_stepwise(x, 3, key=0, n_restarts=4, batch_size=1000, n_passes=2)
    assert score(found.params, x) > best.score - 1e-3
    assert found.n_samples == 80_000


@pytest.mark.slow
def test_ten_million_rows_in_two_passes():
    x = mixture(10_000_000).astype(np.float32)
    best = fit(x, 3, key=0, n_restarts=2)
    found = fit_stepwise(x, 3, key=0, n_restarts=2, n_passes=2)
    assert abs(score(found.params, x) - best.score) < 1e-3


def test_a_constant_step_size_follows_a_drift():
    x = mixture(40_000, drift=6.0)
    there, rest = (
        fit_stepwise(x, 3, init=fit(x[:4000], 3, key=0, n_restarts=4).params, batch_size=500, step_size=step)
        for step in (optax.constant_schedule(0.1), stepwise.PowerSchedule(power=1.0))
    )
    tail = x[-2000:]
    assert score(there.params, tail) > score(rest.params, tail) + 0.1


def test_a_stream_that_comes_only_once():
    x = mixture(20_000)
    parts = np.array_split(x, 20)
    once = fit_stepwise(iter(parts), 3, key=0, n_restarts=4)
    assert once.n_steps == 20
    assert score(once.params, x) > fit(x, 3, key=0, n_restarts=4).score - 0.01

    def endless():
        yield from parts
        raise KeyboardInterrupt

    np.testing.assert_array_equal(fit_stepwise(endless(), 3, key=0, n_restarts=4).params.means, once.params.means)
    assert len(fit_stepwise(itertools.islice(iter(parts), 3), 3, key=0).scores) == 3


def test_empty_arrays_are_passed_over(small):
    x = small.x
    plain, gaps = (
        fit_stepwise(iter(arrays), K, init=start("full"), step_size=np.float32(0.5))
        for arrays in ([x, x], [x[:0], x, x[:0], x])
    )
    np.testing.assert_array_equal(plain.params.means, gaps.params.means)
    assert (gaps.n_steps, gaps.n_samples) == (2, 2 * N)


def test_scale_and_offset_change_nothing():
    x = mixture(4000)
    plain = fit_stepwise(x, 3, key=0, batch_size=500)
    moved = fit_stepwise(x * 1e-6 + 1e3, 3, key=0, batch_size=500)
    np.testing.assert_allclose((moved.params.means - 1e3) / 1e-6, plain.params.means, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(moved.scores - 2 * np.log(1e6), plain.scores, rtol=1e-6)


def test_single_precision_stays_single_precision(small):
    found = fit_stepwise(small.x.astype(np.float32), K, init=start("full"), batch_size=50, n_passes=3)
    assert found.params.dtype == np.float32
    wide = fit_stepwise(small.x, K, init=start("full"), batch_size=50, n_passes=3)
    np.testing.assert_allclose(found.params.means, wide.params.means, rtol=1e-3)


def test_batches_share_a_program(small):
    fit_stepwise(small.x, K, init=start("full"), batch_size=50)
    before = stepwise._blend._cache_size()
    fit_stepwise(small.x[:175], K, init=start("full"), batch_size=50, n_passes=2, step_size=lambda t: 0.1)
    assert stepwise._blend._cache_size() == before


def test_what_cannot_be_used(small):
    def refused(code, call):
        with pytest.raises((DataError, FitError, UsageError)) as error:
            call()
        assert error.value.code == code
        return error.value.found

    refused("E208", lambda: fit_stepwise(iter([]), K, key=0))
    refused("E208", lambda: fit_stepwise(iter([small.x[:0]]), K, key=0))
    refused("E203", lambda: fit_stepwise(iter([small.x, small.x * np.nan]), K, key=0))
    refused("E251", lambda: fit_stepwise(iter([small.x, small.x[:, :2]]), K, key=0))
    refused("E207", lambda: fit_stepwise(iter([small.x[0]]), K, key=0))
    refused("E211", lambda: fit_stepwise(small.x[:2], K, key=0))
    refused("E211", lambda: fit_stepwise(iter([small.x[:1], small.x]), K, key=0))
    refused("E143", lambda: fit_stepwise(small.x, 2, init=start("full")))
    refused("E143", lambda: fit_stepwise(small.x, K, init=start("full"), covariance_type="diag"))
    for step_size in ("slow", True, 0, float("nan"), 1.5):
        refused("E108", lambda step_size=step_size: fit_stepwise(small.x, K, key=0, step_size=step_size))
    for wrong in (float("nan"), float("inf"), -0.1, None, "0.1x"):
        steps = [0.5, 0.5, wrong, 0.5].__getitem__
        call = partial(fit_stepwise, small.x, K, key=0, batch_size=50, step_size=lambda t, steps=steps: steps(t - 1))
        assert "step 3" in refused("E108", call)
    # Found after the last batch, too.
    pair = make_params([0.5, 0.5], [[0.0] * D, [50.0] * D], np.tile(np.eye(D), (2, 1, 1)))
    flat = np.r_[np.zeros((50, D)), small.x[:50] * 3.0 + 50.0]
    refused("E301", lambda: fit_stepwise(flat, 2, init=pair, reg_covar=0.0, batch_size=100))
    narrow = make_params(np.ones(K) / K, small.x[:K], np.tile(np.eye(D), (K, 1, 1)))
    refused("E301", lambda: fit_stepwise(np.ones((N, D)) * small.x[0], K, init=narrow, reg_covar=0.0, batch_size=50))


# The estimator


def test_partial_fit_is_the_same_steps():
    x = mixture(20_000)
    parts = np.array_split(x, 20)
    model = GaussianMixture(3, random_state=0, n_init=4)
    for part in parts:
        assert model.partial_fit(part) is model
    assert model.n_iter_ == 20
    assert model.score(x) > fit(x, 3, key=0, n_restarts=4).score - 0.01
    np.testing.assert_allclose(model.predict_proba(x[:9]).sum(axis=1), 1.0)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.partial_fit(x[:500]).means_, model.partial_fit(x[:500]).means_)
    # A fit begins anew, and so does what follows it.
    model.fit(x[:2000])
    model.partial_fit(x[:2000])
    assert model.n_iter_ == 1


def test_partial_fit_takes_weights_and_refuses_what_does_not_match():
    x = mixture(2000)
    weight = np.random.default_rng(0).integers(0, 3, 2000)
    one = GaussianMixture(3, random_state=0, init_params="orthant").partial_fit(x, sample_weight=weight)
    other = GaussianMixture(3, random_state=0, init_params="orthant").partial_fit(np.repeat(x, weight, axis=0))
    np.testing.assert_allclose(one.means_, other.means_, rtol=1e-9)
    with pytest.raises(ValueError, match="3 features"):
        one.partial_fit(np.ones((5, 3)))
    model = GaussianMixture(9, random_state=0)
    with pytest.raises(ValueError, match="n_samples >= n_components"):
        model.partial_fit(x[:5])
    model.partial_fit(x)
    given = {"means_init": np.array([[-4.0, 0.0], [0.0, 3.0], [5.0, -1.0]])}
    found = GaussianMixture(3, random_state=0, **given).partial_fit(x[:1000]).means_
    np.testing.assert_allclose(found, given["means_init"], atol=0.3)
