"""Kinds of option values: how each is read from a word on the command line and checked in a TOML file."""

from __future__ import annotations

import json
import math
import re
from typing import Any

from jaxgmm._status import nearest

# Beyond these nothing can be computed: indices are 32-bit, and squares are needed of every number.
MAX_WHOLE = 2**32 - 1
MAX_NUMBER = 1e150
MAX_SPAN = 10_000


class Refused(ValueError):
    """A value that an option does not take: its code, a sentence that begins with "must", and a cure or nothing."""

    def __init__(self, code: str, found: str, help: str = "") -> None:
        super().__init__(code, found, help)
        self.code, self.found, self.help = code, found, help


class Kind:
    """A kind of value.

    what: in words, for "must be ...". metavar: its place-holder in the help. nargs: words it takes. example: a value.
    `read` turns words into a value and `check` accepts or refuses a typed one; both raise `Refused`.
    """

    what: str = "text"
    metavar: str = "TEXT"
    nargs: int | None = None
    example: Any = "text"

    def read(self, text: Any) -> Any:
        return self.check(text)

    def check(self, value: Any) -> Any:
        if not isinstance(value, str) or not value:
            raise self.refusal(value)
        return value

    def refusal(self, value: Any) -> Refused:
        return Refused("E108", f"must be {self.what}, got {value!r}")

    def in_shell(self) -> str:
        """The example as it follows a flag."""
        values = self.example if isinstance(self.example, tuple) else (self.example,)
        return (" " if self.nargs == len(values) else ",").join(map(str, values))

    def in_toml(self) -> str:
        """The example as it stands in a configuration."""
        return json.dumps(self.example)


class Code(Kind):
    """The code of an error or a warning."""

    what = "a code"
    metavar = "CODE"
    example = "E203"


class PathName(Kind):
    """A file; in a configuration it is relative to the configuration's own directory."""

    what = "a file name"
    metavar = "FILE"
    example = "points.npy"

    def check(self, value: Any) -> Any:
        if "\0" in super().check(value):
            raise self.refusal(value)
        return value


class Switch(Kind):
    """On or off; a flag that takes no value."""

    what = "true or false"
    nargs = 0
    example = True

    def check(self, value: Any) -> Any:
        if not isinstance(value, bool):
            raise self.refusal(value)
        return value


class Whole(Kind):
    """A whole number in [minimum, maximum]."""

    example = 3

    def __init__(self, minimum: int = 0, maximum: int | None = None, metavar: str = "N") -> None:
        self.minimum, self.maximum, self.metavar = minimum, maximum, metavar
        limits = f"of at least {minimum}" if maximum is None else f"from {minimum} to {maximum}"
        self.what = f"a whole number {limits}"

    def read(self, text: Any) -> Any:
        if not re.fullmatch(r"[+-]?\d{1,30}", text.strip()):
            raise self.refusal(text)
        return self.check(int(text))

    def check(self, value: Any) -> Any:
        if isinstance(value, bool) or not isinstance(value, int) or value < self.minimum:
            raise self.refusal(value)
        if self.maximum is not None and value > self.maximum:
            raise self.refusal(value)
        if value > MAX_WHOLE:
            raise Refused("E108", f"must be at most {MAX_WHOLE}, got {value}")
        return value


class Number(Kind):
    """A finite number, not negative unless `signed`."""

    metavar = "NUMBER"
    example = 0.01

    def __init__(self, signed: bool = False) -> None:
        self.signed = signed
        self.what = "a finite number" if signed else "a finite number of at least 0"

    def read(self, text: Any) -> Any:
        try:
            number = float(text)
        except ValueError:
            raise self.refusal(text) from None
        return self._within(number, text)

    def check(self, value: Any) -> Any:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self.refusal(value)
        return self._within(value, value)

    def _within(self, value: Any, shown: Any) -> float:
        if value != value or abs(value) == math.inf or (value < 0 and not self.signed):
            raise self.refusal(shown)
        if abs(value) > MAX_NUMBER:
            raise Refused("E108", f"must be at most {MAX_NUMBER:g}, got {shown!r}")
        return float(value)


