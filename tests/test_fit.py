"""What `fit` promises: recovery of a known mixture, stop codes, restarts, starts."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm
from jaxgmm import FitError, Status, UsageError
from jaxgmm._numerics import noise_level
from jaxgmm._options import EMOptions
from jaxgmm._status import describe
from jaxgmm.data import make_cube
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
    match,
    params_distance,
    params_of,
    parts_of,
    relative,
    start,
    tolerance,
)
from tests.oracles import numpy_gmm as oracle

# The cube: 500 points about each of 7 corners

# Sample means of 500 points have a standard error of 0.045 a coordinate: a seed whose largest error is below 0.1.
CUBE = make_cube(seed=0)


@pytest.fixture(scope="module")
def cube_sweep():
    return jaxgmm.sweep(CUBE.x, range(1, 11), key=0, reg_covar=1e-6)


def assert_is_the_cube(result):
    weights, means, _, _ = parts_of(result.params)
    order = match(means, CUBE.means)
    assert np.abs(means[order] - CUBE.means).max() < 0.1
    assert np.abs(weights - 1 / 7).max() < 0.01
    assert np.abs(full_covariances(result.params)[order] - np.eye(3)).max() < 0.35
    assert abs(result.log_likelihood + 21_675) < 200


def test_the_seed_of_the_cube_is_a_fair_one():
    errors = [np.abs(CUBE.x[CUBE.labels == k].mean(axis=0) - CUBE.means[k]).max() for k in range(7)]
    assert 0.04 < max(errors) < 0.09


def test_a_sweep_finds_the_seven_corners(cube_sweep):
    assert cube_sweep.best.n_components == 7
    assert not cube_sweep.at_edge
    assert cube_sweep.best.converged
    assert_is_the_cube(cube_sweep.best)


def test_the_orthant_start_needs_few_iterations():
    result = jaxgmm.fit(CUBE.x, 7, init="orthant", tol=1e-8)
    assert result.converged
    assert result.n_iter <= 10
    assert result.init == "orthant"
    assert_is_the_cube(result)


def test_counting_orthants_proposes_seven():
    counts, proposed = jaxgmm.orthant_counts(CUBE.x)
    assert proposed == 7
    assert sorted(counts.tolist()) == [0.0] + [500.0] * 7
    assert counts[0b111] == 0
    # Weights count rows; a few stray ones do not make a component.
    stray = np.concatenate([CUBE.x, np.full((3, 3), 15.0)])
    counts, proposed = jaxgmm.orthant_counts(stray, np.full(len(stray), 2.0))
    assert (counts[0b111], proposed) == (6.0, 7)


def test_five_points_are_classified(cube_sweep):
    points = np.array([[19.0, 21, -20], [-21, -19, -18], [-20, 20, 20], [22, -20, 19], [-18, -20, 22]])
    params = cube_sweep.best.params
    resp = jaxgmm.responsibilities(params, points)
    assert (resp.max(axis=1) > 1 - 1e-9).all()
    corners = params.means[jaxgmm.predict(params, points)]
    np.testing.assert_array_equal(np.sign(corners), np.sign(points))


def test_memberships_add_up_to_component_sizes(cube_sweep):
    resp = jaxgmm.responsibilities(cube_sweep.best.params, CUBE.x)
    np.testing.assert_allclose(resp.sum(axis=0), 500, atol=1e-6)


# Stop codes


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


@pytest.mark.parametrize(("tiny", "dtype"), [(1e-21, np.float32), (1e-158, np.float64)])
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
    before, after, reg_covar=0.0, n_iter=3, max_iter=10, tol=1e-8, gain=0.0, last=np.nan, bold=False, aitken=False
):
    fresh = loop.init_state(cast(start("full"), np.float32), jnp.float32).stats
    stats = dataclasses.replace(fresh, log_likelihood=jnp.float32(after), weight_sum=jnp.float32(N))
    options = EMOptions(tol=tol, reg_covar=reg_covar, max_iter=max_iter, aitken=jnp.asarray(aitken))
    noise = noise_level(stats.log_likelihood, stats.weight_sum)
    change = jnp.float32(after - before)
    left = loop._still_to_gain(change, jnp.float32(last))
    n_iter = jnp.int32(n_iter + 1)
    code = loop._stop_code(change, left, jnp.float32(gain), jnp.asarray(bold), n_iter, stats, noise, options)
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


# Restarts


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


# Given starts


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
