"""When a fit stops and with which code; singular, constant and overflowing data; which restart is the healthiest."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm
from jaxgmm import FitError, Status
from jaxgmm._numerics import noise_level
from jaxgmm._options import EMOptions
from jaxgmm._status import describe
from jaxgmm.em import loop
from jaxgmm.em.lanes import LanesResult
from jaxgmm.em.restarts import best_restart
from tests.helpers import (
    D,
    K,
    N,
    assert_params_close,
    cast,
    full_covariances,
    params_distance,
    params_of,
    relative,
    start,
    tolerance,
)
from tests.oracles import numpy_gmm as oracle


def fit(x, family="full", **options):
    """A fit from the poor start of the small data."""
    return jaxgmm.fit(x, K, **{"covariance_type": family, "init": start(family)} | options)


def test_no_iteration_returns_the_start(small, family, dtype):
    x, init = small.x.astype(dtype), cast(start(family), dtype)
    result = fit(x, family, init=init, max_iter=0)
    assert_params_close(result.params, init, tolerance(dtype, 20))
    assert (result.n_iter, result.status, len(result.history)) == (0, Status.MAX_ITER, 1)
    assert not result.converged
    log_likelihood = float(jaxgmm.e_step(init, x).log_likelihood)
    assert relative(result.log_likelihood, log_likelihood) < tolerance(dtype, 100)


def test_running_out_of_iterations_is_not_convergence(small):
    result = fit(small.x, max_iter=5)
    assert (result.n_iter, result.status) == (5, Status.MAX_ITER)
    assert not result.converged
    assert "max_iter" in result.message


def test_converging_in_the_last_iteration_is_convergence(small):
    free = fit(small.x, tol=1e-4)
    assert free.converged
    exact = fit(small.x, tol=1e-4, max_iter=free.n_iter)
    assert (exact.status, exact.n_iter) == (Status.CONVERGED, free.n_iter)
    short = fit(small.x, tol=1e-4, max_iter=free.n_iter - 1)
    assert short.status == Status.MAX_ITER


def test_tol_is_relative_to_the_total(small):
    result = fit(small.x, tol=1e-5)
    changes, totals = np.abs(np.diff(result.history)), 1 + np.abs(result.history[1:])
    assert result.converged
    assert changes[-1] <= 1e-5 * totals[-1]
    assert (changes[:-1] > 1e-5 * totals[:-1]).all()


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_the_size_of_the_weights_does_not_decide_when_to_stop(small, scale):
    """Weights that are all tiny must not make a fit look converged."""
    plain = fit(small.x, sample_weight=small.counts)
    scaled = fit(small.x, sample_weight=small.counts * scale)
    assert plain.converged
    assert scaled.converged
    assert scaled.n_iter >= 0.8 * plain.n_iter
    assert params_distance(scaled.params, plain.params) < 1e-2


def test_tol_mean_is_scikit_learns_rule(small):
    with jax.enable_x64(True):
        options = EMOptions(tol=0.0, tol_mean=1e-3, reg_covar=1e-6, max_iter=500)
        state = jax.jit(jaxgmm.run_em)(start("full"), small.x, None, options)
    n_iter = int(state.n_iter)
    history = fit(small.x, tol=0.0, max_iter=n_iter + 1).history / N
    changes = np.abs(np.diff(history))
    assert changes[n_iter - 1] < 1e-3
    assert (changes[: n_iter - 1] >= 1e-3).all()


def test_a_tolerance_below_rounding_still_converges(small, family, dtype):
    result = fit(small.x.astype(dtype), family, tol=0.0, reg_covar=0.0, max_iter=5000)
    assert result.converged
    assert result.n_iter < 1000
    # At working precision there is nothing left to gain.
    rounding = tolerance(dtype, 16) * (N + abs(result.log_likelihood))
    assert abs(result.history[-1] - result.history[-2]) <= rounding


def _collapsing():
    """Rows of which 20 coincide: without regularisation a component shrinks onto them."""
    rng = np.random.default_rng(0)
    return np.concatenate([rng.normal(size=(180, D)), np.full((20, D), 1.5)])


def _collapsed(family, dtype, seed, reg_covar=0.0):
    """The fit of the collapsing rows from one M-step on random responsibilities."""
    x = _collapsing()
    resp = np.random.default_rng(seed).dirichlet(np.ones(K), len(x))
    init = params_of(oracle.m_step(x, resp, family), family)
    x = x.astype(dtype)
    return x, jaxgmm.fit(x, K, covariance_type=family, init=init, reg_covar=reg_covar)


@pytest.mark.parametrize("family", ["full", "diag", "spherical"])
@pytest.mark.parametrize("seed", range(8))
def test_a_singularity_is_no_success_and_no_nan(family, seed, dtype):
    x, result = _collapsed(family, dtype, seed)
    assert not result.converged
    assert result.status in (Status.SINGULAR, Status.DECREASED)
    assert result.message == describe(result.status)
    for leaf in jax.tree.leaves(result.params):
        assert np.isfinite(leaf).all()
    assert np.isfinite(result.log_likelihood)
    assert np.isfinite(result.history).all()
    # The state returned is the last sound one: it can be used.
    assert np.isfinite(jaxgmm.log_prob(result.params, x)).all()
    assert np.isfinite(jaxgmm.responsibilities(result.params, x)).all()


def test_regularisation_prevents_the_singularity(family):
    _, result = _collapsed(family, np.float64, 0, reg_covar=1e-3)
    assert result.status in (Status.CONVERGED, Status.MAX_ITER)
    assert np.linalg.eigvalsh(full_covariances(result.params)).min() > 0.99e-3


def test_no_usable_state_at_all_is_an_error(dtype):
    with pytest.raises(FitError, match=r"2 components: stopped: a covariance became singular.*reg_covar") as caught:
        jaxgmm.fit(np.ones((20, 2), dtype), 2, key=0, reg_covar=0.0)
    assert caught.value.status == Status.SINGULAR


def test_data_beyond_the_dtype_are_an_error(dtype):
    """Squares that overflow end as an error, not as NaN."""
    x = np.random.default_rng(0).normal(size=(N, D)) * np.sqrt(float(np.finfo(dtype).max)) * 1e3
    with pytest.raises(FitError):
        jaxgmm.fit(x.astype(dtype), K, key=0)


@pytest.mark.parametrize(
    ("tiny", "dtype"), [(4e-20, np.float32), (1e-21, np.float32), (5e-155, np.float64), (1e-158, np.float64)]
)
def test_covariances_below_the_dtype_are_an_error(small, family, tiny, dtype):
    """Squares that underflow end as an error with a cure, not as a model without variance."""
    x = (small.x * tiny).astype(dtype)
    with pytest.raises(FitError, match=r"do not fit into float\d\d; divide the data by .*e-"):
        jaxgmm.fit(x, K, covariance_type=family, key=0, reg_covar=0.0)
    large = jaxgmm.fit((x / x.dtype.type(tiny)), K, covariance_type=family, key=0, reg_covar=0.0, max_iter=3)
    assert np.isfinite(jaxgmm.log_prob(large.params, small.x)).all()


def test_constant_data_leave_components_empty(dtype):
    result = jaxgmm.fit(np.full((N, D), 7.0, dtype), K, key=0, reg_covar=0.25)
    assert result.converged
    assert result.empty_components == (1, 2)
    np.testing.assert_array_equal(result.params.weights, [1, 0, 0])
    np.testing.assert_allclose(result.params.means[0], 7)
    np.testing.assert_allclose(result.params.covariances[0], 0.25 * np.eye(D))


def _stop_code(
    before, after, reg_covar=0.0, n_iter=3, max_iter=10, tol=1e-8, gain=None, last=np.nan, bold=False, aitken=False
):
    fresh = loop.init_state(cast(start("full"), np.float32), jnp.float32).stats
    stats = dataclasses.replace(fresh, log_likelihood=jnp.float32(after), weight_sum=jnp.float32(N))
    options = EMOptions(tol=tol, reg_covar=reg_covar, max_iter=max_iter, aitken=jnp.asarray(aitken))
    noise = noise_level(stats.log_likelihood, stats.weight_sum)
    change = jnp.float32(after - before)
    left = loop._still_to_gain(change, jnp.float32(last))
    n_iter = jnp.int32(n_iter + 1)
    unseen = jnp.float32(abs(after - before) if gain is None else gain), jnp.float32(0)
    code = loop._stop_code(change, left, jnp.asarray(bold), n_iter, stats, noise, options, unseen)
    return Status(int(code))


def test_every_stop_code():
    assert _stop_code(-100.0, -90.0) == Status.RUNNING
    assert _stop_code(-100.0, -100.0) == Status.CONVERGED
    assert _stop_code(-100.0, -90.0, n_iter=9) == Status.MAX_ITER
    assert _stop_code(-100.0, -100.0, n_iter=9) == Status.CONVERGED
    assert _stop_code(-100.0, -101.0) == Status.DECREASED
    # A penalised likelihood is what rises with reg_covar above 0: a fall of the plain one is no fault.
    assert _stop_code(-100.0, -101.0, reg_covar=1e-3) == Status.RUNNING
    assert _stop_code(-100.0, -100.5, tol=0.01) == Status.CONVERGED
    # Below the rounding of the log-likelihood it is the parameters that tell, unless no tolerance is asked for.
    assert _stop_code(-100.0, -100.0, gain=1e-3) == Status.RUNNING
    assert _stop_code(-100.0, -100.0, gain=1e-3, tol=0.0) == Status.CONVERGED
    assert _stop_code(-100.0, -100.0, gain=1e-7) == Status.CONVERGED
    # Near it they are still the better witness of how much was gained, far above it they are not.
    assert _stop_code(-100.0, -99.999, tol=1e-4, gain=0.1) == Status.RUNNING
    assert _stop_code(-100.0, -99.999, tol=5e-6, gain=1e-5) == Status.CONVERGED
    assert _stop_code(-100.0, -99.0, tol=1e-4, gain=1e-5) == Status.RUNNING
    # A bold step that gains nothing says nothing of EM.
    assert _stop_code(-100.0, -100.0, bold=True) == Status.RUNNING
    # 0.1 after 0.2: as much again is still to come, 0.1; after 0.11 it is 1.
    for last, code in (
        (0.2, Status.CONVERGED),
        (0.11, Status.RUNNING),
        (0.05, Status.RUNNING),
        (np.nan, Status.RUNNING),
    ):
        assert _stop_code(-100.0, -99.9, tol=0.005, last=last, aitken=True) == code
    assert _stop_code(-100.0, -99.9, tol=0.005, last=0.11) == Status.CONVERGED
    # A change that is no number never counts as convergence.
    assert _stop_code(-100.0, np.nan) != Status.CONVERGED
    assert _stop_code(-np.inf, -100.0) == Status.RUNNING
    for status in Status:
        assert describe(status)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_log_likelihood_that_is_not_finite_stops_and_changes_nothing(small, monkeypatch, value):
    """Whatever an E-step comes to: the lane ends with a code of its own, at the best state before."""
    x, options = small.x.astype(np.float32), EMOptions()
    x, weight = jnp.asarray(x), jnp.ones(N, jnp.float32)
    state = loop.init_state(cast(start("full"), np.float32), jnp.float32)
    for _ in range(2):
        state = loop.step(state, x, weight, options)
    assert state.status == Status.RUNNING

    def poisoned(*args, **more):
        return dataclasses.replace(collect(*args, **more), log_likelihood=jnp.float32(value))

    collect = loop.collect
    monkeypatch.setattr(loop, "collect", poisoned)
    after = loop.step(state, x, weight, options)
    assert after.status == Status.NONFINITE
    assert after.best_log_likelihood == state.best_log_likelihood
    for name in ("params", "best_params"):
        for a, b in zip(jax.tree.leaves(getattr(after, name)), jax.tree.leaves(getattr(state, name)), strict=True):
            np.testing.assert_array_equal(a, b)


def test_the_best_state_is_returned_when_regularisation_leads_away_from_it(small, family):
    """From the maximum of the likelihood a large reg_covar can only lead down."""
    top = fit(small.x, family, reg_covar=0.0)
    result = fit(small.x, family, init=top.params, reg_covar=0.5)
    assert result.history[-1] < result.history[0] - 1
    assert result.log_likelihood == pytest.approx(top.log_likelihood, rel=1e-9)
    assert_params_close(result.params, top.params, tolerance(np.float64, 1000))


def test_the_healthiest_restart_wins():
    """Not the highest likelihood of a run that ended in a singularity."""

    def best(*lanes):
        log_likelihoods, status = zip(*lanes, strict=True)
        result = LanesResult(
            params=None,
            log_likelihood=np.array(log_likelihoods),
            classification_log_likelihood=None,
            n_iter=None,
            status=np.array(status),
            history=None,
            kernel=None,
            penalty=np.zeros(len(status)),
            floored=None,
        )
        return best_restart(result)

    singular, decreased = (900.0, Status.SINGULAR), (-50.0, Status.DECREASED)
    assert best(singular, (-100.0, Status.CONVERGED), decreased, (-90.0, Status.CONVERGED)) == 3
    assert best(singular, (-100.0, Status.MAX_ITER), decreased, (-110.0, Status.CONVERGED)) == 1
    assert best(singular, decreased) == 1
    assert best((-np.inf, Status.SINGULAR), (-700.0, Status.SINGULAR)) == 1
