"""What the families without correlations share: a covariance is a variance per component and feature."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array


def inverse_deviation(variances: Array) -> Array:
    """1/σ, NaN where a variance is not positive."""
    sound = variances > 0
    return jnp.where(sound, jnp.where(sound, variances, 1.0) ** -0.5, jnp.nan)


def diagonal_matrices(variances: Array) -> Array:
    """(K, D) variances as (K, D, D) matrices."""
    return variances[:, :, None] * jnp.eye(variances.shape[-1], dtype=variances.dtype)[None, :, :]


def matrix_diagonals(covariances: Array) -> Array:
    """(K, D, D) matrices to their (K, D) diagonals."""
    return jnp.diagonal(covariances, axis1=-2, axis2=-1)
