"""What leaves the program for people and for programs: results, notes and warnings on the right stream, JSON."""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import sys
import textwrap
from collections.abc import Iterator
from typing import IO, Any

from jaxgmm._interrupt import Interrupted
from jaxgmm._status import DataError, sentence

WIDTH = 80
NOT_ACCEPTED = 4


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


def tell(text: str, end: str = "\n") -> None:
    """Print to standard output. `DataError` if it cannot be written."""
    with standard_output() as stream:
        print(encodable(text, stream), file=stream, end=end)


def say(text: str, end: str = "\n") -> None:
    """Print to standard error; where that cannot be written, the work goes on without."""
    if sys.stderr is None:
        return
    try:
        print(encodable(text, sys.stderr), file=sys.stderr, end=end, flush=True)
    except BrokenPipeError:
        raise
    except OSError:
        abandon(sys.stderr)


@contextlib.contextmanager
def standard_output() -> Iterator[IO[str]]:
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


def encodable(text: str, stream: Any) -> str:
    """`text` with whatever the terminal cannot show written as an escape: a column name must not end the run."""
    encoding = stream.encoding or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)
