"""Symmetric matrices as the D (D+1) / 2 numbers that determine them, in the order (0,0) (0,1) … (1,1) (1,2) …"""

from __future__ import annotations

import math

import jax.numpy as jnp
import numpy as np
from jax import Array


def pair_products(rows: Array) -> Array:
    """x_i x_j for i <= j, shape (D (D+1) / 2, B) for rows (D, B): by contiguous slices, far faster than gathers."""
    return jnp.concatenate([rows[i : i + 1] * rows[i:] for i in range(rows.shape[0])])


def pair_weights(matrices: Array) -> Array:
    """Coefficients (..., D (D+1) / 2) with −½ xᵀMx = Σ weight · `pair_products` for symmetric M (..., D, D)."""
    n_features = matrices.shape[-1]
    first, second = np.triu_indices(n_features)
    entries = matrices[..., first, second]
    factor = np.where(first == second, -0.5, -1.0).astype(matrices.dtype)
    return entries * jnp.broadcast_to(factor, entries.shape)


def from_pairs(values: Array) -> Array:
    """Symmetric (..., D, D) whose entries i <= j are given in the order of `pair_products`."""
    n_features = (math.isqrt(8 * values.shape[-1] + 1) - 1) // 2
    place = np.zeros((n_features, n_features), np.int32)
    first, second = np.triu_indices(n_features)
    place[first, second] = place[second, first] = np.arange(len(first))
    return values[..., place]
