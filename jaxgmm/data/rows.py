"""Rows ready for the device: centred in double precision, padded to a shape bucket with weight 0."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from jaxgmm._numerics import row_bucket

# Rows converted at a time, so that the double-precision copy stays small.
_CHUNK = 1 << 16


@dataclass(frozen=True)
class Rows:
    """Data as the compiled code sees it.

    x (N', D) and weight (N') on the device, N' >= N padded with weight-0 rows; `offset` (D), float64, was
    subtracted from the data. n_samples N, n_used rows of positive weight, weight_sum Σ v_n.
    """

    x: jax.Array
    weight: jax.Array
    offset: np.ndarray
    n_samples: int
    n_used: int
    weight_sum: float

    @property
    def dtype(self) -> np.dtype:
        """The computing type."""
        return np.dtype(self.x.dtype)

    @property
    def n_features(self) -> int:
        """D."""
        return int(self.x.shape[1])


def pad_rows(x: np.ndarray, dtype: Any, offset: np.ndarray | None = None) -> np.ndarray:
    """x − offset in `dtype`, followed by zero rows up to the bucket size; the only copy of the data made."""
    n_samples, n_features = x.shape
    padded = np.zeros((row_bucket(n_samples), n_features), dtype)
    for start in range(0, n_samples, _CHUNK):
        part = x[start : start + _CHUNK]
        padded[start : start + len(part)] = part if offset is None else part.astype(np.float64) - offset
    return padded


def pad_vector(values: np.ndarray, dtype: Any) -> np.ndarray:
    """Values (N) followed by zeros up to the bucket size."""
    padded = np.zeros(row_bucket(len(values)), dtype)
    padded[: len(values)] = values
    return padded


def prepare_rows(x: np.ndarray, weight: np.ndarray) -> Rows:
    """Centre about the weighted mean and pad; call inside the 64-bit context that the dtype of x asks for."""
    total = float(np.sum(weight, dtype=np.float64))
    mean = np.zeros(x.shape[1])
    for start in range(0, len(x), _CHUNK):
        share = weight[start : start + _CHUNK].astype(np.float64) / total
        mean += share @ x[start : start + _CHUNK].astype(np.float64)
    return Rows(
        x=jax.device_put(pad_rows(x, x.dtype, mean)),
        weight=jax.device_put(pad_vector(weight, x.dtype)),
        offset=mean,
        n_samples=len(x),
        n_used=int(np.count_nonzero(weight)),
        weight_sum=total,
    )
