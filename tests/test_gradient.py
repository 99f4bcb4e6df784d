"""Gradients against dense autodiff, L-BFGS in the lanes, and `fit_gradient`: EM's optimum by another way."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxgmm
from jaxgmm import Status, UsageError, default_prior, fit_gradient, run_em
from jaxgmm._options import em_options
from jaxgmm._pytree import replace
from jaxgmm.objective import log_likelihood, slope
from jaxgmm.params import factorize
from jaxgmm.stats import collect
from jaxgmm.unconstrained import constrain, unconstrain
from tests.helpers import K, N, cast, make_small, random_params, tolerance
from tests.test_accelerate import overlapping
from tests.test_retrace import compilations

TWO = ("full", "tied_spherical")


@cache
def near(family: str) -> jaxgmm.GMMParams:
    """The mixture of the labels that the small data were drawn with."""
    small = make_small()
    return jaxgmm.params_from_labels(small.x, small.labels, covariance_type=family)


@cache
def top(family: str, **options) -> jaxgmm.FitResult:
    """Where EM ends from there."""
    return jaxgmm.fit(make_small().x, K, init=near(family), covariance_type=family, tol=1e-13, max_iter=5000, **options)


def climbed(family: str = "diag", x=None, **options) -> jaxgmm.FitResult:
    options = {"init": near(family), "covariance_type": family} | options
    return fit_gradient(make_small().x if x is None else x, K, **options)


def dense(params, x, weight):
    """Σ_n v_n log Σ_k w_k N(x_n | k), all N x K terms at once and by SciPy's formulas in JAX."""
    covariances = params.family.to_full(params.covariances, *params.means.shape)
    of_row = jax.vmap(jax.scipy.stats.multivariate_normal.logpdf, in_axes=(None, 0, 0))
    density = jax.vmap(of_row, in_axes=(0, None, None))(x, params.means, covariances)
    return jnp.sum(weight * jax.scipy.special.logsumexp(density, b=params.weights[None, :], axis=1))


@jax.jit
def dense_slope(params, x, weight, penalty_strength):
    """ℓ less a quadratic penalty of the means, and its dense gradient in free numbers."""

    def value(free):
        own = constrain(free)
        return dense(own, x, weight) - penalty_strength * jnp.sum(own.means**2)

    return jax.value_and_grad(value)(unconstrain(params))


# The gradient


@pytest.mark.parametrize(
    ("family", "dtype"), [(name, np.float64) for name in jaxgmm.COVARIANCE_TYPES] + [("full", np.float32)]
)
def test_gradients_are_those_of_the_dense_sum(small, family, dtype):
    params = cast(random_params(family), dtype)
    with jax.enable_x64(dtype == np.float64):
        x, weight = jnp.asarray(small.x - small.x.mean(axis=0), dtype), jnp.asarray(small.counts, dtype)
        value, wanted = dense_slope(params, x, weight, 0.0)

        @jax.jit
        def ours(params):
            stats = collect(factorize(params), x, weight, 64)
            given = jax.value_and_grad(lambda free: log_likelihood(constrain(free), x, weight, 64))(unconstrain(params))
            return *given, slope(params, stats, jnp.zeros((), dtype), None)

        found, through, per_row, wanted = jax.tree.map(np.asarray, (*ours(params), wanted))
    assert float(found) == pytest.approx(float(value), rel=tolerance(dtype, 64))
    for leaf in ("logits", "means", "shapes"):
        target = getattr(wanted, leaf)
        close = {"rtol": tolerance(dtype, 4000), "atol": tolerance(dtype, 4000) * np.abs(target).max()}
        np.testing.assert_allclose(getattr(through, leaf), target, **close)
        np.testing.assert_allclose(getattr(per_row, leaf) * small.counts.sum(), target, **close)


