"""In memory or as a stream: what the data are, whether they fit, and what was asked for."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxgmm import _progress
from jaxgmm._ahead import ahead
from jaxgmm._checks import as_float_array, check_data, check_weights
from jaxgmm._memory import free_device_memory, free_memory
from jaxgmm._status import DataError, UsageError
from jaxgmm.data.batches import Batch, Indexed, Iterated, Source, batches, is_source
from jaxgmm.data.scan import scan_table
from jaxgmm.data.survey import check_finite
from jaxgmm.scale.stream import usual_rows

# Part of the free memory that the rows may take; the rest is for what is computed from them.
MEMORY_PART = 0.5


def as_source(x: Any, name: str = "x") -> Source | None:
    """`x` as a source, if it is one or is no array in memory: files by name, sliceable like HDF5, a series of arrays.

    None for everything that an array is made of.
    """
    if is_source(x):
        return x
    if isinstance(x, (str, os.PathLike)):
        return scan_table(x)
    if hasattr(x, "chunks") and hasattr(x, "shape") and hasattr(x, "dtype") and hasattr(x, "__getitem__"):
        return Indexed(x, name)
    if isinstance(x, (np.ndarray, bytes)) or hasattr(x, "__array__") or not hasattr(x, "__iter__"):
        return None
    if isinstance(x, (list, tuple)):
        return Iterated(x, name) if x and all(_is_table(part) for part in x) else None
    return Iterated(x, name) if isinstance(x, Iterable) and not hasattr(x, "shape") else None


def _is_table(x: Any) -> bool:
    return hasattr(x, "shape") and hasattr(x, "dtype") and len(x.shape) == 2


@dataclass(frozen=True, eq=False)
class Mapped:
    """A memory map, read as long as its file is not written to. state: of the file at first, None if it has none."""

    array: np.memmap[Any, Any]
    state: tuple[int, ...] | None

    @classmethod
    def of(cls, array: np.memmap[Any, Any]) -> Mapped:
        """The map as it is now."""
        # Through any other map than one to read, the user may write.
        return cls(array, _state(array.filename) if array.mode == "r" else None)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    @property
    def dtype(self) -> np.dtype:
        return self.array.dtype

    def __getitem__(self, rows: slice) -> np.ndarray:
        now = None if self.state is None else _state(self.array.filename)
        # A map outlives the name of its file, which may be that of another one by now.
        if self.state and now and now[:2] == self.state[:2] and now != self.state:
            found = f"{self.array.filename} has changed since the fit began"
            raise DataError("E252", found, "fit again when it is complete")
        return np.asarray(self.array[rows])


def _state(path: Any) -> tuple[int, ...] | None:
    """Which file it is, its size and its time of change; None where there is none."""
    try:
        found = os.stat(path)
    except (OSError, TypeError):
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


@dataclass(frozen=True, eq=False)
class Weighted:
    """The rows of a source that gives no weights, with these: (N)."""

    source: Source
    weight: np.ndarray

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
    def dtype(self) -> np.dtype:
        return self.source.dtype

    @property
    def columns(self) -> tuple[str, ...] | None:
        return self.source.columns

    def pieces(self, size: int, start: int = 0) -> Iterator[Batch]:
        """The pieces of the source, and as many weights."""
        done, n_weights = start, len(self.weight)
        for x, own in self.source.pieces(size, start):
            if own is not None:
                found = f"sample_weight is given beside {self.name}, whose rows have weights already"
                raise UsageError("E155", found, "leave it out")
            done += len(x)
            if done <= n_weights:
                yield Batch(x, self.weight[done - len(x) : done])
        if done != n_weights:
            found = f"sample_weight has shape {self.weight.shape}, but {self.name} has {done} rows"
            raise DataError("E220", found, "give one weight a row")

    def place(self, row: int) -> str:
        """Where the source has it."""
        return self.source.place(row)


def weighted(source: Source, sample_weight: Any) -> Source:
    """The source with these weights (N); None leaves it as it is."""
    if sample_weight is None:
        return source
    weight = as_float_array(sample_weight, "sample_weight")
    n_rows = source.n_samples
    if n_rows is None:
        # How many there must be, the first pass will tell.
        n_rows = len(weight) if weight.ndim else 0
    return Weighted(source, check_weights(weight, n_rows, np.float64))


def check_columns(source: Source, n_features: int) -> None:
    """Refuse rows of another width than those that a model was fitted on."""
    if source.n_features != n_features:
        raise DataError(
            "E210",
            f"{source.name} has {source.n_features} columns, but the model was fitted on {n_features}",
            "give the same columns in the same order",
        )


def read_batches(source: Source, size: int | None = None) -> Iterator[Batch]:
    """All rows, finite, in batches of `size`, or of a usual one: the next is read while one is in use."""
    n_rows = 0
    for batch in ahead(lambda: batches(source, size or usual_rows(source))):
        check_finite(batch, source, n_rows)
        n_rows += len(batch.x)
        yield batch
    if not n_rows:
        raise DataError("E208", f"{source.name} gives no rows", "give at least one")


def to_stream(x: Any, sample_weight: Any, batch_size: int | None, *, asked: bool = False) -> Source | None:
    """What is to be streamed, or None where the rows go into memory.

    They are streamed if that is `asked` for or `batch_size` is given, and if they would take more than half of the free
    memory; a source that cannot say how long it is, too.
    """
    asked = asked or batch_size is not None
    source = as_source(x)
    if source is None:
        if not asked and not _too_large(getattr(x, "shape", ()), np.dtype(np.float64)):
            return None
        # A memory map is not read before its first pass, which looks for NaN as well.
        array = Mapped.of(x) if isinstance(x, np.memmap) and x.ndim == 2 else check_data(x)
        return weighted(Indexed(array), sample_weight)
    source = weighted(source, sample_weight)
    known = source.n_samples is not None
    if not asked and known and not _too_large((source.n_samples, source.n_features), source.dtype):
        return None
    return source


def in_memory(source: Source) -> tuple[np.ndarray, np.ndarray | None]:
    """All rows of a source that fits, and their weights if it has any."""
    pieces: list[Batch] = []
    n_rows = 0
    for piece in source.pieces(1 << 20):
        check_finite(piece, source, n_rows)
        pieces.append(piece)
        n_rows += len(piece.x)
    if not pieces:
        raise DataError("E208", f"{source.name} gives no rows", "give at least one")
    x = np.concatenate([piece.x for piece in pieces])
    if all(piece.weight is None for piece in pieces):
        return x, None
    return x, np.concatenate([np.ones(len(p.x)) if p.weight is None else p.weight for p in pieces])


def too_large_file(path: str) -> bool:
    """Whether a file is longer than the memory that its rows may take: text and archives take more in memory."""
    free = free_memory()
    return free is not None and os.path.isfile(path) and os.path.getsize(path) > MEMORY_PART * free


def _too_large(shape: tuple[int | None, ...], dtype: np.dtype) -> bool:
    free = free_device_memory()
    needed = int(np.prod([n or 0 for n in shape], dtype=float)) * dtype.itemsize
    if free is None or needed <= MEMORY_PART * free:
        return False
    sizes = f"the rows would take {needed / 1e9:.3g} GB and {free / 1e9:.3g} GB of memory are free"
    _progress.tell(f"{sizes}, so they are streamed")
    return True
