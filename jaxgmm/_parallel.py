"""All cores on one computation: independent compiled calls side by side, results in the order of the items.

One stream of row blocks keeps one core busy: a block's products are too small to split, and dispatching from one
thread runs the calls one after the other. Two host threads, each with its own calls, run at full speed. The split
into items must not depend on the number of cores, so that a sum over them has the same bits on every machine.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxgmm import _interrupt
from jaxgmm._numerics import next_power_of_two

# A call costs a tenth of a millisecond, but with only one for each core a core that is busy elsewhere delays all.
CALLS_PER_CORE = 2
# Arithmetic of a call, at most where the work can be cut so: half a second. A call that is under way cannot be stopped.
CALL_FLOPS = 4e9

T = TypeVar("T")
R = TypeVar("R")


def n_workers() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


def for_each_call(pieces: np.ndarray, flops: float = 0.0) -> np.ndarray:
    """Pieces of work (P, ...), P a power of two, dealt out as (calls, pieces of a call, ...): see `each_piece`.

    flops: the arithmetic of all pieces.
    """
    wanted = max(next_power_of_two(n_workers()) * CALLS_PER_CORE, next_power_of_two(math.ceil(flops / CALL_FLOPS)))
    n_calls = min(len(pieces), wanted)
    return pieces.reshape(n_calls, len(pieces) // n_calls, *pieces.shape[1:])


def each_piece(work: Callable[[Array], T], pieces: Array) -> T:
    """The results of the pieces (n, ...) of a call, stacked; compiled.

    The cores decide how many pieces share a call, and no bit may depend on that. So the length of the loop is
    hidden from the compiler, which would make other code of a single piece.
    """
    shapes = jax.eval_shape(work, pieces[0])
    results = jax.tree.map(lambda s: jnp.zeros((len(pieces), *s.shape), s.dtype), shapes)
    length = jnp.sum(pieces.reshape(len(pieces), -1)[:, 0] >= 0, dtype=jnp.int32)

    def put(i: Array, results: T) -> T:
        return jax.tree.map(lambda whole, part: whole.at[i].set(part), results, work(pieces[i]))

    return jax.lax.fori_loop(0, length, put, results)


@cache
def _pool(process: int, workers: int) -> ThreadPoolExecutor:
    """One pool per process (threads do not survive a fork) and width."""
    return ThreadPoolExecutor(workers, thread_name_prefix="jaxgmm")


def side_by_side(call: Callable[[T], R], items: Iterable[T]) -> list[R]:
    """``[call(item) for item in items]`` with the results waited for, on all cores.

    `call` must not use `side_by_side` itself. The caller's 64-bit setting, which JAX keeps per thread, holds
    inside too. On an accelerator the calls are simply queued: it is busy with each of them. An error is raised when
    the calls under way have ended; the others are not begun. Raises `Interrupted` once somebody has asked to stop.
    """
    items = list(items)
    if jax.default_backend() != "cpu":
        return jax.block_until_ready([_begin(call, item) for item in items])
    if min(n_workers(), len(items)) < 2:
        return [jax.block_until_ready(_begin(call, item)) for item in items]
    wide = jax.dtypes.canonicalize_dtype("float64") == "float64"

    def work(item: T) -> R:
        with jax.enable_x64(wide):
            return jax.block_until_ready(_begin(call, item))

    futures = [_pool(os.getpid(), n_workers()).submit(work, item) for item in items]
    try:
        return [future.result() for future in futures]
    finally:
        wait([future for future in futures if not future.cancel()])


def _begin(call: Callable[[T], R], item: T) -> R:
    _interrupt.check()
    return call(item)
