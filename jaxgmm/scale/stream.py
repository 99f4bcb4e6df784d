"""EM over rows that stay where they are kept: every pass reads them batch after batch, and keeps only statistics."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from functools import partial

import jax
import numpy as np
from jax import Array

from jaxgmm import _interrupt, _progress
from jaxgmm._ahead import ahead
from jaxgmm._numerics import eps
from jaxgmm._options import EMOptions
from jaxgmm._pytree import replace
from jaxgmm._status import DataError, UsageError
from jaxgmm.covariance import get_family
from jaxgmm.data.batches import Batch, Indexed, Part, Source, batches, weights_of
from jaxgmm.data.rows import Rows, pad_rows, pad_vector, power_of_two, prepare_rows
from jaxgmm.data.survey import Survey, survey
from jaxgmm.em.lanes import Course, LanesResult, run_lanes
from jaxgmm.params import Factors, GMMParams
from jaxgmm.scale.checkpoint import Checkpoints
from jaxgmm.scale.devices import Grid, collect_placed, place
from jaxgmm.scale.processes import Group, PeerLost, gather, group
from jaxgmm.stats import SuffStats

# Bytes of a batch where no number of rows is asked for: much longer than what a batch costs beside its rows, and more
# than the 32 MiB below which the C library keeps freed memory for itself.
BATCH_BYTES = 48 << 20
# So many times the rounding of a pass is looked into. Passes lose a few digits only; a look costs a pass.
_SUSPICIOUS = 1e4


def usual_rows(source: Source) -> int:
    """Rows of a batch where no number is asked for."""
    return max(1, BATCH_BYTES // (source.n_features * source.dtype.itemsize))


# What is added up of statistics: all but the pivots.
_SUMS = ("resp_sum", "x_sum", "xx_sum", "log_likelihood", "classification_log_likelihood", "weight_sum")


@dataclass(frozen=True, eq=False)
class Stream:
    """Rows of a source centred and scaled as `data.rows.Rows` are, made anew in every pass (`em.lanes.Passes`).

    batch_size: rows at a time. n_samples, weight_sum: what every pass must find again. spread: (D) standard deviations
    of z. digest: of the first pass; look: goes through the rows once more as that one did. grid: of devices that share
    every batch. members: the processes that have a part of the rows each, `source` being that of this process; all
    numbers are of the rows of all. checkpoints: where the state is kept, or None. held: the batches, if they stay on
    the devices.
    """

    source: Source
    batch_size: int
    offset: np.ndarray
    scale: float
    n_samples: int
    weight_sum: float
    spread: np.ndarray
    digest: str
    look: Callable[[], Survey]
    grid: Grid
    members: Group
    checkpoints: Checkpoints | None = None
    held: tuple[tuple[Array, Array, int], ...] | None = None

    @property
    def n_batches(self) -> int:
        """Batches of a pass of this process; one without rows has an empty one."""
        return max(1, -(-self.n_mine // self.batch_size))

    @property
    def n_mine(self) -> int:
        """Rows of this process."""
        return self.n_samples if self.source.n_samples is None else self.source.n_samples

    def batches(self, first: int = 0) -> Generator[tuple[Array, Array, int]]:
        """Rows and weights on the device, padded to one shape, and the number of rows, from the batch `first` on.

        The next batch is being made while one is in use.
        """
        if self.held is not None:
            return (batch for batch in self.held[first:])
        wide = jax.dtypes.canonicalize_dtype("float64") == "float64"

        def prepared() -> Iterator[tuple[Array, Array, int]]:
            # JAX keeps its precision for each thread.
            with jax.enable_x64(wide):
                if not self.n_mine:
                    yield self._prepare(Batch(np.empty((0, self.source.n_features), self.source.dtype), None))
                for batch in batches(self.source, self.batch_size, first * self.batch_size):
                    yield self._prepare(batch)

        return ahead(prepared)

    def _prepare(self, batch: Batch) -> tuple[Array, Array, int]:
        dtype = self.source.dtype
        weight = weights_of(batch, dtype)
        where = (dtype, self.offset, self.scale, self.batch_size, self.grid)
        return *place(batch.x, weight, *where), len(batch.x)

    def collect(self, factors: Factors, *, kernel: str) -> SuffStats:
        """The statistics of every lane (L, ...) over all rows.

        Batches are added up in double precision, so that nothing drifts with their number.
        """
        first, total = (0, None) if self.checkpoints is None else self.checkpoints.begin_pass()
        tell = _progress.listener()
        tell.begin(self.n_mine, self.n_batches)
        with contextlib.closing(self.batches(first)) as arriving:
            for i, (x, weight, n_rows) in enumerate(arriving, first + 1):
                sums = collect_placed(factors, x, weight, kernel)
                total = sums if total is None else total + sums
                tell.batch(n_rows)
                if self.checkpoints is not None and self.members.count == 1 and i < self.n_batches:
                    self.checkpoints.batch_done(i, total)
        if total is None:
            raise DataError(
                "E252", f"{self.source.name} gave no rows in a later pass", "give rows that can be read again and again"
            )
        total = self._of_all(total, get_family(factors.covariance_type).correlated)
        self._recognise(total)
        return jax.tree.map(lambda a: np.asarray(a, self.source.dtype), total)

    def _of_all(self, mine: SuffStats, correlated: bool) -> SuffStats:
        """The sums of all processes, added up in their order. What is there is saved when one of them is lost.

        Of symmetric matrices the upper triangle is sent: K (1 + D + D (D + 1) / 2) numbers and three more for a lane.
        """
        if self.members.count == 1:
            return mine
        upper = np.triu_indices(self.source.n_features)
        sent = {name: getattr(mine, name) for name in _SUMS}
        if correlated:
            sent["xx_sum"] = mine.xx_sum[..., *upper]
        try:
            wish = np.array([_interrupt.wanted()])
            *everyone, wishes = zip(*gather([*sent.values(), wish], self.members), strict=True)
        except PeerLost:
            if self.checkpoints is not None:
                self.checkpoints.write(anyway=True)
            raise
        sums = {name: np.sum(parts, axis=0) for name, parts in zip(sent, everyone, strict=True)}
        if correlated:
            matrices = np.empty_like(mine.xx_sum)
            matrices[..., *upper] = matrices[..., *upper[::-1]] = sums["xx_sum"]
            sums["xx_sum"] = matrices
        _interrupt.agree(int(np.max(wishes)))
        return replace(mine, **sums)

    def enter(self, course: Course) -> LanesResult | None:
        """See `Passes.enter`."""
        return None if self.checkpoints is None else self.checkpoints.enter(course)

    def passed(self, course: Course) -> None:
        """See `Passes.passed`."""
        best = int(np.argmax(course.states.best_log_likelihood + course.states.best_penalty))
        log_likelihood = float(course.states.best_log_likelihood[best])
        _progress.listener().passed(int(course.states.n_iter[best]), log_likelihood, len(course.lanes))
        if self.checkpoints is not None:
            self.checkpoints.passed(course)

    def stopped(self, course: Course) -> None:
        """See `Passes.stopped`."""
        if self.checkpoints is not None:
            self.checkpoints.stop()

    def leave(self, result: LanesResult) -> None:
        """See `Passes.leave`."""
        if self.checkpoints is not None:
            self.checkpoints.leave(result)

    def _recognise(self, total: SuffStats) -> None:
        """Refuse rows that are not those of the first pass."""
        found = float(np.asarray(total.weight_sum).ravel()[0])
        if not math.isclose(found, self.weight_sum, rel_tol=1e3 * eps(self.source.dtype)):
            first = f"the weights of its rows were {self.weight_sum:.9g} in all at first"
            raise self._changed(f"{first} and are {found:.9g} now")
        if self.held is not None or self._is_centred(total):
            return
        # It may be the mixtures, which have failed: the rows themselves tell.
        try:
            again = self.look().digest
        except DataError as error:
            raise error if error.code == "E252" else self._changed(error.found) from None
        if again != self.digest:
            raise self._changed("its rows are not those of the first pass")

    def _is_centred(self, total: SuffStats) -> bool:
        """Whether Σ_n v_n z_n is 0, as in the first pass, up to rounding.

        It is Σ_k (x_sum_k + resp_sum_k c_k) of every lane. All go over the same rows, so one that is sound is enough.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            mass = total.resp_sum[..., None]
            moved = np.where(mass == 0, 0.0, mass * total.pivot)
            # What the sums are made of, and how far the mean itself may be off.
            terms = np.sum(np.abs(total.x_sum) + np.abs(moved), axis=1) + self.weight_sum * self.spread
            mean = self.weight_sum * (1.0 + np.abs(self.offset) / self.scale)
            allowed = _SUSPICIOUS * (eps(self.source.dtype) * terms + eps(np.dtype(np.float64)) * mean)
            centred = np.abs(np.sum(total.x_sum + moved, axis=1)) <= allowed
        return bool(np.any(np.all(centred, axis=1)))

    def _changed(self, how: str) -> DataError:
        cure = "leave the data as they are while they are in use, and fit again"
        return DataError("E252", f"{self.source.name} has changed: {how}", cure)

    def run(
        self, rows: Rows, starts: GMMParams, options: EMOptions, *, kernel: str = "auto", accelerate: str | None = None
    ) -> LanesResult:
        """All lanes to their stop: one pass over the source for an iteration of all of them."""
        shape = jax.ShapeDtypeStruct((self.n_samples, rows.n_features), rows.dtype)
        return run_lanes(starts, shape, None, options, kernel, self.n_samples, accelerate, self)


