"""Draws from a mixture: a component by its weight, then x = μ_k + L_k z with Σ_k = L_k L_kᵀ."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

from jaxgmm._numerics import safe_log
from jaxgmm.params import GMMParams


def sample(params: GMMParams, key: Array, n_samples: int) -> tuple[Array, Array]:
    """`n_samples` independent rows and the component each came from.

    key: a JAX random key; the same key gives the same rows. Returns x (n, D) in the dtype of the
    parameters and labels int32 (n). Components are coloured one after another, so that memory stays
    O(n D), not O(n D²).
    """
    label_key, noise_key = jax.random.split(key)
    means = jnp.asarray(params.means)
    labels = jax.random.categorical(label_key, safe_log(jnp.asarray(params.weights)), shape=(n_samples,))
    noise = jax.random.normal(noise_key, (n_samples, params.n_features), means.dtype)
    scale = params.family.scale(jnp.asarray(params.covariances), params.n_components)

    def colour(k: Array, x: Array) -> Array:
        return jnp.where((labels == k)[:, None], means[k][None, :] + params.family.colour(noise, scale[k]), x)

    x = jax.lax.fori_loop(0, params.n_components, colour, jnp.zeros_like(noise))
    return x, labels.astype(jnp.int32)
