"""Bars on a terminal, a line now and then elsewhere: how far a streamed fit is."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import Any

from jaxgmm import _progress
from jaxgmm.cli.output import WIDTH, Console

# Seconds between two lines where there is no terminal.
_PATIENCE = 10.0


@contextlib.contextmanager
def shown(console: Console) -> Iterator[None]:
    """While it lasts, passes over the rows and the batches of each are shown on standard error, if anything is."""
    if console.quiet or sys.stderr is None:
        yield
        return
    listener = _Bars() if sys.stderr.isatty() else _Lines(console)
    with _progress.telling(listener):
        try:
            yield
        finally:
            listener.close()


class _Change:
    """The relative change of the log-likelihood from one pass to the next, in words."""

    def __init__(self) -> None:
        self._last: float | None = None

    def words(self, log_likelihood: float, n_lanes: int) -> str:
        change = "" if self._last is None else f", change {(log_likelihood - self._last) / (1 + abs(self._last)):.1e}"
        self._last = log_likelihood
        return f"log-likelihood {log_likelihood:.6g}{change}, {n_lanes} lane{'s' * (n_lanes != 1)} left"


class _Bars:
    """One bar for the passes, one for the batches of the present pass."""

    def __init__(self) -> None:
        from tqdm import tqdm

        self._tqdm, self._change = tqdm, _Change()
        self._passes: Any = None
        self._batches: Any = None

    def begin(self, n_samples: int, n_batches: int) -> None:
        """See `_progress.Listener`."""
        if self._passes is None:
            short = "{n_fmt} passes in {elapsed}: {desc}"
            self._passes = self._tqdm(bar_format=short, ncols=WIDTH, leave=False, position=0)
            self._batches = self._tqdm(
                desc="rows", unit=" rows", unit_scale=True, ncols=WIDTH, leave=False, position=1, total=n_samples
            )
        self._batches.reset(n_samples)

    def batch(self, n_rows: int) -> None:
        """See `_progress.Listener`."""
        self._batches.update(n_rows)

    def passed(self, n_iter: int, log_likelihood: float, n_lanes: int) -> None:
        """See `_progress.Listener`."""
        self._passes.set_description_str(self._change.words(log_likelihood, n_lanes), refresh=False)
        self._passes.update()
        self._passes.refresh()

    def close(self) -> None:
        """Clear the bars away."""
        for bar in (self._batches, self._passes):
            if bar is not None:
                bar.close()


class _Lines:
    """A line after the first pass, and then one every few seconds."""

    def __init__(self, console: Console) -> None:
        self._console, self._change = console, _Change()
        self._begun, self._due = time.monotonic(), 0.0
        self._rows = 0

    def begin(self, n_samples: int, n_batches: int) -> None:
        """See `_progress.Listener`."""

    def batch(self, n_rows: int) -> None:
        """See `_progress.Listener`."""
        self._rows += n_rows

    def passed(self, n_iter: int, log_likelihood: float, n_lanes: int) -> None:
        """See `_progress.Listener`."""
        words, now = self._change.words(log_likelihood, n_lanes), time.monotonic()
        if now >= self._due:
            speed = self._rows / max(now - self._begun, 1e-9)
            self._console.note(f"pass {n_iter}: {words}, {speed:.3g} rows/s")
            self._due = now + _PATIENCE

    def close(self) -> None:
        """Nothing is left to do."""
