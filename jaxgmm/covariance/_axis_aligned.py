"""Families without correlations: variances, one for each component and feature or shared along either.

diag (mclust VVI) (K, D)        tied_diag (EEI) (D,)
spherical (VII) (K,)            tied_spherical (EII) scalar
"""

from __future__ import annotations

import math

import jax.numpy as jnp
from jax import Array

from jaxgmm._numerics import PRECISION, safe_divide


class AxisAligned:
    """Σ_k = diag(σ²_k1 … σ²_kD), where σ² may be shared by all components, by all features, or by both."""

    correlated = False

    def __init__(self, name: str, mclust_code: str, *, share_components: bool, share_features: bool) -> None:
        self.name = name
        self.mclust_code = mclust_code
        self.per_component = not share_components
        self._shared = tuple(axis for axis, share in enumerate((share_components, share_features)) if share)

    def _pool(self, values: Array) -> Array:
        """Sum (K, D) values over the axes that share a variance."""
        return jnp.sum(values, axis=self._shared)

    def _spread(self, values: Array) -> Array:
        """Variances or factors with size 1 on their shared axes: always two axes, (K or 1, D or 1)."""
        return jnp.expand_dims(values, self._shared)

    def _all(self, values: Array, n_components: int, n_features: int) -> Array:
        """Variances or factors repeated to (K, D)."""
        return jnp.broadcast_to(self._spread(values), (n_components, n_features))

    def shape(self, n_components: int, n_features: int) -> tuple[int, ...]:
        sizes = (n_components, n_features)
        return tuple(size for axis, size in enumerate(sizes) if axis not in self._shared)

    def n_parameters(self, n_components: int, n_features: int) -> int:
        return math.prod(self.shape(n_components, n_features))

    def scatter(self, delta: Array, resp: Array) -> Array:
        return self._pool(jnp.einsum("kb,kib->ki", resp, delta * delta, precision=PRECISION))

    def estimate(self, scatter: Array, shift: Array, resp_sum: Array) -> Array:
        mass = jnp.broadcast_to(resp_sum[:, None], shift.shape)
        between = self._pool(mass * shift * shift)
        return safe_divide(scatter - between, self._pool(mass))

    def add_to_diagonal(self, covariances: Array, value: Array) -> Array:
        # Features that share a variance share what is added to it.
        added = jnp.mean(value) if 1 in self._shared else value
        return covariances + jnp.broadcast_to(added, covariances.shape)

    def factor(self, covariances: Array) -> Array:
        sound = covariances > 0
        return jnp.where(sound, jnp.where(sound, covariances, 1.0) ** -0.5, jnp.nan)

    def conditional_variances(self, factor: Array, n_components: int, n_features: int) -> Array:
        return self._all(factor**-2.0, n_components, n_features)

    def precision_diagonals(self, factor: Array, n_components: int, n_features: int) -> Array:
        return self._all(factor**2, n_components, n_features)

    def half_log_det(self, factor: Array, n_components: int, n_features: int) -> Array:
        return jnp.sum(self._all(jnp.log(factor), n_components, n_features), axis=1)

    def squared_distance(self, delta: Array, factor: Array) -> Array:
        white = delta * self._spread(factor)[:, :, None]
        return jnp.sum(white * white, axis=1)

    def precisions(self, factor: Array) -> Array:
        return factor * factor

    def quadratic(self, rows: Array) -> Array:
        squares = rows * rows
        return jnp.sum(squares, axis=0, keepdims=True) if 1 in self._shared else squares

    def quadratic_weights(self, precisions: Array) -> Array:
        weights = -0.5 * self._spread(precisions)
        return weights if self.per_component else weights[0]

    def scatter_of(self, moments: Array) -> Array:
        return moments.T if 1 not in self._shared else moments[0]

    def apply(self, precisions: Array, vectors: Array) -> Array:
        return self._spread(precisions) * vectors

    def squared_change(self, precisions: Array, change: Array, n_components: int, n_features: int) -> Array:
        relative = self._all(precisions * change, n_components, n_features)
        return jnp.sum(relative * relative, axis=1)

    def from_precisions(self, precisions: Array) -> Array:
        return 1.0 / precisions

    def free(self, covariances: Array) -> Array:
        return 0.5 * jnp.log(covariances)

    def of_free(self, free: Array) -> Array:
        return jnp.exp(2.0 * free)

    def to_full(self, covariances: Array, n_components: int, n_features: int) -> Array:
        variances = self._all(covariances, n_components, n_features)
        return variances[:, :, None] * jnp.eye(n_features, dtype=variances.dtype)[None, :, :]

    def from_full(self, covariances: Array, weights: Array) -> Array:
        variances = jnp.diagonal(covariances, axis1=-2, axis2=-1)
        share = jnp.broadcast_to(weights[:, None], variances.shape)
        return self._pool(share * variances) / self._pool(share)

    def scale(self, covariances: Array, n_components: int) -> Array:
        deviations = self._spread(jnp.sqrt(covariances))
        return jnp.broadcast_to(deviations, (n_components, deviations.shape[1]))

    def colour(self, noise: Array, scale: Array) -> Array:
        return noise * scale[None, :]

    def variances(self, covariances: Array, n_components: int, n_features: int) -> Array:
        return self._all(covariances, n_components, n_features)
