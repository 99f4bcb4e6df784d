"""The orthant start: means, proportions and covariances of the occupied orthants about a centre.

The sign pattern of x − c puts every row into one of 2^D orthants. The K fullest orthants become the
components; the number of occupied ones proposes the number of components (8 octants, one of them empty,
gives 7). Deterministic.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxgmm.init._base import StartRows, weighted_mean

# 2^D counts are kept; beyond this the orthants outnumber any data set.
MAX_FEATURES = 16
# An orthant counts as occupied when it holds more rows than a covariance needs and this part of all.
MIN_SHARE = 0.01


def orthant_codes(x: Array, centre: Array) -> Array:
    """Σ_j 2^j [x_j > c_j], int32 (N)."""
    bits = jnp.left_shift(1, jnp.arange(x.shape[1], dtype=jnp.int32))
    return jnp.sum(jnp.where(x > centre[None, :], bits[None, :], 0), axis=1).astype(jnp.int32)


class OrthantSeeds(NamedTuple):
    """codes (N): each row's orthant; rank (2^D): place of an orthant by falling weight; counts (2^D)."""

    codes: Array
    rank: Array
    counts: Array


@jax.jit
def orthant_seeds(x: Array, weight: Array) -> OrthantSeeds:
    """Count the weight in each orthant about the weighted mean and rank the orthants."""
    codes = orthant_codes(x, weighted_mean(x, weight))
    counts = jax.ops.segment_sum(weight, codes, num_segments=2 ** x.shape[1])
    order = jnp.argsort(-counts, stable=True)
    rank = jnp.zeros_like(order).at[order].set(jnp.arange(order.shape[0]))
    return OrthantSeeds(codes, rank, counts)


class Orthant:
    """The fullest orthants as components, one M-step on their rows; the other rows wait for the E-step."""

    name = "orthant"
    random = False

    def seeds(self, keys: Array, x: Array, weight: Array, active: Array) -> OrthantSeeds:
        lanes = (len(active), len(keys))
        return jax.tree.map(lambda a: jnp.broadcast_to(a, (*lanes, *a.shape)), orthant_seeds(x, weight))

    def rows(self, seeds: OrthantSeeds, x: Array, weight: Array, active: Array) -> StartRows:
        n_components = active.shape[0]

        def resp_of(rows: Array, codes: Array) -> Array:
            membership = jax.nn.one_hot(seeds.rank[codes], n_components, dtype=rows.dtype)
            return jnp.where(active[None, :], membership, 0.0)

        return StartRows(resp_of, (seeds.codes,), None, n_components, exclusive=True)
