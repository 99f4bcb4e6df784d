"""Rows ready for the device: centred and scaled in double precision, padded to a shape bucket with weight 0.

    z = (x − offset) / scale

The scale is one power of two for all columns, so dividing by it rounds nothing, and distances keep their ratios;
it only takes squares of very large or very small data away from the ends of the floating range.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import numpy as np

from jaxgmm._numerics import eps, row_bucket
from jaxgmm._options import EMOptions, floor_by_feature, vary, watched_floor
from jaxgmm._pytree import replace

# Rows converted at a time, so that the double-precision copy stays small.
CHUNK = 1 << 13
# Bytes; XLA's own.
_ALIGNMENT = 64
# Smallest binary exponent of a scale, by the bytes of the type.
_MIN_EXPONENT = {4: -48, 8: -400}


@dataclass(frozen=True)
class Rows:
    """Data as the compiled code sees it.

    x (N', D), the z above, and weight (N') on the device, N' >= N padded with weight-0 rows. offset (D) float64,
    scale a power of two. reach: the largest deviation from the mean, in data units. variances (D) of z and resolution
    (D), the size of rounding in z, both float64. n_samples N, n_used rows of positive weight, weight_sum Σ v_n.
    known_covariance (D, D): of z, where x and weight are only a sample of the rows that all the rest speaks of.
    """

    x: jax.Array
    weight: jax.Array
    offset: np.ndarray
    scale: float
    reach: float
    variances: np.ndarray
    resolution: np.ndarray
    n_samples: int
    n_used: int
    weight_sum: float
    known_covariance: np.ndarray | None = None

    @property
    def dtype(self) -> np.dtype:
        """The computing type."""
        return np.dtype(self.x.dtype)

    @property
    def n_features(self) -> int:
        """D."""
        return int(self.x.shape[1])

    @property
    def sampled(self) -> bool:
        """Whether there are more rows than x holds."""
        return self.n_samples > self.x.shape[0]

    @property
    def varying(self) -> np.ndarray:
        """(D) which columns vary by more than rounding."""
        return vary(self.variances, self.resolution)

    @cached_property
    def covariance(self) -> np.ndarray:
        """(D, D) weighted covariance of z in float64."""
        if self.known_covariance is not None:
            return self.known_covariance
        total = np.zeros((self.n_features, self.n_features))
        for start in range(0, self.n_samples, CHUNK):
            rows = np.asarray(self.x[start : start + CHUNK], np.float64)
            share = np.asarray(self.weight[start : start + CHUNK], np.float64) / self.weight_sum
            total += (share[:, None] * rows).T @ rows
        return total

    def options(self, options: EMOptions) -> EMOptions:
        """Options for EM on z that mean the same as `options` for x."""
        floor = floor_by_feature(options, self.variances, self.resolution, self.scale)
        return replace(
            options,
            reg_covar=floor.astype(self.dtype),
            watched=watched_floor(floor, self.variances, self.resolution).astype(self.dtype),
            relative=np.asarray(False),
            log_volume=np.asarray(self.n_features * math.log(self.scale), self.dtype),
            row_weight=np.asarray(self.weight_sum / self.n_used, self.dtype),
        )


def _zeros(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Zeros that begin where a CPU device takes an array over as it is, instead of copying it."""
    raw = np.zeros(math.prod(shape) * np.dtype(dtype).itemsize + _ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % _ALIGNMENT
    return raw[start : raw.size - _ALIGNMENT + start].view(dtype).reshape(shape)


def pad_rows(
    x: np.ndarray, dtype: Any, offset: np.ndarray | None = None, scale: float = 1.0, n_rows: int | None = None
) -> np.ndarray:
    """(x − offset) / scale in `dtype`, followed by zero rows up to the bucket size; the only copy of the data made.

    n_rows: the number that the bucket is of, N by default.
    """
    n_samples, n_features = x.shape
    padded = _zeros((row_bucket(n_rows or n_samples), n_features), dtype)
    for start in range(0, n_samples, CHUNK):
        part = x[start : start + CHUNK]
        padded[start : start + len(part)] = part if offset is None else (part.astype(np.float64) - offset) / scale
    return padded


def pad_vector(values: np.ndarray, dtype: Any, n_rows: int | None = None) -> np.ndarray:
    """Values (N) followed by zeros up to the size of the bucket of N, or of `n_rows`."""
    padded = _zeros((row_bucket(n_rows or len(values)),), dtype)
    padded[: len(values)] = values
    return padded


@np.errstate(over="ignore")  # the difference of two of the largest numbers is infinite, and stops EM as such
def prepare_rows(x: np.ndarray, weight: np.ndarray) -> Rows:
    """Centre about the weighted mean, scale and pad; call inside the 64-bit context that the dtype of x asks for."""
    total = float(np.sum(weight, dtype=np.float64))
    mean = np.zeros(x.shape[1])
    for start in range(0, len(x), CHUNK):
        share = weight[start : start + CHUNK].astype(np.float64) / total
        # The order of a sum would follow the memory layout, and the last bit of the mean with it.
        mean += share @ np.ascontiguousarray(x[start : start + CHUNK], np.float64)
    # Rows of weight 0 may be of any size, and decide nothing.
    used, largest = weight > 0, np.zeros(x.shape[1])
    first = x[int(np.argmax(used))].astype(np.float64)
    # Rounding may have moved the mean of a constant column.
    still = np.ones(x.shape[1], bool)
    for start in range(0, len(x), CHUNK):
        part, there = x[start : start + CHUNK], used[start : start + CHUNK, None]
        still &= np.all(part == first, axis=0, where=there)
        deviation = np.abs(part.astype(np.float64) - mean)
        largest = np.maximum(largest, np.max(deviation, axis=0, where=there, initial=0.0))
    mean = np.where(still, first, mean)
    reach = float(np.max(np.where(still, 0.0, largest)))
    scale = float(power_of_two(reach, x.dtype))
    z = pad_rows(x, x.dtype, mean, scale)
    z[np.flatnonzero(~used)] = 0.0
    variances = np.zeros(x.shape[1])
    for start in range(0, len(x), CHUNK):
        share = weight[start : start + CHUNK].astype(np.float64) / total
        variances += share @ z[start : start + len(share)].astype(np.float64) ** 2
    return Rows(
        x=jax.device_put(z),
        weight=jax.device_put(pad_vector(weight, x.dtype)),
        offset=mean,
        scale=scale,
        reach=reach,
        variances=variances,
        resolution=eps(x.dtype) * np.abs(mean) / scale,
        n_samples=len(x),
        n_used=int(np.count_nonzero(weight)),
        weight_sum=total,
    )


def power_of_two(reach: Any, dtype: Any) -> Any:
    """The power of two next above the largest deviation; not so small that reg_covar / scale² would overflow."""
    exponent = np.frexp(np.minimum(reach, sys.float_info.max))[1]
    return np.ldexp(1.0, np.clip(exponent, _MIN_EXPONENT[np.dtype(dtype).itemsize], sys.float_info.max_exp - 1))
