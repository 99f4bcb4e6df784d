"""The one EM loop: init, step, and `lax.while_loop` until the relative log-likelihood change is small.

An iteration is M-step then E-step, so that the log-likelihood held always belongs to the parameters held.
Nothing here knows about restarts or files; lanes and drivers call it.
"""

from __future__ import annotations

from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxgmm._fork import check_threads
from jaxgmm._numerics import (
    AT_FLOOR,
    CLEAR_CHANGE,
    DECREASE_FACTOR,
    RESOLVED_GAIN,
    as_floating,
    jitter,
    noise_level,
    safe_divide,
)
from jaxgmm._options import EMOptions
from jaxgmm._pytree import pytree, replace
from jaxgmm._status import Status
from jaxgmm.em.accelerate import Memory, empty_memory, forget, propose_boldly
from jaxgmm.kernels import lost_digits
from jaxgmm.objective import slope
from jaxgmm.params import Factors, GMMParams, factorize, is_sound
from jaxgmm.prior import log_prior
from jaxgmm.stats import SuffStats, collect
from jaxgmm.steps import m_step

T = TypeVar("T")


@pytree
class EMState:
    """What the next iteration needs, and the best state so far.

    params, stats: the current mixture and its statistics. penalty: the logarithm of its prior, 0 without one; the
    objective is the log-likelihood plus this. best_params, best_log_likelihood, best_penalty, best_classification:
    the state of highest objective seen (with reg_covar > 0 the plain update may lower it). n_iter: passes over the
    rows after the first, -1 before it. status: a `Status` code. fresh: `stats` do not belong to `params` (a start, or
    another kernel takes over), so that the next step is an E-step alone. gain: of the objective in the last step, NaN
    unless it was a plain one. floored (K): the iteration since which a component's covariance may be at the floor
    that reg_covar holds, -1 where it is not. memory: of an accelerated lane (`em.accelerate`), else None.
    """

    params: GMMParams
    stats: SuffStats
    penalty: Array
    best_params: GMMParams
    best_log_likelihood: Array
    best_penalty: Array
    best_classification: Array
    n_iter: Array
    status: Array
    fresh: Array
    gain: Array
    floored: Array
    memory: Memory | None

    @property
    def running(self) -> Array:
        """Whether this lane still wants iterations."""
        return self.status == Status.RUNNING


@pytree
class Proposal:
    """What an iteration evaluates next: parameters and their factors.

    bold: extrapolated, so that they may be worse than what the lane holds. memory: the lane's if they are taken.
    """

    params: GMMParams
    factors: Factors
    bold: Array
    memory: Memory | None


def keep_if(condition: Array, this: T, other: T) -> T:
    """`this` where the scalar `condition` holds, else `other`, leaf by leaf."""
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), this, other)


def _int32(value: int) -> Array:
    """A strongly typed scalar: a weak one would make the first burst's program differ from the second's."""
    return jnp.asarray(np.int32(value))


def init_state(params: GMMParams, x_dtype: Any, accelerate: str | None = None) -> EMState:
    """The state of a fresh lane: no statistics yet, so that its first step is an E-step at the start.

    accelerate: a key of `accelerate.MEMORY`, or None.
    """
    n_components, n_features = params.n_components, params.n_features
    shape = params.family.shape(n_components, n_features)
    zero = jnp.zeros((), x_dtype)
    stats = SuffStats(
        resp_sum=jnp.zeros(n_components, x_dtype),
        x_sum=jnp.zeros((n_components, n_features), x_dtype),
        xx_sum=jnp.zeros(shape, x_dtype),
        pivot=jnp.asarray(params.means, x_dtype),
        log_likelihood=zero - jnp.inf,
        classification_log_likelihood=zero,
        weight_sum=zero,
    )
    return EMState(
        params=params,
        stats=stats,
        penalty=zero,
        best_params=params,
        best_log_likelihood=zero - jnp.inf,
        best_penalty=zero,
        best_classification=zero,
        n_iter=_int32(-1),
        status=_int32(Status.RUNNING),
        fresh=jnp.asarray(True),
        gain=zero + jnp.nan,
        floored=jnp.full(n_components, -1, jnp.int32),
        memory=empty_memory(params, x_dtype, accelerate) if accelerate else None,
    )


def resume(state: EMState) -> EMState:
    """The lane set running again from its parameters, its statistics to be collected anew."""
    unknown = jnp.full_like(state.stats.log_likelihood, -jnp.inf)
    return replace(
        state,
        stats=replace(state.stats, log_likelihood=unknown),
        status=_int32(Status.RUNNING),
        fresh=jnp.asarray(True),
        gain=unknown * jnp.nan,
        memory=None if state.memory is None else forget(state.memory),
    )


