"""Small dense linear algebra on covariance matrices: Cholesky factors and triangular solves, never an inverse."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

from jaxgmm._numerics import PRECISION


def cholesky(covariances: Array) -> Array:
    """Lower L with Σ = L Lᵀ, shape (..., D, D); NaN where Σ is not positive definite."""
    return jnp.linalg.cholesky(covariances, symmetrize_input=True)


def precision_factor(covariances: Array) -> Array:
    """Upper U with Σ⁻¹ = U Uᵀ, shape (..., D, D): U = L⁻ᵀ for the Cholesky factor L of Σ; NaN if singular."""
    lower = cholesky(covariances)
    identity = jnp.broadcast_to(jnp.eye(lower.shape[-1], dtype=lower.dtype), lower.shape)
    inverse = jax.lax.linalg.triangular_solve(lower, identity, left_side=True, lower=True)
    return jnp.swapaxes(inverse, -1, -2)


def conditional_variances(factor: Array) -> Array:
    """Variance of feature j given those before it, 1/U_jj², for Σ⁻¹ = U Uᵀ; shape (..., D)."""
    return jnp.diagonal(factor, axis1=-2, axis2=-1) ** -2.0


def symmetrise(matrices: Array) -> Array:
    """½ (M + Mᵀ): a product of blocks is symmetric only up to rounding."""
    return 0.5 * (matrices + jnp.swapaxes(matrices, -1, -2))


def half_log_det(factor: Array) -> Array:
    """½ log det(U Uᵀ) = Σ_j log U_jj for a triangular factor, shape (...)."""
    return jnp.sum(jnp.log(jnp.diagonal(factor, axis1=-2, axis2=-1)), axis=-1)


def invert(matrices: Array) -> Array:
    """Σ = (U Uᵀ)⁻¹ of a positive definite matrix through its Cholesky factor; NaN where there is none."""
    factor = precision_factor(matrices)
    return jnp.matmul(factor, jnp.swapaxes(factor, -1, -2), precision=PRECISION)


def outer(vectors: Array) -> Array:
    """v vᵀ for vectors on the last axis, shape (..., D, D)."""
    return vectors[..., :, None] * vectors[..., None, :]


def add_diagonal(matrices: Array, value: Array) -> Array:
    """M + value I on the last two axes."""
    return matrices + value * jnp.broadcast_to(jnp.eye(matrices.shape[-1], dtype=matrices.dtype), matrices.shape)