def test_an_inactive_component_has_no_gradient(small):
    params = random_params("full")
    with jax.enable_x64(True):
        params = replace(jax.tree.map(jnp.asarray, params), weights=jnp.array([0.4, 0.0, 0.6]))
        stats = collect(factorize(params), jnp.asarray(small.x), jnp.ones(N))
        found = jax.tree.map(np.asarray, slope(params, stats, jnp.asarray(1e-6), None))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found))
    assert found.logits[1] == 0
    assert not np.any(found.means[1])
    assert not np.any(found.shapes[1])


@pytest.mark.parametrize(
    "options", [{"reg_covar": 0.05}, {"prior": "default"}, {"prior": "default", "reg_covar": 0.05}]
)
@pytest.mark.parametrize("family", TWO)
def test_the_slope_vanishes_where_em_stands_still(small, family, options):
    """Also where reg_covar is large, so that the top of the likelihood is elsewhere."""
    x = small.x - small.x.mean(axis=0)
    prior = default_prior(np.zeros(3), np.cov(x.T, bias=True), K, family) if "prior" in options else None
    numbers = em_options(np.float64, tol=0.0, max_iter=3000, reg_covar=options.get("reg_covar", 0.0))
    with jax.enable_x64(True):
        start = replace(near(family), means=near(family).means - small.x.mean(axis=0))
        state = jax.jit(run_em)(start, x, options=replace(numbers, prior=prior))
        still = jax.jit(slope)(state.params, state.stats, numbers.reg_covar, prior)
        moved = jax.jit(slope)(start, state.stats, numbers.reg_covar, prior)
    size, before = (max(float(np.abs(a).max()) for a in jax.tree.leaves(tree)) for tree in (still, moved))
    assert size < 1e-5 * before


# L-BFGS in the lanes


def test_lbfgs_needs_a_third_of_the_passes_also_in_many_sets():
    sets = [overlapping(seed)[:300] for seed in range(4)]
    plain, fast = (jaxgmm.fit_many(sets, 2, key=0, tol=1e-13, max_iter=9000, accelerate=a) for a in (None, "lbfgs"))
    assert fast.converged.all()
    assert (fast.log_likelihood >= plain.log_likelihood - 1e-8 * np.abs(plain.log_likelihood)).all()
    assert 3 * sum(row["n_iter"] for row in fast.table()) < sum(row["n_iter"] for row in plain.table())


def test_lbfgs_ends_where_em_does_also_with_a_prior_or_a_high_floor(small):
    for options in ({"prior": "default"}, {"reg_covar": 0.05}):
        plain = top("full", **options)
        fast = jaxgmm.fit(small.x, K, init=near("full"), tol=1e-12, accelerate="lbfgs", **options)
        assert fast.converged
        assert fast.log_posterior >= plain.log_posterior - 1e-8 * abs(plain.log_posterior)
        np.testing.assert_allclose(fast.params.means, plain.params.means, atol=1e-3)


def test_lbfgs_survives_components_that_collapse(small):
    """A component of five equal rows: the likelihood has no top without the floor."""
    x = small.x.copy()
    x[:5] = x.max(axis=0) + 50.0
    start = jaxgmm.params_from_labels(x, np.where(np.arange(N) < 5, 2, np.arange(N) % 2))
    held = jaxgmm.fit(x, K, init=start, accelerate="lbfgs", tol=1e-12)
    assert held.converged
    assert {d.kind for d in held.diagnoses} == {"floor"}
    free = jaxgmm.fit(x, K, init=start, reg_covar=0.0, accelerate="lbfgs", tol=1e-12)
    assert free.status == Status.SINGULAR
    assert np.isfinite(free.log_likelihood)


# fit_gradient


@pytest.mark.parametrize("family", jaxgmm.COVARIANCE_TYPES)
def test_it_reaches_the_optimum_of_em(family):
    wanted, found = top(family), climbed(family, tol=1e-10)
    assert found.converged
    assert found.log_likelihood == pytest.approx(wanted.log_likelihood, rel=1e-8)
    np.testing.assert_allclose(found.params.means, wanted.params.means, atol=1e-3)
    assert found.n_iter < wanted.n_iter
    assert found.history[-1] == pytest.approx(found.log_likelihood, rel=1e-12)
    assert (np.diff(found.history) >= -1e-9).all()


