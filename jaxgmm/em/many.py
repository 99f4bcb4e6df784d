"""Many small data sets as one batch: packed into chunks, run side by side, repaired where that is asked for."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import Array

from jaxgmm import _interrupt
from jaxgmm._interrupt import Interrupted
from jaxgmm._numerics import eps, max_lost_digits
from jaxgmm._options import EMOptions, em_options, floor_by_feature, watched_floor
from jaxgmm._parallel import side_by_side
from jaxgmm._pytree import put, pytree, replace, stack, take
from jaxgmm._status import Status
from jaxgmm.covariance import get_family
from jaxgmm.data.sets import Packed, Sets, buckets, pack, packed_variances, set_rows
from jaxgmm.em.burst import iteration_flops
from jaxgmm.em.chunks import blank_states, chunk_sets, n_slots, restart, run_chunk
from jaxgmm.em.loop import EMState
from jaxgmm.em.repair import MAX_ROUNDS, REPAIRS, wanting
from jaxgmm.em.restarts import Method, row_prior, too_small
from jaxgmm.params import GMMParams

# Arithmetic of a turn of a chunk, at most about a second, and its smallest number of iterations: a turn cannot be
# stopped. Most chunks take one.
TURN_FLOPS = 4e9
SHORTEST_TURN = 16


@pytree
class Outcome:
    """What every task ended with, leading axis T: parameters of the best state, and the numbers of `LanesResult`.

    Parameters are those of the centred, scaled rows of a set.
    """

    params: GMMParams
    log_likelihood: Any
    classification_log_likelihood: Any
    n_iter: Any
    status: Any
    penalty: Any
    floored: Any


class Units(NamedTuple):
    """scale and reach (S), as of `Rows`, of every set that was packed; else 1 and 0."""

    scale: np.ndarray
    reach: np.ndarray


def beyond(params: GMMParams, units: Units, relative: Any) -> np.ndarray:
    """(S, J): whose covariances, in data units, the dtype cannot hold; relative: as for `too_small`."""
    dtype = params.means.dtype
    own = np.asarray(params.covariances, np.float64)
    own = np.diagonal(own, axis1=-2, axis2=-1) if params.family.correlated else own
    own = own.reshape(*params.weights.shape[:2], -1)
    with np.errstate(over="ignore", under="ignore"):
        variances = own * units.scale[:, None, None] * units.scale[:, None, None]
    limits = np.finfo(dtype)
    # What is 0 belongs to a component without rows.
    outside = (own > 0) & ((variances > limits.max) | (variances < limits.tiny))
    return np.asarray(outside.any(axis=2) | too_small(units.reach, dtype, relative)[:, None])


def _outcome(state: EMState) -> Outcome:
    return Outcome(
        params=state.best_params,
        log_likelihood=state.best_log_likelihood,
        classification_log_likelihood=state.best_classification,
        n_iter=state.n_iter,
        status=state.status,
        penalty=state.best_penalty,
        floored=state.floored,
    )


def fit_sets(
    sets: Sets,
    members: np.ndarray,
    active: np.ndarray,
    *,
    covariance_type: str,
    init: str,
    key: Array,
    n_restarts: int,
    options: EMOptions,
    how: Method,
) -> tuple[Outcome, np.ndarray, Units]:
    """Fit the `members` of the sets with every mask (J, K) and restart, on all cores.

    how: its kernel and keep_restarts count for nothing here, nor does "raise".
    Returns an `Outcome` of host arrays with leading axes (S, J, R), and (S, J, R) bool: which tasks ended with the
    kernel `whitening`, and the units of the sets. Sets that are not members have status `Status.RUNNING` and a
    log-likelihood of -inf; once somebody asks to stop, tasks that are not done end as INTERRUPTED, with -inf where
    they had not begun.
    """
    shape = (len(sets.n_samples), len(active), n_restarts)
    n_components, n_features = active.shape[1], sets.n_features
    units = Units(np.ones(shape[0]), np.zeros(shape[0]))
    run = partial(
        _run_chunks,
        sets,
        units=units,
        active=active,
        key=key,
        n_restarts=n_restarts,
        method=init,
        covariance_type=covariance_type,
        how=how,
    )
    outcome = _nothing(shape, n_components, n_features, covariance_type, sets.dtype)
    sizes = buckets(sets.n_samples[members])
    if sets.dtype.itemsize < 8:
        # In single precision `features` is rarely precise for long.
        run(sizes, members, outcome, options=options, kernel="whitening")
        whitened = np.ones(shape, bool)
    else:
        careful = replace(options, max_loss=np.asarray(max_lost_digits(sets.dtype, n_features), sets.dtype))
        run(sizes, members, outcome, options=careful, kernel="features")
        whitened = outcome.status == Status.IMPRECISE
        again = np.flatnonzero(whitened.any(axis=(1, 2)))
        if len(again):
            # As one bucket: these are few, and every bucket is a program.
            size = max(buckets(sets.n_samples[again]))
            redone = jax.tree.map(np.copy, outcome)
            run({size: np.arange(len(again))}, again, redone, options=options, kernel="whitening")
            put(outcome, whitened, take(redone, whitened))
    if _interrupt.asked():
        if not np.isfinite(outcome.log_likelihood).any():
            _interrupt.check()
        left = np.isin(outcome.status[members], (Status.RUNNING, Status.IMPRECISE))
        outcome.status[members] = np.where(left, Status.INTERRUPTED, outcome.status[members])
    return outcome, whitened, units


def _nothing(shape: tuple[int, ...], n_components: int, n_features: int, covariance_type: str, dtype: Any) -> Outcome:
    """The outcome of tasks that are not run."""
    return Outcome(
        params=_zeros(shape, n_components, n_features, covariance_type, dtype),
        log_likelihood=np.full(shape, -np.inf, dtype),
        classification_log_likelihood=np.zeros(shape, dtype),
        n_iter=np.zeros(shape, np.int32),
        status=np.full(shape, Status.RUNNING, np.int32),
        penalty=np.zeros(shape, dtype),
        floored=np.full((*shape, n_components), -1, np.int32),
    )


def _zeros(shape: tuple[int, ...], n_components: int, n_features: int, covariance_type: str, dtype: Any) -> GMMParams:
    family = get_family(covariance_type)
    return GMMParams(
        weights=np.zeros((*shape, n_components), dtype),
        means=np.zeros((*shape, n_components, n_features), dtype),
        covariances=np.zeros((*shape, *family.shape(n_components, n_features)), dtype),
        covariance_type=family.name,
    )


def _run_chunks(
    sets: Sets,
    sizes: dict[int, np.ndarray],
    members: np.ndarray,
    outcome: Outcome,
    *,
    units: Units,
    active: np.ndarray,
    n_restarts: int,
    options: EMOptions,
    covariance_type: str,
    kernel: str,
    how: Method,
    **rest: Any,
) -> None:
    """Run `members[index]` for every (rows, index) of `sizes` and write what comes out into `outcome` and `units`.

    What was not begun when somebody asked to stop is left as it was.
    """
    n_masks, n_components = active.shape
    per_set = n_masks * n_restarts
    n_features, dtype = sets.n_features, sets.dtype
    counts = active.sum(axis=1)

    def fit_chunk(item: tuple[int, int, np.ndarray]) -> None:
        n_rows, n_sets, mine = item
        packed = pack(sets, mine, n_sets, n_rows)
        number = np.zeros(n_sets, np.int32)
        number[: len(mine)] = mine
        units.scale[mine], units.reach[mine] = packed.scale[: len(mine)], packed.reach[: len(mine)]
        own, start_floor = _chunk_options(options, how, sets, packed, number)
        own = jax.tree.map(lambda a: np.repeat(a, n_masks, axis=0), own)
        if how.prior is not None:
            every = (set_rows(sets, int(i)) for i in number)
            priors = [row_prior(how.prior, rows, int(n), covariance_type) for rows in every for n in counts]
            own = replace(own, prior=stack(priors))
        n_tasks = len(mine) * per_set
        slots = n_slots(n_rows, n_components)
        flops = max(n_tasks, slots) * iteration_flops(n_rows, n_components, n_features)
        limit = np.int32(max(SHORTEST_TURN, min(TURN_FLOPS / flops, np.iinfo(np.int32).max)))

        def turn(states: EMState, tasks: np.ndarray, n: int, *, fresh: bool) -> EMState:
            after = run_chunk(
                *(states, tasks, np.int32(n), np.bool_(fresh)),
                x=packed.x,
                weight=packed.weight,
                options=own,
                start_floor=start_floor,
                number=number,
                active=active,
                limit=limit,
                n_restarts=n_restarts,
                slots=slots,
                covariance_type=covariance_type,
                kernel=kernel,
                **rest,
            )
            # On the host before anything is cut out of it: a device would compile every new length.
            return jax.tree.map(np.array, after)

        tasks = np.arange(-(-n_sets * per_set // slots) * slots, dtype=np.int32)
        blank = _zeros(tasks.shape, n_components, n_features, covariance_type, dtype)
        begun = turn(blank_states(blank, how.accelerate), tasks, n_tasks, fresh=True)
        _interrupt.hold()
        finish = partial(_to_the_end, turn=partial(turn, fresh=False))
        states = finish(begun, tasks[:n_tasks])
        if how.degenerate in REPAIRS:

            def want(ended: Outcome, task: int) -> np.ndarray:
                which = task // n_restarts
                rows = set_rows(sets, int(number[which // n_masks]))
                return wanting(ended, task, rows, take(own, which), int(counts[which % n_masks]), how.degenerate)

            states = _repaired(states, n_tasks, want, REPAIRS[how.degenerate], options.max_iter, finish)

        ended = take(_outcome(states), slice(n_tasks))
        shape = (len(mine), n_masks, n_restarts)
        put(outcome, mine, jax.tree.map(lambda a: a.reshape(*shape, *a.shape[1:]), ended))

    chunks = []
    for n_rows, index in sizes.items():
        n_sets = chunk_sets(n_rows, n_features, dtype.itemsize, per_set)
        chunks += [(n_rows, n_sets, members[index[i : i + n_sets]]) for i in range(0, len(index), n_sets)]
    with contextlib.suppress(Interrupted):
        side_by_side(fit_chunk, chunks)


def _chunk_options(
    options: EMOptions, how: Method, sets: Sets, packed: Packed, number: np.ndarray
) -> tuple[EMOptions, np.ndarray]:
    """Options of each set of a chunk (C), and what its starts add to covariance diagonals (C, D)."""
    dtype, scale = sets.dtype, packed.scale[:, None]
    resolution = eps(dtype) * np.abs(sets.offset[number]) / scale
    variances = packed_variances(packed)
    floor = floor_by_feature(options, variances, resolution, scale)
    # Starts know nothing of a prior, so they have a floor of their own.
    start_floor = floor if how.prior is None else floor_by_feature(em_options(dtype), variances, resolution, scale)
    own = replace(
        jax.tree.map(lambda a: np.full(len(packed.x), a), options),
        log_volume=(sets.n_features * np.log(packed.scale)).astype(dtype),
        row_weight=sets.row_weight[number].astype(dtype),
        reg_covar=floor.astype(dtype),
        watched=watched_floor(floor, variances, resolution).astype(dtype),
    )
    return own, start_floor.astype(dtype)


Finish = Callable[[EMState, np.ndarray], EMState]


def _to_the_end(states: EMState, running: np.ndarray, turn: Callable[..., EMState]) -> EMState:
    """Turn after turn of the `running` of the states (host arrays) until all have ended, or somebody asks."""
    while len(running := running[states.status[running] == Status.RUNNING]) and not _interrupt.asked():
        tasks = np.resize(running, len(states.status))
        after = turn(take(states, tasks), tasks, len(running))
        put(states, running, take(after, slice(len(running))))
    states.status[running] = Status.INTERRUPTED
    return states


def _repaired(
    states: EMState,
    n_tasks: int,
    want: Callable[[Outcome, int], np.ndarray],
    repair: Callable[[GMMParams, np.ndarray], GMMParams],
    max_iter: np.ndarray,
    finish: Finish,
) -> EMState:
    """The first `n_tasks` of the states with the components that `want` it repaired: see `repair.repaired`."""
    for _ in range(MAX_ROUNDS):
        ended = _outcome(states)
        usable = (ended.status != Status.IMPRECISE) & np.isfinite(ended.log_likelihood) & (ended.n_iter < max_iter)
        bad = {task: found for task in np.flatnonzero(usable[:n_tasks]) if (found := want(ended, int(task))).any()}
        if not bad or _interrupt.asked():
            break
        chosen = np.array(list(bad), np.int32)
        starts = jax.tree.map(np.copy, states.best_params)
        parts = stack([repair(take(starts, task), found) for task, found in bad.items()])
        put(starts, chosen, parts)
        after = finish(jax.tree.map(np.array, restart(states, starts)), chosen)
        # One that came to nothing changes nothing, except where the other kernel is to try.
        kept = np.isfinite(after.best_log_likelihood) | (after.status == Status.IMPRECISE)
        chosen = chosen[kept[chosen]]
        put(states, chosen, take(after, chosen))
    return states
