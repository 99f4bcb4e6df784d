"""Files as sources of rows: one, several, a folder or a pattern, read piece by piece in every pass."""

from __future__ import annotations

import fnmatch
import glob
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from jaxgmm._status import DataError, UsageError
from jaxgmm.data import arrow, text
from jaxgmm.data.batches import Indexed, Joined, Source
from jaxgmm.data.decoded import Decoded, kept, state_of
from jaxgmm.data.sources import ColumnKey, choose_columns, open_table

# What a folder is searched for.
SUFFIXES = (".npy", ".csv", ".tsv", ".txt", ".parquet", ".feather", ".arrow")
_ARROW = (".parquet", ".feather", ".arrow")
_MARKS = "*?["


def is_many(path: str) -> bool:
    """Whether a path means several files: a folder, or a pattern."""
    return os.path.isdir(path) or (any(mark in path for mark in _MARKS) and not os.path.exists(path))


def is_arrow(path: str) -> bool:
    """Whether a file is read with pyarrow."""
    return path.lower().endswith(_ARROW)


def scan_table(
    paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    columns: Sequence[ColumnKey] | ColumnKey | None = None,
    drop: Sequence[ColumnKey] | ColumnKey | None = None,
    weight_column: ColumnKey | None = None,
    header: bool | None = None,
    cache: bool = True,
) -> Source:
    """Files as one source of rows, for fits of data that do not fit into memory.

    ``.npy`` is read as it is. Text, ``.parquet`` and ``.feather`` (with pyarrow: ``pip install 'jaxgmm[data]'``) are
    decoded once, and kept as ``.npy`` in the cache directory, since EM reads its data tens of times. Columns of Parquet
    and Feather files are numbers, or fixed-size lists of numbers, each of which becomes a column for every place.

    paths: a file; a folder, of which all tables are taken in the order of their names; a pattern with ``*`` or ``?``;
    or several of these. columns, drop, weight_column, header: see `read_table`; all files have the same columns, under
    the same names where they name them. cache: whether what had to be decoded is kept; otherwise every pass decodes it
    again.

    Returns a source for `fit`, `sweep`, `fit_stepwise`, `predict`, `score` and their like. Raises `DataError` for a
    file that is missing, damaged, or unlike the others, and `UsageError` for a column that does not exist.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for i in range(2):
    ...         np.save(os.path.join(folder, f"part-{i}.npy"), np.full((3, 2), i))
    ...     source = scan_table(folder)
    ...     [batch.x.shape for batch in source.pieces(2)]
    [(2, 2), (1, 2), (2, 2), (1, 2)]
    """
    found = _files(paths)
    parts = [
        _scan(path, columns=columns, drop=drop, weight_column=weight_column, header=header, cache=cache)
        for path in found
    ]
    if len(parts) == 1:
        return parts[0].source
    name = os.fspath(paths) if isinstance(paths, (str, os.PathLike)) else f"{len(found)} files"
    return Joined(_named_alike(parts), str(name))


def refuse_own_output(paths: str, output: str) -> None:
    """Refuse a file to write that is one of those to be read, or would be the next time."""
    folder, pattern = os.path.isdir(paths), is_many(paths) and not os.path.isdir(paths)
    beside = folder and os.path.realpath(os.path.dirname(output) or ".") == os.path.realpath(paths)
    read = {os.path.realpath(path) for path in _files(paths)}
    if (
        os.path.realpath(output) in read
        or (beside and output.lower().endswith(SUFFIXES))
        or (pattern and _matches(os.path.abspath(output), os.path.abspath(paths)))
    ):
        raise UsageError("E121", f"{output} would be one of the files of {paths}", "write it somewhere else")


def _matches(path: str, pattern: str) -> bool:
    """As `glob` has it: only ``**`` stands for folders as well."""
    deep = "**" in pattern or path.count(os.sep) == pattern.count(os.sep)
    return deep and fnmatch.fnmatch(path, pattern)