def test_it_computes_in_single_precision_and_does_not_depend_on_units(small):
    wanted = climbed("diag", tol=1e-10)
    single = climbed("diag", x=small.x.astype(np.float32))
    assert single.params.dtype == np.float32
    assert single.converged
    assert single.log_likelihood == pytest.approx(wanted.log_likelihood, rel=1e-5)
    units = np.array([1e-6, 1.0, 1e6])
    start = near("diag")
    start = replace(start, means=start.means * units, covariances=start.covariances * units**2)
    scaled = climbed("diag", x=small.x * units, init=start, tol=1e-10)
    np.testing.assert_allclose(scaled.params.means / units, wanted.params.means, rtol=1e-4)


def test_rows_of_weight_zero_are_as_if_absent_and_weights_repeat_rows(small):
    weighted = climbed("diag", sample_weight=small.counts)
    repeated = climbed("diag", x=np.repeat(small.x, small.counts, axis=0))
    assert weighted.log_likelihood == pytest.approx(repeated.log_likelihood, rel=1e-9)
    np.testing.assert_allclose(weighted.params.means, repeated.params.means, atol=1e-3)


def test_batches_come_near_and_are_the_same_for_the_same_key():
    adam, wanted = optax.adam(0.02), top("diag").log_likelihood
    runs = [climbed("diag", optimizer=adam, batch_size=64, max_iter=60, key=key) for key in (0, 0, 1)]
    assert all(abs(run.log_likelihood - wanted) < 2.0 for run in runs)
    assert runs[0].log_likelihood == runs[1].log_likelihood != runs[2].log_likelihood
    first = runs[0]
    assert (first.status, first.n_iter, len(first.history)) == (Status.MAX_ITER, 60, 61)
    # The best epoch is returned, not the last.
    assert first.log_likelihood == pytest.approx(np.max(first.history), rel=1e-12)


def test_a_whole_epoch_weighs_every_row_once(small):
    """With a learning rate so small that the place hardly moves, an epoch of batches adds up to full steps."""
    rate = 1e-6
    tiny = optax.sgd(rate)
    many, one = (climbed("diag", optimizer=tiny, batch_size=b, max_iter=1, key=0) for b in (30, None))
    begun = many.history[0]
    # 200 rows in batches of at most 30 are 7 updates.
    assert (many.history[1] - begun) / (one.history[1] - begun) == pytest.approx(7.0, rel=5e-3)


def pull(params):
    return 0.5 * jnp.sum(params.means**2)


def test_a_penalty_moves_the_optimum_to_where_its_gradient_is_balanced(small):
    found = climbed("full", penalty=pull, reg_covar=0.0, tol=1e-12)
    assert found.converged
    assert np.linalg.norm(found.params.means) < 0.99 * np.linalg.norm(top("full").params.means)
    assert found.log_prior == pytest.approx(-0.5 * np.sum(found.params.means**2), rel=1e-12)
    assert found.history[-1] == pytest.approx(found.log_posterior, rel=1e-12)
    with jax.enable_x64(True):
        x, ones = jnp.asarray(small.x), jnp.ones(N)
        value, balanced = dense_slope(found.params, x, ones, 0.5)
        _, without = dense_slope(found.params, x, ones, 0.0)
    assert float(value) == pytest.approx(found.log_posterior, rel=1e-10)
    assert np.abs(balanced.means).max() < 1e-3 * np.abs(without.means).max()
    assert np.abs(balanced.shapes).max() < 1e-2


def test_a_prior_as_a_penalty_leads_where_em_does():
    found, wanted = climbed("diag", prior="default", tol=1e-11), top("diag", prior="default")
    assert found.log_posterior == pytest.approx(wanted.log_posterior, rel=1e-8)
    assert found.log_prior == pytest.approx(wanted.log_prior, rel=1e-4)


