"""What an option and a command of the shell are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from jaxgmm.cli.kinds import Kind


@dataclass(frozen=True)
class Option:
    """One option: its name (the TOML key; the flag is the same with hyphens), kind, help and default.

    flags: further spellings. group: its heading in the help, and "data" for the section of a configuration.
    """

    name: str
    kind: Kind
    help: str
    default: Any = None
    flags: tuple[str, ...] = ()
    group: str = "settings"

    @property
    def flag(self) -> str:
        """The spelling used in messages."""
        return "--" + self.name.replace("_", "-")


@dataclass(frozen=True)
class Command:
    """One subcommand: where its function lives (``module:function``), what it takes and two examples."""

    name: str
    home: str
    help: str
    options: tuple[Option, ...] = ()
    words: tuple[str, ...] = ()  # options that may be given without their flag, in this order
    usage: str = ""
    examples: tuple[str, ...] = ()

    def option(self, name: str) -> Option | None:
        """The option of that name."""
        return next((o for o in self.options if o.name == name), None)

    @property
    def reads_data(self) -> bool:
        """Whether a configuration for this command has a [data] section."""
        return any(o.group == "data" for o in self.options)
