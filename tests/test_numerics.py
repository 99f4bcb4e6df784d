"""Elementary functions against the standard library's and NumPy's."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgmm._checks import precision_context
from jaxgmm._numerics import MAX_UNROLLED, fold, log_normal

DTYPES = [np.float64, np.float32]


@pytest.mark.parametrize(("dtype", "units"), [(np.float64, 1), (np.float32, 2)])
def test_log_is_within_units_in_the_last_place(dtype, units):
    """Single precision is the compiler's own logarithm."""
    rng = np.random.default_rng(0)
    info = np.finfo(dtype)
    x = np.concatenate(
        [
            1 + 9 * rng.random(20_000),
            1 + 1e-6 * rng.normal(size=20_000),
            math.sqrt(0.5) * (1 + 1e-9 * rng.normal(size=1000)),
            2.0 ** np.arange(info.minexp, info.maxexp),
            np.exp(rng.uniform(np.log(info.tiny), np.log(info.max), 20_000)),
            [info.tiny, info.max, 1.0],
        ]
    ).astype(dtype)
    with precision_context(dtype):
        found = np.asarray(jax.jit(log_normal)(x), np.float64)
    truth = np.array([math.log(float(value)) for value in x])
    assert (np.abs(found - truth) <= units * np.spacing(np.abs(truth).astype(dtype))).all()
    assert (found[x == 1] == 0).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_log_of_what_is_no_normal_number(dtype):
    with precision_context(dtype):
        np.testing.assert_array_equal(log_normal(jnp.asarray([0.0, np.nan], dtype)), [-np.inf, np.nan])


@pytest.mark.parametrize("dtype", DTYPES)
def test_derivatives_of_log(dtype):
    with precision_context(dtype):
        first, second = jax.grad(log_normal), jax.grad(jax.grad(log_normal))
        np.testing.assert_allclose(jax.vmap(first)(jnp.asarray([0.5, 3.0], dtype)), [2.0, 1 / 3], rtol=1e-6)
        np.testing.assert_allclose(second(jnp.asarray(2.0, dtype)), -0.25, rtol=1e-6)


@pytest.mark.parametrize("length", [1, 2, 7, MAX_UNROLLED, MAX_UNROLLED + 1])
@pytest.mark.parametrize("batched", [False, True])
def test_fold_is_the_reduction(length, batched):
    terms = np.random.default_rng(length).normal(size=(3, length, 5))

    def both(terms):
        return fold(jnp.maximum, jnp.max, terms), fold(jnp.add, jnp.sum, terms)

    with precision_context(np.float64):
        each = jax.vmap(both)(terms) if batched else both(terms[0])
    expected = terms if batched else terms[0]
    np.testing.assert_array_equal(each[0], expected.max(axis=-2))
    np.testing.assert_allclose(each[1], expected.sum(axis=-2), rtol=1e-14, atol=1e-14)


def test_fold_has_a_gradient():
    terms = jnp.asarray([[1.0, 5.0], [3.0, 2.0]])
    slope = jax.grad(lambda t: jnp.sum(fold(jnp.maximum, jnp.max, t) * jnp.asarray([2.0, 3.0])))(terms)
    np.testing.assert_array_equal(slope, [[0.0, 3.0], [2.0, 0.0]])
