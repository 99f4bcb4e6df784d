"""In memory or as a stream: what the data are, whether they fit, and what was asked for."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import numpy as np

from jaxgmm import _progress
from jaxgmm._checks import check_count, check_data, check_weights
from jaxgmm._memory import free_device_memory, free_memory
from jaxgmm._status import DataError, UsageError
from jaxgmm.data.batches import Batch, Indexed, Iterated, Source, is_source
from jaxgmm.data.survey import check_finite

# Part of the free memory that the rows may take; the rest is for what is computed from them.
MEMORY_PART = 0.5


def as_source(x: Any, name: str = "x") -> Source | None:
    """`x` as a source, if it is one or is no array in memory: sliceable like HDF5 and zarr, or a series of arrays.

    None for everything that an array is made of.
    """
    if is_source(x):
        return x
    if hasattr(x, "chunks") and hasattr(x, "shape") and hasattr(x, "dtype") and hasattr(x, "__getitem__"):
        return Indexed(x, name)
    if isinstance(x, (np.ndarray, str, bytes, os.PathLike)) or hasattr(x, "__array__") or not hasattr(x, "__iter__"):
        return None
    if isinstance(x, (list, tuple)):
        return Iterated(x, name) if x and all(_is_table(part) for part in x) else None
    return Iterated(x, name) if isinstance(x, Iterable) and not hasattr(x, "shape") else None


def _is_table(x: Any) -> bool:
    return hasattr(x, "shape") and hasattr(x, "dtype") and len(x.shape) == 2


def to_stream(x: Any, sample_weight: Any, batch_size: int | None, *, asked: bool = False) -> Source | None:
    """What is to be streamed, or None where the rows go into memory.

    They are streamed if that is `asked` for or `batch_size` is given, and if they would take more than half of the free
    memory; a source that cannot say how long it is, too.
    """
    asked = asked or batch_size is not None
    if batch_size is not None:
        check_count(batch_size, "batch_size")
    source = as_source(x)
    if source is None:
        if not asked and not _too_large(getattr(x, "shape", ()), np.dtype(np.float64)):
            return None
        # A memory map is not read before its first pass, which looks for NaN as well.
        array = x if isinstance(x, np.memmap) and x.ndim == 2 else check_data(x)
        weight = None if sample_weight is None else check_weights(sample_weight, len(array), np.float64)
        return Indexed(array, weight=weight)
    if sample_weight is not None:
        raise UsageError(
            "E155", "sample_weight is given beside a source of rows", "let the source give the weights itself"
        )
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
