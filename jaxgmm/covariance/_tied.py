"""Tied covariance (mclust EEE): one symmetric positive definite matrix for all components, shape (D, D)."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from jaxgmm import linalg
from jaxgmm._numerics import PRECISION
from jaxgmm.covariance import _pairs
from jaxgmm.covariance._base import mean_over_components


class Tied:
    """Σ_k = Σ."""

    name = "tied"
    mclust_code = "EEE"
    correlated = True
    per_component = False

    def shape(self, n_components: int, n_features: int) -> tuple[int, ...]:
        return (n_features, n_features)

    def n_parameters(self, n_components: int, n_features: int) -> int:
        return n_features * (n_features + 1) // 2

    def scatter(self, delta: Array, resp: Array) -> Array:
        weighted = resp[:, None, :] * delta
        return jnp.einsum("kib,kjb->ij", weighted, delta, precision=PRECISION)

    def estimate(self, scatter: Array, shift: Array, resp_sum: Array) -> Array:
        between = jnp.einsum("k,ki,kj->ij", resp_sum, shift, shift, precision=PRECISION)
        return linalg.symmetrise(scatter - between) / jnp.sum(resp_sum)

    def add_to_diagonal(self, covariances: Array, value: Array) -> Array:
        return linalg.add_diagonal(covariances, value)

    def factor(self, covariances: Array) -> Array:
        return linalg.precision_factor(covariances)

    def conditional_variances(self, factor: Array, n_components: int, n_features: int) -> Array:
        return jnp.broadcast_to(linalg.conditional_variances(factor), (n_components, n_features))

    def precision_diagonals(self, factor: Array, n_components: int, n_features: int) -> Array:
        return jnp.broadcast_to(linalg.precision_diagonals(factor), (n_components, n_features))

    def half_log_det(self, factor: Array, n_components: int, n_features: int) -> Array:
        return jnp.broadcast_to(linalg.half_log_det(factor), (n_components,))

    def squared_distance(self, delta: Array, factor: Array) -> Array:
        white = jnp.einsum("ij,kib->kjb", factor, delta, precision=PRECISION)
        return jnp.sum(white * white, axis=1)

    def precisions(self, factor: Array) -> Array:
        return jnp.matmul(factor, factor.T, precision=PRECISION)

    def quadratic(self, rows: Array) -> Array:
        return _pairs.pair_products(rows)

    def quadratic_weights(self, precisions: Array) -> Array:
        return _pairs.pair_weights(precisions)

    def scatter_of(self, moments: Array) -> Array:
        return _pairs.from_pairs(moments)

    def apply(self, precisions: Array, vectors: Array) -> Array:
        return jnp.matmul(vectors, precisions, precision=PRECISION)

    def squared_change(self, precisions: Array, change: Array, n_components: int, n_features: int) -> Array:
        relative = jnp.matmul(precisions, change, precision=PRECISION)
        return jnp.broadcast_to(jnp.sum(relative * relative.T), (n_components,))

    def from_precisions(self, precisions: Array) -> Array:
        return linalg.invert(precisions)

    def free(self, covariances: Array) -> Array:
        return linalg.log_cholesky(covariances)

    def of_free(self, free: Array) -> Array:
        return linalg.from_log_cholesky(free)

    def to_full(self, covariances: Array, n_components: int, n_features: int) -> Array:
        return jnp.broadcast_to(covariances, (n_components, n_features, n_features))

    def from_full(self, covariances: Array, weights: Array) -> Array:
        return mean_over_components(covariances, weights)

    def scale(self, covariances: Array, n_components: int) -> Array:
        lower = linalg.cholesky(covariances)
        return jnp.broadcast_to(lower, (n_components, *lower.shape))

    def colour(self, noise: Array, scale: Array) -> Array:
        return jnp.matmul(noise, scale.T, precision=PRECISION)

    def variances(self, covariances: Array, n_components: int, n_features: int) -> Array:
        return jnp.broadcast_to(jnp.diagonal(covariances), (n_components, n_features))
