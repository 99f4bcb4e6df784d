"""Parquet and Feather files by way of pyarrow: numeric columns, and fixed-size lists of numbers, in pieces of rows."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxgmm._status import DataError
from jaxgmm.data.batches import computing_type


@dataclass(frozen=True)
class Column:
    """A column of numbers: the field it comes from, and its place where that is a list."""

    name: str
    field: str
    item: int | None
    dtype: Any


@dataclass(frozen=True, eq=False)
class ArrowFile:
    """The head of a file: fields that are no numbers are columns as well, of dtype None."""

    path: str
    fields: tuple[Column, ...]
    n_rows: int

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(field.name for field in self.fields)

    def pieces(self, numbers: Sequence[int]) -> ArrowPieces:
        """Some of the columns, by their numbers. `DataError` for one that holds no numbers."""
        chosen = tuple(self.fields[i] for i in numbers)
        for column in chosen:
            if column.dtype is None:
                raise DataError(
                    "E412",
                    f"{self.path}: column {column.name!r} does not hold numbers",
                    f"leave it out with drop=[{column.name!r}] (--drop {column.name})",
                )
        return ArrowPieces(self.path, chosen, self.n_rows)


@dataclass(frozen=True, eq=False)
class ArrowPieces:
    """Some columns of a file, decoded record batch after record batch."""

    path: str
    chosen: tuple[Column, ...]
    n_rows: int

    @property
    def n_columns(self) -> int:
        return len(self.chosen)

    @property
    def dtype(self) -> np.dtype:
        return np.result_type(*(computing_type(column.dtype) for column in self.chosen))

    def decode(self, size: int) -> Iterator[np.ndarray]:
        """Arrays of at most `size` rows."""
        done = 0
        fields = list(dict.fromkeys(column.field for column in self.chosen))
        for batch in _record_batches(self.path, fields, size):
            for start in range(0, batch.num_rows, size):
                yield self._matrix(batch.slice(start, size), done + start)
            done += batch.num_rows

    def _matrix(self, batch: Any, before: int) -> np.ndarray:
        decoded = {name: self._values(batch, name, before) for name in batch.schema.names}
        whole = decoded[self.chosen[0].field]
        if [c.item for c in self.chosen] == list(range(whole.shape[-1])) and len(decoded) == 1 and whole.ndim == 2:
            return whole.astype(self.dtype, copy=False)
        rows = np.empty((batch.num_rows, self.n_columns), self.dtype)
        for i, column in enumerate(self.chosen):
            values = decoded[column.field]
            rows[:, i] = values if column.item is None else values[:, column.item]
        return rows

    def _values(self, batch: Any, name: str, before: int) -> np.ndarray:
        """A field of a record batch, (n) or (n, size of the lists)."""
        array = batch.column(batch.schema.get_field_index(name))
        if array.null_count:
            row = int(np.argmax(array.is_null().to_numpy(zero_copy_only=False)))
            self._refuse_null(name, before + row)
        if not hasattr(array.type, "list_size"):
            return array.to_numpy(zero_copy_only=False)
        values = array.flatten()
        if values.null_count:
            row = int(np.argmax(values.is_null().to_numpy(zero_copy_only=False))) // array.type.list_size
            self._refuse_null(name, before + row)
        return values.to_numpy(zero_copy_only=False).reshape(-1, array.type.list_size)

    def _refuse_null(self, name: str, row: int) -> None:
        raise DataError("E422", f"{self.place(row)}: {name!r} is missing", "fill in the value or remove the row")

    def place(self, row: int) -> str:
        """By its row group where the file has such, and its number in the file."""
        group = ""
        if _is_parquet(self.path):
            before = 0
            metadata = _parquet(self.path).metadata
            for i in range(metadata.num_row_groups):
                before += metadata.row_group(i).num_rows
                if row < before:
                    group = f", row group {i}"
                    break
        return f"{self.path}{group}, row {row}"


def _is_parquet(path: str) -> bool:
    return path.lower().endswith(".parquet")


def _pyarrow(path: str) -> Any:
    try:
        import pyarrow.feather
        import pyarrow.ipc
        import pyarrow.parquet
    except ImportError:
        raise DataError(
            "E409", f"{path}: such files are read with pyarrow, which is missing", "pip install 'jaxgmm[data]'"
        ) from None
    return pyarrow


def _parquet(path: str) -> Any:
    pyarrow = _pyarrow(path)
    try:
        return pyarrow.parquet.ParquetFile(path)
    except (pyarrow.ArrowException, OSError) as error:
        raise _damaged(path, "Parquet", error) from None


def _ipc(path: str) -> Any:
    pyarrow = _pyarrow(path)
    try:
        return pyarrow.ipc.open_file(pyarrow.memory_map(path))
    except (pyarrow.ArrowException, OSError) as error:
        raise _damaged(path, "Feather", error) from None


def _damaged(path: str, kind: str, error: Exception) -> DataError:
    if not os.path.exists(path):
        return DataError("E401", f"{path} does not exist", "correct the path")
    return DataError("E407", f"{path} is not a complete {kind} file", "copy or save it again")


def open_file(path: str) -> ArrowFile:
    """The columns and the number of rows of a file. `DataError` if it is missing or damaged."""
    pyarrow = _pyarrow(path)
    parquet = _is_parquet(path)
    reader = _parquet(path) if parquet else _ipc(path)
    schema = reader.schema_arrow if parquet else reader.schema
    twice = next((name for name in schema.names if schema.names.count(name) > 1), None)
    if twice is not None:
        raise DataError("E412", f"{path} has several columns of the name {twice!r}", "give each a name of its own")
    if parquet:
        n_rows = reader.metadata.num_rows
    else:
        n_rows = sum(batch.num_rows for batch in _record_batches(path, schema.names[:1], 1 << 16))
    if not n_rows or not len(schema):
        raise DataError("E404", f"{path} is empty", "give a file with at least one row and column")
    types = pyarrow.types
    columns: list[Column] = []
    for field in schema:
        kind = field.type
        if types.is_fixed_size_list(kind) and _numeric(types, kind.value_type):
            dtype = kind.value_type.to_pandas_dtype()
            columns += [Column(f"{field.name}{i}", field.name, i, dtype) for i in range(kind.list_size)]
        else:
            columns.append(
                Column(field.name, field.name, None, kind.to_pandas_dtype() if _numeric(types, kind) else None)
            )
    return ArrowFile(path, tuple(columns), n_rows)


def _numeric(types: Any, kind: Any) -> bool:
    return bool(types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind))


def _record_batches(path: str, fields: Sequence[str], size: int) -> Iterator[Any]:
    pyarrow = _pyarrow(path)
    try:
        if _is_parquet(path):
            yield from _parquet(path).iter_batches(batch_size=size, columns=list(fields))
            return
        reader = _ipc(path)
        for i in range(reader.num_record_batches):
            yield reader.get_batch(i).select(list(fields))
    except (pyarrow.ArrowException, OSError) as error:
        raise _damaged(path, "Parquet" if _is_parquet(path) else "Feather", error) from None
