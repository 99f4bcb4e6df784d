"""A run's settings, from a TOML file with the one table [benchmark]."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from benchmarks.cases import Case, select
from benchmarks.contestants import Contestant, parse


@dataclass(frozen=True)
class Settings:
    """Which cases run and how.

    cases: names or patterns such as ``full-*``. contestants: ``library`` or ``library:dtype``. repeats: timed
    calls after the first. max_seconds: a call that has used up so much is not repeated further.
    """

    cases: tuple[str, ...]
    contestants: tuple[str, ...] = ("numpy", "scikit-learn", "jaxgmm")
    repeats: int = 5
    max_seconds: float = 60.0

    def __post_init__(self) -> None:
        """Refuse names that nothing has."""
        self.selected()
        self.competing()

    def selected(self) -> list[Case]:
        """The cases themselves."""
        return select(self.cases)

    def competing(self) -> list[Contestant]:
        """The contestants themselves."""
        return [parse(text) for text in self.contestants]


def load(path: Path) -> Settings:
    """The settings in a file; ValueError for a table or a key that is not known."""
    content: dict[str, Any] = tomllib.loads(path.read_text())
    if list(content) != ["benchmark"]:
        raise ValueError(f"{path} must hold the one table [benchmark], not {', '.join(content) or 'nothing'}")
    known = {field.name for field in fields(Settings)}
    given = content["benchmark"]
    if unknown := sorted(set(given) - known):
        raise ValueError(f"{path}: unknown {', '.join(unknown)}; the keys are {', '.join(sorted(known))}")
    return Settings(**{key: tuple(value) if isinstance(value, list) else value for key, value in given.items()})
