"""Cholesky factors and their inverses against numpy, and what the package needs of them beyond the numbers."""

import os
import subprocess
import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgmm import linalg
from tests.helpers import tolerance

SIZES = [1, 2, 3, 5, 16, 17, 40, 70]
DTYPES = [np.float64, np.float32]
CONDITIONS = [1e1, 1e6, 1e12]
# Generous multiples of the textbook bounds: measured values are below a tenth of them.
BACKWARD, FORWARD = 4, 8


def matrices(n_features: int, condition: float, n_matrices: int = 4, seed: int = 0, dtype=np.float64) -> np.ndarray:
    """Symmetric positive definite matrices (n, D, D): random axes, eigenvalues from `condition` down to 1."""
    rng = np.random.default_rng(seed)
    rotation = np.linalg.qr(rng.normal(size=(n_matrices, n_features, n_features)))[0]
    eigenvalues = np.geomspace(condition, 1.0, n_features)
    product = (rotation * eigenvalues) @ rotation.swapaxes(1, 2)
    return (0.5 * (product + product.swapaxes(1, 2))).astype(dtype)


def norm(array: np.ndarray) -> np.ndarray:
    """Frobenius norms of the last two axes."""
    return np.sqrt((np.asarray(array, np.float64) ** 2).sum((-2, -1)))