def begin_again(state: EMState, start: GMMParams) -> EMState:
    """The lane from another start, with what it held forgotten and its iterations counted on."""
    anew = replace(
        state,
        params=start,
        best_params=start,
        best_log_likelihood=jnp.full_like(state.best_log_likelihood, -jnp.inf),
        best_penalty=jnp.zeros_like(state.best_penalty),
        n_iter=state.n_iter + 1,
        floored=jnp.full_like(state.floored, -1),
    )
    return resume(anew)


def _unseen_gain(
    old: GMMParams, new: GMMParams, ahead: GMMParams, factors: Factors, resp_sum: Array, reg_covar: Array
) -> Array:
    """What an update has gained, from the movement of the parameters: ½ ⟨d, d + e − 2ρ⟩, to second order.

    With d the update from `old` to `new`, e the one to `ahead`, ρ what reg_covar adds to both, and the metric of the
    complete data, ⟨d, d⟩ = Σ_k R_k (|Σ_k^-½ Δμ_k|² + ½ tr (Σ_k⁻¹ ΔΣ_k)²) + Σ_k R_k Σ_k (Δw_k)² / w_k: the slope of the
    log-likelihood is the update less ρ in that metric, and this is the trapezoidal rule between the slopes at both
    ends. Nothing cancels in it, so it still tells progress from standstill where the log-likelihood no longer does:
    in single precision that is long before the parameters have settled.
    """
    family, n_components, n_features = new.family, new.n_components, new.n_features
    used = (resp_sum > 0) & new.active
    precisions = family.precisions(factors.factor)

    def squared(moves: GMMParams) -> Array:
        moved = jnp.where(used[:, None], moves.means, 0.0)
        distance = family.squared_distance(moved[:, :, None], factors.factor)[:, 0]
        turned = family.squared_change(precisions, moves.covariances, n_components, n_features)
        shared = safe_divide(moves.weights**2, new.weights)
        parts = resp_sum * (distance + 0.5 * turned) + jnp.sum(resp_sum) * shared
        return jnp.sum(jnp.where(used, parts, 0.0))

    uphill = replace(ahead, covariances=family.add_to_diagonal(ahead.covariances, -2.0 * reg_covar))
    half = jax.tree.map(lambda b, c: 0.5 * (c - b), new, uphill)
    both = jax.tree.map(lambda a, b, h: (b - a) + h, old, new, half)
    return 0.5 * (squared(both) - squared(half))


def _still_to_gain(change: Array, before: Array, rate: Array | float = 0.0) -> Array:
    """What the objective will still gain if every change is the same part of the one before (Aitken); inf if unknown.

    McLachlan and Krishnan 2008, section 4.9. before: the change before, NaN if there is none to compare with. rate: by
    which the way to go is known to shrink in a step; the gain shrinks by its square, or more slowly. After a leap the
    first changes shrink fast and say little.
    """
    ratio = jnp.maximum(safe_divide(change, before), rate * rate)
    known = (change > 0) & (ratio > 0) & (ratio < 1) & jnp.isfinite(before)
    return jnp.where(known, change * ratio / jnp.where(known, 1 - ratio, 1.0), jnp.inf)


def _wanted(stats: SuffStats, options: EMOptions) -> Array:
    """The change of the objective at which a fit may end."""
    relative = options.tol * (options.row_weight + jnp.abs(stats.log_likelihood))
    return jnp.maximum(relative, options.tol_mean * stats.weight_sum)


def _stop_code(
    change: Array,
    left: Array,
    bold: Array,
    n_iter: Array,
    stats: SuffStats,
    noise: Array,
    options: EMOptions,
    unseen: tuple[Array, Array] | None,
) -> Array:
    """CONVERGED, DECREASED, MAX_ITER or RUNNING after a sound iteration, the `n_iter`-th.

    change: of the objective, which shows nothing below `noise`; left: what it is estimated to gain still. bold: only a
    plain step tells how much EM still moves. unseen: what the movement of the parameters says was gained, and what of
    it may be rounding; None where the objective shows enough.
    """
    wanted = _wanted(stats, options)
    size = jnp.abs(change)
    # With tol 0 the objective standing still is all that can be asked for.
    still = size <= noise
    if unseen is not None:
        gain, rounding = unseen
        still &= (gain <= jnp.maximum(wanted, rounding)) | (wanted == 0)
        size = jnp.where(size <= CLEAR_CHANGE * noise, gain, size)
    # The change from a fresh lane's -inf is +inf: never converged.
    size = jnp.where(options.aitken, left, size)
    converged = jnp.where(wanted > noise, (size <= wanted) | (options.aitken & still), still) & ~bold
    # With reg_covar > 0 the update maximises another function, so a fall is no fault.
    decreased = (change < -DECREASE_FACTOR * noise) & jnp.all(options.reg_covar == 0)
    code = jnp.where(n_iter >= options.max_iter, Status.MAX_ITER, Status.RUNNING)
    return jnp.where(converged, Status.CONVERGED, jnp.where(decreased, Status.DECREASED, code))


