"""The lane engine: many EM runs over the same rows as one batch.

A lane is one run: a start, an active-component mask (weight 0 = inactive) and, through the start's
covariance type, one family. The host drives bursts; between bursts it keeps the history, moves finished lanes
out, and re-packs the rest into the next smaller power of two, so that a slow lane does not make the others pay.
Between calls it also looks whether somebody has asked to stop.
Lanes for which the `features` kernel runs out of digits go on with `whitening`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np
from jax import Array

from jaxgmm import _interrupt
from jaxgmm._interrupt import Interrupted
from jaxgmm._numerics import MIN_BLOCK, eps, max_lost_digits, next_power_of_two
from jaxgmm._options import EMOptions
from jaxgmm._pytree import put, pytree, replace, take
from jaxgmm._status import Status
from jaxgmm.em.burst import BURST, in_passes, in_slots, in_spans, iteration_flops, shares_rows
from jaxgmm.em.loop import EMState, init_state, resume
from jaxgmm.kernels import lost_digits
from jaxgmm.params import Factors, GMMParams, factorize
from jaxgmm.stats import SuffStats

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

# In the order in which lanes go through them.
_KERNELS = ("features", "whitening")
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


@dataclass
class Course:
    """How far the lanes of a batch are: all that a run needs to go on from here. Host arrays, kept up to date.

    states (L, ...). used (L): the kernel of each lane. kernel: the one whose lanes are running, "" before the first;
    lanes: those of them that are not done. width: lanes of a call. limit, left: iterations of the burst, and those to
    come. wasted: arithmetic of idle places. pieces: what the calls so far have brought.
    """

    states: EMState
    used: np.ndarray
    kernel: str = ""
    lanes: np.ndarray = field(default_factory=lambda: np.empty(0, int))
    width: int = 0
    limit: int = 0
    left: int = 0
    wasted: float = 0.0
    pieces: list[Piece] = field(default_factory=list)


class Passes(Protocol):
    """Rows that are not in memory, gone over once for every iteration."""

    def collect(self, factors: Factors, *, kernel: str) -> SuffStats:
        """From the factors of every lane (L, ...) to the statistics of all rows: see `in_passes`."""
        ...

    def enter(self, course: Course) -> LanesResult | None:
        """Before a batch of lanes: what became of it, if an earlier run has come so far, or else `course` as it was."""
        ...

    def passed(self, course: Course) -> None:
        """After an iteration."""
        ...

    def stopped(self, course: Course) -> None:
        """Somebody asked to stop, between two iterations or within one."""
        ...

    def leave(self, result: LanesResult) -> None:
        """After a batch of lanes."""
        ...


class Table(NamedTuple):
    """The rows of a run: x, weight and n_rows in memory, or `passes` over them. See `run_lanes`."""

    x: Any
    weight: Any
    n_rows: int
    passes: Passes | None


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
    x: Array | jax.ShapeDtypeStruct,
    weight: Array | None,
    options: EMOptions,
    kernel: str = "auto",
    n_rows: int | None = None,
    accelerate: str | None = None,
    passes: Passes | None = None,
) -> LanesResult:
    """Run every lane to its stop, as many at a time as memory allows.

    starts: parameters with a leading lane axis L, all of one family and one padded K. x (N, D), about their mean,
    and weight (N) are shared by all lanes. kernel: a name in `KERNELS`, or "auto": `features` where its loss of
    digits is bounded, `whitening` otherwise. n_rows: where the padding of weight 0 begins, which need not be read.
    accelerate: a key of `accelerate.MEMORY`, or None. passes: over rows that are not in memory, of which `x` is the
    shape and the type only, and `weight` nothing.
    Returns a `LanesResult` in the order of the starts.
    """
    n_lanes = starts.weights.shape[0]
    n_rows = n_rows or x.shape[0]
    per_lane = starts.n_components * starts.n_features * MIN_BLOCK * x.dtype.itemsize
    chunk = max(1, LANE_BYTES // per_lane)
    parts = [
        _run_batch(take(starts, slice(i, i + chunk)), Table(x, weight, n_rows, passes), options, kernel, accelerate)
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


def _run_batch(starts: GMMParams, table: Table, options: EMOptions, kernel: str, accelerate: str | None) -> LanesResult:
    """Lanes that fit into memory together: with `features` as long as that is precise, then with `whitening`."""
    n_lanes, x = starts.weights.shape[0], table.x
    used = np.full(n_lanes, kernel, dtype="<U16")
    if kernel == "auto":
        options = replace(options, max_loss=np.asarray(max_lost_digits(x.dtype, starts.n_features), x.dtype))
        used = np.where(_features_first(starts, table, options), "features", "whitening")
    elif kernel == "features":
        # Where not one digit would be left, what was asked for is no answer.
        options = replace(options, max_loss=np.asarray(1.0 / eps(x.dtype), x.dtype))
    course = Course(jax.tree.map(np.array, _start(starts, accelerate=accelerate)), used)
    known = None if table.passes is None else table.passes.enter(course)
    if known is not None:
        return known
    states, used = course.states, course.used
    for name in _KERNELS[_KERNELS.index(course.kernel) :] if course.kernel else _KERNELS:
        if name != course.kernel:
            _begin(course, table, name)
        _run_kernel(course, table, options)
        if table.passes is not None and _interrupt.asked():
            # What is to go on from here is kept already.
            waiting = (states.status == Status.RUNNING) | (states.status == Status.IMPRECISE)
            states.status[waiting] = Status.INTERRUPTED
            break
        halted = np.flatnonzero((used == name) & (states.status == Status.IMPRECISE))
        if len(halted):
            put(states, halted, _resume(take(states, halted)))
            used[halted] = "whitening"
    result = LanesResult(
        params=states.best_params,
        log_likelihood=states.best_log_likelihood,
        classification_log_likelihood=states.best_classification,
        # A lane that was stopped before its first E-step has done -1.
        n_iter=np.maximum(states.n_iter, 0),
        status=states.status,
        history=history_of(course.pieces, n_lanes, x.dtype),
        kernel=used,
        penalty=states.best_penalty,
        floored=states.floored,
    )
    if table.passes is not None:
        table.passes.leave(result)
    return result


def _features_first(starts: GMMParams, table: Table, options: EMOptions) -> np.ndarray:
    """Which lanes begin with `features`; a lane's own start and the shape of the rows decide, not its company."""
    n_lanes, x = starts.weights.shape[0], table.x
    if x.dtype.itemsize == 8 and table.passes is None:
        # Nearly always precise enough, so it is not worth a program to look ahead: the first step will tell.
        return np.ones(n_lanes, bool)
    if x.dtype.itemsize < 8 and x.shape[0] < FEATURES_MIN_ROWS:
        return np.zeros(n_lanes, bool)
    return np.asarray(_losses(starts)) <= options.max_loss


