"""Slots: many EM runs on a few places of one compiled program.

S slots step together. When some of their runs have ended, those are put away and the next take their places, all
inside the program: a slow run holds up its own slot only, and the host is not asked. What a run computes does not
depend on which others are there.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from jaxgmm._pytree import take
from jaxgmm._status import Status
from jaxgmm.em.loop import EMState, select


def progress(new: EMState, old: EMState) -> Array:
    """Log-likelihood of every lane that has moved to a sound state, NaN for the others."""
    failed = (new.status == Status.SINGULAR) | (new.status == Status.NONFINITE)
    return jnp.where((new.n_iter > old.n_iter) & ~failed, new.stats.log_likelihood, jnp.nan)


def run_in_slots(
    states: EMState,
    n_runs: Array,
    advance: Callable[[EMState, Array], EMState],
    *,
    slots: int,
    limit: Array,
    length: int,
) -> tuple[EMState, Array]:
    """Give the first `n_runs` of the states (T, ...), all running, a turn of at most `limit` iterations each.

    advance(state, run): the next iteration of S states that belong to the runs (S). length: H, how many
    log-likelihoods of a turn are kept, 0 for none. Returns the states after their turns, and those
    log-likelihoods (T, H), NaN where there was no progress.
    """
    room = states.status.shape[0]
    # Wait for a few slots to be free rather than stop for every one of them.
    enough = max(1, slots // 8)

    def busy(state: EMState, turn: Array) -> Array:
        return state.running & (turn < limit)

    def until_some_are_free(state: EMState, run: Array, turn: Array, history: Array) -> tuple[EMState, Array, Array]:
        begun = jnp.sum(busy(state, turn))

        def keep_going(carry: tuple[EMState, Array, Array]) -> Array:
            still = jnp.sum(busy(*carry[:2]))
            return (still > 0) & (still > begun - enough)

        def body(carry: tuple[EMState, Array, Array]) -> tuple[EMState, Array, Array]:
            state, turn, history = carry
            on = busy(state, turn)
            new = jax.vmap(select)(on, advance(state, run), state)
            if length:
                place = jnp.where(on, run, room)
                history = history.at[place, turn].set(progress(new, state), mode="drop")
            return new, turn + on, history

        return jax.lax.while_loop(keep_going, body, (state, turn, history))

    Carry = tuple[EMState, Array, Array, Array, EMState, Array]

    def body(carry: Carry) -> Carry:
        state, run, turn, following, states, history = carry
        state, turn, history = until_some_are_free(state, run, turn, history)
        free = ~busy(state, turn)
        # What has ended to its place; an idle slot writes its old run again.
        place = jnp.where(free, run, room)
        states = jax.tree.map(lambda all_, new: all_.at[place].set(new, mode="drop"), states, state)
        candidate = following + jnp.cumsum(free, dtype=jnp.int32) - 1
        taken = free & (candidate < n_runs)
        run = jnp.where(taken, candidate, run)
        state = jax.vmap(select)(taken, take(states, run), state)
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
        jnp.full((room, length), jnp.nan, states.stats.log_likelihood.dtype),
    )
    *_, states, history = jax.lax.while_loop(lambda carry: jnp.any(busy(carry[0], carry[2])), body, first)
    return states, history
