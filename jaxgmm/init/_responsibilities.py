"""Random responsibilities: every row shares itself out at random, so all components start near the mean."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

from jaxgmm.init._base import StartRows, weighted_mean


class RandomResponsibilities:
    """Uniform random responsibilities, normalised per row, then one M-step."""

    name = "random"
    random = True

    def seeds(self, keys: Array, x: Array, weight: Array, active: Array) -> Array:
        return jnp.broadcast_to(keys, (len(active), *keys.shape))

    def rows(self, seeds: Array, x: Array, weight: Array, active: Array) -> StartRows:
        n_components = active.shape[0]

        def resp_of(rows: Array, index: Array) -> Array:
            # One key per row: the start does not depend on the block size or on padding.
            keys = jax.vmap(lambda i: jax.random.fold_in(seeds, i))(index)
            share = jax.vmap(lambda k: jax.random.uniform(k, (n_components,), jnp.float32, 1e-6, 1.0))(keys)
            share = jnp.where(active[None, :], share.astype(rows.dtype), 0.0)
            return share / jnp.sum(share, axis=1, keepdims=True)

        pivot = jnp.broadcast_to(weighted_mean(x, weight), (n_components, x.shape[1]))
        return StartRows(resp_of, (jnp.arange(x.shape[0]),), pivot, n_components)
