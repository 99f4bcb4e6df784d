"""What a contestant returns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


class Absent(Exception):
    """The library lacks what a task needs: recorded as a skip."""


@dataclass(frozen=True)
class Outcome:
    """What stands beside a time. value: computed off the clock. n_iter: EM iterations done, if they can be known."""

    value: Callable[[], float]
    n_iter: int | None = None


@dataclass(frozen=True)
class Prepared:
    """A call to time.

    run: does the work for a number of EM iterations (0 where the task has none) and waits for the device.
    note: for the record. equal_start: whether it starts where the others do. scale: by how much its time has
    to be multiplied, where it does a part of the work only.
    """

    run: Callable[[int], Outcome]
    note: str = ""
    equal_start: bool = True
    scale: float = 1.0
