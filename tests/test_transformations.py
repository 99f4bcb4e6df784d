"""Inside the caller's own transformations: gradients, jit, vmap."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm
from tests.helpers import (
    D,
    K,
    N,
    assert_params_close,
    cast,
    full_covariances,
    params_of,
    parts_of,
    random_params,
    relative,
    start,
    tolerance,
)
from tests.oracles import numpy_gmm as oracle

PARAMS = start("full")


def analytic_gradients(params, x):
    """Gradients of Σ_n log p(x_n) by the textbook, from the oracle's responsibilities, float64.

    With d = x − μ_k and S = Σ_k⁻¹: ∂/∂w_k = Σ r/w_k,  ∂/∂μ_k = Σ r S d,  ∂/∂x = −Σ_k r S d,
    ∂/∂Σ_k = ½ Σ r (S d dᵀ S − S), which a family sums as its covariances are shared out.
    """
    weights, means, _, family = parts_of(params)
    resp = oracle.responsibilities(x, *parts_of(params))
    precisions = np.linalg.inv(full_covariances(params))
    delta = np.asarray(x, np.float64)[:, None] - means
    pulled = np.einsum("kij,nkj->nki", precisions, delta)
    matrices = 0.5 * (np.einsum("nk,nki,nkj->kij", resp, pulled, pulled) - resp.sum(axis=0)[:, None, None] * precisions)
    diagonals = np.einsum("kii->ki", matrices)
    covariances = {
        "full": matrices,
        "tied": matrices.sum(axis=0),
        "diag": diagonals,
        "spherical": diagonals.sum(axis=1),
        "tied_diag": diagonals.sum(axis=0),
        "tied_spherical": diagonals.sum(),
    }[family]
    by_params = (resp.sum(axis=0) / weights, np.einsum("nk,nki->ki", resp, pulled), covariances)
    return by_params, -np.einsum("nk,nki->ni", resp, pulled)


def test_gradients_of_log_prob(small, family):
    dtype = np.dtype(np.float64)
    x, params = small.x[:60], random_params(family, dtype=dtype)
    total = jax.jit(jax.grad(lambda params, x: jaxgmm.log_prob(params, x).sum(), argnums=(0, 1)))
    with jax.enable_x64(True):
        by_params, by_x = jax.tree.map(np.asarray, total(params, x))
    wanted, wanted_x = analytic_gradients(params, x)
    close = tolerance(dtype, 1000)
    for found, right in zip((by_params.weights, by_params.means, by_params.covariances), wanted, strict=True):
        np.testing.assert_allclose(found, right, rtol=0, atol=close * (1 + np.abs(right).max()))
    np.testing.assert_allclose(by_x, wanted_x, rtol=0, atol=close * (1 + np.abs(wanted_x).max()))


def test_gradients_in_float32(small):
    x, params = small.x[:60].astype(np.float32), random_params("full", dtype=np.float32)
    by_params = jax.jit(jax.grad(lambda params: jaxgmm.log_prob(params, x).sum()))(params)
    assert by_params.means.dtype == np.float32
    wanted, _ = analytic_gradients(params, x)
    scale = np.abs(wanted[1]).max()
    np.testing.assert_allclose(by_params.means, wanted[1], rtol=0, atol=tolerance(np.float32, 1000) * scale)


def test_gradients_agree_with_differences(small):
    """The derivative in a random direction of all parameters at once, against a central difference."""
    x = small.x[:60]
    params = random_params("full")
    direction = jax.tree.map(lambda a: np.random.default_rng(1).normal(size=np.shape(a)), params)

    @jax.jit
    def along(t):
        return jaxgmm.log_prob(jax.tree.map(lambda a, b: a + t * b, params, direction), x).sum()

    step = 1e-6
    with jax.enable_x64(True):
        slope = float(jax.grad(along)(0.0))
        difference = float(along(step) - along(-step)) / (2 * step)
    assert slope == pytest.approx(difference, rel=1e-7)


def test_gradients_stay_finite_at_the_edges(small):
    """Inactive components, and rows so far away that their distance is capped."""
    _, means, covariances, _ = parts_of(random_params("full"))
    params = params_of(([0.4, 0.6, 0.0], means, covariances), "full", np.float32)
    far = np.concatenate([small.x[:5], np.full((1, D), 1e30)]).astype(np.float32)
    gradient = jax.jit(jax.grad(lambda p, x: jaxgmm.log_prob(p, x).sum(), argnums=(0, 1)))
    by_params, by_x = gradient(params, far)
    for leaf in jax.tree.leaves((by_params, by_x)):
        assert np.isfinite(leaf).all()
    np.testing.assert_array_equal(by_params.means[2], 0)
    assert np.abs(by_params.means[:2]).max() > 0


@pytest.mark.parametrize("family", ["full", "tied_diag"])
def test_inside_jit_the_pieces_are_what_they_are_outside(small, family):
    x, params = small.x.astype(np.float32), random_params(family, dtype=np.float32)

    @jax.jit
    def inside(params, x, weight, key):
        stats = jaxgmm.e_step(params, x, weight)
        drawn, _ = jaxgmm.sample(params, key, 4)
        return {
            "log_prob": jaxgmm.log_prob(params, x),
            "responsibilities": jaxgmm.responsibilities(params, x),
            "predict": jaxgmm.predict(params, x),
            "log_likelihood": stats.log_likelihood,
            "means": jaxgmm.m_step(params, stats, 1e-3).means,
            "again": jaxgmm.em_step(params, x, weight, reg_covar=1e-3)[0].means,
            "drawn": drawn,
        }

    found = inside(params, x, small.counts.astype(np.float32), jax.random.key(5))
    stats = jaxgmm.e_step(params, x, small.counts)
    close = tolerance(np.float32, 100)
    np.testing.assert_allclose(found["log_prob"], jaxgmm.log_prob(params, x), rtol=close)
    np.testing.assert_allclose(found["responsibilities"], jaxgmm.responsibilities(params, x), atol=close)
    np.testing.assert_array_equal(found["predict"], jaxgmm.predict(params, x))
    assert relative(float(found["log_likelihood"]), float(stats.log_likelihood)) < close
    np.testing.assert_allclose(found["means"], jaxgmm.m_step(params, stats, 1e-3).means, rtol=close)
    np.testing.assert_allclose(found["again"], found["means"], rtol=close)
    np.testing.assert_allclose(found["drawn"], jaxgmm.sample(params, jax.random.key(5), 4)[0], rtol=close)


def test_vmap_over_models_weights_and_keys(small):
    x = small.x.astype(np.float32)
    models = [random_params("full", seed=seed, dtype=np.float32) for seed in range(3)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *models)
    scored = jax.jit(jax.vmap(jaxgmm.log_prob, in_axes=(0, None)))(stacked, x)
    for row, model in zip(scored, models, strict=True):
        np.testing.assert_allclose(row, jaxgmm.log_prob(model, x), rtol=tolerance(np.float32, 100))
    weights = np.random.default_rng(0).integers(0, 3, (4, N)).astype(np.float32)
    totals = jax.jit(jax.vmap(lambda w: jaxgmm.e_step(models[0], x, w).log_likelihood))(weights)
    np.testing.assert_allclose(
        totals, [jaxgmm.score(models[0], x, w) * w.sum() for w in weights], rtol=tolerance(np.float32, 100)
    )
    keys = jax.random.split(jax.random.key(0), 4)
    drawn, _ = jax.jit(jax.vmap(lambda key: jaxgmm.sample(models[0], key, 5)))(keys)
    assert drawn.shape == (4, 5, D)
    assert len(np.unique(drawn[:, 0, 0])) == 4


def test_inside_jit_with_nothing_traced(small):
    """Model and data may be constants of the caller's program."""
    x, params = small.x.astype(np.float32), cast(PARAMS, np.float32)

    @jax.jit
    def scaled(factor):
        return factor * jaxgmm.log_prob(params, x).sum(), factor * jaxgmm.e_step(params, x).log_likelihood

    one, two = scaled(np.float32(2.0))
    assert float(one) == pytest.approx(2 * jaxgmm.log_prob(params, x).sum(), rel=1e-5)
    assert float(two) == pytest.approx(float(one), rel=1e-5)