class Numbers(Kind):
    """Several numbers, separated by commas."""

    what = "numbers separated by commas"
    metavar = "NUMBER,..."
    example = (0.5, 2.0)

    def read(self, text: Any) -> Any:
        try:
            return self.check([float(part) for part in text.split(",")])
        except ValueError:
            raise self.refusal(text) from None

    def check(self, value: Any) -> Any:
        if not isinstance(value, list) or not value:
            raise self.refusal(value)
        return [Number(signed=True).check(part) for part in value]


class Wholes(Kind):
    """Several whole numbers, separated by commas."""

    what = "whole numbers of at least 1 separated by commas"
    metavar = "N,..."
    example = (100, 50)

    def read(self, text: Any) -> Any:
        return self.check([Whole(1).read(part) for part in text.split(",")])

    def check(self, value: Any) -> Any:
        if not isinstance(value, list) or not value:
            raise self.refusal(value)
        return [Whole(1).check(part) for part in value]


class Columns(Kind):
    """Columns by name or number: ``a,b``, ``0-3``, in TOML also a list."""

    what = "column names or numbers separated by commas"
    metavar = "COLUMNS"
    example = ("a", "b")

    def read(self, text: Any) -> Any:
        parts = [part.strip() for part in text.split(",")]
        if not all(parts):
            raise self.refusal(text)
        return parts

    def check(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.read(value)
        listed = value if isinstance(value, list) else [value]
        if not listed or any(isinstance(v, bool) or not isinstance(v, (str, int)) for v in listed):
            raise self.refusal(value)
        return listed


class Column(Kind):
    """One column by name or number."""

    what = "the name or the number of a column"
    metavar = "COLUMN"
    example = "class"

    def check(self, value: Any) -> Any:
        if isinstance(value, bool) or not isinstance(value, (str, int)) or value == "":
            raise self.refusal(value)
        return value


class Choice(Kind):
    """One of a few names; `silent` ones are accepted but not listed."""

    metavar = "NAME"
    quantity = "one of"

    def __init__(self, names: tuple[str, ...], silent: tuple[str, ...] = ()) -> None:
        self.known, self.example = [*names, *silent], names[0]
        self.what = f"{self.quantity} {', '.join(names)}"

    def check(self, value: Any) -> Any:
        if not isinstance(value, str) or value not in self.known:
            raise Refused("E109", f"must be {self.what}, got {value!r}", nearest(str(value), self.known))
        return value


class Choices(Choice):
    """Some of a few names, separated by commas."""

    metavar = "NAME,..."
    quantity = "one or more of"

    def read(self, text: Any) -> Any:
        return self.check([part.strip() for part in text.split(",")])

    def check(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.read(value)
        if not isinstance(value, list) or not value:
            raise self.refusal(value)
        return [Choice.check(self, name) for name in value]


class Counts(Kind):
    """Component counts: ``1-10`` (both ends included), ``2,4,8``, or both mixed; in TOML also a list."""

    what = "component counts such as 1-10 or 2,4,8"
    metavar = "COUNTS"
    example = (2, 4, 8)

    def read(self, text: Any) -> Any:
        counts: list[int] = []
        for part in text.split(","):
            match = re.fullmatch(r"(-?\d{1,30})(?:(?:-|:|\.\.)(-?\d{1,30}))?", part.strip())
            if match is None:
                raise self.refusal(text)
            counts += span(int(match[1]), int(match[2] or match[1]))
        return self.check(counts)

    def check(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.read(value)
        if not isinstance(value, list) or not value:
            raise self.refusal(value)
        return sorted({Whole(1).check(n) for n in value})


class Range(Kind):
    """Two component counts A B, both included."""

    what = "two whole numbers A B with A at most B"
    metavar = "A B"
    nargs = 2
    example = (2, 10)

    def read(self, text: Any) -> Any:
        return self.check([Whole(1).read(word) for word in text])

    def check(self, value: Any) -> Any:
        if not isinstance(value, list) or len(value) != 2:
            raise self.refusal(value)
        first, last = (Whole(1).check(n) for n in value)
        return span(first, last, f"{last} {first}")


def span(first: int, last: int, cure: str = "") -> list[int]:
    """first, first + 1, ..., last; refused when the range runs the wrong way round."""
    if last - first >= MAX_SPAN:
        raise Refused("E108", f"must hold at most {MAX_SPAN} counts, got {first} to {last}", "narrow the range")
    if first > last:
        raise Refused("E108", f"must run upwards, got {first} to {last}", f"write {cure or f'{last}-{first}'}")
    return list(range(first, last + 1))