def open_stream(
    source: Source, batch_size: int | None, seed: int, *, hold: bool = False, lane_devices: int = 1
) -> tuple[Rows, Stream]:
    """A first pass over the source: a sample of its rows to start from, with what is known of all rows, and the stream.

    batch_size: the largest number of rows at a time, None for what fits into `BATCH_BYTES`. seed: of the sample. hold:
    keep all rows on the devices, as one batch. lane_devices: columns of the grid of devices (`Grid`). To be called
    inside the 64-bit context that the source's dtype asks for.
    """
    grid, members, first = Grid(tuple(jax.local_devices()), lane_devices), group(), 0
    if members.count > 1:
        if source.n_samples is None:
            raise UsageError(
                "E128",
                f"how many rows {source.name} has is not known before they are read, so they cannot be shared out",
                "convert the data to .npy or Parquet, or let them be kept decoded (no --no-cache)",
            )
        first, end = members.share(source.n_samples)
        source = Part(source, first, end)
    usual = usual_rows(source) * grid.n_shares
    look = partial(survey, source, seed, first, gather if members.count > 1 else None)
    found = look()
    n_mine = max(1, found.n_samples if source.n_samples is None else source.n_samples)
    size = n_mine if hold else batch_size or usual
    dtype = source.dtype
    reach = float(np.max(found.reach))
    scale = float(power_of_two(reach, dtype))
    # Batches of equal length: none is nearly empty.
    equal = -(-n_mine // -(-n_mine // size))
    # Twice, since the square of the largest scales is out of range.
    covariance = found.covariance / scale / scale
    sample = pad_rows(found.sample, dtype, found.mean, scale)
    sample[np.flatnonzero(found.sample_weight == 0)] = 0.0
    rows = Rows(
        x=jax.device_put(sample),
        weight=jax.device_put(pad_vector(found.sample_weight, dtype)),
        offset=found.mean,
        scale=scale,
        reach=reach,
        variances=np.diag(covariance).copy(),
        resolution=eps(dtype) * np.abs(found.mean) / scale,
        n_samples=found.n_samples,
        n_used=found.n_used,
        weight_sum=found.weight_sum,
        known_covariance=covariance,
    )
    stream = Stream(
        source=source,
        batch_size=equal,
        offset=found.mean,
        scale=scale,
        n_samples=found.n_samples,
        weight_sum=found.weight_sum,
        spread=np.sqrt(rows.variances),
        digest=found.digest,
        look=look,
        grid=grid,
        members=members,
    )
    return rows, replace(stream, held=tuple(stream.batches())) if hold else stream


def share_out(x: np.ndarray, weight: np.ndarray) -> tuple[Rows, Stream | None]:
    """Rows in memory prepared for the one device; where there are more, or processes, a sample and all rows on them.

    To be called inside the 64-bit context that the dtype of x asks for.
    """
    if len(jax.local_devices()) == 1 and group().count == 1:
        return prepare_rows(x, weight), None
    return open_stream(Indexed(x, weight=weight), None, 0, hold=True)
