"""The starts once more, as traceable functions of one small data set: many of them are one program under `vmap`.

The same random numbers meet the same rows as in the methods of the registry, in a form that suits few rows: no
blocks, and no search where counting will do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxgmm._numerics import PRECISION
from jaxgmm._pytree import take
from jaxgmm.init import _kmeans, get_start
from jaxgmm.init._base import params_from_rows, uniform
from jaxgmm.params import GMMParams


def _rows_at(targets: Array, mass: Array) -> Array:
    """For each target the row at which the running sum of `mass` passes it, (T)."""
    running = jnp.cumsum(mass)
    passed = jnp.sum(running[None, :] <= targets[:, None], axis=1)
    # Rounding may carry a target past the end; the last row with mass is meant.
    return jnp.minimum(passed, jnp.max(jnp.where(mass > 0, jnp.arange(mass.shape[0]), 0)))


def plus_plus(key: Array, x: Array, weight: Array, active: Array) -> Array:
    """k-means++ seeds, (K, D): see `_kmeans.kmeans_plus_plus`."""
    draws = uniform(key, (active.shape[0], _kmeans.TRIALS), x.dtype)
    # The first seed is a plain draw, not the best of several.
    first = x[_rows_at(draws[0, :1] * jnp.sum(weight), weight)]

    def one(nearest: Array, u: Array) -> tuple[Array, Array]:
        left = weight * nearest
        # All rows coincide with a seed: a plain draw.
        mass = jnp.where(jnp.sum(left) > 0, left, weight)
        candidates = x[_rows_at(u * jnp.sum(mass), mass)]
        reach = jnp.minimum(nearest[None, :], _kmeans.squared_distances(x, candidates))
        best = jnp.argmin(jnp.matmul(reach, weight, precision=PRECISION))
        return reach[best], candidates[best]

    _, others = jax.lax.scan(one, _kmeans.squared_distances(x, first)[0], draws[1:])
    return jnp.concatenate([first, others])


def _lloyd(key: Array, x: Array, weight: Array, active: Array) -> Array:
    seeds = plus_plus(key, x, weight, active)
    centres: Array = _kmeans.lloyd_run(x, weight, seeds, active, _kmeans.shortest_move(x, weight))
    return centres


_SEEDS: dict[str, Callable[[Array, Array, Array, Array], Any]] = {"kmeans": _lloyd, "k-means++": plus_plus}


def lane_start(
    key: Array, x: Array, weight: Array, active: Array, reg_covar: Array, *, method: str, covariance_type: str
) -> GMMParams:
    """What `make_starts` gives for one key and one mask (K), traceable; x (N, D), weight (N)."""
    start = get_start(method)
    if method in _SEEDS:
        seeds = _SEEDS[method](key, x, weight, active)
    else:
        seeds = take(start.seeds(key[None], x, weight, active[None]), (0, 0))
    return params_from_rows(start.rows(seeds, x, weight, active), x, weight, covariance_type, reg_covar)
