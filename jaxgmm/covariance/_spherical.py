"""Spherical covariances (mclust VII): one variance per component, shape (K,)."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from jaxgmm._numerics import PRECISION, safe_divide
from jaxgmm.covariance._axis_aligned import diagonal_matrices, inverse_deviation, matrix_diagonals


class Spherical:
    """Σ_k = σ²_k I."""

    name = "spherical"
    mclust_code = "VII"
    correlated = False
    per_component = True

    def shape(self, n_components: int, n_features: int) -> tuple[int, ...]:
        return (n_components,)

    def n_parameters(self, n_components: int, n_features: int) -> int:
        return n_components

    def scatter(self, delta: Array, resp: Array) -> Array:
        return jnp.einsum("kb,kib->k", resp, delta * delta, precision=PRECISION)

    def estimate(self, scatter: Array, shift: Array, resp_sum: Array, reg_covar: Array) -> Array:
        second = safe_divide(scatter, resp_sum) - jnp.sum(shift * shift, axis=-1)
        return second / shift.shape[-1] + reg_covar

    def factor(self, covariances: Array) -> Array:
        return inverse_deviation(covariances)

    def conditional_variances(self, factor: Array, n_components: int, n_features: int) -> Array:
        return jnp.broadcast_to(factor[:, None] ** -2.0, (n_components, n_features))

    def half_log_det(self, factor: Array, n_components: int, n_features: int) -> Array:
        return n_features * jnp.log(factor)

    def squared_distance(self, delta: Array, factor: Array) -> Array:
        white = delta * factor[:, None, None]
        return jnp.sum(white * white, axis=1)

    def precisions(self, factor: Array) -> Array:
        return factor * factor

    def from_precisions(self, precisions: Array) -> Array:
        return 1.0 / precisions

    def to_full(self, covariances: Array, n_components: int, n_features: int) -> Array:
        return diagonal_matrices(self.variances(covariances, n_components, n_features))

    def from_full(self, covariances: Array, weights: Array) -> Array:
        return jnp.mean(matrix_diagonals(covariances), axis=-1)

    def scale(self, covariances: Array, n_components: int) -> Array:
        return jnp.sqrt(covariances)

    def colour(self, noise: Array, scale: Array) -> Array:
        return noise * scale

    def variances(self, covariances: Array, n_components: int, n_features: int) -> Array:
        return jnp.broadcast_to(covariances[:, None], (n_components, n_features))
