"""Slots: many iterations of one kind, each to its own end, on a few places of one compiled program.

S slots step together. When some of their runs have ended, those are put away and the next take their places, all
inside the program: a slow run holds up its own slot only, and the host is not asked. On a CPU the runs are dealt out
to the cores, a program each. What a run computes depends neither on the others nor on the number of cores.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxgmm._parallel import CALL_FLOPS, n_workers, side_by_side
from jaxgmm._pytree import take

T = TypeVar("T")

# Components of the slots of one program: enough for a good matrix product.
SLOT_COMPONENTS = 32


def n_slots(n_lanes: int, n_components: int) -> int:
    """S, a power of two, a small part of the lanes: one that is left alone pays for all. An accelerator takes all.

    A few lanes have a slot each in turn, and so the bits that one alone has: more restarts are never the worse for it.
    """
    if jax.default_backend() != "cpu":
        return n_lanes
    return 1 << max(0, min(SLOT_COMPONENTS // n_components, n_lanes // 8).bit_length() - 1)


def run_in_slots(
    states: T,
    n_runs: Array,
    advance: Callable[[T, Array], tuple[T, Array]],
    running: Callable[[T], Array],
    *,
    slots: int,
    limit: Array,
    length: int = 0,
    dtype: Any = None,
) -> tuple[T, Array]:
    """Give the first `n_runs` of the states (T, ...), all running, a turn of at most `limit` iterations each.

    advance(state, run): the next iteration of S states, which belong to the runs (S), and a number for each.
    running(state): which of S states want iterations, bool (S). length: H, how many of the numbers of a turn are
    kept, in `dtype`. Returns the states after their turns, and those numbers (T, H), NaN past the ends.
    """
    room = jax.tree.leaves(states)[0].shape[0]
    # Wait for a few slots to be free rather than stop for every one of them.
    enough = max(1, slots // 8)

    def busy(state: T, turn: Array) -> Array:
        return running(state) & (turn < limit)

    def until_some_are_free(state: T, run: Array, turn: Array, history: Array) -> tuple[T, Array, Array]:
        begun = jnp.sum(busy(state, turn))

        def keep_going(carry: tuple[T, Array, Array]) -> Array:
            still = jnp.sum(busy(*carry[:2]))
            return (still > 0) & (still > begun - enough)

        def body(carry: tuple[T, Array, Array]) -> tuple[T, Array, Array]:
            state, turn, history = carry
            on = busy(state, turn)
            new, values = advance(state, run)
            if length:
                history = history.at[jnp.where(on, run, room), turn].set(values, mode="drop")
            return _where(on, new, state), turn + on, history

        return jax.lax.while_loop(keep_going, body, (state, turn, history))

    def body(carry: tuple[T, Array, Array, Array, T, Array]) -> tuple[T, Array, Array, Array, T, Array]:
        state, run, turn, following, states, history = carry
        state, turn, history = until_some_are_free(state, run, turn, history)
        free = ~busy(state, turn)
        # What has ended to its place; an idle slot writes its old run again.
        place = jnp.where(free, run, room)
        states = jax.tree.map(lambda all_, new: all_.at[place].set(new, mode="drop"), states, state)
        candidate = following + jnp.cumsum(free, dtype=jnp.int32) - 1
        taken = free & (candidate < n_runs)
        run = jnp.where(taken, candidate, run)
        state = _where(taken, take(states, run), state)
        turn = jnp.where(taken, 0, turn)
        return state, run, turn, following + jnp.sum(taken, dtype=jnp.int32), states, history

    # Slots without a run have had their turn, and belong to no run.
    run = jnp.arange(slots, dtype=jnp.int32)
    used = run < n_runs
    first = (
        take(states, jnp.minimum(run, room - 1)),
        jnp.where(used, run, room),
        jnp.where(used, 0, limit),
        jnp.minimum(jnp.int32(slots), n_runs),
        states,
        jnp.full((room, length), jnp.nan, dtype),
    )
    *_, states, history = jax.lax.while_loop(lambda carry: jnp.any(busy(carry[0], carry[2])), body, first)
    return states, history


def _where(condition: Array, new: T, old: T) -> T:
    """`new` where the `condition` (S) holds, else `old`, leaf by leaf."""
    return jax.tree.map(jax.vmap(jnp.where), jax.tree.map(lambda _: condition, new), new, old)


def deal_out(program: Callable[[T, Array], Any], states: T, n_runs: int, slots: int = 1, flops: float = 0.0) -> Any:
    """``program(states, n)`` for the first `n_runs` of the states (T, ...), host arrays, dealt out to all cores.

    The program does the first n of its states and returns a pytree in their order, leading axis T' too. Returns that
    of all n_runs, as host arrays. The last runs begin: in a sweep they have the most components. flops: the
    arithmetic of one run, by which a call is kept short.
    """
    width = jax.tree.leaves(states)[0].shape[0]
    wanted = max(n_workers(), math.ceil(width * flops / CALL_FLOPS))
    n_calls = 1 if jax.default_backend() != "cpu" else min(wanted, -(-width // slots))
    # All hands of one size, whatever is left to do, so that they are one program.
    size = -(-width // n_calls)
    hands = [hand for i in range(n_calls) if len(hand := np.arange(n_runs)[::-1][i::n_calls])]

    def call(hand: np.ndarray) -> Any:
        return program(take(states, np.resize(hand, size)), jnp.int32(len(hand)))

    parts = side_by_side(call, hands)
    order = np.argsort(np.concatenate(hands))

    def together(*leaves: Array) -> np.ndarray:
        return np.concatenate([np.asarray(a)[: len(hand)] for a, hand in zip(leaves, hands, strict=True)])[order]

    return jax.tree.map(together, *parts)