def floored_since(before: Array, params: GMMParams, factors: Factors, n_iter: Array, options: EMOptions) -> Array:
    """Since when the variance along some direction may be hardly more than what reg_covar adds, (K).

    With R what is watched, tr(R Σ⁻¹) is the sum of the reciprocal eigenvalues of Σ in units of R: if one of them is at
    most AT_FLOOR, it is at least 1 / AT_FLOOR. `diagnosis` then looks at the eigenvalues themselves. before (K): what
    was known in the iteration before.
    """
    precisions = params.family.precision_diagonals(factors.factor, params.n_components, params.n_features)
    low = (
        jnp.sum(jnp.broadcast_to(options.watched, precisions.shape) * precisions, axis=-1) >= 1 / AT_FLOOR
    ) & params.active
    return jnp.where(low, jnp.where(before >= 0, before, n_iter), -1)


def propose(state: EMState, options: EMOptions) -> Proposal:
    """The first part of an iteration: the next parameters (a fresh lane's own) and their factors."""
    update = m_step(state.params, state.stats, options.reg_covar, options.prior)
    memory, bold = state.memory, jnp.zeros_like(state.fresh)
    if state.memory is not None:
        uphill = None
        if state.memory.curvature is not None:
            uphill = slope(state.params, state.stats, options.reg_covar, options.prior)
        gain = state.gain / state.stats.weight_sum
        update, memory, bold = propose_boldly(state.memory, state.params, update, gain, uphill)
        memory, bold = keep_if(state.fresh, state.memory, memory), bold & ~state.fresh
    params = keep_if(state.fresh, state.params, update)
    # Without the barrier the compiler may compute the update twice, differently rounded, and the covariance
    # that was factorised and found sound is not the one that is kept.
    params = jax.lax.optimization_barrier(params)
    return Proposal(params=params, factors=factorize(params), bold=bold, memory=memory)


def settle(state: EMState, proposal: Proposal, stats: SuffStats, options: EMOptions, kernel: str) -> EMState:
    """The last part of an iteration: accept what was proposed and collected, or stop.

    A bad step sets the stop code and leaves the last sound state in place; a bold one that is bad or lowers the
    objective leaves it in place as well, and a plain one follows.
    """
    params, factors, bold = proposal.params, proposal.factors, proposal.bold
    volume = stats.weight_sum * options.log_volume
    log_likelihood = stats.log_likelihood - volume
    stats = replace(
        stats,
        log_likelihood=log_likelihood,
        classification_log_likelihood=stats.classification_log_likelihood - volume,
    )
    penalty = jnp.zeros_like(log_likelihood) if options.prior is None else log_prior(options.prior, params, factors)
    single = log_likelihood.dtype.itemsize < 8
    size = lost_digits(params, factors) if kernel == "features" or single else jnp.zeros_like(log_likelihood)
    loss = size if kernel == "features" else jnp.zeros_like(log_likelihood)
    precise = (loss <= options.max_loss) | jnp.isinf(options.max_loss)
    shift = jnp.where(state.fresh, 0.0, params.means - state.stats.pivot)
    regular = is_sound(params, factors, shift)
    sound = precise & regular & jnp.isfinite(log_likelihood + penalty)
    failure = jnp.where(regular, Status.NONFINITE, Status.SINGULAR)
    failure = jnp.where(precise, failure, Status.IMPRECISE)
    # A lane taken over from another kernel repeats its last E-step.
    n_iter = state.n_iter + jnp.where((state.fresh & (state.n_iter >= 0)) | (~precise & ~bold), 0, 1)
    noise = noise_level(log_likelihood, stats.weight_sum, loss)
    change = (log_likelihood + penalty) - (state.stats.log_likelihood + state.penalty)
    unseen = None
    if single:
        ahead = m_step(params, stats, options.reg_covar, options.prior)
        gain = _unseen_gain(state.params, params, ahead, factors, stats.resp_sum, options.reg_covar)
        unseen = gain, stats.weight_sum * jnp.maximum(jitter(size), RESOLVED_GAIN)
    rate = 0.0 if proposal.memory is None else proposal.memory.rate
    left = _still_to_gain(change, state.gain, rate)
    code = _stop_code(change, left, bold, n_iter, stats, noise, options, unseen)
    # Within rounding the later state is the better one: it is closer to the fixed point.
    better = sound & (log_likelihood + penalty > state.best_log_likelihood + state.best_penalty - noise)
    moved = EMState(
        params=params,
        stats=stats,
        penalty=penalty,
        best_params=keep_if(better, params, state.best_params),
        best_log_likelihood=jnp.where(better, log_likelihood, state.best_log_likelihood),
        best_penalty=jnp.where(better, penalty, state.best_penalty),
        best_classification=jnp.where(better, stats.classification_log_likelihood, state.best_classification),
        n_iter=n_iter,
        status=code.astype(jnp.int32),
        fresh=jnp.zeros_like(state.fresh),
        gain=jnp.where(bold, jnp.nan, change),
        floored=floored_since(state.floored, params, factors, n_iter, options),
        memory=proposal.memory,
    )
    stopped = replace(state, n_iter=n_iter, status=failure.astype(jnp.int32))
    if state.memory is None or moved.memory is None:
        return keep_if(sound, moved, stopped)
    # A plain step has to confirm that there is nothing more to gain.
    slow = jnp.abs(change) <= jnp.maximum(_wanted(stats, options), noise)
    unknown = options.aitken & ~jnp.isfinite(left)
    moved = replace(moved, memory=replace(moved.memory, plain=moved.memory.plain | (slow & (bold | unknown))))
    refused = bold & (~sound | (change < -noise))
    going_on = jnp.where(n_iter >= options.max_iter, Status.MAX_ITER, Status.RUNNING).astype(jnp.int32)
    back = replace(state, n_iter=n_iter, status=going_on, memory=forget(state.memory))
    return keep_if(refused, back, keep_if(sound, moved, stopped))