def _files(paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> list[str]:
    """The files meant, in their order."""
    if not isinstance(paths, (str, os.PathLike)):
        found = [file for path in paths for file in _files(path)]
        if not found:
            raise UsageError("E140", "there are no files to read", "name at least one")
        return found
    path = os.fspath(paths)
    if os.path.isdir(path):
        found = sorted(entry.path for entry in os.scandir(path) if entry.name.lower().endswith(SUFFIXES))
        if not found:
            raise DataError("E402", f"{path} is a directory without tables", f"name one with {', '.join(SUFFIXES)}")
        return found
    if is_many(path):
        found = sorted(glob.glob(path, recursive=True))
        if not found:
            raise DataError("E401", f"no file matches {path}", "correct the pattern")
        return found
    return [path]


@dataclass(frozen=True)
class _Part:
    """A file as a source. named: whether its columns have names of their own, or are but numbered."""

    source: Indexed | Decoded
    named: bool


def _named_alike(parts: Sequence[_Part]) -> list[Source]:
    """The sources, those without names under the names of the first that has some."""
    names = next((part.source.columns for part in parts if part.named), None)
    return [
        part.source
        if part.named or names is None or part.source.n_features != len(names)
        else replace(part.source, columns=names)
        for part in parts
    ]


def _scan(
    path: str,
    *,
    columns: Sequence[ColumnKey] | ColumnKey | None,
    drop: Sequence[ColumnKey] | ColumnKey | None,
    weight_column: ColumnKey | None,
    header: bool | None,
    cache: bool,
) -> _Part:
    """One file as a source."""
    table: Any = arrow.open_file(path) if is_arrow(path) else open_table(path, header)
    # Above the first row of a text file there may be names, and if nothing is there, there are none.
    named = bool(table.skip) if isinstance(table, text.Layout) else not isinstance(table, np.ndarray)
    names = tuple(f"x{i}" for i in range(table.shape[1])) if isinstance(table, np.ndarray) else table.columns
    choice = choose_columns(names, columns, drop, weight_column, None, path)
    chosen = tuple(names[i] for i in choice.features)
    if isinstance(table, np.ndarray):
        every = choice.features == list(range(len(names)))
        rows = NpyFile.of(path, table) if isinstance(table, np.memmap) else table
        return _Part(Indexed(rows, path, None if every else choice.features, choice.weight, chosen), named)
    numbers = [*choice.features, *([] if choice.weight is None else [choice.weight])]
    decoded = table.pieces(numbers) if not isinstance(table, text.Layout) else text.Pieces(table, numbers)
    weight = None if choice.weight is None else len(choice.features)
    stored = kept(path, decoded, (chosen, numbers, header)) if cache else None
    if stored is None:
        return _Part(Decoded(decoded, path, weight, chosen, state_of(path, path)), named)
    rows = NpyFile.of(path, np.load(stored, mmap_mode="r"), where=stored)
    features = None if weight is None else list(range(weight))
    return _Part(Indexed(rows, path, features, weight, chosen, decoded.place), named)


@dataclass(frozen=True, eq=False)
class NpyFile:
    """The matrix in a ``.npy`` file, of which slices of rows are read.

    Unlike a memory map it takes no memory beside the slice, and a file that is cut while in use is an error and not the
    end of the process. name: for messages; path: where the numbers are, from the byte `offset` on. state: size and time
    of change of the file when it was opened.
    """

    name: str
    path: str
    shape: tuple[int, int]
    dtype: np.dtype
    offset: int
    state: tuple[int, int]
    columns_first: bool = False

    @classmethod
    def of(cls, name: str, array: np.memmap[Any, Any], where: str | None = None) -> NpyFile:
        """The file behind a memory map of all of its rows."""
        path = where or name
        flat = array.ndim == 1 or array.shape[1] == 1
        n_rows, n_columns = array.shape
        return cls(
            name=name,
            path=path,
            shape=(n_rows, n_columns),
            dtype=array.dtype,
            offset=int(_base(array).offset),
            state=state_of(path, name),
            columns_first=not flat and not array.flags.c_contiguous,
        )

    def __getitem__(self, rows: slice) -> np.ndarray:
        start, stop, _ = rows.indices(self.shape[0])
        if state_of(self.path, self.name) != self.state:
            raise DataError("E252", f"{self.name} has changed since it was opened", "fit again when it is complete")
        n_rows, n_columns = self.shape
        if self.columns_first:
            return np.stack([self._read(c * n_rows + start, stop - start) for c in range(n_columns)], axis=1)
        return self._read(start * n_columns, (stop - start) * n_columns).reshape(-1, n_columns)

    def _read(self, first: int, count: int) -> np.ndarray:
        try:
            values = np.fromfile(self.path, self.dtype, count, offset=self.offset + first * self.dtype.itemsize)
        except OSError as error:
            raise DataError("E403", f"{self.name} cannot be read: {error.strerror}", "check the disk") from None
        if len(values) < count:
            raise DataError("E252", f"{self.name} has become shorter since it was opened", "fit again")
        return values


def _base(array: Any) -> Any:
    """The map itself, of which `array` may be a view with another shape."""
    while not hasattr(array, "offset") or (isinstance(array.base, np.memmap)):
        array = array.base
    return array
