"""Tied spherical covariance (mclust EII): one variance for all components and features, a scalar."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from jaxgmm._numerics import PRECISION
from jaxgmm.covariance._axis_aligned import diagonal_matrices, inverse_deviation, matrix_diagonals
from jaxgmm.covariance._base import mean_over_components


class TiedSpherical:
    """Σ_k = σ² I."""

    name = "tied_spherical"
    mclust_code = "EII"
    correlated = False
    per_component = False

    def shape(self, n_components: int, n_features: int) -> tuple[int, ...]:
        return ()

    def n_parameters(self, n_components: int, n_features: int) -> int:
        return 1

    def scatter(self, delta: Array, resp: Array) -> Array:
        return jnp.einsum("kb,kib->", resp, delta * delta, precision=PRECISION)

    def estimate(self, scatter: Array, shift: Array, resp_sum: Array, reg_covar: Array) -> Array:
        between = jnp.einsum("k,ki->", resp_sum, shift * shift, precision=PRECISION)
        return (scatter - between) / (jnp.sum(resp_sum) * shift.shape[-1]) + reg_covar

    def factor(self, covariances: Array) -> Array:
        return inverse_deviation(covariances)

    def conditional_variances(self, factor: Array, n_components: int, n_features: int) -> Array:
        return jnp.broadcast_to(factor**-2.0, (n_components, n_features))

    def half_log_det(self, factor: Array, n_components: int, n_features: int) -> Array:
        return jnp.broadcast_to(n_features * jnp.log(factor), (n_components,))

    def squared_distance(self, delta: Array, factor: Array) -> Array:
        white = delta * factor
        return jnp.sum(white * white, axis=1)

    def precisions(self, factor: Array) -> Array:
        return factor * factor

    def from_precisions(self, precisions: Array) -> Array:
        return 1.0 / precisions

    def to_full(self, covariances: Array, n_components: int, n_features: int) -> Array:
        return diagonal_matrices(self.variances(covariances, n_components, n_features))

    def from_full(self, covariances: Array, weights: Array) -> Array:
        return jnp.mean(mean_over_components(matrix_diagonals(covariances), weights))

    def scale(self, covariances: Array, n_components: int) -> Array:
        return jnp.broadcast_to(jnp.sqrt(covariances), (n_components,))

    def colour(self, noise: Array, scale: Array) -> Array:
        return noise * scale

    def variances(self, covariances: Array, n_components: int, n_features: int) -> Array:
        return jnp.broadcast_to(covariances, (n_components, n_features))
