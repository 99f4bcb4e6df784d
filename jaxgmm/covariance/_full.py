"""Full covariances (mclust VVV): one symmetric positive definite matrix per component, shape (K, D, D)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

from jaxgmm import linalg
from jaxgmm._numerics import PRECISION, safe_divide
from jaxgmm.covariance import _pairs

# Features up to which a CPU is faster with the triangle written out than with a batch of small products.
MAX_UNROLLED = 16


def _by_products(delta: Array, factor: Array) -> Array:
    white = jnp.einsum("kij,kib->kjb", factor, delta, precision=PRECISION)
    return jnp.sum(white * white, axis=1)


def _by_components(delta: Array, factor: Array) -> Array:
    """Σ_j (Σ_{i<=j} U_ij δ_i)² in one pass over the rows, a component at a time."""

    def distance(args: tuple[Array, Array]) -> Array:
        rows, upper = args
        total = jnp.zeros_like(rows[0])
        for j in range(rows.shape[0]):
            white = upper[0, j] * rows[0]
            for i in range(1, j + 1):
                white += upper[i, j] * rows[i]
            total += white * white
        return total

    return jax.lax.map(distance, (delta, factor))


class Full:
    """Σ_k free."""

    name = "full"
    mclust_code = "VVV"
    correlated = True
    per_component = True

    def shape(self, n_components: int, n_features: int) -> tuple[int, ...]:
        return (n_components, n_features, n_features)

    def n_parameters(self, n_components: int, n_features: int) -> int:
        return n_components * n_features * (n_features + 1) // 2

    def scatter(self, delta: Array, resp: Array) -> Array:
        weighted = resp[:, None, :] * delta
        return jnp.einsum("kib,kjb->kij", weighted, delta, precision=PRECISION)

    def estimate(self, scatter: Array, shift: Array, resp_sum: Array) -> Array:
        second = safe_divide(scatter, resp_sum[:, None, None])
        return linalg.symmetrise(second - linalg.outer(shift))

    def add_to_diagonal(self, covariances: Array, value: Array) -> Array:
        return linalg.add_diagonal(covariances, value)

    def factor(self, covariances: Array) -> Array:
        return linalg.precision_factor(covariances)

    def conditional_variances(self, factor: Array, n_components: int, n_features: int) -> Array:
        return linalg.conditional_variances(factor)

    def precision_diagonals(self, factor: Array, n_components: int, n_features: int) -> Array:
        return linalg.precision_diagonals(factor)

    def half_log_det(self, factor: Array, n_components: int, n_features: int) -> Array:
        return linalg.half_log_det(factor)

    def squared_distance(self, delta: Array, factor: Array) -> Array:
        if delta.shape[1] > MAX_UNROLLED:
            return _by_products(delta, factor)
        return jax.lax.platform_dependent(delta, factor, cpu=_by_components, default=_by_products)

    def precisions(self, factor: Array) -> Array:
        return jnp.matmul(factor, jnp.swapaxes(factor, -1, -2), precision=PRECISION)

    def quadratic(self, rows: Array) -> Array:
        return _pairs.pair_products(rows)

    def quadratic_weights(self, precisions: Array) -> Array:
        return _pairs.pair_weights(precisions)

    def scatter_of(self, moments: Array) -> Array:
        return _pairs.from_pairs(moments.T)

    def apply(self, precisions: Array, vectors: Array) -> Array:
        return jnp.einsum("kij,kj->ki", precisions, vectors, precision=PRECISION)

    def squared_change(self, precisions: Array, change: Array, n_components: int, n_features: int) -> Array:
        relative = jnp.matmul(precisions, change, precision=PRECISION)
        return jnp.sum(relative * jnp.swapaxes(relative, -1, -2), axis=(-2, -1))

    def from_precisions(self, precisions: Array) -> Array:
        return linalg.invert(precisions)

    def free(self, covariances: Array) -> Array:
        return linalg.log_cholesky(covariances)

    def of_free(self, free: Array) -> Array:
        return linalg.from_log_cholesky(free)

    def to_full(self, covariances: Array, n_components: int, n_features: int) -> Array:
        return covariances

    def from_full(self, covariances: Array, weights: Array) -> Array:
        return covariances

    def scale(self, covariances: Array, n_components: int) -> Array:
        return linalg.cholesky(covariances)

    def colour(self, noise: Array, scale: Array) -> Array:
        return jnp.matmul(noise, scale.T, precision=PRECISION)

    def variances(self, covariances: Array, n_components: int, n_features: int) -> Array:
        return jnp.diagonal(covariances, axis1=-2, axis2=-1)
