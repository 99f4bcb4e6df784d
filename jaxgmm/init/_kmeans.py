"""k-means++ seeds and Lloyd's iteration, on all cores of a CPU or batched on an accelerator.

k-means++ (Arthur and Vassilvitskii 2007), greedy over a fixed number of trials; Lloyd's iteration (1982),
over-relaxed where it creeps, until the centres move by less than a small part of the data's variance, as in
scikit-learn's KMeans.

Both are passes over row blocks with little between them. A run over few rows is one program: on a CPU the runs go
side by side, those of Lloyd's iteration in slots; an accelerator takes them as one batch. Where a pass is long enough
to share out, the host drives it instead: equal parts of the rows side by side, then the same few steps between two
passes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxgmm._blocks import sum_over_blocks
from jaxgmm._compile import hot_jit
from jaxgmm._numerics import (
    MAX_BLOCK,
    MAX_UNROLLED,
    PRECISION,
    default_block_size,
    eps,
    next_power_of_two,
    safe_divide,
)
from jaxgmm._parallel import each_piece, for_each_call, side_by_side
from jaxgmm._slots import deal_out, n_slots, run_in_slots
from jaxgmm.init._base import uniform, weighted_mean

# Candidate rows per seed (scikit-learn takes 2 + log K). Fixed, so that the first J of K seeds do not depend on K.
TRIALS = 6
LLOYD_MAX_ITER = 100
LLOYD_TOL = 1e-4
# Passes that most runs need.
TYPICAL_PASSES = 20
# Where a pass leaves more than this part of |m − c|² of the one before, centres step beyond the means by this factor.
CREEPING = 0.25
OVERSTEP = 1.8

# Closenesses (rows x centres) worth a call of their own, and the largest number of calls that share a pass.
_PART_CELLS = 1 << 18
_MAX_PARTS = 64


def block_rows(n_rows: int, n_components: int, itemsize: int) -> int:
    """Rows per block: a divisor of N (padded, it has a large power of two) whose K x B work stays in cache."""
    return math.gcd(n_rows, default_block_size(n_components, 1, itemsize))


def row_parts(x: Array, n_components: int) -> int:
    """Equal parts that the rows are shared out in: the shapes decide, so that a sum has the same bits on any CPU."""
    n_rows = x.shape[0]
    if jax.default_backend() != "cpu":
        return 1
    wanted = min(_MAX_PARTS, n_rows * n_components // _PART_CELLS)
    n_blocks = n_rows // block_rows(n_rows, n_components, x.dtype.itemsize)
    return math.gcd(n_blocks, 1 << max(0, wanted.bit_length() - 1))


def each_lane(call: Callable[..., Array], *lanes: Any) -> Any:
    """``call`` of every lane (L, ...): side by side on a CPU, where none waits for the slowest, else as one batch."""
    if jax.default_backend() != "cpu":
        return jax.vmap(call)(*lanes)
    return np.stack(side_by_side(lambda lane: call(*lane), zip(*lanes, strict=True)))


class Seeding(NamedTuple):
    """k-means++ between two passes, over n blocks of B rows.

    nearest (n, B): squared distance to the seeds before the latest; latest (D): that seed; mass (n): Σ v_n times
    squared distance to all seeds, per block. The distances to the latest seed are taken by the pass that follows.
    """

    nearest: Array
    latest: Array
    mass: Array


def squared_distances(rows: Array, points: Array) -> Array:
    """|x_b − c_p|², shape (P, B), as one product; 0 where the difference drowns in the rounding of its terms."""
    # A product with ones is faster than a sum over the short axis.
    of_rows = jnp.matmul(rows * rows, jnp.ones(rows.shape[1], rows.dtype), precision=PRECISION)
    norms = jnp.sum(points * points, axis=-1)[:, None] + of_rows[None, :]
    distance = norms - 2.0 * jnp.matmul(points, rows.T, precision=PRECISION)
    return jnp.where(distance > 4.0 * eps(rows.dtype) * norms, distance, 0.0)


def _pick(target: Array, mass: Array, allowed: Array) -> tuple[Array, Array]:
    """The index where the running sum of `mass` passes `target`, and how far into it the target lies.

    Rounding may carry the target past the end; the last `allowed` index is meant.
    """
    running = jnp.cumsum(mass)
    index = jnp.searchsorted(running, target, side="right")
    index = jnp.minimum(index, jnp.max(jnp.where(allowed, jnp.arange(mass.shape[0]), 0)))
    return index, target - (running[index] - mass[index])


def draw_candidates(draws: Array, x: Array, weight: Array, state: Seeding) -> Array:
    """Rows in proportion to weight times squared distance to the seeds, (T, D): first a block, then a row of it."""
    n_blocks, block = state.nearest.shape
    x, weight = x.reshape(n_blocks, block, -1), weight.reshape(n_blocks, block)
    # No seed yet, or all rows coincide with one: plain draws.
    some = jnp.sum(state.mass) > 0
    mass = jnp.where(some, state.mass, jnp.sum(weight, axis=1))
    total = jnp.sum(mass)

    def draw(u: Array) -> Array:
        i, rest = _pick(u * total, mass, mass > 0)
        rows, w = x[i], weight[i]
        nearest = jnp.minimum(state.nearest[i], squared_distances(rows, state.latest[None, :])[0])
        j, _ = _pick(rest, jnp.where(some, w * nearest, w), w > 0)
        return rows[j]

    return jax.lax.map(draw, draws)


def begin(key: Array, x: Array, weight: Array, n_components: int) -> tuple[Array, Seeding]:
    """Random numbers (K, T) for the candidates of each seed, and the state before the first."""
    # All random numbers in one call: a generator inside the loop would double the time to compile.
    draws = uniform(key, (n_components, TRIALS), x.dtype)
    block = block_rows(x.shape[0], n_components, x.dtype.itemsize)
    n_blocks = x.shape[0] // block
    nearest = jnp.full((n_blocks, block), jnp.inf, x.dtype)
    # No seed yet: a point so far away that every row is nearer to anything else.
    nowhere = jnp.full(x.shape[1], math.sqrt(float(jnp.finfo(x.dtype).max) / (4 * x.shape[1])), x.dtype)
    # The first seed is a plain draw, not the best of several.
    return draws.at[0].set(draws[0, 0]), Seeding(nearest, nowhere, jnp.zeros(n_blocks, x.dtype))


def seeding_pass(
    x: Array, weight: Array, state: Seeding, candidates: Array, part: Array | int = 0, parts: int = 1
) -> tuple[Array, Array]:
    """Nearest distances with the latest seed, (n, B), and the mass that each candidate would leave, (n, T)."""
    n_blocks, block = state.nearest.shape
    x, weight = x.reshape(n_blocks, block, -1), weight.reshape(n_blocks, block)
    points = jnp.concatenate([state.latest[None, :], candidates])

    def one(i: Array) -> tuple[Array, Array]:
        distance = squared_distances(x[i], points)
        nearest = jnp.minimum(state.nearest[i], distance[0])
        return nearest, jnp.matmul(jnp.minimum(nearest[None, :], distance[1:]), weight[i], precision=PRECISION)

    size = n_blocks // parts
    return jax.lax.map(one, part * size + jnp.arange(size))


def settle(candidates: Array, nearest: Array, left: Array) -> Seeding:
    """The candidate that leaves least becomes a seed."""
    best = jnp.argmin(jnp.sum(left, axis=0))
    return Seeding(nearest, candidates[best], left[:, best])


def _joined(passed: Sequence[tuple[Array, Array]]) -> tuple[np.ndarray, np.ndarray]:
    """The results of several calls as those of one; on the host, so that the number of calls makes no program."""
    first, second = (np.concatenate(pieces) for pieces in zip(*passed, strict=True))
    return first, second


@partial(hot_jit, static_argnames="n_components")
def _seeds(key: Array, x: Array, weight: Array, *, n_components: int) -> Array:
    draws, start = begin(key, x, weight, n_components)

    def one(state: Seeding, u: Array) -> tuple[Seeding, Array]:
        candidates = draw_candidates(u, x, weight, state)
        state = settle(candidates, *seeding_pass(x, weight, state, candidates))
        return state, state.latest

    return jax.lax.scan(one, start, draws)[1]


_begin = jax.jit(begin, static_argnames="n_components")
_draw = jax.jit(lambda draws, i, x, weight, state: draw_candidates(draws[i], x, weight, state))


@partial(hot_jit, static_argnames="parts")
def _seeding_parts(
    x: Array, weight: Array, state: Seeding, candidates: Array, which: Array, *, parts: int
) -> tuple[Array, Array]:
    """`seeding_pass` over some of the parts."""
    passed = each_piece(lambda part: seeding_pass(x, weight, state, candidates, part, parts), which)
    return jax.tree.map(jnp.concatenate, passed)


_settle = jax.jit(settle)


def _seeds_in_parts(key: Array, x: Array, weight: Array, n_components: int, parts: int) -> np.ndarray:
    draws, state = _begin(key, x, weight, n_components=n_components)
    seeds = []
    for i in range(n_components):
        candidates = _draw(draws, i, x, weight, state)
        call = partial(_seeding_parts, x, weight, state, candidates, parts=parts)
        state = _settle(candidates, *_joined(side_by_side(call, for_each_call(np.arange(parts)))))
        seeds.append(state.latest)
    return np.stack(seeds)


def kmeans_plus_plus(keys: Array, x: Array, weight: Array, n_components: int) -> Any:
    """K rows drawn far apart for each key, (R, K, D): each by v_n times squared distance to those before it."""
    parts = row_parts(x, n_components)
    if parts > 1:
        return np.stack([_seeds_in_parts(key, x, weight, n_components, parts) for key in keys])
    return each_lane(lambda key: _seeds(key, x, weight, n_components=n_components), keys)


def membership(rows: Array, centres: Array, active: Array) -> Array:
    """Whether centre k is the nearest active one to row b, the first of equals; bool (K, B)."""
    n_components = centres.shape[0]
    # |x − c|² up to |x|², which does not change the minimum.
    offset = jnp.where(active, 0.5 * jnp.sum(centres * centres, axis=-1), jnp.inf)
    closeness = jnp.matmul(centres, rows.T, precision=PRECISION) - offset[:, None]
    # An argmax does not vectorise: a few centres are compared one after the other in one step, many as two plain
    # reductions; numbers as floats for the same reason.
    number = jnp.arange(n_components, dtype=rows.dtype)[:, None]
    if n_components <= MAX_UNROLLED:
        best, nearest = closeness[0], jnp.zeros_like(closeness[0])
        for k in range(1, n_components):
            closer = closeness[k] > best
            best, nearest = jnp.where(closer, closeness[k], best), jnp.where(closer, number[k], nearest)
    else:
        closest = closeness == jnp.max(closeness, axis=0)[None, :]
        nearest = jnp.min(jnp.where(closest, number, jnp.inf), axis=0)
    return number == nearest[None, :]


def lloyd_pass(
    x: Array, weight: Array, centres: Array, active: Array, part: Array | None = None, parts: int = 1, slots: int = 1
) -> tuple[Array, Array]:
    """Weight (K) and weighted sum (K, D) of the rows nearest to each centre, for one of some `slots` at a time."""

    def block(rows: Array, w: Array) -> tuple[Array, Array]:
        share = jnp.where(membership(rows, centres, active), w[None, :], 0.0)
        # The sum as a product too: for a reduction the compiler would find the nearest centres once more.
        return jnp.matmul(share, jnp.ones_like(w), precision=PRECISION), jnp.matmul(share, rows, precision=PRECISION)

    size = block_rows(x.shape[0], slots * centres.shape[0], x.dtype.itemsize)
    n_blocks = x.shape[0] // size // parts
    span = None if part is None else (part * n_blocks, (part + 1) * n_blocks)
    return sum_over_blocks(block, (x, weight), size, span)


@jax.jit
def shortest_move(x: Array, weight: Array) -> Array:
    """Σ |c' − c|² that ends Lloyd's iteration: a small part of the variance per feature."""
    mean = weighted_mean(x, weight)
    spread = sum_over_blocks(
        lambda r, w: jnp.sum(w * jnp.sum((r - mean[None, :]) ** 2, axis=1)), (x, weight), MAX_BLOCK
    )
    return LLOYD_TOL * spread / jnp.sum(weight) / x.shape[1]


class Lloyd(NamedTuple):
    """Lloyd's iteration between two passes.

    centres (K, D), active (K), and shift, Σ |m − c|² of the last pass: how far the centres were from the means of
    their rows.
    """

    centres: Any
    active: Any
    shift: Any


def move(state: Lloyd, mass: Array, total: Array, enough: Array) -> Lloyd:
    """The centres at the means of their rows or, where they creep, beyond: the step after a pass.

    With its rows held, the inertia of a centre c is a constant plus its mass times |c − m|², so that a step to
    c + ω (m − c) lowers it for every 0 < ω < 2, as the passes that reassign rows do. A centre that lost its rows stays.
    mass (P, K), total (P, K, D): weights and weighted sums of the rows, in P parts.
    """
    mass, total = jnp.sum(mass, axis=0), jnp.sum(total, axis=0)
    step = jnp.where((mass > 0)[:, None], safe_divide(total, mass[:, None]) - state.centres, 0.0)
    shift = jnp.sum(step**2)
    creeping = (shift > CREEPING * state.shift) & (shift > enough)
    return Lloyd(state.centres + jnp.where(creeping, OVERSTEP, 1.0) * step, state.active, shift)


def lloyd_step(x: Array, weight: Array, enough: Array, state: Lloyd, slots: int = 1) -> Lloyd:
    """One pass, after which the centres move."""
    mass, total = lloyd_pass(x, weight, state.centres, state.active, slots=slots)
    return move(state, mass[None], total[None], enough)


def lloyd_run(x: Array, weight: Array, centres: Array, active: Array, enough: Array) -> Array:
    """Lloyd's iteration from centres (K, D) to its end, traceable."""

    def keep_going(carry: tuple[Lloyd, Array]) -> Array:
        state, i = carry
        return (state.shift > enough) & (i < LLOYD_MAX_ITER)

    def body(carry: tuple[Lloyd, Array]) -> tuple[Lloyd, Array]:
        state, i = carry
        return lloyd_step(x, weight, enough, state), i + 1

    start = Lloyd(centres, active, jnp.asarray(jnp.inf, x.dtype))
    end, _ = jax.lax.while_loop(keep_going, body, (start, jnp.zeros((), jnp.int32)))
    return end.centres


