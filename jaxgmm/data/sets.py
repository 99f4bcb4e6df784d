"""Many data sets, and chunks of them: each set about its own mean, padded to a common number of rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxgmm._numerics import row_bucket


@dataclass(frozen=True)
class Sets:
    """S data sets of D features: tables[i] (n_i, D) and, where rows are weighted, weights[i] (n_i).

    dtype: the type to compute in. offset (S, D): their weighted means, float64. n_samples, n_used (rows of positive
    weight), weight_sum (S).
    """

    tables: Sequence[np.ndarray]
    weights: Sequence[np.ndarray] | None
    dtype: Any
    offset: np.ndarray
    n_samples: np.ndarray
    n_used: np.ndarray
    weight_sum: np.ndarray

    @property
    def n_features(self) -> int:
        """D."""
        return int(self.offset.shape[1])

    @property
    def row_weight(self) -> np.ndarray:
        """(S) the mean weight of a row that counts."""
        return np.asarray(self.weight_sum / np.maximum(self.n_used, 1))


def prepare_sets(tables: Sequence[np.ndarray], weights: Sequence[np.ndarray] | None, dtype: Any) -> Sets:
    """Count and average. An offset that is not finite tells of a table that is not."""
    n_samples = np.array([len(x) for x in tables])
    with np.errstate(over="ignore", invalid="ignore"):
        if weights is None:
            n_used, weight_sum = n_samples, n_samples.astype(np.float64)
            total = np.array([np.add.reduce(x, axis=0, dtype=np.float64) for x in tables])
        else:
            n_used = np.array([np.count_nonzero(w) for w in weights])
            weight_sum = np.array([np.add.reduce(w, dtype=np.float64) for w in weights])
            total = np.array([w.astype(np.float64) @ x for x, w in zip(tables, weights, strict=True)])
        offset = total / np.where(weight_sum > 0, weight_sum, 1.0)[:, None]
    return Sets(tables, weights, dtype, offset, n_samples, n_used, weight_sum)


def buckets(n_samples: np.ndarray) -> dict[int, np.ndarray]:
    """Padded number of rows -> the sets that are padded to it, the longest first."""
    sizes = np.array([row_bucket(n) for n in n_samples.tolist()], np.int64)
    return {int(size): np.flatnonzero(sizes == size) for size in np.unique(sizes)[::-1]}


def pack(sets: Sets, members: np.ndarray, n_sets: int, n_rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows (n_sets, n_rows, D) and weights (n_sets, n_rows) of the `members`, padded with rows and sets of weight 0.

    The means are subtracted in float64.
    """
    x = np.zeros((n_sets, n_rows, sets.n_features), sets.dtype)
    weight = np.zeros((n_sets, n_rows), sets.dtype)
    # Set by set: slices are written far faster than an index array.
    for place, i in enumerate(members.tolist()):
        table = sets.tables[i]
        x[place, : len(table)] = table - sets.offset[i]
        weight[place, : len(table)] = 1.0 if sets.weights is None else sets.weights[i]
    return x, weight
