"""A burst: some iterations of every lane of a batch, with nothing returned to the caller in between.

Small problems run as one compiled `while_loop`. On a CPU that keeps one core busy, so large ones are driven from
the host: each iteration's E-step is collected in spans of row blocks, side by side on all cores. Which way is
taken, and where the spans are cut, depends on the shapes alone: the number of cores changes no bit.
"""

from __future__ import annotations

from functools import partial, reduce
from itertools import pairwise
from operator import add
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxgmm._numerics import next_power_of_two
from jaxgmm._options import EMOptions
from jaxgmm._parallel import side_by_side
from jaxgmm._status import Status
from jaxgmm.em.loop import EMState, propose, select, settle, step
from jaxgmm.kernels import KERNELS
from jaxgmm.params import Factors, GMMParams
from jaxgmm.stats import SuffStats, collect

# Iterations in one burst: the history buffer's length.
BURST = 256
# Arithmetic of a span (about a millisecond), well above what handing it to a thread costs.
SPAN_FLOPS = 1e7
MAX_SPANS = 32


def iteration_flops(n_samples: int, n_components: int, n_features: int) -> float:
    """Arithmetic of one EM iteration, roughly: products and exponentials. n_components: of all lanes together."""
    return n_samples * n_components * (2.0 * n_features * (n_features + 1) + 20.0)


def burst(
    state: EMState, x: Array, weight: Array, options: EMOptions, limit: int, kernel: str
) -> tuple[EMState, np.ndarray]:
    """Up to `limit` <= BURST iterations of every running lane of a state with leading lane axis L.

    Returns the state and the log-likelihoods (n, L) of the iterations done, NaN where a lane did not move.
    """
    lanes = state.status.shape[0]
    n_components, n_features = lanes * state.params.n_components, state.params.n_features
    # All lanes work on the same block of rows at once, so the block shrinks with their number.
    block_size = min(KERNELS[kernel].block_size(n_components, n_features, x.dtype.itemsize), x.shape[0])
    n_blocks = x.shape[0] // block_size
    flops = iteration_flops(x.shape[0], n_components, n_features)
    n_spans = min(next_power_of_two(int(flops / SPAN_FLOPS)), MAX_SPANS, n_blocks)
    if n_spans > 1 and jax.default_backend() == "cpu":
        edges = np.linspace(0, n_blocks, n_spans + 1).astype(np.int32)
        return _driven(state, x, weight, options, limit, kernel, block_size, list(pairwise(edges)))
    state, history = _compiled(state, x, weight, options, np.int32(limit), block_size=block_size, kernel=kernel)
    rows = np.asarray(history)
    moved = np.flatnonzero(~np.isnan(rows).all(axis=1))
    return state, rows[: moved[-1] + 1 if len(moved) else 0]


def _progress(new: EMState, old: EMState) -> Array:
    """Log-likelihood of every lane that has moved to a sound state, NaN for the others."""
    failed = (new.status == Status.SINGULAR) | (new.status == Status.NONFINITE)
    return jnp.where((new.n_iter > old.n_iter) & ~failed, new.stats.log_likelihood, jnp.nan)


@partial(jax.jit, static_argnames=("block_size", "kernel"))
def _compiled(
    state: EMState, x: Array, weight: Array, options: EMOptions, limit: Array, *, block_size: int, kernel: str
) -> tuple[EMState, Array]:
    """The burst as one program; log-likelihoods (BURST, L)."""
    history = jnp.full((BURST, state.status.shape[0]), jnp.nan, x.dtype)
    advance = jax.vmap(partial(step, block_size=block_size, kernel=kernel), in_axes=(0, None, None, None))

    def keep_going(carry: tuple[EMState, Array, Array]) -> Array:
        state, _, i = carry
        return jnp.any(state.running) & (i < limit)

    def body(carry: tuple[EMState, Array, Array]) -> tuple[EMState, Array, Array]:
        state, history, i = carry
        new = jax.vmap(select)(state.running, advance(state, x, weight, options), state)
        return new, history.at[i].set(_progress(new, state)), i + 1

    state, history, _ = jax.lax.while_loop(keep_going, body, (state, history, jnp.zeros((), jnp.int32)))
    return state, history


def _driven(
    state: EMState,
    x: Array,
    weight: Array,
    options: EMOptions,
    limit: int,
    kernel: str,
    block_size: int,
    spans: list[tuple[Any, Any]],
) -> tuple[EMState, np.ndarray]:
    """The burst as a host loop around the same functions."""
    rows: list[np.ndarray] = []
    while len(rows) < limit and (np.asarray(state.status) == Status.RUNNING).any():
        params, factors = _propose(state, options)
        part = partial(_collect, factors, x, weight, block_size=block_size, kernel=kernel)
        parts = side_by_side(part, spans)
        state, row = _settle(state, params, factors, parts, options, kernel=kernel)
        rows.append(np.asarray(row))
    return state, np.stack(rows) if rows else np.empty((0, len(state.status)), x.dtype)


@jax.jit
def _propose(state: EMState, options: EMOptions) -> tuple[GMMParams, Factors]:
    return jax.vmap(propose, in_axes=(0, None))(state, options)


@partial(jax.jit, static_argnames=("block_size", "kernel"))
def _collect(
    factors: Factors, x: Array, weight: Array, span: tuple[Array, Array], *, block_size: int, kernel: str
) -> SuffStats:
    return jax.vmap(lambda f: collect(f, x, weight, block_size, kernel=kernel, span=span))(factors)


@partial(jax.jit, static_argnames="kernel")
def _settle(
    state: EMState, params: GMMParams, factors: Factors, parts: list[SuffStats], options: EMOptions, *, kernel: str
) -> tuple[EMState, Array]:
    stats = reduce(add, parts)
    new = jax.vmap(partial(settle, kernel=kernel), in_axes=(0, 0, 0, 0, None))(state, params, factors, stats, options)
    new = jax.vmap(select)(state.running, new, state)
    return new, _progress(new, state)
