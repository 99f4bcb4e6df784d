"""Starts from centres: every row belongs to the nearest of K centres, found by k-means or drawn.

k-means++ (Arthur and Vassilvitskii 2007), greedy over a fixed number of trials; Lloyd's iteration (1982)
until the centres move by less than a small part of the data's variance, as in scikit-learn's KMeans.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from jaxgmm._blocks import map_over_blocks, sum_over_blocks
from jaxgmm._numerics import MAX_BLOCK, PRECISION, safe_divide, safe_log
from jaxgmm.init._base import StartRows, uniform, weighted_mean

# Candidate rows per seed. Fixed, so that the first J of K seeds do not depend on K.
TRIALS = 4
LLOYD_MAX_ITER = 100
LLOYD_TOL = 1e-4


def _pick_rows(draws: Array, mass: Array) -> Array:
    """Row indices in proportion to `mass` (N) by inverse distribution function of uniform numbers."""
    cumulative = jnp.cumsum(mass)
    index = jnp.searchsorted(cumulative, draws * cumulative[-1], side="right")
    # Rounding may carry the target to the very end, where padding lies; the last row with mass is meant.
    last = jnp.max(jnp.where(mass > 0, jnp.arange(mass.shape[0]), 0))
    return jnp.minimum(index, last)


def _squared_distances(x: Array, centre: Array) -> Array:
    difference = x - centre[None, :]
    return jnp.sum(difference * difference, axis=-1)


def _distances_to(x: Array, centre: Array) -> Array:
    """Squared distance of every row to one centre, shape (N), a block of differences at a time."""
    return map_over_blocks(lambda rows: _squared_distances(rows, centre), (x,), MAX_BLOCK)


def kmeans_plus_plus(key: Array, x: Array, weight: Array, n_components: int) -> Array:
    """K rows drawn far apart, shape (K, D): each by v_n times squared distance to those before it."""
    # All random numbers in one call: a generator inside the scan would double the time to compile.
    draws = uniform(key, (n_components, TRIALS), x.dtype)
    first = x[_pick_rows(draws[0, 0], weight)]

    def next_seed(nearest: Array, u: Array) -> tuple[Array, Array]:
        mass = weight * nearest
        # All rows coincide with a seed: fall back to plain draws instead of dividing nothing by nothing.
        mass = jnp.where(jnp.sum(mass) > 0, mass, weight)
        candidates = x[_pick_rows(u, mass)]

        def potential(candidate: Array) -> Array:
            def block(rows: Array, w: Array, so_far: Array) -> Array:
                return jnp.sum(w * jnp.minimum(so_far, _squared_distances(rows, candidate)))

            return sum_over_blocks(block, (x, weight, nearest), MAX_BLOCK)

        best = candidates[jnp.argmin(jax.lax.map(potential, candidates))]
        return jnp.minimum(nearest, _distances_to(x, best)), best

    _, others = jax.lax.scan(next_seed, _distances_to(x, first), draws[1:])
    return jnp.concatenate([first[None], others])


def random_rows(key: Array, x: Array, weight: Array, n_components: int) -> Array:
    """K different rows drawn in proportion to their weights, shape (K, D) (Efraimidis and Spirakis 2006)."""
    noise = safe_log(uniform(key, weight.shape, weight.dtype))
    score = jnp.where(weight > 0, noise / jnp.where(weight > 0, weight, 1.0), -jnp.inf)
    _, index = jax.lax.top_k(score, n_components)
    return x[index]


def nearest_centre(x: Array, centres: Array, active: Array) -> Array:
    """One-hot (B, K) of the nearest active centre."""
    # |x − c|² up to |x|², which does not change the minimum.
    offset = jnp.where(active, 0.5 * jnp.sum(centres * centres, axis=-1), jnp.inf)
    closeness = jnp.matmul(x, centres.T, precision=PRECISION) - offset[None, :]
    return jax.nn.one_hot(jnp.argmax(closeness, axis=-1), centres.shape[0], dtype=x.dtype)


def lloyd(x: Array, weight: Array, centres: Array, active: Array) -> Array:
    """Lloyd's iteration from given centres (K, D); a centre that loses its rows stays where it was."""
    mean = weighted_mean(x, weight)
    spread = sum_over_blocks(lambda r, w: jnp.sum(w * _squared_distances(r, mean)), (x, weight), MAX_BLOCK)
    variance = spread / jnp.sum(weight) / x.shape[1]

    def block(rows: Array, w: Array, centres: Array) -> tuple[Array, Array]:
        membership = nearest_centre(rows, centres, active) * w[:, None]
        return jnp.sum(membership, axis=0), jnp.matmul(membership.T, rows, precision=PRECISION)

    def body(carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        centres, _, i = carry
        mass, total = sum_over_blocks(lambda r, w: block(r, w, centres), (x, weight), MAX_BLOCK)
        moved = jnp.where((mass > 0)[:, None], safe_divide(total, mass[:, None]), centres)
        return moved, jnp.sum((moved - centres) ** 2), i + 1

    def keep_going(carry: tuple[Array, Array, Array]) -> Array:
        _, shift, i = carry
        return (shift > LLOYD_TOL * variance) & (i < LLOYD_MAX_ITER)

    start = (centres, jnp.asarray(jnp.inf, x.dtype), jnp.zeros((), jnp.int32))
    return jax.lax.while_loop(keep_going, body, start)[0]


def keep(x: Array, weight: Array, centres: Array, active: Array) -> Array:
    """Centres as they were drawn."""
    return centres


class CentreStart:
    """K centres, every row to its nearest, then one M-step.

    draw(key, x, weight, K) gives the seeds; refine(x, weight, seeds, active) moves them.
    """

    random = True

    def __init__(self, name: str, draw: Callable[..., Array], refine: Callable[..., Array] = keep) -> None:
        self.name = name
        self._draw = draw
        self._refine = refine

    def seed(self, key: Array, x: Array, weight: Array, n_components: int) -> Array:
        return self._draw(key, x, weight, n_components)

    def refine(self, seeds: Array, x: Array, weight: Array, active: Array) -> Array:
        return self._refine(x, weight, seeds, active)

    def rows(self, seeds: Array, x: Array, weight: Array, active: Array) -> StartRows:
        return StartRows(lambda rows: nearest_centre(rows, seeds, active), (), seeds, seeds.shape[0])
