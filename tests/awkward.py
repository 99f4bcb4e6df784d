"""Tables of numbers as people have them: any type, memory layout, scale, offset, ties, and every degenerate shape.

A `Recipe` is what hypothesis draws and shrinks; `Recipe.make` turns it into a table and the plain numbers in it.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st

DTYPES = (
    *("<f8", "<f8", ">f8", "<f4", "<f4", ">f4", "<f2", ">f2", "longdouble", "object"),
    *("<i8", ">i8", "<i4", ">i2", "u1", "<u8", "?"),
)
LAYOUTS = (
    *("C", "F", "strided", "backwards", "unaligned", "readonly", "broadcast"),
    *("list", "tuple", "masked", "array-like", "frame"),
)
PATTERNS = (
    *("clouds", "clouds", "ties", "repeated rows", "constant column", "repeated column", "collinear"),
    *("two points", "outlier", "all equal", "denormal", "wide range"),
)
WEIGHTS = ("none", "none", "none", "ones", "zeros", "zeros", "counts", "fractions", "tiny", "one row", "nothing")


class ArrayLike:
    """Something that NumPy can read and that is no array."""

    def __init__(self, array: np.ndarray) -> None:
        self._array = array

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self._array if dtype is None else self._array.astype(dtype)


def pattern(name: str, n_samples: int, n_features: int, rng: np.random.Generator) -> np.ndarray:
    """Numbers of order one, float64 (N, D)."""
    clouds = rng.normal(size=(n_samples, n_features)) + 4.0 * rng.integers(0, 3, (n_samples, 1))
    if name == "ties":
        return rng.integers(-2, 3, (n_samples, n_features)).astype(float)
    if name == "repeated rows":
        return clouds[rng.integers(0, 1 + n_samples // 4, n_samples)]
    if name == "constant column":
        clouds[:, rng.integers(n_features)] = 3.0
    if name == "repeated column":
        clouds[:] = clouds[:, :1]
    if name == "collinear":
        return clouds[:, :1] * rng.integers(1, 4, n_features)
    if name == "two points":
        return np.where(rng.random(n_samples) < 0.5, 1.0, -1.0)[:, None] * np.arange(1.0, n_features + 1)
    if name == "outlier":
        clouds[0] = 1e6
    if name == "all equal":
        clouds[:] = clouds[0]
    if name == "denormal":
        return clouds * 5e-324 * 2.0 ** rng.integers(0, 30)
    if name == "wide range":
        return clouds * 10.0 ** rng.integers(-9, 10, (n_samples, 1))
    return clouds


def as_dtype(x: np.ndarray, name: str) -> np.ndarray:
    """The numbers in another type, as far as it can hold them."""
    dtype = np.dtype(name)
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        # Below the largest by so much that the limits are exact in double precision.
        x = np.clip(np.round(x), info.min, info.max - info.max // 1024)
    if dtype.kind == "b":
        return x > np.median(x)
    with np.errstate(over="ignore", under="ignore"):
        return x.astype(dtype)


def laid_out(x: np.ndarray, layout: str) -> Any:
    """The same numbers (C order) in another place or container."""
    n_samples, n_features = x.shape
    if layout == "F":
        return np.asfortranarray(x)
    if layout == "strided":
        wide = np.zeros((2 * n_samples, 3 * n_features), x.dtype)
        wide[::2, ::3] = x
        return wide[::2, ::3]
    if layout == "backwards":
        return x[::-1, ::-1].copy()[::-1, ::-1]
    if layout == "unaligned" and x.dtype != object:
        raw = np.zeros(x.nbytes + 1, np.uint8)
        place = raw[1:].view(x.dtype).reshape(x.shape)
        place[...] = x
        return place
    if layout == "readonly":
        x = x.copy()
        x.flags.writeable = False
        return x
    if layout == "broadcast":
        return np.broadcast_to(x[:1], x.shape)
    if layout == "list":
        return x.tolist()
    if layout == "tuple":
        return tuple(map(tuple, x.tolist()))
    if layout == "masked":
        return np.ma.masked_array(x, mask=np.zeros(x.shape, bool))
    if layout == "frame" and importlib.util.find_spec("pandas"):
        import pandas as pd

        return pd.DataFrame(x.astype(x.dtype.newbyteorder("=")), columns=[f"c{i}" for i in range(n_features)])
    return ArrayLike(x) if layout in ("array-like", "frame") else x


def computed(table: Any) -> np.ndarray:
    """What is to be computed with: float32 of half and single precision, else float64; C order, native."""
    array = np.asarray(table)
    single = array.dtype.kind == "f" and array.dtype.itemsize <= 4
    with np.errstate(over="ignore", under="ignore"):
        return np.ascontiguousarray(array, np.float32 if single else np.float64)


def row_weights(name: str, n_samples: int, rng: np.random.Generator) -> np.ndarray | None:
    """Weights (N), or None."""
    weight = np.ones(n_samples)
    if name == "none":
        return None
    if name == "zeros":
        return np.where(rng.random(n_samples) < 0.4, 0.0, 1.0)
    if name == "counts":
        return rng.integers(0, 4, n_samples)
    if name == "fractions":
        return rng.random(n_samples) * 3
    if name == "tiny":
        return rng.random(n_samples) * 1e-6
    if name == "one row":
        weight[1:] = 0.0
    if name == "nothing":
        weight[:] = 0.0
    return weight


@dataclass(frozen=True)
class Recipe:
    """How to make a table: n_samples rows of a pattern, times 10**exponent, moved by `offset` spreads."""

    n_samples: int
    seed: int
    pattern: str = "clouds"
    exponent: int = 0
    offset: float = 0.0
    dtype: str = "<f8"
    layout: str = "C"
    weights: str = "none"

    def numbers(self, n_features: int) -> np.ndarray:
        """The table in its type, C order."""
        rng = np.random.default_rng(self.seed)
        x = pattern(self.pattern, self.n_samples, n_features, rng)
        with np.errstate(over="ignore", under="ignore"):
            x = (x + self.offset * max(float(np.ptp(x)), 1e-300)) * 10.0**self.exponent
        return as_dtype(x, self.dtype)

    def make(self, n_features: int) -> tuple[Any, np.ndarray | None]:
        """The table as it is handed over, and its weights."""
        table = laid_out(self.numbers(n_features), self.layout)
        return table, row_weights(self.weights, self.n_samples, np.random.default_rng(self.seed + 1))


EXPONENTS = st.sampled_from((0, 0, 0, 0, -3, 3, -6, 6, -20, 15, -150, -100, -37, 18, 38, 100, 150))
OFFSETS = st.sampled_from((0.0, 0.0, 1.0, -1e3, 1e6, 1e8))


def recipes(**fixed: Any) -> st.SearchStrategy[Recipe]:
    """Recipes of any kind, with some parts fixed or drawn in another way."""
    parts = {
        "n_samples": st.sampled_from((*range(1, 8), *range(10, 61))),
        "seed": st.integers(0, 2**16),
        "pattern": st.sampled_from(PATTERNS),
        "exponent": EXPONENTS,
        "offset": OFFSETS,
        "dtype": st.sampled_from(DTYPES),
        "layout": st.sampled_from(LAYOUTS),
        "weights": st.sampled_from(WEIGHTS),
    }
    chosen = {name: v if isinstance(v, st.SearchStrategy) else st.just(v) for name, v in fixed.items()}
    return st.builds(Recipe, **(parts | chosen))
