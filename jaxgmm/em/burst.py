"""A burst: some iterations of many lanes over the same rows, on all cores, with nothing returned in between.

There are two ways to keep all cores busy. Where one iteration of a lane is too short to share out, the lanes are:
each core works on lanes of its own, in slots of one compiled program. Where it is long, the rows are: all lanes step
together, driven from the host, and each E-step is collected in spans of row blocks side by side. Which way is taken,
and where the spans are cut, depends on the shapes alone, and the spans are added in their order: the number of cores
decides how many calls share the work, and changes no bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxgmm._compile import hot_jit
from jaxgmm._interrupt import Interrupted
from jaxgmm._numerics import next_power_of_two
from jaxgmm._options import EMOptions
from jaxgmm._parallel import each_piece, for_each_call, side_by_side
from jaxgmm._pytree import replace
from jaxgmm._slots import deal_out, n_slots, run_in_slots
from jaxgmm._status import Status
from jaxgmm.em.loop import EMState, Proposal, keep_if, propose, settle, step
from jaxgmm.kernels import KERNELS
from jaxgmm.params import Factors
from jaxgmm.stats import SuffStats, collect

# Iterations in one burst: the history buffer's length.
BURST = 256
# With so many lanes or more, iterations of up to so much arithmetic are not worth sharing out.
MANY_LANES = 32
MANY_FLOPS = 1e8
# Arithmetic of a span (about a millisecond), well above what handing it to a thread costs.
SPAN_FLOPS = 1e7
MAX_SPANS = 32


def iteration_flops(n_samples: int, n_components: int, n_features: int) -> float:
    """Arithmetic of one EM iteration of one lane, roughly: products and exponentials."""
    return n_samples * n_components * (2.0 * n_features * (n_features + 1) + 20.0)


def shares_rows(x: Array, n_components: int, n_lanes: int) -> bool:
    """Whether the rows of one iteration, rather than the lanes, are shared out among the cores."""
    enough = MANY_FLOPS if n_lanes >= MANY_LANES else 2 * SPAN_FLOPS
    return jax.default_backend() == "cpu" and iteration_flops(x.shape[0], n_components, x.shape[1]) >= enough


def _block_size(n_components: int, n_features: int, x: Array, kernel: str) -> int:
    """Rows per block: all lanes work on the same block of rows at once, so it shrinks with their components."""
    wanted = KERNELS[kernel].block_size(n_components, n_features, x.dtype.itemsize)
    # Spans are of whole blocks; padded rows have a large power of two among their divisors.
    return x.shape[0] if wanted >= x.shape[0] else math.gcd(x.shape[0], min(wanted, max(256, x.shape[0] // 8)))


def progress(new: EMState, old: EMState) -> Array:
    """Objective of every lane that has moved to a sound state, NaN for the others."""
    failed = (new.status == Status.SINGULAR) | (new.status == Status.NONFINITE)
    return jnp.where((new.n_iter > old.n_iter) & ~failed, new.stats.log_likelihood + new.penalty, jnp.nan)


def in_slots(
    state: EMState,
    x: Array,
    weight: Array,
    options: EMOptions,
    limit: int,
    kernel: str,
    n_rows: int,
    n_lanes: int,
) -> tuple[EMState, np.ndarray]:
    """Up to `limit` <= BURST iterations of the first `n_lanes`, all running, of a state with leading lane axis L.

    state: host arrays, and so are those of the n_lanes returned. Rows from `n_rows` on have weight 0. Returns also
    the log-likelihoods (n_lanes, limit) of the iterations done, NaN after them.
    """
    slots = n_slots(state.status.shape[0], state.params.n_components)
    block_size = _block_size(slots * state.params.n_components, state.params.n_features, x, kernel)
    how = {"slots": slots, "block_size": block_size, "kernel": kernel}
    n_blocks = np.int32(-(-n_rows // block_size))

    def program(mine: EMState, n: Array) -> tuple[EMState, Array]:
        return _in_slots(mine, n, n_blocks, x, weight, options, np.int32(limit), **how)

    ends, history = deal_out(program, state, n_lanes, slots)
    return ends, history[:, :limit]


@partial(hot_jit, static_argnames=("slots", "block_size", "kernel"))
def _in_slots(
    states: EMState,
    n_lanes: Array,
    n_blocks: Array,
    x: Array,
    weight: Array,
    options: EMOptions,
    limit: Array,
    *,
    slots: int,
    block_size: int,
    kernel: str,
) -> tuple[EMState, Array]:
    span = (jnp.zeros_like(n_blocks), n_blocks) if x.shape[0] > block_size else None
    one = partial(step, block_size=block_size, kernel=kernel, span=span)
    next_states = jax.vmap(one, in_axes=(0, None, None, None))

    def advance(state: EMState, _: Array) -> tuple[EMState, Array]:
        new = next_states(state, x, weight, options)
        return new, progress(new, state)

    return run_in_slots(
        states, n_lanes, advance, lambda s: s.running, slots=slots, limit=limit, length=BURST, dtype=x.dtype
    )


def in_spans(
    state: EMState, x: Array, weight: Array, options: EMOptions, limit: int, kernel: str, n_rows: int
) -> tuple[EMState, np.ndarray]:
    """Up to `limit` iterations of every running lane of a state with leading lane axis L.

    Rows from `n_rows` on have weight 0. Returns the state and the log-likelihoods (L, n) of the iterations done,
    NaN where a lane did not move. An iteration in which somebody asks to stop is not finished.
    """
    return in_passes(
        state, partial(collect_spans, x=x, weight=weight, kernel=kernel, n_rows=n_rows), options, limit, kernel
    )


def in_passes(
    state: EMState, collect: Callable[[Factors], SuffStats], options: EMOptions, limit: int, kernel: str
) -> tuple[EMState, np.ndarray]:
    """What `in_spans` does, with rows that only `collect` knows.

    collect: from the factors of every lane (L, ...) to the statistics of all rows; it may raise `Interrupted`.
    """
    rows: list[np.ndarray] = []
    while len(rows) < limit and (np.asarray(state.status) == Status.RUNNING).any():
        proposal = _propose(state, options)
        try:
            stats = collect(proposal.factors)
        except Interrupted:
            break
        state, row = _settle(state, proposal, stats, options, kernel=kernel)
        rows.append(np.asarray(row))
    return state, np.stack(rows, axis=1) if rows else np.empty((len(state.status), 0), state.params.dtype)


def collect_spans(
    factors: Factors, *, x: Array, weight: Array, kernel: str, n_rows: int, dtype: Any = None
) -> SuffStats:
    """The statistics of every lane (L, ...) over the rows, on all cores: see `added_up`."""
    width, n_components, n_features = factors.means.shape
    block_size = _block_size(width * n_components, n_features, x, kernel)
    flops = width * iteration_flops(x.shape[0], n_components, n_features)
    n_blocks = -(-n_rows // block_size)
    n_spans = min(next_power_of_two(int(flops / SPAN_FLOPS)), MAX_SPANS, 1 << (n_blocks.bit_length() - 1))
    edges = np.linspace(0, n_blocks, n_spans + 1).astype(np.int32)
    spans = for_each_call(np.stack([edges[:-1], edges[1:]], axis=1), flops)
    part = partial(_collect, factors, x, weight, block_size=block_size, kernel=kernel)
    return added_up(side_by_side(part, spans), dtype)


def added_up(parts: Sequence[SuffStats], dtype: Any = None) -> SuffStats:
    """Statistics of spans of the rows, as parts (P, L, ...), added up on the host in the order of the spans.

    dtype: to add in, None for their own. How many spans a part has depends on the number of cores, and no bit of the
    sum does.
    """

    def total(*leaves: Array) -> np.ndarray:
        spans = [np.asarray(leaf) for leaf in leaves]
        return np.sum(spans[0] if len(spans) == 1 else np.concatenate(spans), axis=0, dtype=dtype)

    with np.errstate(over="ignore", invalid="ignore"):  # what is not finite stops a lane
        sums: SuffStats = jax.tree.map(total, *parts)
    # The pivots are no sums: they are the same for all rows.
    return replace(sums, pivot=np.asarray(parts[0].pivot)[0])


@jax.jit
def _propose(state: EMState, options: EMOptions) -> Proposal:
    return jax.vmap(propose, in_axes=(0, None))(state, options)


@partial(hot_jit, static_argnames=("block_size", "kernel"))
def _collect(factors: Factors, x: Array, weight: Array, spans: Array, *, block_size: int, kernel: str) -> SuffStats:
    """The statistics of every lane (L, ...) for each of the spans (S, 2), leading axis S."""

    def one(span: Array) -> SuffStats:
        return jax.vmap(lambda f: collect(f, x, weight, block_size, kernel=kernel, span=(span[0], span[1])))(factors)

    return each_piece(one, spans)


@partial(jax.jit, static_argnames="kernel")
def _settle(
    state: EMState, proposal: Proposal, stats: SuffStats, options: EMOptions, *, kernel: str
) -> tuple[EMState, Array]:
    new = jax.vmap(partial(settle, kernel=kernel), in_axes=(0, 0, 0, None))(state, proposal, stats, options)
    new = jax.vmap(keep_if)(state.running, new, state)
    return new, progress(new, state)
