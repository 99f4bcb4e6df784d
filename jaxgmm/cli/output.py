"""What leaves the program: results, notes and warnings on the right stream, JSON, and files written whole."""

from __future__ import annotations

import contextlib
import csv
import errno
import json
import math
import os
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Any

from jaxgmm._files import replacing
from jaxgmm._interrupt import Interrupted
from jaxgmm._status import DataError, sentence

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
        self._emitted = False

    def result(self, text: str) -> None:
        """What the user asked to see."""
        if not self.quiet:
            (say if self.json else tell)(text)

    def note(self, text: str) -> None:
        """What is going on."""
        if not self.quiet:
            say(f"jaxgmm: {text}")

    def warn(self, code: str, found: str, help: str) -> None:
        """What the user should not miss, even when quiet."""
        found, help = _line(found), _line(help)
        self.warnings.append(sentence(code, found, help))
        say(_message("warning", code, found, help))

    def fault(self, code: str, found: str, help: str) -> None:
        """A warning about a fit that is kept; the first one is why `strict` does not accept it."""
        self.warn(code, found, help)
        if self.strict and not self.verdict:
            self.verdict = _problem("E904", f"--strict does not accept this: {found}", help, NOT_ACCEPTED)

    def error(self, code: str, found: str, help: str, exit_code: int) -> int:
        """Why nothing came of it, for people and under `json` as an object. Returns `exit_code`."""
        problem = _problem(code, _line(found), _line(help), exit_code)
        self._show(problem)
        with contextlib.suppress(DataError):  # standard output may be the problem
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
        """The JSON object of this run, the first one only: an interruption may come on top of it."""
        if self.json and not self._emitted:
            self._emitted = True
            found = values | self.verdict | {"warnings": self.warnings}
            tell(json.dumps(plain(found), allow_nan=False))

    def _show(self, problem: dict[str, Any]) -> None:
        say(_message("error", problem["code"], problem["error"], problem["help"]))


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
        with _standard_output() as stream:
            _write_rows(lambda text: stream.write(_encodable(text, stream)), names, columns, ",")
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


def tell(text: str, end: str = "\n") -> None:
    """Print to standard output. `DataError` if it cannot be written."""
    with _standard_output() as stream:
        print(_encodable(text, stream), file=stream, end=end)


def say(text: str, end: str = "\n") -> None:
    """Print to standard error; where that cannot be written, the work goes on without."""
    if sys.stderr is None:
        return
    try:
        print(_encodable(text, sys.stderr), file=sys.stderr, end=end, flush=True)
    except BrokenPipeError:
        raise
    except OSError:
        abandon(sys.stderr)


@contextlib.contextmanager
def _standard_output() -> Iterator[IO[str]]:
    """Standard output, to which all is written when the block ends. `DataError` if it cannot be."""
    try:
        if sys.stdout is None:  # closed when Python started
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        yield sys.stdout
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        abandon(sys.stdout)
        found = f"standard output cannot be written ({error.strerror or error})"
        raise DataError("E440", found, "free some space or send it to another place") from None


def abandon(stream: Any) -> None:
    """Lead a stream that cannot be written to nowhere: Python tries once more when it ends, and would complain."""
    with contextlib.suppress(OSError, AttributeError), open(os.devnull, "wb") as nowhere:  # it may be no file, or None
        os.dup2(nowhere.fileno(), stream.fileno())


def _encodable(text: str, stream: Any) -> str:
    """`text` with whatever the terminal cannot show written as an escape: a column name must not end the run."""
    encoding = stream.encoding or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)
