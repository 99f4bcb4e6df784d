"""Starts from centres: every row belongs to the nearest of K centres, found by k-means or drawn."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax import Array

from jaxgmm._numerics import safe_log
from jaxgmm.init._base import StartRows, uniform
from jaxgmm.init._kmeans import membership


def nearest_centre(x: Array, centres: Array, active: Array) -> Array:
    """One-hot (B, K) of the nearest active centre."""
    return membership(x, centres, active).T.astype(x.dtype)


@partial(jax.jit, static_argnames="n_components")
def random_rows(keys: Array, x: Array, weight: Array, n_components: int) -> Array:
    """K different rows for each key, (R, K, D), by their weights (Efraimidis and Spirakis 2006)."""

    def draw(key: Array) -> Array:
        noise = safe_log(uniform(key, weight.shape, weight.dtype))
        score = jnp.where(weight > 0, noise / jnp.where(weight > 0, weight, 1.0), -jnp.inf)
        _, index = jax.lax.top_k(score, n_components)
        return x[index]

    return jax.lax.map(draw, keys)


def keep(x: Array, weight: Array, seeds: Array, active: Array) -> Array:
    """The seeds (R, K, D) as they were drawn, for each mask (J, K)."""
    return jnp.broadcast_to(seeds, (len(active), *seeds.shape))


class CentreStart:
    """K centres, every row to its nearest, then one M-step.

    draw(keys, x, weight, K) gives the seeds (R, K, D); refine(x, weight, seeds, active) moves them, (J, R, K, D).
    """

    random = True

    def __init__(self, name: str, draw: Callable[..., Array], refine: Callable[..., Array] = keep) -> None:
        self.name = name
        self._draw = draw
        self._refine = refine

    def seeds(self, keys: Array, x: Array, weight: Array, active: Array) -> Array:
        return self._refine(x, weight, self._draw(keys, x, weight, active.shape[1]), active)

    def rows(self, seeds: Array, x: Array, weight: Array, active: Array) -> StartRows:
        return StartRows(lambda rows: nearest_centre(rows, seeds, active), (), seeds, seeds.shape[0], exclusive=True)
