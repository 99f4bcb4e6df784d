"""What stands beside a time: one scorer for all contestants, in float64, off the clock."""

from __future__ import annotations

import numpy as np

from benchmarks import numpy_baseline
from benchmarks.cases import Case
from benchmarks.problems import Problem, Start

# Scoring the largest cases on all their rows would take longer than the benchmark itself.
MAX_FLOPS = 5e10

# The largest relative deviation that still counts as the same result: from an equal start what rounding
# explains, from starts of the contestant's own what chance explains.
EQUAL_START = {"float64": 1e-9, "float32": 1e-3}
OWN_START = 1e-2


def scored_rows(case: Case) -> int:
    """How many rows, from the first on, are scored."""
    share = MAX_FLOPS * case.n_restarts / max(case.flops, 1.0)
    return min(case.n_samples, max(1, int(case.n_samples * share)))


def log_likelihood(problem: Problem, fitted: Start) -> float:
    """Total log-likelihood of the scored rows, as the contestants' case has them, under fitted parameters."""
    x = problem.x[: scored_rows(problem.case)].astype(np.float64)
    params = (np.float64(a) for a in (fitted.weights, fitted.means, fitted.covariances))
    result = numpy_baseline.fit(x, *params, problem.case.covariance_type, 0, kernel="centred")
    return result.log_likelihood


def inertia(x: np.ndarray, centres: np.ndarray) -> float:
    """Sum of squared distances of the rows to their nearest centres."""
    x, centres = x.astype(np.float64), centres.astype(np.float64)
    total = 0.0
    for rows in np.array_split(x, max(1, len(x) // 10_000)):
        cross = rows @ centres.T
        total += float((np.square(centres).sum(axis=1) - 2 * cross).min(axis=1).sum() + np.square(rows).sum())
    return total


def deviation(value: float, reference: float) -> float:
    """Relative difference."""
    return (value - reference) / max(abs(reference), 1e-300)