def test_inside_jit_integers_are_as_exact_as_floats(small):
    """Weights of integer rows stay fractions."""
    rows = np.round(small.x * 4).astype(np.int32)
    weights, means, covariances, _ = parts_of(PARAMS)
    params = params_of((weights, means * 4, covariances * 16), "full", np.float32)
    half = np.full(N, 0.5, np.float32)
    wanted = jaxgmm.e_step(params, rows, half)
    found = jax.jit(jaxgmm.e_step)(params, rows, half)
    assert relative(float(found.log_likelihood), float(wanted.log_likelihood)) < 1e-5
    state = jax.jit(jaxgmm.run_em)(params, rows, half, jaxgmm.EMOptions(max_iter=2))
    fitted = jaxgmm.fit(rows, K, init=params, max_iter=2, sample_weight=half)
    assert relative(float(state.best_log_likelihood), fitted.log_likelihood) < 1e-5


def test_float64_inside_the_callers_64_bit_program(small):
    with jax.enable_x64(True):
        found = jax.jit(jaxgmm.log_prob)(PARAMS, small.x)
        state = jax.jit(jaxgmm.run_em)(PARAMS, small.x, None, jaxgmm.EMOptions(max_iter=2))
        assert found.dtype == np.float64
        np.testing.assert_allclose(found, jaxgmm.log_prob(PARAMS, small.x), rtol=tolerance(np.float64, 100))
        assert_params_close(
            state.best_params,
            jaxgmm.fit(small.x, K, init=PARAMS, max_iter=2, reg_kind="absolute").params,
            tolerance(np.float64, 1000),
        )
