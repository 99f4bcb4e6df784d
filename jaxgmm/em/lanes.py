"""The lane engine: many EM runs over the same rows as one batch.

A lane is one run: a start, an active-component mask (weight 0 = inactive) and, through the start's
covariance type, one family. The host drives bursts; between bursts it keeps the history, moves finished lanes
out, and re-packs the rest into the next smaller power of two, so that a slow lane does not make the others pay.
Between calls it also looks whether somebody has asked to stop.
Lanes for which the `features` kernel runs out of digits go on with `whitening`.
"""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import jax
import numpy as np
from jax import Array

from jaxgmm import _interrupt
from jaxgmm._interrupt import Interrupted
from jaxgmm._numerics import MIN_BLOCK, eps, max_lost_digits, next_power_of_two
from jaxgmm._options import EMOptions
from jaxgmm._pytree import put, pytree, replace, take
from jaxgmm._status import Status
from jaxgmm.em.burst import BURST, in_slots, in_spans, iteration_flops, shares_rows
from jaxgmm.em.loop import EMState, init_state, resume
from jaxgmm.kernels import lost_digits
from jaxgmm.params import GMMParams, factorize

# The first bursts are shorter, so that lanes which converge early are retired early.
FIRST_BURST = 16
# A smaller bucket is another program to compile. Lanes are re-packed once the idle ones have wasted about as
# much arithmetic as that costs.
REPACK_FLOPS = 1e9
# In single precision `features` is rarely precise for long; with fewer rows than this it is not worth a program.
FEATURES_MIN_ROWS = 1 << 14
# Working memory of one block of rows for all lanes of a batch; more lanes run in several batches.
LANE_BYTES = 1 << 28
# A call of the compiled program cannot be stopped, so it is kept to about this time, and at first to the arithmetic
# that even a slow machine does in it (per second), but to no fewer lanes than keep a machine busy.
CALL_SECONDS = 0.5
CAREFUL_SPEED = 4e9
MIN_LANES = 64

# Lanes, and the log-likelihoods (lanes, iterations) that a call brought for each, NaN where a lane did not move.
Piece = tuple[np.ndarray, np.ndarray]


@pytree
class LanesResult:
    """What every lane ended with (host arrays, leading axis L).

    params: the best state of each lane. log_likelihood, classification_log_likelihood (L).
    n_iter, status (L) int. history: (L, T) log-likelihood after 0, 1, 2 … iterations, NaN past the end.
    kernel: (L) the name of the kernel that each lane ended with. penalty (L): the logarithm of the prior of `params`,
    in the units of the rows; history has it too. floored (L, K): see `EMState`.
    """

    params: GMMParams
    log_likelihood: Any
    classification_log_likelihood: Any
    n_iter: Any
    status: Any
    history: Any
    kernel: Any
    penalty: Any
    floored: Any


@partial(jax.jit, static_argnames="accelerate")
def _start(params: GMMParams, *, accelerate: str | None = None) -> EMState:
    return jax.vmap(lambda start: init_state(start, params.means.dtype, accelerate))(params)


@jax.jit
def _losses(params: GMMParams) -> Array:
    return jax.vmap(lambda start: lost_digits(start, factorize(start)))(params)


@jax.jit
def _resume(state: EMState) -> EMState:
    return jax.vmap(resume)(state)


def run_lanes(
    starts: GMMParams,
    x: Array,
    weight: Array,
    options: EMOptions,
    kernel: str = "auto",
    n_rows: int | None = None,
    accelerate: str | None = None,
) -> LanesResult:
    """Run every lane to its stop, as many at a time as memory allows.

    starts: parameters with a leading lane axis L, all of one family and one padded K. x (N, D), about their mean,
    and weight (N) are shared by all lanes. kernel: a name in `KERNELS`, or "auto": `features` where its loss of
    digits is bounded, `whitening` otherwise. n_rows: where the padding of weight 0 begins, which need not be read.
    accelerate: a key of `accelerate.MEMORY`, or None.
    Returns a `LanesResult` in the order of the starts.
    """
    n_lanes = starts.weights.shape[0]
    n_rows = n_rows or x.shape[0]
    per_lane = starts.n_components * starts.n_features * MIN_BLOCK * x.dtype.itemsize
    chunk = max(1, LANE_BYTES // per_lane)
    parts = [
        _run_batch(take(starts, slice(i, i + chunk)), x, weight, options, kernel, n_rows, accelerate)
        for i in range(0, n_lanes, chunk)
    ]
    if len(parts) == 1:
        return parts[0]
    longest = max(part.history.shape[1] for part in parts)
    padded = [
        replace(p, history=np.pad(p.history, ((0, 0), (0, longest - p.history.shape[1])), constant_values=np.nan))
        for p in parts
    ]
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *padded)