def test_the_start_is_returned_after_no_iterations_and_too_bold_steps_lose_nothing():
    begun = climbed("diag", max_iter=0)
    np.testing.assert_allclose(begun.params.covariances, near("diag").covariances, rtol=1e-12)
    wild = climbed("diag", optimizer=optax.sgd(1e6), max_iter=5)
    assert wild.status == Status.NO_GAIN
    assert wild.log_likelihood == pytest.approx(begun.log_likelihood, rel=1e-12)


def test_the_same_shapes_and_functions_compile_nothing(small):
    climbed("diag")
    with compilations() as programs:
        climbed("diag", x=small.x[:150], tol=1e-6, reg_covar=1e-4, max_iter=33)
    assert not programs


class _Unhashable:
    __hash__ = None

    def __call__(self, params):
        return pull(params)


def test_a_function_without_a_hash_is_a_penalty_too():
    assert climbed("diag", penalty=_Unhashable(), max_iter=1).log_prior < 0


@pytest.mark.parametrize(
    ("penalty", "said"),
    [
        ("ridge", "'ridge'"),
        (lambda params: params.means, r"shape \(3, 3\)"),
        (lambda params: params.scales, "AttributeError"),
        (lambda params: float(params.means[0, 0]), "raises"),
        (lambda params: jnp.sum(params.means) / 0.0, "inf"),
        (lambda params: jnp.sqrt(jnp.sum(params.means - jax.lax.stop_gradient(params.means))), "gradient"),
        (lambda params: jnp.sum(params.means) * 1j, "complex"),
    ],
)
def test_penalties_that_cannot_be_used(penalty, said):
    with pytest.raises(UsageError, match=said) as caught:
        climbed("diag", penalty=penalty)
    assert caught.value.code == "E153"


def test_other_arguments_that_cannot_be_used(small):
    for wrong, code in (
        ({"optimizer": "adam"}, "E145"),
        ({"optimizer": optax.adam}, "E145"),
        ({"batch_size": 0}, "E108"),
        ({"batch_size": 20}, "E141"),
        ({"covariance_type": "tied"}, "E143"),
        ({"tol": -1.0}, "E108"),
    ):
        with pytest.raises(UsageError) as caught:
            climbed("diag", **wrong)
        assert caught.value.code == code, wrong


# What optimisers and penalties do wrong


@pytest.mark.parametrize(
    "penalty", [lambda params: -1e3 * jnp.sum(params.means), lambda params: -1e3 * jnp.sum(params.covariances)]
)
def test_a_penalty_without_a_lower_bound_is_not_blamed_on_the_data(penalty):
    with pytest.raises(UsageError, match=r"the penalty drives .* in iteration \d+; give the penalty a lower") as caught:
        climbed("diag", penalty=penalty)
    assert caught.value.code == "E153"


def test_a_penalty_that_ends_somewhere_is_named_and_the_best_state_kept():
    """The logarithm of a room that a bold step leaves."""
    wall = 2.0 + float(np.max(near("diag").means))
    found = climbed("diag", penalty=lambda p: -jnp.sum(jnp.log(wall - p.means)), optimizer=optax.sgd(10.0))
    assert found.status == Status.BAD_PENALTY
    assert "penalty" in found.message
    assert found.log_posterior == pytest.approx(np.max(found.history), rel=1e-12)


@pytest.mark.parametrize(("optimizer", "batch_size"), [(optax.sgd(float("nan")), None), (optax.sgd(1e10), 64)])
def test_an_optimiser_without_a_sound_step_returns_the_start_and_says_so(optimizer, batch_size):
    found = climbed("diag", optimizer=optimizer, batch_size=batch_size, key=0)
    assert (found.status, found.converged) == (Status.NO_GAIN, False)
    assert "no step of the optimizer" in found.message
    assert "smaller learning rate" in found.message
    np.testing.assert_allclose(found.params.means, near("diag").means, rtol=1e-12)
    assert np.isfinite(found.log_likelihood)