def _by_rows(course: Course, table: Table) -> bool:
    n_components = course.states.params.weights.shape[1]
    return table.passes is not None or shares_rows(table.x, n_components, course.width)


def _begin(course: Course, table: Table, kernel: str) -> None:
    """Set the course for the lanes of a kernel."""
    course.kernel, course.lanes = kernel, np.flatnonzero(course.used == kernel)
    course.width = min(len(course.used), next_power_of_two(len(course.lanes)))
    together = _by_rows(course, table) or jax.default_backend() != "cpu"
    course.limit = course.left = FIRST_BURST if together and course.width > 1 else BURST
    course.wasted = 0.0


def _run_kernel(course: Course, table: Table, options: EMOptions) -> None:
    """Bursts, retirement, re-packing of the lanes of a kernel, which end up where they stopped.

    Once somebody asks to stop, the lanes still running end as INTERRUPTED.
    """
    x, weight, n_rows, passes = table
    states, kernel = course.states, course.kernel
    by_rows = _by_rows(course, table)
    # Idle places cost their width where all lanes step together, and nothing where slots go on to the next lane.
    together = by_rows or jax.default_backend() != "cpu"
    per_lane = iteration_flops(x.shape[0], states.params.weights.shape[1], x.shape[1])
    seconds = per_lane / CAREFUL_SPEED
    while len(course.lanes) and not _interrupt.asked():
        # A burst may take several calls. When lanes are re-packed does not depend on the clock, so no bit does.
        if not course.left:
            course.limit = course.left = min(2 * course.limit, BURST)
            if course.wasted >= REPACK_FLOPS and next_power_of_two(len(course.lanes)) < course.width:
                course.width, course.wasted = next_power_of_two(len(course.lanes)), 0.0
        affordable = int(CALL_SECONDS / seconds)
        now, later = np.split(course.lanes, [len(course.lanes) if together else max(affordable, MIN_LANES)])
        n_iter = course.left if by_rows else min(course.left, max(1, affordable // len(now)))
        if passes is not None:
            # A pass may take minutes, and what it has brought is worth keeping.
            n_iter = 1
        begun = time.perf_counter()
        # A batch is filled up with copies of its first lane.
        batch = take(states, np.concatenate([now, np.full(course.width - len(now), now[0])]))
        try:
            if passes is not None:
                collect = partial(passes.collect, kernel=kernel)
                batch, rows = in_passes(jax.device_put(batch), collect, options, n_iter, kernel)
            elif by_rows:
                batch, rows = in_spans(jax.device_put(batch), x, weight, options, n_iter, kernel, n_rows)
            else:
                batch, rows = in_slots(batch, x, weight, options, n_iter, kernel, n_rows, len(now))
        except Interrupted:
            break
        if not rows.shape[1]:
            break
        rows = rows[: len(now)]
        put(states, now, take(batch, slice(len(now))))
        _interrupt.hold()
        course.pieces.append((now, rows))
        done = np.count_nonzero(~np.isnan(rows), axis=1)
        if together:
            course.left -= n_iter
            course.wasted += per_lane * (course.width * done.max() - done.sum())
        seconds = (time.perf_counter() - begun) / max(1, done.sum())
        course.lanes = np.concatenate([later, now[states.status[now] == Status.RUNNING]])
        if passes is not None:
            passes.passed(course)
    if passes is not None and len(course.lanes):
        passes.stopped(course)
    states.status[course.lanes] = Status.INTERRUPTED


def history_of(pieces: list[Piece], n_lanes: int, dtype: Any) -> np.ndarray:
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
