"""Rows that need not fit into memory: sources that give them piece by piece, in the same order every time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np

from jaxgmm._checks import as_float_array
from jaxgmm._status import DataError


class Batch(NamedTuple):
    """Some neighbouring rows (n, D), float32 or float64, and their weights (n), None where all are 1."""

    x: np.ndarray
    weight: np.ndarray | None


class Source(Protocol):
    """Rows in order, to be gone through again and again.

    name: for messages. n_samples: None where only a pass can tell. columns: their names, or None.
    """

    @property
    def name(self) -> str: ...
    @property
    def n_samples(self) -> int | None: ...
    @property
    def n_features(self) -> int: ...
    @property
    def dtype(self) -> np.dtype: ...
    @property
    def columns(self) -> tuple[str, ...] | None: ...

    def pieces(self, size: int, start: int = 0) -> Iterator[Batch]:
        """All rows from the number `start` on, in pieces of at most `size`, cut where it is cheap."""
        ...

    def place(self, row: int) -> str:
        """Where a row, counted from 0, is found."""
        ...


def is_source(x: Any) -> bool:
    """Whether `x` is a source."""
    return hasattr(x, "pieces") and hasattr(x, "place")


def computing_type(dtype: Any) -> np.dtype:
    """float32 for real numbers of at most four bytes, float64 for all others, as for arrays in memory."""
    kind = np.dtype(dtype)
    return np.dtype(np.float32 if kind.kind == "f" and kind.itemsize <= 4 else np.float64)


@dataclass(frozen=True, eq=False)
class Indexed:
    """Anything with a 2-D shape whose rows can be sliced: an array, a memory map, a data set of HDF5 or zarr.

    features: the columns to use, in this order, None for all. weight: (N), one of the columns by its number, or None.
    locate: says where a row is found, by its number.
    """

    array: Any
    name: str = "x"
    features: Sequence[int] | None = None
    weight: np.ndarray | int | None = None
    columns: tuple[str, ...] | None = None
    locate: Callable[[int], str] | None = None

    def __post_init__(self) -> None:
        shape = tuple(self.array.shape)
        if len(shape) != 2:
            raise DataError("E207", f"{self.name} must be 2-D (rows, columns), got shape {shape}", "reshape it first")
        if 0 in shape:
            raise DataError("E208", f"{self.name} is empty: its shape is {shape}", "give at least one row and column")
        if np.dtype(self.array.dtype).kind not in "fiub":
            raise DataError("E412", f"{self.name} holds {self.array.dtype}, not real numbers", "convert it to floats")

    @property
    def n_samples(self) -> int:
        return int(self.array.shape[0])

    @property
    def n_features(self) -> int:
        return int(self.array.shape[1]) if self.features is None else len(self.features)

    @property
    def dtype(self) -> np.dtype:
        return computing_type(self.array.dtype)

    def pieces(self, size: int, start: int = 0) -> Iterator[Batch]:
        """Slices of `size` rows."""
        for begin in range(start, self.n_samples, size):
            rows = np.asarray(self.array[begin : begin + size])
            if isinstance(self.weight, int):
                weight: np.ndarray | None = rows[:, self.weight].astype(np.float64)
            else:
                weight = None if self.weight is None else self.weight[begin : begin + size]
            x = rows if self.features is None else rows[:, self.features]
            yield Batch(x.astype(self.dtype, copy=False), weight)

    def place(self, row: int) -> str:
        """By its number, or as `locate` says."""
        return f"{self.name}, row {row}" if self.locate is None else self.locate(row)


class Iterated:
    """Arrays of rows, one after the other, from something that can be gone through again and again."""

    n_samples = None
    columns = None

    def __init__(self, arrays: Iterable[Any], name: str = "x") -> None:
        if iter(arrays) is iter(arrays):
            raise DataError(
                "E250",
                f"{name} is a {type(arrays).__name__}, which can be gone through only once",
                "give a list of arrays, or an object whose __iter__ begins anew each time",
            )
        self._arrays, self.name = arrays, name
        first = next(self._checked(), None)
        if first is None:
            raise DataError("E208", f"{name} gives no rows", "give at least one array")
        self.n_features, self.dtype = first.shape[1], first.dtype

    def _checked(self) -> Iterator[np.ndarray]:
        for i, array in enumerate(self._arrays):
            rows = as_float_array(array, f"array {i} of {self.name}")
            if rows.ndim != 2:
                raise DataError(
                    "E207", f"array {i} of {self.name} must be 2-D, got shape {rows.shape}", "one row per sample"
                )
            if not rows.shape[1]:
                raise DataError("E208", f"array {i} of {self.name} has no columns", "give at least one feature")
            if len(rows):
                yield rows

    def pieces(self, size: int, start: int = 0) -> Iterator[Batch]:
        """The arrays, cut where they are longer than `size`."""
        return without_first(self._pieces(size), start)

    def _pieces(self, size: int) -> Iterator[Batch]:
        done = 0
        for rows in self._checked():
            if rows.shape[1] != self.n_features or rows.dtype != self.dtype:
                found = f"{self.place(done)} has {rows.shape[1]} columns of {rows.dtype}"
                raise DataError(
                    "E251",
                    f"{found}, the first rows {self.n_features} of {self.dtype}",
                    "give all rows the same columns and one type",
                )
            done += len(rows)
            for begin in range(0, len(rows), size):
                yield Batch(rows[begin : begin + size], None)

    def place(self, row: int) -> str:
        """By its number."""
        return f"{self.name}, row {row}"


@dataclass(frozen=True, eq=False)
class Joined:
    """Several sources as one, in their order: the files of a folder."""

    parts: Sequence[Source]
    name: str
    # Of parts that do not know it before they have been read.
    lengths: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        first = self.parts[0]
        for part in self.parts[1:]:
            if part.n_features != first.n_features or (part.columns != first.columns and part.columns is not None):
                theirs, ours = (_listed(p) for p in (part, first))
                raise DataError(
                    "E251", f"{part.name} has {theirs}, but {first.name} has {ours}", "give all files the same columns"
                )

    @property
    def n_samples(self) -> int | None:
        counts = [part.n_samples for part in self.parts]
        return None if None in counts else sum(n for n in counts if n is not None)

    @property
    def n_features(self) -> int:
        return self.parts[0].n_features

    @property
    def dtype(self) -> np.dtype:
        return np.result_type(*(part.dtype for part in self.parts))

    @property
    def columns(self) -> tuple[str, ...] | None:
        return self.parts[0].columns

    def pieces(self, size: int, start: int = 0) -> Iterator[Batch]:
        """The pieces of one part after the other."""
        known = self.n_samples is not None
        pieces = self._pieces(size, start if known else 0)
        return pieces if known else without_first(pieces, start)

    def _pieces(self, size: int, start: int) -> Iterator[Batch]:
        for i, part in enumerate(self.parts):
            n_samples = part.n_samples or 0
            if start and start >= n_samples:
                start -= n_samples
                continue
            length = start
            for piece in part.pieces(size, start):
                length += len(piece.x)
                yield Batch(piece.x.astype(self.dtype, copy=False), piece.weight)
            self.lengths[i] = length
            start = 0

    def place(self, row: int) -> str:
        """By its part, and its number in that."""
        for i, part in enumerate(self.parts):
            length = self.lengths.get(i) if part.n_samples is None else part.n_samples
            if length is None or row < length:
                return part.place(row)
            row -= length
        return f"{self.name}, row {row}"


@dataclass(frozen=True, eq=False)
class Part:
    """The rows first … end − 1 of a source whose length is known."""

    source: Source
    first: int
    end: int

    @property
    def name(self) -> str:
        return self.source.name

    @property
    def n_samples(self) -> int:
        return self.end - self.first

    @property
    def n_features(self) -> int:
        return self.source.n_features

    @property
    def dtype(self) -> np.dtype:
        return self.source.dtype

    @property
    def columns(self) -> tuple[str, ...] | None:
        return self.source.columns

    def pieces(self, size: int, start: int = 0) -> Iterator[Batch]:
        """The pieces of the source, the last one cut."""
        left = self.n_samples - start
        if left <= 0:
            return
        for piece in self.source.pieces(min(size, left), self.first + start):
            yield _part(piece, slice(left))
            left -= len(piece.x)
            if left <= 0:
                return

    def place(self, row: int) -> str:
        """Where the source has it."""
        return self.source.place(self.first + row)


@dataclass(frozen=True, eq=False)
class Rescaled:
    """z = (x − shift) / scale of the rows of another source, in the type `dtype`. shift, scale: (D), or None."""

    source: Source
    dtype: np.dtype
    shift: np.ndarray | None = None
    scale: np.ndarray | None = None

    @property
    def name(self) -> str:
        return self.source.name

    @property
    def n_samples(self) -> int | None:
        return self.source.n_samples

    @property
    def n_features(self) -> int:
        return self.source.n_features

    @property
    def columns(self) -> tuple[str, ...] | None:
        return self.source.columns

    def pieces(self, size: int, start: int = 0) -> Iterator[Batch]:
        """The pieces of the source."""
        for x, weight in self.source.pieces(size, start):
            z = x if self.shift is None else (x.astype(np.float64) - self.shift) / self.scale
            with np.errstate(over="ignore"):  # what does not fit becomes infinity, which is refused by its place
                yield Batch(z.astype(self.dtype, copy=False), weight)

    def place(self, row: int) -> str:
        """Where the source has it."""
        return self.source.place(row)


def _listed(source: Source) -> str:
    names = "" if source.columns is None else f" ({', '.join(source.columns[:6])}{', ...' * (source.n_features > 6)})"
    return f"{source.n_features} columns{names}"


def without_first(pieces: Iterator[Batch], n_rows: int) -> Iterator[Batch]:
    """The pieces without their first rows, for a source that can only be read from its beginning."""
    for piece in pieces:
        if n_rows < len(piece.x):
            yield _part(piece, slice(n_rows, None))
        n_rows = max(0, n_rows - len(piece.x))


def batches(source: Source, size: int, start: int = 0) -> Iterator[Batch]:
    """Rows from the number `start` on in batches of exactly `size`, the last of what is left: however they are cut."""
    held: list[Batch] = []
    missing = size
    for piece in source.pieces(size, start):
        rest = piece
        while len(rest.x) >= missing:
            yield _joined([*held, _part(rest, slice(missing))])
            rest = _part(rest, slice(missing, None))
            held, missing = [], size
        if len(rest.x):
            held.append(rest)
            missing -= len(rest.x)
    if held:
        yield _joined(held)


def _part(batch: Batch, rows: slice) -> Batch:
    return Batch(batch.x[rows], None if batch.weight is None else batch.weight[rows])


def _joined(parts: Sequence[Batch]) -> Batch:
    if len(parts) == 1:
        return parts[0]
    weight = None
    if any(part.weight is not None for part in parts):
        weight = np.concatenate([np.ones(len(p.x)) if p.weight is None else p.weight for p in parts])
    return Batch(np.concatenate([part.x for part in parts]), weight)


def weights_of(batch: Batch, dtype: Any) -> np.ndarray:
    """(n) the weights of a batch, ones where it has none."""
    if batch.weight is None:
        return np.ones(len(batch.x), dtype)
    with np.errstate(over="ignore", under="ignore"):  # rules about the size are for all rows together
        return batch.weight.astype(dtype, copy=False)
