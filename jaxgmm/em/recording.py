"""Passes that keep the parameters after every iteration: what a film of EM is made of."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np

from jaxgmm._options import EMOptions
from jaxgmm._pytree import stack, take
from jaxgmm._status import UsageError
from jaxgmm.data.rows import Rows
from jaxgmm.em.burst import collect_spans
from jaxgmm.em.lanes import Course, LanesResult, Passes, run_lanes
from jaxgmm.em.restarts import in_data_units
from jaxgmm.params import Factors, GMMParams, select_components
from jaxgmm.stats import SuffStats

# Memory that the parameters of all iterations of all restarts may take.
MAX_BYTES = 1 << 30


@dataclass(frozen=True, eq=False)
class InMemory:
    """Rows in memory, gone over once for every iteration (`em.lanes.Passes`)."""

    rows: Rows

    def collect(self, factors: Factors, *, kernel: str) -> SuffStats:
        """See `Passes.collect`."""
        rows = self.rows
        return collect_spans(factors, x=rows.x, weight=rows.weight, kernel=kernel, n_rows=rows.n_samples)

    def enter(self, course: Course) -> LanesResult | None:
        """Nothing is known of a batch of lanes."""
        return None

    def passed(self, course: Course) -> None:
        """Nothing to do after an iteration."""

    def stopped(self, course: Course) -> None:
        """Nothing to do when somebody asks to stop."""

    def leave(self, result: LanesResult) -> None:
        """Nothing to do after a batch of lanes."""


@dataclass
class Recording:
    """The passes of `inner` (None: over rows in memory), and the parameters of every lane after each of them.

    steps: for every lane of the last run the parameters after 0, 1, 2 … iterations, in the units of the rows.
    """

    inner: Passes | None
    kernel: str
    accelerate: str | None
    steps: list[list[GMMParams]] = field(default_factory=list)
    _first: int = 0

    def run(self, rows: Rows, starts: GMMParams, options: EMOptions) -> LanesResult:
        """All lanes to their stop. `UsageError` where what is to be kept may take more than `MAX_BYTES`."""
        n_lanes, n_steps = starts.weights.shape[0], int(options.max_iter) + 1
        needed = n_steps * sum(np.asarray(leaf).nbytes for leaf in jax.tree.leaves(starts))
        if needed > MAX_BYTES:
            found = f"the parameters of {n_steps} iterations of {n_lanes} restarts may take {needed:,} bytes"
            raise UsageError("E156", f"{found}, and {MAX_BYTES:,} are allowed", "lower max_iter or n_restarts")
        if self.inner is None:
            self.inner = InMemory(rows)
        self.steps = [[] for _ in range(n_lanes)]
        self._first = 0
        shape = jax.ShapeDtypeStruct((rows.n_samples, rows.n_features), rows.dtype)
        return run_lanes(starts, shape, None, options, self.kernel, rows.n_samples, self.accelerate, self)

    def path(self, lane: int, rows: Rows, n_components: int) -> GMMParams:
        """The parameters of a lane after 0, 1, 2 … iterations, in data units: leading axis T."""
        chosen = np.arange(n_components)
        return stack([in_data_units(select_components(step, chosen), rows) for step in self.steps[lane]])

    def collect(self, factors: Factors, *, kernel: str) -> SuffStats:
        """See `Passes.collect`."""
        return self._inner.collect(factors, kernel=kernel)

    def enter(self, course: Course) -> LanesResult | None:
        """See `Passes.enter`."""
        return self._inner.enter(course)

    def passed(self, course: Course) -> None:
        """See `Passes.passed`."""
        lanes, progress = course.pieces[-1]
        for lane in lanes[~np.isnan(progress[:, 0])]:
            now: Any = jax.tree.map(np.array, take(course.states.params, lane))
            self.steps[self._first + lane].append(now)
        self._inner.passed(course)

    def stopped(self, course: Course) -> None:
        """See `Passes.stopped`."""
        self._inner.stopped(course)

    def leave(self, result: LanesResult) -> None:
        """See `Passes.leave`. Batches of lanes come one after the other."""
        self._first += len(result.status)
        self._inner.leave(result)

    @property
    def _inner(self) -> Passes:
        assert self.inner is not None
        return self.inner