@jax.jit
def factors(covariances: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    return linalg.cholesky(covariances), linalg.precision_factor(covariances), linalg.invert(covariances)


def numpy_factors(covariances: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    lower = np.linalg.cholesky(covariances)
    return lower, np.linalg.inv(lower).swapaxes(-1, -2), np.linalg.inv(covariances)


def jax_factor(covariances: jax.Array) -> jax.Array:
    """The same by the library's own routines, for derivatives."""
    return jnp.linalg.inv(jnp.linalg.cholesky(covariances)).swapaxes(-1, -2)


@pytest.mark.parametrize("n_features", SIZES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_factors_are_as_good_as_the_condition_allows(n_features, dtype):
    largest = 0.01 / np.finfo(dtype).eps / n_features if n_features > 1 else 1.0
    condition = np.minimum(CONDITIONS, largest)
    with jax.enable_x64(True):
        a = np.concatenate([matrices(n_features, c, n_matrices=1, dtype=dtype) for c in condition])
        lower, upper, _ = (np.asarray(array) for array in factors(a))
    assert lower.dtype == upper.dtype == dtype
    assert (np.triu(lower, 1) == 0).all()
    assert (np.tril(upper, -1) == 0).all()
    a, lower, upper = (array.astype(np.float64) for array in (a, lower, upper))
    identity, inverse = np.eye(n_features), upper.swapaxes(1, 2)
    backward = norm(lower @ lower.swapaxes(1, 2) - a) / norm(a)
    assert (backward <= tolerance(dtype, BACKWARD * n_features)).all()
    white = norm(inverse @ a @ upper - identity)
    assert (white <= tolerance(dtype, FORWARD * n_features) * condition).all()
    # Row by row of L⁻¹ whatever the condition number: what substitution gives and products of inverses do not.
    residual = np.abs(lower @ inverse - identity)
    assert (residual <= tolerance(dtype, FORWARD * n_features) * (np.abs(lower) @ np.abs(inverse))).all()


@pytest.mark.parametrize("n_features", SIZES)
def test_numpy_agrees_and_only_the_symmetric_part_counts(n_features):
    a = matrices(n_features, 100.0, n_matrices=3)
    skew = np.random.default_rng(1).normal(size=a.shape)
    with jax.enable_x64(True):
        found = factors(a + 10.0 * (skew - skew.swapaxes(1, 2)))
    for ours, theirs in zip(found, numpy_factors(a), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance(np.float64, 1000 * n_features))


@pytest.mark.parametrize("n_features", [2, 70])
def test_bad_matrices_give_nan_and_leave_their_neighbours_alone(n_features):
    good = matrices(n_features, 10.0, n_matrices=1)[0]
    last_negative, last_zero, first_zero, inside_nan, infinite = (np.eye(n_features) for _ in range(5))
    last_negative[-1, -1] = -1.0
    last_zero[-1, -1] = 0.0
    first_zero[0, 0] = 0.0
    inside_nan[-1, 0] = np.nan
    infinite[-1, -1] = np.inf
    indefinite = 2.0 - np.eye(n_features)
    bad = [last_negative, last_zero, first_zero, inside_nan, infinite, indefinite, np.ones_like(good), -good]
    with jax.enable_x64(True):
        mixed = factors(np.stack([good, *bad, good]))
        sound = factors(np.stack([good] * (len(bad) + 2)))
    for found, wanted in zip(mixed, sound, strict=True):
        assert np.isnan(np.diagonal(found, axis1=1, axis2=2)[1:-1]).all()
        np.testing.assert_array_max_ulp(np.asarray(found)[[0, -1]], np.asarray(wanted)[[0, -1]], maxulp=2)


@pytest.mark.parametrize(("n_features", "dtype"), [(3, np.float64), (8, np.float32), (70, np.float64)])
def test_a_matrix_gives_the_same_factor_alone_in_a_batch_and_under_vmap(n_features, dtype):
    factor = linalg.precision_factor
    with jax.enable_x64(True):
        a = matrices(n_features, 100.0, n_matrices=6, dtype=dtype)
        alone = np.stack([jax.jit(factor)(matrix) for matrix in a])
        grid = a.reshape(2, 3, n_features, n_features)
        across = jax.jit(jax.vmap(factor, in_axes=1, out_axes=1))(grid)
        for batch in (jax.jit(factor)(a), jax.jit(jax.vmap(factor))(a), across):
            np.testing.assert_array_max_ulp(np.asarray(batch).reshape(a.shape), alone, maxulp=2)


@pytest.mark.parametrize(
    ("ours", "theirs"), [(linalg.cholesky, jnp.linalg.cholesky), (linalg.precision_factor, jax_factor)]
)
def test_derivatives_match_the_library_s(ours, theirs):
    with jax.enable_x64(True):
        a = jnp.asarray(matrices(3, 10.0, n_matrices=2))
        weight, direction = np.random.default_rng(2).normal(size=(2, *a.shape))

        @partial(jax.jit, static_argnums=0)
        def derivatives(function, a):
            gradient = jax.grad(lambda a: jnp.sum(weight * jnp.sin(function(a))))
            return (*jax.jvp(gradient, (a,), (direction,)), jax.jvp(function, (a,), (direction,))[1])

        for found, wanted in zip(derivatives(ours, a), derivatives(theirs, a), strict=True):
            np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-11)


@pytest.mark.parametrize("n_features", [8, 70])
def test_no_lapack_call_is_left_on_the_cpu(n_features):
    def program(a):
        value = jax.vmap(linalg.invert)(linalg.cholesky(a))
        gradient = jax.grad(lambda a: jnp.sum(linalg.precision_factor(a)))
        return jax.lax.while_loop(lambda a: jnp.all(a < 1), gradient, value)

    lowered = jax.jit(program).trace(jnp.ones((4, n_features, n_features))).lower(lowering_platforms=("cpu",))
    text = lowered.as_text()
    assert "custom_call" not in text
    assert len(text) < 200_000, "the loops are no longer rolled"


def test_other_platforms_keep_their_own_routines():
    program = jax.jit(linalg.precision_factor).trace(jnp.ones((4, 3, 3)))
    assert "cusolver" in program.lower(lowering_platforms=("cuda",)).as_text()


CONCURRENT = """
import os, threading, time
import jax, jax.numpy as jnp
from jaxgmm import linalg
programs = [(jax.jit(linalg.precision_factor), jnp.tile(jnp.eye(d), (d, 1, 1))) for d in (8, 16, 32, 70)]
for function, a in programs:
    function(a).block_until_ready()
stop = time.monotonic() + 2.0
def work(turn):
    while time.monotonic() < stop:
        function, a = programs[turn % len(programs)]
        function(a).block_until_ready()
        turn += 1
threads = [threading.Thread(target=work, args=(i,)) for i in range(2)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""


def test_two_threads_do_not_wait_for_each_other_for_ever():
    # A pool of two is where batched LAPACK calls hang; a larger one hides it.
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "NPROC": "2"}
    done = subprocess.run([sys.executable, "-c", CONCURRENT], env=environment, timeout=60, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()


@pytest.mark.parametrize("dtype", DTYPES)
def test_weighted_sums_are_numpys(dtype):
    rng = np.random.default_rng(0)
    weights, vectors = rng.random((3, 50)).astype(dtype), rng.normal(size=(3, 4, 50)).astype(dtype)
    with jax.enable_x64(dtype == np.float64):
        found = linalg.weighted_sums(jnp.asarray(weights), jnp.asarray(vectors))
    wide = np.einsum("kb,kib->ki", weights.astype(float), vectors.astype(float))
    assert found.dtype == dtype
    np.testing.assert_allclose(found, wide, rtol=0, atol=50 * np.finfo(dtype).eps * np.abs(vectors).max())
