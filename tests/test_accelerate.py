"""Acceleration: fewer passes to the same optimum, never a lower objective; and Aitken's estimate of what is left."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm
from jaxgmm import Status
from jaxgmm._options import em_options
from jaxgmm.em import accelerate
from jaxgmm.em.accelerate import MEMORY, empty_memory, propose_boldly
from jaxgmm.params import check_params
from jaxgmm.unconstrained import FreeParams, constrain, unconstrain
from tests.helpers import K, assert_params_close, cast, params_of, parts_of, random_params, start

METHODS = tuple(MEMORY)
FAMILIES = ("full", "tied", "diag", "spherical")


@cache
def overlapping(seed: int = 1) -> np.ndarray:
    """500 rows of three components that lie about one deviation apart, so that EM creeps."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(3, 2))
    mixing = 0.3 * rng.normal(size=(3, 2, 2)) + np.eye(2)
    labels = rng.integers(3, size=500)
    return centres[labels] + np.einsum("nij,nj->ni", mixing[labels], rng.normal(size=(500, 2)))


@cache
def fitted(family: str, method: str | None, tol: float = 1e-12):
    return jaxgmm.fit(
        overlapping(), 3, covariance_type=family, key=0, n_restarts=4, tol=tol, max_iter=20_000, reg_covar=0.0,
        accelerate=method,
    )  # fmt: skip


def passes(result) -> np.ndarray:
    """Passes over the rows of each restart until it is within 1e-8 of where it ends."""
    ends = result.restart_log_likelihoods
    return np.array([np.argmax(h >= e - 1e-8 * abs(e)) for h, e in zip(result.restart_history, ends, strict=True)])


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("method", METHODS)
def test_half_the_passes_lead_to_the_same_optimum(family, method):
    plain, fast = fitted(family, None), fitted(family, method)
    assert set(fast.restart_status) == {Status.CONVERGED}
    ends, wanted = fast.restart_log_likelihoods, plain.restart_log_likelihoods
    assert (ends >= wanted - 1e-8 * np.abs(wanted)).all()
    same = np.abs(ends - wanted) <= 1e-8 * np.abs(wanted)
    assert same.any()
    assert (passes(fast)[same] <= 0.5 * passes(plain)[same]).all()


@pytest.mark.parametrize("method", METHODS)
def test_the_objective_never_falls(method):
    for family in FAMILIES:
        history = fitted(family, method).restart_history
        fall = np.nanmin(np.diff(history, axis=1))
        assert fall >= -1e-11 * np.nanmax(np.abs(history)), family