def _run_batch(
    starts: GMMParams,
    x: Array,
    weight: Array,
    options: EMOptions,
    kernel: str,
    n_rows: int,
    accelerate: str | None,
) -> LanesResult:
    """Lanes that fit into memory together: with `features` as long as that is precise, then with `whitening`."""
    n_lanes = starts.weights.shape[0]
    used = np.full(n_lanes, kernel, dtype="<U16")
    if kernel == "auto":
        options = replace(options, max_loss=np.asarray(max_lost_digits(x.dtype, starts.n_features), x.dtype))
        used = np.where(_features_first(starts, x, options), "features", "whitening")
    elif kernel == "features":
        # Where not one digit would be left, what was asked for is no answer.
        options = replace(options, max_loss=np.asarray(1.0 / eps(x.dtype), x.dtype))
    states = jax.tree.map(np.array, _start(starts, accelerate=accelerate))
    pieces: list[Piece] = []
    for name in ("features", "whitening"):
        lanes = np.flatnonzero(used == name)
        pieces += _run_kernel(states, lanes, x, weight, options, name, n_rows)
        halted = lanes[states.status[lanes] == Status.IMPRECISE]
        if len(halted):
            put(states, halted, _resume(take(states, halted)))
            used[halted] = "whitening"
    return LanesResult(
        params=states.best_params,
        log_likelihood=states.best_log_likelihood,
        classification_log_likelihood=states.best_classification,
        # A lane that was stopped before its first E-step has done -1.
        n_iter=np.maximum(states.n_iter, 0),
        status=states.status,
        history=_history(pieces, n_lanes, x.dtype),
        kernel=used,
        penalty=states.best_penalty,
        floored=states.floored,
    )


def _features_first(starts: GMMParams, x: Array, options: EMOptions) -> np.ndarray:
    """Which lanes begin with `features`; a lane's own start and the shape of the rows decide, not its company."""
    n_lanes = starts.weights.shape[0]
    if x.dtype.itemsize == 8:
        # Nearly always precise enough, so it is not worth a program to look ahead: the first step will tell.
        return np.ones(n_lanes, bool)
    if x.shape[0] < FEATURES_MIN_ROWS:
        return np.zeros(n_lanes, bool)
    return np.asarray(_losses(starts)) <= options.max_loss


def _run_kernel(
    states: EMState, lanes: np.ndarray, x: Array, weight: Array, options: EMOptions, kernel: str, n_rows: int
) -> list[Piece]:
    """Bursts, retirement, re-packing of the `lanes` of `states` (host arrays), which end up where they stopped.

    Returns what each call brought. Once somebody asks to stop, the lanes still running end as INTERRUPTED.
    """
    n_lanes, n_components = states.params.weights.shape
    width = min(n_lanes, next_power_of_two(len(lanes)))
    by_rows = shares_rows(x, n_components, width)
    # Idle places cost their width where all lanes step together, and nothing where slots go on to the next lane.
    together = by_rows or jax.default_backend() != "cpu"
    per_lane = iteration_flops(x.shape[0], n_components, x.shape[1])
    seconds = per_lane / CAREFUL_SPEED
    pieces: list[Piece] = []
    limit, wasted = FIRST_BURST if together and width > 1 else BURST, 0.0
    left = limit
    while len(lanes) and not _interrupt.asked():
        # A burst may take several calls. When lanes are re-packed does not depend on the clock, so no bit does.
        if not left:
            limit = left = min(2 * limit, BURST)
            if wasted >= REPACK_FLOPS and next_power_of_two(len(lanes)) < width:
                width, wasted = next_power_of_two(len(lanes)), 0.0
        affordable = int(CALL_SECONDS / seconds)
        now, later = np.split(lanes, [len(lanes) if together else max(affordable, MIN_LANES)])
        n_iter = left if by_rows else min(left, max(1, affordable // len(now)))
        begun = time.perf_counter()
        # A batch is filled up with copies of its first lane.
        batch = take(states, np.concatenate([now, np.full(width - len(now), now[0])]))
        try:
            if by_rows:
                batch, rows = in_spans(jax.device_put(batch), x, weight, options, n_iter, kernel, n_rows)
            else:
                batch, rows = in_slots(batch, x, weight, options, n_iter, kernel, n_rows, len(now))
        except Interrupted:
            break
        rows = rows[: len(now)]
        put(states, now, take(batch, slice(len(now))))
        _interrupt.hold()
        pieces.append((now, rows))
        done = np.count_nonzero(~np.isnan(rows), axis=1)
        if together:
            left -= n_iter
            wasted += per_lane * (width * done.max() - done.sum())
        seconds = (time.perf_counter() - begun) / max(1, done.sum())
        lanes = np.concatenate([later, now[states.status[now] == Status.RUNNING]])
    states.status[lanes] = Status.INTERRUPTED
    return pieces


def _history(pieces: list[Piece], n_lanes: int, dtype: Any) -> np.ndarray:
    """The log-likelihoods of every lane one after the other, (L, T), NaN past the end."""
    length = np.zeros(n_lanes, int)
    places = []
    for lanes, rows in pieces:
        there = ~np.isnan(rows)
        places.append(length[lanes, None] + np.cumsum(there, axis=1) - 1)
        length[lanes] += np.count_nonzero(there, axis=1)
    history = np.full((n_lanes, max(1, length.max())), np.nan, dtype)
    for (lanes, rows), place in zip(pieces, places, strict=True):
        i, j = np.nonzero(~np.isnan(rows))
        history[lanes[i], place[i, j]] = rows[i, j]
    return history