def step(
    state: EMState,
    x: Array,
    weight: Array,
    options: EMOptions,
    block_size: int | None = None,
    kernel: str = "whitening",
    span: tuple[Array, Array] | None = None,
) -> EMState:
    """One EM iteration of one lane (an E-step alone for a fresh one), rows as `stats.collect` takes them."""
    proposal = propose(state, options)
    stats = collect(proposal.factors, x, weight, block_size, kernel=kernel, span=span)
    return settle(state, proposal, stats, options, kernel)


def run_em(
    params: GMMParams,
    x: Array,
    sample_weight: Array | None = None,
    options: EMOptions | None = None,
    accelerate: str | None = None,
) -> EMState:
    """EM from one start to its stop, as one `lax.while_loop`: for use inside the caller's own jit or vmap.

    params: the start. x: (N, D). sample_weight: (N) or None. options: `EMOptions`, traced.
    accelerate: a key of `accelerate.MEMORY`, or None.
    Returns the final `EMState`; read ``best_params``, ``best_log_likelihood``, ``status``.

    >>> import numpy as np
    >>> p = GMMParams(weights=np.ones(1), means=np.zeros((1, 1)), covariances=np.ones((1, 1)),
    ...               covariance_type="diag")
    >>> state = jax.jit(run_em)(p, np.array([[1.0], [3.0]], np.float32))
    >>> round(float(state.best_params.means[0, 0]), 3)
    2.0
    """
    check_threads()
    x = as_floating(x, jnp.asarray(params.means).dtype)
    weight = jnp.ones(x.shape[0], x.dtype) if sample_weight is None else jnp.asarray(sample_weight, x.dtype)
    options = options or EMOptions()
    params = jax.tree.map(lambda a: jnp.asarray(a, x.dtype), params)
    options = EMOptions(
        tol=jnp.asarray(options.tol, x.dtype),
        tol_mean=jnp.asarray(options.tol_mean, x.dtype),
        reg_covar=jnp.asarray(options.reg_covar, x.dtype),
        watched=jnp.asarray(options.reg_covar, x.dtype),
        max_iter=jnp.asarray(options.max_iter, jnp.int32),
        max_loss=jnp.asarray(options.max_loss, x.dtype),
        log_volume=jnp.asarray(options.log_volume, x.dtype),
        row_weight=jnp.sum(weight) / jnp.sum(weight > 0),
        aitken=jnp.asarray(options.aitken, bool),
        prior=jax.tree.map(lambda a: jnp.asarray(a, x.dtype), options.prior),
    )
    return jax.lax.while_loop(
        lambda state: state.running,
        lambda state: step(state, x, weight, options),
        init_state(params, x.dtype, accelerate),
    )