@pytest.mark.parametrize("method", METHODS)
def test_a_lane_does_not_depend_on_its_company(method):
    x = overlapping()
    starts = [jaxgmm.params_from_labels(x, np.arange(len(x)) % 3), jaxgmm.params_from_means(x, x[:3])]
    together = jax.jit(
        jax.vmap(lambda p: jaxgmm.run_em(p, x, options=em_options(np.float64, reg_covar=0.0), accelerate=method))
    )
    with jax.enable_x64(True):
        both = together(jax.tree.map(lambda *leaves: jnp.stack(leaves), *starts))
    for i, init in enumerate(starts):
        alone = jaxgmm.fit(x, 3, init=init, accelerate=method, reg_covar=0.0)
        assert alone.log_likelihood == pytest.approx(float(both.best_log_likelihood[i]), rel=1e-7)
        assert alone.n_iter == pytest.approx(int(both.n_iter[i]), abs=2 + alone.n_iter // 4)


def test_single_precision_and_small_sets_are_accelerated_too():
    x = overlapping()
    plain, fast = (jaxgmm.fit(x.astype(np.float32), 3, key=0, tol=1e-7, accelerate=a) for a in (None, "squarem"))
    assert fast.converged
    assert fast.n_iter < plain.n_iter
    assert fast.log_likelihood >= plain.log_likelihood - 1e-5 * abs(plain.log_likelihood)
    sets = [overlapping(seed)[:200] for seed in range(4)]
    plain, fast = (jaxgmm.fit_many(sets, 2, key=0, tol=1e-12, max_iter=5000, accelerate=a) for a in (None, "squarem"))
    assert fast.converged.all()
    assert (fast.log_likelihood >= plain.log_likelihood * (1 + 1e-8)).all()
    rounds = [sum(row["n_iter"] for row in result.table()) for result in (fast, plain)]
    assert rounds[0] < 0.6 * rounds[1]


def test_with_nothing_to_gain_it_is_plain_em(small):
    """Steps that move far are plain, so the first iterations are those of EM."""
    plain, fast = (
        jaxgmm.fit(small.x, K, init=start("full"), max_iter=4, tol=0.0, accelerate=a) for a in (None, "squarem")
    )
    np.testing.assert_allclose(fast.history, plain.history, rtol=1e-12)


# Unconstrained parameters


def test_free_numbers_are_the_same_mixture(family, dtype):
    params = cast(random_params(family), dtype)
    with jax.enable_x64(dtype == np.float64):
        back = jax.tree.map(np.asarray, constrain(unconstrain(params)))
    assert_params_close(back, params, 20 * np.finfo(dtype).eps)


def test_any_free_numbers_are_a_mixture(family):
    rng = np.random.default_rng(0)
    with jax.enable_x64(True):
        free = unconstrain(random_params(family))
        wild = jax.tree.map(lambda a: jnp.asarray(3.0 * rng.normal(size=a.shape)), free)
        params = jax.tree.map(np.asarray, constrain(wild))
    check_params(params)


def test_an_inactive_component_stays_inactive():
    weights, means, covariances, _ = parts_of(random_params("full"))
    weights = np.array([0.4, 0.0, 0.6])
    with jax.enable_x64(True):
        back = constrain(unconstrain(params_of((weights, means, covariances), "full")))
    np.testing.assert_allclose(back.weights, weights, atol=1e-15)


# The formulas, on maps of which the fixed point is known


@pytest.mark.parametrize("method", METHODS)
def test_a_linear_map_with_one_rate_is_solved_at_once(method, monkeypatch):
    """g(θ) = θ* + λ (θ − θ*): both formulas find θ* from two evaluations."""
    rate, target = 0.95, 3.0
    monkeypatch.setattr(accelerate, "unconstrain", lambda p: _as_free(p))
    monkeypatch.setattr(accelerate, "constrain", lambda f: _as_params(f))
    with jax.enable_x64(True):
        point = params_of((np.array([0.5, 0.5]), np.array([[1.0], [2.0]]), np.ones((2, 1))), "diag")
        image = _moved(point, rate, target)
        memory = empty_memory(point, jnp.float64, method)
        memory = accelerate.replace(memory, reach=jnp.asarray(1e3))
        gain = jnp.asarray(0.0)
        _, memory, bold = propose_boldly(memory, point, image, gain)
        assert not bold
        guess, _, bold = propose_boldly(memory, image, _moved(image, rate, target), gain)
        assert bold
        np.testing.assert_allclose(guess.means, target, rtol=1e-9)


def _moved(params, rate, target):
    return accelerate.replace(params, means=target + rate * (params.means - target))


def _as_free(params) -> FreeParams:
    return FreeParams(
        logits=jnp.zeros(2), means=jnp.asarray(params.means), shapes=jnp.zeros((2, 1)), covariance_type="diag"
    )


def _as_params(free):
    return params_of((np.array([0.5, 0.5]), free.means, np.ones((2, 1))), "diag")


# Aitken


@pytest.mark.parametrize("method", [None, "squarem"])
def test_aitken_stops_when_little_is_left(method):
    best = fitted("full", None).log_likelihood
    wanted = 1e-6 * (1 + abs(best))
    fit = partial(jaxgmm.fit, overlapping(), 3, key=0, n_restarts=4, tol=1e-6, max_iter=20_000, reg_covar=0.0)
    by_change, by_estimate = fit(accelerate=method), fit(accelerate=method, tol_kind="aitken")
    assert by_estimate.converged
    assert best - by_estimate.log_likelihood < 2 * wanted
    if method is None:
        # A small last step is not a small distance.
        assert best - by_change.log_likelihood > 10 * wanted
        assert by_change.remaining_gain == pytest.approx(best - by_change.log_likelihood, rel=0.5)
    assert by_estimate.options["tol_kind"] == "aitken"


def test_what_remains_is_known_only_from_three_steps(small):
    assert jaxgmm.fit(small.x, K, key=0, max_iter=1).remaining_gain == np.inf
    assert jaxgmm.fit(small.x, K, key=0, tol=0.0, max_iter=3000).remaining_gain == 0.0