@partial(hot_jit, static_argnames="slots")
def _lloyd_in_slots(starts: Lloyd, n_runs: Array, x: Array, weight: Array, enough: Array, *, slots: int) -> Array:
    """The ends of the first `n_runs` of the starts, leading axis L."""
    step = jax.vmap(partial(lloyd_step, x, weight, enough, slots=slots))
    ends, _ = run_in_slots(
        starts,
        n_runs,
        lambda state, run: (step(state), run),
        lambda state: state.shift > enough,
        slots=slots,
        limit=jnp.int32(LLOYD_MAX_ITER),
    )
    return ends.centres


@partial(hot_jit, static_argnames="parts")
def _lloyd_parts(
    x: Array, weight: Array, centres: Array, active: Array, which: Array, *, parts: int
) -> tuple[Array, Array]:
    """`lloyd_pass` over some of the parts."""
    return each_piece(lambda part: lloyd_pass(x, weight, centres, active, part, parts), which)


_move = jax.jit(move)


def _lloyd_in_parts(x: Array, weight: Array, centres: Array, active: Array, enough: Array, parts: int) -> Array:
    limit = float(enough)
    state = Lloyd(centres, active, np.asarray(np.inf, x.dtype))
    for _ in range(LLOYD_MAX_ITER):
        call = partial(_lloyd_parts, x, weight, state.centres, active, parts=parts)
        state = _move(state, *_joined(side_by_side(call, for_each_call(np.arange(parts)))), enough)
        if not float(state.shift) > limit:
            break
    return state.centres


