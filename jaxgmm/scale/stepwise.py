"""Stepwise EM: an M-step after every batch of rows, for streams that never end and for a first look at very many rows.

With s_t the statistics of a row on average, ŝ_t those of batch t, and a step size η_t (Cappé and Moulines 2009):

    s_t = (1 − η_t) s_{t−1} + η_t ŝ_t,     parameters = M-step of s_t

A step size that falls as a power between −1/2 and −1 of t comes to rest; a constant one, η, forgets rows of 1/η batches
ago, and so follows a stream that drifts.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxgmm import _interrupt
from jaxgmm._checks import (
    as_float_array,
    check_count,
    check_finite,
    check_key,
    check_rows_for,
    check_weights,
    precision_context,
)
from jaxgmm._options import EMOptions, default_reg_covar, em_options
from jaxgmm._pytree import pytree, replace, take
from jaxgmm._status import DataError, FitError, Status, UsageError
from jaxgmm.covariance import get_family
from jaxgmm.data.batches import Batch, Indexed, batches
from jaxgmm.data.rows import Rows, pad_rows, pad_vector, prepare_rows
from jaxgmm.em.burst import collect_spans
from jaxgmm.em.restarts import in_row_units, random_starts
from jaxgmm.init import get_start
from jaxgmm.init.given import check_start
from jaxgmm.params import GMMParams, as_dtype, factorize, rescale, translate
from jaxgmm.scale.choose import as_source
from jaxgmm.scale.stream import open_stream
from jaxgmm.stats import SuffStats
from jaxgmm.steps import m_step

BATCH_ROWS = 1 << 13
# Of the step size (t + DELAY)^-POWER.
POWER, DELAY = 0.6, 2.0

StepSize = Callable[[int], Any]


@pytree
class Stepwise:
    """Stepwise EM between two batches, in the units of the rows that it is given.

    params: the mixture. stats: of a row on average, weight_sum 1, about the means of `params`. n_steps: batches so far.
    """

    params: GMMParams
    stats: SuffStats
    n_steps: Array


@dataclass(frozen=True)
class StepwiseResult:
    """What stepwise EM came to.

    params: in data units. scores (T): the mean log-likelihood of each batch under the mixture before it, nats per row:
    rows that it had not seen in a first pass. n_steps T, n_samples: rows gone through, repetitions included.
    """

    params: GMMParams
    scores: np.ndarray
    n_steps: int
    n_samples: int


@dataclass(frozen=True)
class PowerSchedule:
    """The step size η_t = (t + delay)^−power for t = 1, 2 …"""

    power: float = POWER
    delay: float = DELAY

    def __call__(self, t: int) -> float:
        return float((t + self.delay) ** -self.power)


@jax.jit
def _factors(params: GMMParams) -> Any:
    return jax.vmap(factorize)(jax.tree.map(lambda a: a[None], params))


@jax.jit
def _blend(state: Stepwise, batch: SuffStats, step_size: Array, reg_covar: Array) -> tuple[Stepwise, Array]:
    """The state after a batch with these statistics, and the mean log-likelihood of its rows."""
    share = step_size / batch.weight_sum
    mixed = jax.tree.map(lambda old, new: (1.0 - step_size) * old + share * new, state.stats, batch)
    # The pivots of both are the means of the mixture.
    mixed = replace(mixed, pivot=state.stats.pivot)
    params = m_step(state.params, mixed, reg_covar)
    shift = params.means - mixed.pivot
    mass = jnp.where(params.weights > 0, mixed.resp_sum, 0.0)
    about_means = mixed.xx_sum - params.family.scatter(shift[:, :, None], mass[:, None])
    stats = replace(mixed, x_sum=jnp.zeros_like(mixed.x_sum), xx_sum=about_means, pivot=params.means)
    return Stepwise(params=params, stats=stats, n_steps=state.n_steps + 1), batch.log_likelihood / batch.weight_sum


def begin(params: GMMParams) -> Stepwise:
    """The state before the first batch, whose step size is 1: its statistics are forgotten."""
    n_components, n_features = params.n_components, params.n_features
    dtype = params.dtype
    zero = jnp.zeros((), dtype)
    stats = SuffStats(
        resp_sum=jnp.zeros(n_components, dtype),
        x_sum=jnp.zeros((n_components, n_features), dtype),
        xx_sum=jnp.zeros(params.family.shape(n_components, n_features), dtype),
        pivot=jnp.asarray(params.means),
        log_likelihood=zero,
        classification_log_likelihood=zero,
        weight_sum=zero,
    )
    return Stepwise(params=params, stats=stats, n_steps=jnp.zeros((), jnp.int32))


def advance(
    state: Stepwise, x: Array, weight: Array, step_size: float, reg_covar: Any, n_rows: int
) -> tuple[Stepwise, float]:
    """The state after the batch x (N, D), of which `n_rows` count, and the mean log-likelihood of its rows before."""
    batch = collect_spans(_factors(state.params), x=x, weight=weight, kernel="whitening", n_rows=n_rows)
    step_size = 1.0 if int(state.n_steps) == 0 else min(1.0, float(step_size))
    dtype = state.params.dtype
    new, score = _blend(state, take(batch, 0), np.asarray(step_size, dtype), np.asarray(reg_covar, dtype))
    return new, float(score)


@dataclass
class Stepper:
    """Stepwise EM of rows in data units: the state, and the units that it is in. It takes one batch after the other.

    reg_covar: (D), in the squares of these units. log_volume: what a log-density in data units is smaller by.
    """

    state: Stepwise
    offset: np.ndarray
    scale: float
    reg_covar: np.ndarray
    log_volume: float
    schedule: StepSize

    @classmethod
    def of(cls, rows: Rows, start: GMMParams, inside: EMOptions, schedule: StepSize) -> Stepper:
        """From a start in the units of `rows`, with options in them."""
        reg_covar, volume = np.asarray(inside.reg_covar), float(inside.log_volume)
        return cls(begin(start), rows.offset, rows.scale, reg_covar, volume, schedule)

    @property
    def params(self) -> GMMParams:
        """The mixture in data units."""
        own = as_dtype(jax.tree.map(np.asarray, self.state.params), np.float64)
        return as_dtype(translate(rescale(own, self.scale), self.offset), self.state.params.dtype)

    def step(self, batch: Batch, size: int | None = None) -> float | None:
        """Take a batch; its mean log-likelihood under the mixture before, None for one without weight.

        size: rows that shorter batches are padded to, so that one program serves all. To be called inside the 64-bit
        context that the dtype asks for. `FitError` for a mixture that has become singular.
        """
        dtype = self.state.params.dtype
        weight = np.ones(len(batch.x)) if batch.weight is None else batch.weight
        if not weight.any():
            return None
        z = pad_rows(batch.x, dtype, self.offset, self.scale, n_rows=size)
        padded = pad_vector(weight.astype(dtype), dtype, n_rows=size)
        t = int(self.state.n_steps) + 1
        rows = jax.device_put(z), jax.device_put(padded)
        new, score = advance(self.state, *rows, _size_of_step(self.schedule, t), self.reg_covar, len(z))
        # The next batch would meet a covariance that has become singular; after the last one nobody would.
        norms = np.asarray(_factors(new.params).log_norm)[0]
        if not np.isfinite(score) or not np.isfinite(norms[np.asarray(new.params.weights) > 0]).all():
            found = f"the mixture became singular in batch {t}"
            raise FitError("E301", found, "ask for fewer components, or raise reg_covar", Status.SINGULAR)
        self.state = jax.tree.map(np.asarray, new)
        return score - self.log_volume


def fit_stepwise(
    x: Any,
    n_components: int,
    *,
    covariance_type: str = "full",
    key: Any = None,
    n_restarts: int = 1,
    init: str | GMMParams = "kmeans",
    step_size: StepSize | float | None = None,
    batch_size: int = BATCH_ROWS,
    n_passes: int = 1,
    reg_covar: float | None = None,
    reg_kind: str = "relative",
) -> StepwiseResult:
    """Fit a mixture by stepwise EM: one M-step for each batch of rows, in one pass or a few.

    x: rows (N, D), anything that `fit` can stream, or an iterator of arrays (n, D), which may never end: then
    ``Ctrl-C`` does, and what it came to is returned. Rows should come in random order: batches are taken for samples.
    n_components: K. covariance_type, key, init, reg_covar, reg_kind: as for `fit`; starts come from a random sample of
    the rows, or from the first batch of an iterator. n_restarts: starts, of which the one of highest likelihood on that
    sample is taken. step_size: η_t for t = 1, 2 …, such as a schedule of optax, or a constant; (t + 2)^-0.6 if None.
    batch_size: rows of a batch; an iterator's arrays are batches as they are. n_passes: over the rows; an iterator has
    one.

    Returns a `StepwiseResult`. Raises `DataError` for rows that cannot be used, and `FitError` if the mixture becomes
    singular.

    >>> rng = np.random.default_rng(0)
    >>> rows = np.concatenate([rng.normal(-5, 1, 4000), rng.normal(5, 1, 4000)])
    >>> result = fit_stepwise(rng.permutation(rows)[:, None], 2, key=0, batch_size=500, n_passes=2)
    >>> np.abs(np.sort(result.params.means[:, 0])).round(0).tolist()
    [5.0, 5.0]
    """
    n_components = check_count(n_components, "n_components")
    batch_size, n_passes = check_count(batch_size, "batch_size"), check_count(n_passes, "n_passes")
    schedule = _schedule(step_size)
    options = (default_reg_covar(reg_covar, None), reg_kind)
    if isinstance(x, Iterator):
        return _of_iterator(x, n_components, covariance_type, key, n_restarts, init, schedule, options)
    source = as_source(x)
    if source is None:
        source = Indexed(as_float_array(x, "x"))
    seed = 0 if key is None else int(np.asarray(jax.random.key_data(check_key(key, "fit_stepwise"))).ravel()[-1])
    with precision_context(source.dtype):
        rows, _ = open_stream(source, batch_size, seed)
        start, inside = first_mixture(rows, n_components, covariance_type, key, n_restarts, init, options)
        size = min(batch_size, rows.n_samples)
        passes = itertools.chain.from_iterable(batches(source, size) for _ in range(n_passes))
        return _run(passes, Stepper.of(rows, start, inside, schedule), size)


def _schedule(step_size: Any) -> StepSize:
    if step_size is None:
        return PowerSchedule()
    number = isinstance(step_size, (int, float, np.number)) and not isinstance(step_size, bool)
    if number and 0 < step_size <= 1:
        return lambda t: step_size
    if not callable(step_size):
        raise UsageError(
            "E108", f"step_size must be a schedule or a number in (0, 1], got {step_size!r}", "for example 0.05"
        )
    return step_size


def _size_of_step(schedule: StepSize, t: int) -> float:
    """What the schedule says of step t, refused where it is no share."""
    given = schedule(t)
    try:
        size = float(given)
    except (TypeError, ValueError):
        size = np.nan
    if not 0 <= size < np.inf:
        found = f"step_size of step {t} must be a number of at least 0, got {given!r}"
        raise UsageError("E108", found, "correct the schedule, for example lambda t: (t + 2) ** -0.6")
    return size


def _of_iterator(
    arrays: Iterator[Any],
    n_components: int,
    covariance_type: str,
    key: Any,
    n_restarts: int,
    init: Any,
    schedule: StepSize,
    options: tuple[float, str],
) -> StepwiseResult:
    """Rows that come only once, as arrays: the first of them is where units and starts are taken from."""
    arriving = _with_rows(arrays)
    _, head = next(arriving, (0, None))
    if head is None:
        raise DataError("E208", "x gives no rows", "give at least one array")
    with precision_context(head.dtype):
        rows = prepare_rows(head, check_weights(None, len(head), head.dtype))
        start, inside = first_mixture(rows, n_components, covariance_type, key, n_restarts, init, options)

        def rest() -> Iterator[Batch]:
            yield Batch(head, None)
            for i, array in arriving:
                part = array.astype(head.dtype, copy=False)
                if part.shape[1] != head.shape[1]:
                    found = f"array {i} of x has {part.shape[1]} columns, the first one {head.shape[1]}"
                    raise DataError("E251", found, "give all arrays the same columns")
                yield Batch(part, None)

        return _run(rest(), Stepper.of(rows, start, inside, schedule), None)


def _with_rows(arrays: Iterable[Any]) -> Iterator[tuple[int, np.ndarray]]:
    """The arrays that are not empty, checked, each with its number."""
    for i, array in enumerate(arrays):
        rows = as_float_array(array, f"array {i} of x")
        if rows.ndim != 2:
            raise DataError("E207", f"array {i} of x must be 2-D, got shape {rows.shape}", "one row per sample")
        check_finite(rows, f"array {i} of x")
        if len(rows):
            yield i, rows


def first_mixture(
    rows: Rows,
    n_components: int,
    covariance_type: str,
    key: Any,
    n_restarts: int,
    init: Any,
    options: tuple[float, str],
) -> tuple[GMMParams, EMOptions]:
    """The start in the units of the rows, and the options in them."""
    reg_covar, reg_kind = options
    check_rows_for(n_components, np.asarray(rows.weight))
    inside = rows.options(em_options(rows.dtype, reg_covar=reg_covar, reg_kind=reg_kind))
    if isinstance(init, GMMParams):
        own = in_row_units(check_start(init, rows.n_features, [n_components], covariance_type), rows)
        return jax.tree.map(lambda a: np.asarray(a, rows.dtype), own), inside
    method = get_start(init)
    n_lanes = check_count(n_restarts, "n_restarts") if method.random else 1
    keys = jax.random.split(check_key(key if method.random else 0, f"init={init!r}"), n_lanes)
    active = np.ones((1, n_components), bool)
    family = get_family(covariance_type).name
    starts = random_starts(rows, keys, active, method.name, family, inside.reg_covar)
    if n_lanes == 1:
        return take(starts, 0), inside
    factors = jax.jit(jax.vmap(factorize))(starts)
    stats = collect_spans(factors, x=rows.x, weight=rows.weight, kernel="whitening", n_rows=rows.x.shape[0])
    return take(starts, int(np.argmax(stats.log_likelihood))), inside


def _run(arriving: Iterable[Batch], stepper: Stepper, size: int | None) -> StepwiseResult:
    """All batches, or those until somebody asks to stop."""
    scores: list[float] = []
    n_samples = 0
    try:
        for batch in arriving:
            score = stepper.step(batch, size)
            if score is not None:
                scores.append(score)
                n_samples += len(batch.x)
            if _interrupt.asked():
                break
    except KeyboardInterrupt:
        if not scores:
            raise
    return StepwiseResult(params=stepper.params, scores=np.array(scores), n_steps=len(scores), n_samples=n_samples)