@pytest.mark.parametrize("late", [float("nan"), 1e300])
def test_a_step_that_fails_later_keeps_the_best_state_before(late):
    found = climbed("diag", optimizer=optax.sgd(lambda step: jnp.where(step < 5, 0.1, late)))
    assert (found.status, len(found.history)) == (Status.BAD_STEP, found.n_iter)
    assert "smaller learning rate" in found.message
    assert found.log_likelihood == pytest.approx(np.max(found.history), rel=1e-12)
    assert found.log_likelihood > found.history[0]


def test_a_collapse_is_still_a_collapse(small):
    """A component of five equal rows, without a floor: here the covariance is at fault, not the step."""
    x = small.x.copy()
    x[:5] = x.max(axis=0) + 50.0
    labels = np.where(np.arange(N) < 5, 2, np.arange(N) % 2)
    start = jaxgmm.params_from_labels(x, labels, covariance_type="diag")
    found = climbed("diag", x, init=start, reg_covar=0.0, optimizer=optax.sgd(1.0))
    assert found.status == Status.SINGULAR


def test_a_line_search_is_believed_only_where_nothing_moves_the_place_after_it():
    halved = climbed("diag", optimizer=optax.chain(optax.lbfgs(), optax.scale(0.5)), max_iter=3)
    assert halved.log_likelihood == pytest.approx(np.max(halved.history), rel=1e-12)


def made_of(update, init=lambda place: jnp.zeros(())):
    return optax.GradientTransformation(init, update)


class _UnhashableUpdate:
    __hash__ = None

    def __call__(self, updates, state, params=None):
        return jax.tree.map(lambda a: -0.1 * a, updates), state


def test_an_optimiser_without_a_hash_is_one_too():
    assert climbed("diag", optimizer=made_of(_UnhashableUpdate()), max_iter=1).n_iter == 1


@pytest.mark.parametrize(
    ("optimizer", "said"),
    [
        (optax.masked(optax.adam(0.1), {"a": True}), "in its init raises ValueError"),
        (made_of(None, lambda place: "a")._replace(update=lambda *_: None), "in its init raises"),
        (made_of(lambda *_: 1 / 0), "in its first update raises ZeroDivisionError: division by zero"),
        (made_of(lambda updates, state, *_: ({}, state)), "updates of another structure"),
        (made_of(lambda updates, state, *_: (updates, state > 0)), "a state of another structure"),
        (made_of(lambda u, s, *_: (jax.tree.map(lambda a: a[None], u), s)), "updates of another structure"),
        (made_of(lambda u, s, *_: (jax.tree.map(lambda a: 1j * a, u), s)), "complex"),
    ],
)
def test_optimisers_that_cannot_be_used(optimizer, said):
    with pytest.raises(UsageError, match=said) as caught:
        climbed("diag", optimizer=optimizer)
    assert caught.value.code == "E154"
    assert (caught.value.__cause__ is not None) == ("raises" in said)


def test_an_optimiser_that_raises_in_batches():
    with pytest.raises(UsageError, match="ZeroDivisionError"):
        climbed("diag", optimizer=made_of(lambda *_: 1 / 0), batch_size=64, key=0)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), jaxgmm.DataError("E203", "found", "help")])
def test_interrupts_and_errors_of_our_own_are_not_the_optimisers(error):
    def update(*_):
        raise error

    with pytest.raises(type(error)) as caught:
        climbed("diag", optimizer=made_of(update))
    assert caught.value is error


def test_an_error_of_the_penalty_in_a_line_search_is_not_the_optimisers():
    searching = []

    def update(updates, state, params=None, *, value_fn, **_):
        searching.append(True)
        value_fn(params)
        raise AssertionError("not reached")

    def penalty(params):
        if searching:
            raise LookupError("mine")
        return jnp.sum(params.means**2)

    with pytest.raises(LookupError, match="mine"):
        climbed("diag", penalty=penalty, optimizer=optax.GradientTransformationExtraArgs(lambda place: (), update))
