"""Bring columns to mean 0 and scale 1."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

_BLOCK_ROWS = 65536


def standardize(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Centre every column and divide it by its standard deviation.

        z = (x - mean) / scale,    scale_d = sqrt(Σ_n (x_nd - mean_d)² / N)

    Sums are taken in float64 whatever the dtype of `x`, in two passes over blocks of rows, so that a memory
    map is never held as a whole in float64. A constant column gets scale 1, so that z is 0 there, not noise.

    Args:
        x: (N, D) finite numbers, N >= 1.

    Returns:
        z (N, D) in the floating dtype of `x` (float64 for integers), mean (D) and scale (D) in float64.

    Example:
        >>> z, mean, scale = standardize(np.array([[1.0, 7.0], [3.0, 7.0]]))
        >>> z.tolist(), mean.tolist(), scale.tolist()
        ([[-1.0, 0.0], [1.0, 0.0]], [2.0, 7.0], [1.0, 1.0])
    """
    low, high = np.min(x, axis=0).astype(np.float64), np.max(x, axis=0).astype(np.float64)
    constant = high == low
    # Sums of squares are taken in units of the range: neither 1e-200 nor 1e200 leaves float64 when squared.
    unit = np.where(constant, 1.0, high - low)
    total, squares = np.zeros(x.shape[1]), np.zeros(x.shape[1])
    for _, block in _blocks(x):
        total += np.sum((block - low) / unit, axis=0)
    shift = total / len(x)
    for _, block in _blocks(x):
        squares += np.sum(((block - low) / unit - shift) ** 2, axis=0)
    mean = low + shift * unit
    scale = np.where(constant, 1.0, unit * np.sqrt(squares / len(x)))
    z = np.empty(x.shape, dtype=x.dtype if x.dtype.kind == "f" else np.float64)
    for rows, block in _blocks(x):
        z[rows] = (block - mean) / scale
    return z, mean, scale


def _blocks(x: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    for start in range(0, len(x), _BLOCK_ROWS):
        rows = slice(start, start + _BLOCK_ROWS)
        yield rows, np.asarray(x[rows], dtype=np.float64)
