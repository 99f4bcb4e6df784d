"""The data of a case, and one start that all contestants share."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from benchmarks.cases import Case


@dataclass(frozen=True)
class Start:
    """Weights (K), means (K, D) and covariances in the family's shape."""

    weights: np.ndarray
    means: np.ndarray
    covariances: np.ndarray


@dataclass(frozen=True)
class Problem:
    """What a contestant is given: rows (N, D), a start, and for the task `many` the data sets instead of rows."""

    case: Case
    x: np.ndarray
    start: Start
    sets: tuple[np.ndarray, ...] = ()

    def astype(self, dtype: str) -> Problem:
        """The same numbers rounded to another dtype."""
        start = Start(*(getattr(self.start, name).astype(dtype) for name in ("weights", "means", "covariances")))
        sets = tuple(part.astype(dtype) for part in self.sets)
        return replace(self, x=self.x.astype(dtype, copy=False), start=start, sets=sets)


def make_problem(case: Case) -> Problem:
    """The data of a case in its own dtype, always the same for the same case."""
    if case.task == "sweep":
        from jaxgmm.data import make_cube

        x = make_cube(n_per_corner=case.n_samples // 7, seed=case.seed).x
        return Problem(case, x, _start(case, x)).astype(case.dtype)
    if case.task == "many":
        return _many(case).astype(case.dtype)
    x, centres = _overlapping(case)
    # Half way from the centres to the overall mean: far from the end, and no component rests on a few rows.
    return Problem(case, x, _start(case, x, 0.5 * (centres + x.mean(axis=0)))).astype(case.dtype)


def _overlapping(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """Rows and centres of Gaussians of one shape, about 3 of their widths apart whatever D, in random order.

    EM stays busy on them. Were they further apart, or of different shapes in many dimensions, it would be done in a
    few iterations, and a contestant that notices would have an unequal number of them.
    """
    rng = np.random.default_rng(case.seed)
    n, d, k = case.n_samples, case.n_features, case.n_components
    mixing = np.linalg.qr(rng.normal(size=(d, d)))[0] * np.geomspace(0.5, 2.0, d)
    centres = rng.normal(scale=2.0 / np.sqrt(d), size=(k, d))
    ends = np.cumsum(rng.multinomial(n, np.full(k, 1.0 / k)))
    x = np.empty((n, d), case.dtype)
    for j, rows in enumerate(np.split(rng.permutation(n), ends[:-1])):
        x[rows] = (centres[j] + rng.normal(size=(len(rows), d))) @ mixing
    return x, centres @ mixing


def _start(case: Case, x: np.ndarray, means: np.ndarray | None = None) -> Start:
    """The given means or random rows, and the variances of all rows."""
    rng = np.random.default_rng(case.seed + 1)
    k = case.n_components
    variances = x.var(axis=0, dtype=np.float64)
    covariances = {
        "full": np.tile(np.diag(variances), (k, 1, 1)),
        "tied": np.diag(variances),
        "diag": np.tile(variances, (k, 1)),
        "spherical": np.full(k, variances.mean()),
    }[case.covariance_type]
    if means is None:
        means = x[np.sort(rng.choice(len(x), k, replace=False))]
    return Start(np.full(k, 1.0 / k), means.astype(np.float64), covariances)


def _many(case: Case) -> Problem:
    """Small sets of 30 to 500 rows, each with two clusters of its own."""
    rng = np.random.default_rng(case.seed)
    sets = []
    for _ in range(case.n_samples):
        centres = rng.normal(scale=2.0, size=(case.n_components, case.n_features))
        labels = rng.integers(case.n_components, size=rng.integers(30, 501))
        sets.append(centres[labels] + rng.normal(size=(len(labels), case.n_features)))
    return Problem(case, sets[0], _start(case, sets[0]), tuple(sets))
