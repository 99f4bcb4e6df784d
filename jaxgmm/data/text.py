"""Delimited text: how a file is laid out, its numbers read in bulk, and the place of the first bad cell."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import itertools
import math
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn, TextIO

import numpy as np

from jaxgmm._status import DataError

_MISSING = frozenset({"", "NA", "N/A", "NaN", "nan", "NULL", "null", "?", "."})
_SAMPLE_LINES = 100


@dataclasses.dataclass(frozen=True)
class Layout:
    """What the head of a text file says about the rest of it."""

    source: str
    open: Callable[[], TextIO]
    delimiter: str | None  # None: any run of blanks
    skip: int  # lines of the file above the first row
    columns: tuple[str, ...]
    first_row: tuple[str, ...]

    @property
    def first_line(self) -> int:
        return self.skip + 1

    def place(self, line: int, column: int) -> str:
        return f"{self.source}, line {line}, column {column} ({self.columns[column]!r})"


def survey(source: str, opener: Callable[[], TextIO], *, tabs: bool = False, header: bool | None = None) -> Layout:
    """Find the delimiter, the header and the number of columns from the first lines.

    Leading lines that begin with ``#`` are comments; the last of them names the columns when it has one word
    for each and there is no other header. Elsewhere ``#`` is an ordinary character, so that no row is lost.

    Args:
        source: what to call the file in messages.
        opener: returns the file as text, from its beginning, each time it is called.
        tabs: look for tabs before any other delimiter.
        header: True or False to say whether the first line names the columns; None to find out.
    """
    comment = ""
    lines: list[str] = []
    numbers: list[int] = []
    with _decoded(source, opener) as handle:
        for number, line in enumerate(handle, start=1):
            if "\0" in line:
                raise DataError(
                    "E405",
                    f"{source}, line {number} holds a zero byte: it is binary, not text",
                    "convert it to .npy or .csv",
                )
            if not line.strip():
                continue
            if line.startswith("#") and not lines:
                comment = line
                continue
            lines.append(line)
            numbers.append(number)
            if len(lines) == _SAMPLE_LINES:
                break
    if not lines:
        raise DataError("E404", f"{source} is empty: it has no rows", "give a file with one sample per line")
    delimiter = _delimiter(lines[min(1, len(lines) - 1)], tabs)
    rows = [_cells(line, delimiter, source, number) for line, number in zip(lines, numbers, strict=True)]
    # numpy.savetxt writes the names in a comment: then a first row of numbers is data even if header=True.
    detect = header is None or (header and comment and all(is_number(cell) for cell in rows[0]))
    named = _is_header(rows, f"{source}, line {numbers[0]}") if detect else header
    if not named:
        names = [name.strip(' \t"') for name in comment.strip("# \t\r\n").split(delimiter)] if detect else []
        if len(names) != len(rows[0]) or any(is_number(name) for name in names):
            names = [""] * len(rows[0])
        return Layout(source, opener, delimiter, numbers[0] - 1, _fill(names), tuple(rows[0]))
    if len(rows) == 1:
        raise DataError("E404", f"{source} has a header and no rows", "give a file with one sample per line")
    if len(rows[0]) != len(rows[1]):
        hint = " (in R: row.names = FALSE)" if len(rows[1]) == len(rows[0]) + 1 else ""
        raise DataError(
            "E420",
            (
                f"{source}, line {numbers[1]}: {len(rows[1])} fields where the header on line {numbers[0]} "
                f"names {len(rows[0])}"
            ),
            f"give every column one name{hint}",
        )
    return Layout(source, opener, delimiter, numbers[1] - 1, _fill(rows[0]), tuple(rows[1]))


def load(layout: Layout, numeric: Sequence[int], text: int | None = None) -> tuple[np.ndarray, list[str]]:
    """The chosen columns as float64 (N, len(numeric)), and the cells of column `text` as strings.

    Every row must have every column, also those that are not chosen. When a file was cut inside its very last
    cell, what remains is a number or a word like any other: that is the one injury that cannot be seen here.
    """
    return next(_parts(layout, numeric, text))


def _parts(
    layout: Layout, numeric: Sequence[int], text: int | None = None, size: int | None = None
) -> Iterator[tuple[np.ndarray, list[str]]]:
    """What `load` returns, for `size` rows after the other; None: for all of them."""
    width, wanted = len(layout.first_row), set(numeric)
    plain = text is None and list(numeric) == list(range(width))
    kinds = ["f8" if i in wanted else "O" if i == text else "U1" for i in range(width)]
    dtype = np.dtype("f8") if plain else np.dtype([(f"c{i}", kind) for i, kind in enumerate(kinds)])
    with _decoded(layout.source, layout.open) as handle:
        lines = _Lines(handle, layout.skip)
        rest = iter(lines)
        for first in rest:
            before = lines.count - 1
            try:
                table: Any = np.loadtxt(
                    itertools.chain([first], rest if size is None else itertools.islice(rest, size - 1)),
                    dtype=dtype,
                    delimiter=layout.delimiter,
                    quotechar='"',
                    comments=None,
                    ndmin=2 if plain else 1,
                )
            except UnicodeDecodeError:
                raise
            except ValueError as error:
                _find_fault(layout, numeric, text)
                found = f"{layout.source} cannot be read as a table: {error}"
                raise DataError("E421", found, "correct that row") from None
            # The fast reader lets a quoted cell run over the end of its line and swallow what follows.
            if len(table) != lines.count - before or lines.last.count('"') % 2:
                _find_fault(layout, numeric, text)
            if lines.gap and width == 1:
                raise DataError(
                    "E422", f"{layout.place(lines.gap, 0)} is empty", "fill in the value or remove the line"
                )
            x = table
            if not plain:
                x = np.empty((len(table), len(numeric)))
                for position, column in enumerate(numeric):
                    x[:, position] = table[f"c{column}"]
            _check_range(x, layout, numeric, text)
            words = [] if text is None else [str(cell).strip() for cell in table[f"c{text}"]]
            if not _MISSING.isdisjoint(words):
                _find_fault(layout, numeric, text)
            yield x, words


@dataclasses.dataclass(frozen=True, eq=False)
class Pieces:
    """Some columns of a text file, float64, decoded some lines at a time."""

    layout: Layout
    numeric: Sequence[int]

    @property
    def n_columns(self) -> int:
        return len(self.numeric)

    @property
    def n_rows(self) -> None:
        """Only reading it all would tell."""
        return None

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(np.float64)

    def decode(self, size: int) -> Iterator[np.ndarray]:
        """Arrays of at most `size` rows."""
        return (x for x, _ in _parts(self.layout, self.numeric, None, size))

    def place(self, row: int) -> str:
        """By its number among the rows."""
        return f"{self.layout.source}, row {row}"


def _check_range(x: np.ndarray, layout: Layout, numeric: Sequence[int], text: int | None) -> None:
    """Infinity may be written as such, but must not be what became of a number."""
    if np.isinf(x).any():
        _find_fault(layout, numeric, text)


def is_number(cell: str) -> bool:
    """Whether `cell` is a decimal number, inf or nan, as the bulk reader understands it."""
    try:
        float(cell)
    except ValueError:
        return False
    return cell.isascii() and "_" not in cell


def encode_labels(cells: Sequence[Any], source: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """Integers as they are; anything else numbered from 0 in order of appearance, with the names."""
    try:
        numbers = np.array(cells, dtype=np.float64)
    except ValueError:
        numbers = np.array([])
    if np.isnan(numbers).any():
        row = int(np.flatnonzero(np.isnan(numbers))[0])
        raise DataError("E232", f"{source}, row {row} counted from 0, has no label", "fill it in or drop the row")
    if len(numbers) and np.all(np.abs(numbers) < 2**53) and np.all(numbers == np.floor(numbers)):
        return numbers.astype(np.int64), ()
    codes: dict[str, int] = {}
    labels = [codes.setdefault(str(cell), len(codes)) for cell in cells]
    return np.array(labels, dtype=np.int64), tuple(codes)


def _overflows(cell: str) -> bool:
    return math.isinf(float(cell)) and "inf" not in cell.lower()


class _Lines:
    """The lines below the header without the blank ones, and what passed by on the way."""

    def __init__(self, handle: TextIO, skip: int) -> None:
        self.handle, self.skip = handle, skip
        self.count, self.gap, self.last = 0, 0, ""

    def __iter__(self) -> Iterator[str]:
        blank = 0
        for number, line in enumerate(self.handle, start=1):
            if number <= self.skip:
                continue
            if line.isspace():
                blank = blank or number
                continue
            if blank and not self.gap:
                self.gap = blank
            self.count += 1
            self.last = line
            yield line


@contextlib.contextmanager
def _decoded(source: str, opener: Callable[[], TextIO]) -> Iterator[TextIO]:
    with opener() as handle:
        try:
            yield handle
        except UnicodeDecodeError as error:
            found = f"byte 0x{error.object[error.start]:02x}"
            raise DataError(
                "E424", f"{source}{_undecodable(opener)} is not UTF-8 text ({found})", "save it as UTF-8, or as .npy"
            ) from None


def _undecodable(opener: Callable[[], TextIO]) -> str:
    """Where the first byte stands that is no part of UTF-8."""
    with opener() as handle:
        for number, line in enumerate(handle.buffer, start=1):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                return f", line {number}, character {len(line[: error.start].decode()) + 1}"
    return ""


def _delimiter(line: str, tabs: bool) -> str | None:
    bare = re.sub(r'"[^"]*"', '""', line)
    for mark in "\t;," if tabs else ";,\t":
        if mark in bare:
            return mark
    return None if len(bare.split()) > 1 else ","


def _cells(line: str, delimiter: str | None, source: str, number: int) -> list[str]:
    if delimiter is None:
        line, delimiter = " ".join(line.split()), " "
    try:
        cells = next(csv.reader([line.rstrip("\r\n")], delimiter=delimiter, strict=True))
    except csv.Error:
        column = line.split('"', 1)[0].count(delimiter)
        raise DataError(
            "E425",
            f"{source}, line {number}, column {column} or after: a quote is not closed where its cell ends",
            "close it on the same line or remove it",
        ) from None
    return [cell.strip() for cell in cells]


def _is_header(rows: list[list[str]], place: str) -> bool:
    words = [i for i, cell in enumerate(rows[0]) if not is_number(cell) and cell not in _MISSING]
    if not words:
        return False
    # A damaged number ("1.5x") must not pass for a name and take its row with it.
    damaged = all(rows[0][i][0] in "0123456789+-." for i in words)
    if not damaged and not any(is_number(cell) for cell in rows[0]):
        return True
    if any(row[i] == rows[0][i] for row in rows[1:] for i in words if i < len(row)):
        return False
    raise DataError(
        "E426",
        f"{place} could be a header or a row: it mixes numbers and {rows[0][words[0]]!r}",
        "say which with header=True (--header) or header=False (--no-header)",
    )


def _fill(names: Sequence[str]) -> tuple[str, ...]:
    return tuple(name or f"x{i}" for i, name in enumerate(names))


def _find_fault(layout: Layout, numeric: Sequence[int], text: int | None) -> None:
    """Go through the file again, slowly, and raise at the first cell that is wrong."""
    width = len(layout.first_row)
    with _decoded(layout.source, layout.open) as handle:
        for number, line in enumerate(handle, start=1):
            if number <= layout.skip or not line.strip():
                continue
            row = _cells(line, layout.delimiter, layout.source, number)
            if len(row) != width:
                end, cut = min(len(row), width), "" if line.endswith("\n") else " (was the file cut short?)"
                what = f"{layout.columns[end]!r} is missing" if end < width else f"{row[end]!r} is too many"
                raise DataError(
                    "E420",
                    (
                        f"{layout.source}, line {number}, column {end}: {what}; "
                        f"fields here: {len(row)}, on line {layout.first_line}: {width}{cut}"
                    ),
                    "correct the line or remove it",
                )
            for column in numeric:
                if not is_number(row[column]) or _overflows(row[column]):
                    _refuse(layout, number, column, row[column])
            if text is not None and row[text] in _MISSING:
                _refuse(layout, number, text, row[text])


def _refuse(layout: Layout, line: int, column: int, cell: str) -> NoReturn:
    place, name, first = layout.place(line, column), layout.columns[column], layout.first_row[column]
    if cell in _MISSING:
        found = f"holds {cell!r}, a missing value" if cell else "is empty"
        raise DataError("E422", f"{place} {found}", "fill in the value or remove the line")
    if re.fullmatch(r"[+-]?\d+(,\d+)+(\.\d*)?([eE][+-]?\d+)?", cell):
        raise DataError("E423", f"{place}: {cell!r} is not a number", "write a decimal point and no other separators")
    if is_number(cell):
        raise DataError(
            "E423", f"{place}: {cell[:20]} is beyond the range of double precision", "correct it or change the unit"
        )
    if not is_number(first) and first not in _MISSING:
        raise DataError(
            "E423",
            f"{place} holds text: {cell!r}",
            f"leave the column out with drop=[{name!r}] (--drop {name}), or read it as the label column",
        )
    raise DataError("E423", f"{place}: {cell!r} is not a number", "correct the line or remove it")
