"""Tables written piece by piece, in the format that their name says, whole or not at all."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Any, NamedTuple

import numpy as np

from jaxgmm._files import replacing
from jaxgmm._status import UsageError
from jaxgmm.cli.output import encodable, standard_output

# Of a row group as well: it must not depend on how the rows come.
_CHUNK_ROWS = 65536


class Piece(NamedTuple):
    """Some rows of a table as columns of equal length, and as the array that a ``.npy`` file holds of them."""

    columns: Sequence[np.ndarray]
    array: np.ndarray


def write_table(path: str | None, names: Sequence[str], pieces: Iterable[Piece]) -> int:
    """Write all pieces: ``.npy``, ``.parquet``, ``.tsv``, else comma separated, to standard output for None.

    Returns the number of rows.
    """
    if path is None:
        with standard_output() as stream:
            return _write_text(lambda text: stream.write(encodable(text, stream)), names, pieces, ",")
    ending = path.lower().rpartition(".")[2]
    with replacing(path) as handle:
        if ending == "npy":
            return _write_npy(handle, pieces)
        if ending == "parquet":
            return _write_parquet(handle, names, pieces)
        delimiter = "\t" if ending == "tsv" else ","
        return _write_text(lambda text: handle.write(text.encode()), names, pieces, delimiter)


def _write_npy(handle: IO[bytes], pieces: Iterable[Piece]) -> int:
    first, rest = _peek(pieces)
    kind, below = first.array.dtype, first.array.shape[1:]

    def header(n_rows: int) -> None:
        told = {"descr": np.lib.format.dtype_to_descr(kind), "fortran_order": False, "shape": (n_rows, *below)}
        np.lib.format.write_array_header_1_0(handle, told)

    header(0)
    n_rows = 0
    for piece in rest:
        handle.write(np.ascontiguousarray(piece.array, kind).data)
        n_rows += len(piece.array)
    # The number of rows is known now; NumPy leaves room for it in a header.
    handle.seek(0)
    header(n_rows)
    return n_rows


def _write_parquet(handle: IO[bytes], names: Sequence[str], pieces: Iterable[Piece]) -> int:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise UsageError(
            "E147", "Parquet files are written with pyarrow, which is missing", "pip install 'jaxgmm[data]'"
        ) from None
    first, rest = _peek(pieces)
    kinds = [(name, pa.from_numpy_dtype(column.dtype)) for name, column in zip(names, first.columns, strict=True)]
    schema, n_rows = pa.schema(kinds), 0
    with pq.ParquetWriter(handle, schema) as writer:
        for columns in _cut_alike(rest, _CHUNK_ROWS):
            writer.write_table(pa.table([pa.array(column) for column in columns], schema=schema))
            n_rows += len(columns[0])
    return n_rows


def _cut_alike(pieces: Iterable[Piece], n_rows: int) -> Iterator[list[np.ndarray]]:
    """The columns of all rows, so many rows at a time however the pieces are cut; the last ones are fewer."""
    held: list[Sequence[np.ndarray]] = []
    missing = n_rows
    for columns, _ in pieces:
        start, length = 0, len(columns[0])
        while length - start >= missing:
            held.append([column[start : start + missing] for column in columns])
            yield _one_below_the_other(held)
            held, start, missing = [], start + missing, n_rows
        if start < length:
            held.append([column[start:] for column in columns])
            missing -= length - start
    if held:
        yield _one_below_the_other(held)


def _one_below_the_other(parts: Iterable[Sequence[np.ndarray]]) -> list[np.ndarray]:
    return [np.concatenate(columns) for columns in zip(*parts, strict=True)]


def _peek(pieces: Iterable[Piece]) -> tuple[Piece, Iterator[Piece]]:
    """The first piece, and all of them."""
    rest = iter(pieces)
    first = next(rest)

    def everything() -> Iterator[Piece]:
        yield first
        yield from rest

    return first, everything()


@dataclass(frozen=True)
class _Sink:
    """The one method that `csv.writer` asks of a file."""

    write: Callable[[str], int]


def _write_text(write: Callable[[str], int], names: Sequence[str], pieces: Iterable[Piece], delimiter: str) -> int:
    writer = csv.writer(_Sink(write), delimiter=delimiter, lineterminator="\n")
    writer.writerow(names)
    n_rows = 0
    for columns, _ in pieces:
        for start in range(0, len(columns[0]), _CHUNK_ROWS):
            part = slice(start, start + _CHUNK_ROWS)
            writer.writerows(zip(*(_cells(column[part]) for column in columns), strict=True))
        n_rows += len(columns[0])
    return n_rows


def _cells(column: Any) -> list[Any]:
    # Nine digits tell every float32 apart; its value as a Python float would show sixteen.
    return [f"{v:.9g}" for v in column.tolist()] if column.dtype == "float32" else column.tolist()