def _lloyd_dealt_out(x: Array, weight: Array, centres: np.ndarray, masks: np.ndarray, enough: Array) -> Any:
    n_runs = len(centres)
    # Filled up to a power of two, so that a few more restarts are the same program.
    fill = np.minimum(np.arange(next_power_of_two(n_runs)), n_runs - 1)
    starts = Lloyd(centres[fill], masks[fill], np.full(len(fill), np.inf, centres.dtype))
    slots = n_slots(n_runs, centres.shape[1])

    def program(starts: Lloyd, n: Array) -> Array:
        return _lloyd_in_slots(starts, n, x, weight, enough, slots=slots)

    return deal_out(program, starts, n_runs, slots, TYPICAL_PASSES * 4.0 * x.size * centres.shape[1])


def lloyd(x: Array, weight: Array, seeds: Array, active: Array) -> Array:
    """Lloyd's iteration from the seeds (R, K, D) for each mask (J, K), shape (J, R, K, D)."""
    masks = np.repeat(np.asarray(active), len(seeds), axis=0)
    centres = np.tile(seeds, (len(active), 1, 1))
    enough = shortest_move(x, weight)
    parts = row_parts(x, seeds.shape[1])
    if parts > 1:
        ends: Any = np.stack(
            [_lloyd_in_parts(x, weight, c, a, enough, parts) for c, a in zip(centres, masks, strict=True)]
        )
    else:
        ends = _lloyd_dealt_out(x, weight, centres, masks, enough)
    return ends.reshape(len(active), *seeds.shape)
