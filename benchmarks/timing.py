"""The timing protocol: a first call apart, then interleaved repeats; every result is waited for by the run itself."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")
Key = TypeVar("Key", bound=Hashable)

# Calls that are over in less are repeated within a round until it is used up: one of them says little.
SLICE_SECONDS = 0.25
# Before each contestant's turn: the worker threads of the last one may keep the cores busy for a while after its call.
PAUSE_SECONDS = 0.25


@dataclass
class Timing(Generic[T]):
    """Seconds of the first call (which may compile), of every later one, and what the last one returned."""

    first: float
    result: T
    seconds: list[float] = field(default_factory=list)


def interleave(
    groups: Mapping[Key, Sequence[Callable[[], T]]],
    repeats: int,
    max_seconds: float = float("inf"),
    clock: Callable[[], float] = time.perf_counter,
) -> dict[Key, list[Timing[T]] | Exception]:
    """Call every group's runs once, then all groups in turn for `repeats` rounds, so that a drift hits all alike.

    A pause comes before every turn. The runs of a group are called one after the other, so that the i-th seconds of
    each belong together. A group that has used up `max_seconds` is not repeated further, but at least once. One that
    raises is out; its exception takes the place of its timings.
    """
    timings: dict[Key, list[Timing[T]] | Exception] = {}

    def call(run: Callable[[], T]) -> tuple[float, T]:
        start = clock()
        result = run()
        return clock() - start, result

    def again(key: Key, found: list[Timing[T]]) -> float:
        spent = 0.0
        for run, timing in zip(groups[key], found, strict=True):
            seconds, timing.result = call(run)
            timing.seconds.append(seconds)
            spent += seconds
        return spent

    spent = dict.fromkeys(groups, 0.0)
    for turn in range(repeats + 1):
        for key, runs in groups.items():
            found = timings.get(key)
            if isinstance(found, Exception) or (turn > 1 and spent[key] >= max_seconds):
                continue
            try:
                time.sleep(PAUSE_SECONDS)
                if found is None:
                    timings[key] = first = [Timing(*call(run)) for run in runs]
                    spent[key] += sum(timing.first for timing in first)
                    continue
                slice_used = again(key, found)
                while slice_used < SLICE_SECONDS:
                    slice_used += again(key, found)
                spent[key] += slice_used
            except Exception as error:  # a contestant that breaks is a result, not the end of the benchmark
                timings[key] = error
    return timings


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, smallest and largest."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def per_iteration(fewer: Sequence[float], more: Sequence[float], n_iter: Sequence[int]) -> list[float]:
    """Seconds of one iteration, from each pair of neighbouring calls with n1 and with n2 iterations."""
    n1, n2 = n_iter
    return [(b - a) / (n2 - n1) for a, b in zip(fewer, more, strict=True)]
