"""Tied diagonal covariance (mclust EEI): one variance per feature for all components, shape (D,)."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from jaxgmm._numerics import PRECISION
from jaxgmm.covariance._axis_aligned import diagonal_matrices, inverse_deviation, matrix_diagonals
from jaxgmm.covariance._base import mean_over_components


class TiedDiag:
    """Σ_k = diag(σ²_1 … σ²_D)."""

    name = "tied_diag"
    mclust_code = "EEI"
    correlated = False
    per_component = False

    def shape(self, n_components: int, n_features: int) -> tuple[int, ...]:
        return (n_features,)

    def n_parameters(self, n_components: int, n_features: int) -> int:
        return n_features

    def scatter(self, delta: Array, resp: Array) -> Array:
        return jnp.einsum("kb,kib->i", resp, delta * delta, precision=PRECISION)

    def estimate(self, scatter: Array, shift: Array, resp_sum: Array, reg_covar: Array) -> Array:
        between = jnp.einsum("k,ki->i", resp_sum, shift * shift, precision=PRECISION)
        return (scatter - between) / jnp.sum(resp_sum) + reg_covar

    def factor(self, covariances: Array) -> Array:
        return inverse_deviation(covariances)

    def conditional_variances(self, factor: Array, n_components: int, n_features: int) -> Array:
        return jnp.broadcast_to(factor**-2.0, (n_components, n_features))

    def half_log_det(self, factor: Array, n_components: int, n_features: int) -> Array:
        return jnp.broadcast_to(jnp.sum(jnp.log(factor)), (n_components,))

    def squared_distance(self, delta: Array, factor: Array) -> Array:
        white = delta * factor[None, :, None]
        return jnp.sum(white * white, axis=1)

    def precisions(self, factor: Array) -> Array:
        return factor * factor

    def from_precisions(self, precisions: Array) -> Array:
        return 1.0 / precisions

    def to_full(self, covariances: Array, n_components: int, n_features: int) -> Array:
        return diagonal_matrices(self.variances(covariances, n_components, n_features))

    def from_full(self, covariances: Array, weights: Array) -> Array:
        return mean_over_components(matrix_diagonals(covariances), weights)

    def scale(self, covariances: Array, n_components: int) -> Array:
        return jnp.broadcast_to(jnp.sqrt(covariances), (n_components, covariances.shape[-1]))

    def colour(self, noise: Array, scale: Array) -> Array:
        return noise * scale[None, :]

    def variances(self, covariances: Array, n_components: int, n_features: int) -> Array:
        return jnp.broadcast_to(covariances, (n_components, n_features))
