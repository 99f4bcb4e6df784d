"""Diagonal covariances (mclust VVI): one variance per component and feature, shape (K, D)."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from jaxgmm._numerics import PRECISION, safe_divide
from jaxgmm.covariance._axis_aligned import diagonal_matrices, inverse_deviation, matrix_diagonals


class Diag:
    """Σ_k = diag(σ²_k1 … σ²_kD)."""

    name = "diag"
    mclust_code = "VVI"
    correlated = False
    per_component = True

    def shape(self, n_components: int, n_features: int) -> tuple[int, ...]:
        return (n_components, n_features)

    def n_parameters(self, n_components: int, n_features: int) -> int:
        return n_components * n_features

    def scatter(self, delta: Array, resp: Array) -> Array:
        return jnp.einsum("kb,kib->ki", resp, delta * delta, precision=PRECISION)

    def estimate(self, scatter: Array, shift: Array, resp_sum: Array, reg_covar: Array) -> Array:
        return safe_divide(scatter, resp_sum[:, None]) - shift * shift + reg_covar

    def factor(self, covariances: Array) -> Array:
        return inverse_deviation(covariances)

    def conditional_variances(self, factor: Array, n_components: int, n_features: int) -> Array:
        return factor**-2.0

    def half_log_det(self, factor: Array, n_components: int, n_features: int) -> Array:
        return jnp.sum(jnp.log(factor), axis=-1)

    def squared_distance(self, delta: Array, factor: Array) -> Array:
        white = delta * factor[:, :, None]
        return jnp.sum(white * white, axis=1)

    def precisions(self, factor: Array) -> Array:
        return factor * factor

    def from_precisions(self, precisions: Array) -> Array:
        return 1.0 / precisions

    def to_full(self, covariances: Array, n_components: int, n_features: int) -> Array:
        return diagonal_matrices(self.variances(covariances, n_components, n_features))

    def from_full(self, covariances: Array, weights: Array) -> Array:
        return matrix_diagonals(covariances)

    def scale(self, covariances: Array, n_components: int) -> Array:
        return jnp.sqrt(covariances)

    def colour(self, noise: Array, scale: Array) -> Array:
        return noise * scale[None, :]

    def variances(self, covariances: Array, n_components: int, n_features: int) -> Array:
        return covariances
