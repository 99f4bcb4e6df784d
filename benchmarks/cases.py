"""The problems of the benchmark: data with known truth and one start that all contestants share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Case:
    """One problem: N rows, D features, K components, a covariance family, a dtype and a number of iterations."""

    n_samples: int
    n_features: int
    n_components: int
    covariance_type: str = "full"
    dtype: str = "float64"
    n_iter: int = 10
    reg_covar: float = 1e-6
    seed: int = 0

    @property
    def name(self) -> str:
        """A short label for tables."""
        size = f"{self.n_samples} x {self.n_features}, K {self.n_components}"
        return f"{size}, {self.covariance_type}, {self.dtype}"


@dataclass(frozen=True)
class Problem:
    """Rows and the start: weights (K), means (K, D) and covariances in the family's shape."""

    case: Case
    x: np.ndarray
    weights: np.ndarray
    means: np.ndarray
    covariances: np.ndarray


def make_problem(case: Case) -> Problem:
    """Overlapping Gaussians, and a start at random rows with the pooled variance: EM stays busy from there."""
    rng = np.random.default_rng(case.seed)
    n, d, k = case.n_samples, case.n_features, case.n_components
    centres = rng.normal(scale=2.0, size=(k, d))
    mixing = rng.normal(size=(k, d, d)) / np.sqrt(d)
    labels = rng.integers(k, size=n)
    x = np.empty((n, d))
    for j in range(k):
        rows = labels == j
        x[rows] = (
            centres[j] + rng.normal(size=(int(rows.sum()), d)) @ mixing[j] + 0.3 * rng.normal(size=(int(rows.sum()), d))
        )
    variances = x.var(axis=0)
    covariances = {
        "full": np.tile(np.diag(variances), (k, 1, 1)),
        "tied": np.diag(variances),
        "diag": np.tile(variances, (k, 1)),
        "spherical": np.full(k, variances.mean()),
    }[case.covariance_type]
    means = x[rng.choice(n, k, replace=False)]
    arrays = (x, np.full(k, 1.0 / k), means, covariances)
    return Problem(case, *(a.astype(case.dtype) for a in arrays))


QUICK = (
    Case(20_000, 2, 4),
    Case(20_000, 8, 8),
    Case(20_000, 8, 8, "diag"),
    Case(10_000, 16, 16),
)
