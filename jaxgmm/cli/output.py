"""What leaves the program: results, notes and warnings on the right stream, JSON, and files written whole."""

from __future__ import annotations

import csv
import json
import math
import sys
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from jaxgmm._files import replacing
from jaxgmm._interrupt import Interrupted
from jaxgmm._status import sentence

WIDTH = 80
NOT_ACCEPTED = 4
_CHUNK_ROWS = 65536


class Console:
    """Where text goes. With `json` standard output carries one JSON object and people read standard error.

    json: whether `emit` prints. quiet: no results and no notes for people; warnings and errors stay. strict: what is
    wrong with a fit that is kept, told by `fault`, ends the run with `NOT_ACCEPTED`.
    """

    def __init__(self, *, json: bool = False, quiet: bool = False, strict: bool = False) -> None:
        self.json, self.quiet, self.strict = json, quiet, strict
        self.warnings: list[str] = []
        self.verdict: dict[str, Any] = {}

    def result(self, text: str) -> None:
        """What the user asked to see."""
        if not self.quiet:
            _print(text, sys.stderr if self.json else sys.stdout)

    def note(self, text: str) -> None:
        """What is going on."""
        if not self.quiet:
            _print(f"jaxgmm: {text}", sys.stderr)

    def warn(self, code: str, found: str, help: str) -> None:
        """What the user should not miss, even when quiet."""
        found, help = _line(found), _line(help)
        self.warnings.append(sentence(code, found, help))
        _print(_message("warning", code, found, help), sys.stderr)

    def fault(self, code: str, found: str, help: str) -> None:
        """A warning about a fit that is kept; the first one is why `strict` does not accept it."""
        self.warn(code, found, help)
        if self.strict and not self.verdict:
            self.verdict = _problem("E904", f"--strict does not accept this: {found}", help, NOT_ACCEPTED)

    def error(self, code: str, found: str, help: str, exit_code: int) -> int:
        """Why nothing came of it, for people and under `json` as an object. Returns `exit_code`."""
        problem = _problem(code, _line(found), _line(help), exit_code)
        self._show(problem)
        self.emit(problem)
        return exit_code

    def interrupted(self, error: Interrupted) -> int:
        """Somebody asked to stop when there was nothing to keep. Returns the exit code."""
        return self.error(error.code, error.found, error.help, error.exit_code)

    def close(self) -> int:
        """The exit code of a command that has done its work, with the reason if that is not 0."""
        if not self.verdict:
            return 0
        self._show(self.verdict)
        return int(self.verdict["exit_code"])

    def emit(self, values: dict[str, Any]) -> None:
        """The JSON object of this run."""
        if self.json:
            found = values | self.verdict | {"warnings": self.warnings}
            _print(json.dumps(plain(found), allow_nan=False), sys.stdout)

    def _show(self, problem: dict[str, Any]) -> None:
        _print(_message("error", problem["code"], problem["error"], problem["help"]), sys.stderr)


def _problem(code: str, found: str, help: str, exit_code: int) -> dict[str, Any]:
    return {"error": found, "code": code, "help": help, "exit_code": exit_code}


def _line(text: str) -> str:
    return " ".join(text.split())


def _message(kind: str, code: str, found: str, help: str) -> str:
    """What was found and what to do, on lines that fit a terminal; a long name of a file stays whole."""
    parts = ((f"jaxgmm: {kind}[{code}]: {found}", "  "), (f"  help: {help}", "        "))
    return "\n".join(
        textwrap.fill(text, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
        for text, indent in parts
    )


def plain(value: Any) -> Any:
    """`value` as JSON can hold it: arrays as lists, NaN and infinity as null."""
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


def write_array(path: str, array: Any) -> None:
    """Write one array as ``.npy``, or not at all."""
    import numpy as np

    with replacing(path) as handle:
        np.save(handle, array, allow_pickle=False)


def write_table(path: str | None, names: Sequence[str], columns: Sequence[Any]) -> None:
    """Write columns of equal length under their names: comma or tab separated, to standard output for None."""
    if path is None:
        _write_rows(lambda text: sys.stdout.write(_encodable(text, sys.stdout)), names, columns, ",")
        return
    with replacing(path) as handle:
        delimiter = "\t" if path.lower().endswith(".tsv") else ","
        _write_rows(lambda text: handle.write(text.encode()), names, columns, delimiter)


@dataclass(frozen=True)
class _Sink:
    """The one method that `csv.writer` asks of a file."""

    write: Callable[[str], int]


def _write_rows(write: Callable[[str], int], names: Sequence[str], columns: Sequence[Any], delimiter: str) -> None:
    writer = csv.writer(_Sink(write), delimiter=delimiter, lineterminator="\n")
    writer.writerow(names)
    for start in range(0, len(columns[0]), _CHUNK_ROWS):
        part = slice(start, start + _CHUNK_ROWS)
        writer.writerows(zip(*(_cells(column[part]) for column in columns), strict=True))


def _cells(column: Any) -> list[Any]:
    # Nine digits tell every float32 apart; its value as a Python float would show sixteen.
    return [f"{v:.9g}" for v in column.tolist()] if column.dtype == "float32" else column.tolist()


def _print(text: str, stream: Any) -> None:
    print(_encodable(text, stream), file=stream, flush=True)


def _encodable(text: str, stream: Any) -> str:
    """`text` with whatever the terminal cannot show written as an escape: a column name must not end the run."""
    encoding = stream.encoding or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)
