"""Configuration files: one job in TOML, checked like flags. What counts is defaults < file < flags.

[data]                 # what to read, or a generator and its options
path = "data/iris.csv"
label_column = "class"

[fit]                  # the command, and its options with underscores
n_components = 3
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from jaxgmm._status import DataError, UsageError, nearest
from jaxgmm.cli.commands import COMMANDS
from jaxgmm.cli.kinds import Choice, Kind, PathName, Refused, Whole
from jaxgmm.cli.options import GENERATORS, SHAPE
from jaxgmm.cli.parser import Settings
from jaxgmm.cli.spec import Command, Option

# Pairs of which a flag replaces the other one in a file.
_RIVALS = (("candidates", "find_num_clusters_range"), ("data_path", "generate"), ("init", "init_from"))
_GENERATE = Option("generate", Choice(tuple(GENERATORS)), "the generator to draw the data from")
_ALIASES = {"path": "data_path", "n_clusters": "n_components"}


def load(path: str) -> tuple[Command, Settings]:
    """The command that a configuration file names, and the options it gives.

    Relative paths of what it reads are relative to its own directory. Raises `DataError` for a file that is missing,
    `UsageError` for one that is not TOML, for unknown keys and for values of the wrong kind.
    """
    sections = _read(path)
    names = [name for name in sections if name != "data"]
    commands = [name for name in COMMANDS if COMMANDS[name].options and name not in ("demo", "doctor")]
    for name in names:
        if name not in commands:
            listed = ["data", *commands]
            cure = nearest(name, listed) or f"the sections are {', '.join(listed)}"
            raise UsageError("E502", f"{path}: unknown section [{name}]", cure)
    if len(names) != 1:
        found = "names no command" if not names else f"names {len(names)} commands, {' and '.join(names)}"
        raise UsageError("E503", f"{path} {found}", "give it one section such as [fit] or [sweep]")
    command = COMMANDS[names[0]]
    settings = _section(path, command, names[0], sections[names[0]])
    if "data" in sections:
        if not command.reads_data:
            raise UsageError("E504", f"{path}: [{command.name}] reads no data", "remove the section [data]")
        settings |= _section(path, command, "data", sections["data"])
    return command, settings


def merge(*sources: Settings) -> Settings:
    """What was given, later sources first; where two options exclude each other the later source wins."""
    merged: Settings = {}
    for source in sources:
        for pair in _RIVALS:
            for name, rival in (pair, pair[::-1]):
                if name in source and rival not in source:
                    merged.pop(rival, None)
        merged |= source
    return merged


def generator_options(name: str, given: Settings) -> Settings:
    """The options of one generator, None left out; `UsageError` for one that it does not take."""
    taken = (*GENERATORS[name], "seed")
    options = {key: value for key, value in given.items() if value is not None}
    for key in options:
        if key not in taken:
            listed = ", ".join("--" + key.replace("_", "-") for key in taken)
            raise UsageError("E112", f"generator {name!r} takes no --{key.replace('_', '-')}", f"it takes {listed}")
    return options


def _read(path: str) -> dict[str, dict[str, Any]]:
    try:
        with open(path, "rb") as handle:
            sections = tomllib.load(handle)
    except FileNotFoundError:
        folder = os.path.dirname(path) or "."
        there = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
        raise DataError(
            "E401", f"{path} does not exist", nearest(os.path.basename(path), there) or "correct the path"
        ) from None
    except OSError as error:
        raise DataError("E403", f"{path} cannot be read: {error.strerror}", "name a TOML file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError("E501", f"{path} is not valid TOML: {error}", "correct that line") from None
    for name, section in sections.items():
        if not isinstance(section, dict):
            raise UsageError(
                "E505", f"{path}: {name} stands outside of a section", "put it under [data] or the command"
            )
    return sections


def _section(path: str, command: Command, section: str, values: dict[str, Any]) -> Settings:
    """The options of one section, with a generator's own gathered in ``generator_options``."""
    place = f"{path}: [{section}]"
    if section == "data" and "generate" in values:
        name = _checked(place, "generate", _GENERATE.kind, values["generate"], path)
        shape = [option for option in SHAPE if option.name in GENERATORS[name]]
        known = {option.name: option.kind for option in shape} | {"seed": Whole(0)}
        prepare = {o.name: o.kind for o in command.options if o.name in ("standardize", "dtype")}
        rest = {key: value for key, value in values.items() if key != "generate"}
        for key in rest:
            if key not in known and any(key == option.name for option in SHAPE):
                raise UsageError("E112", f"{place} generator {name!r} takes no {key!r}", f"it takes {', '.join(known)}")
        _refuse_unknown(place, rest, [*known, *prepare], command, section)
        options = {key: _checked(place, key, known[key], rest[key], path) for key in rest if key in known}
        prepared = {key: _checked(place, key, prepare[key], rest[key], path) for key in rest if key in prepare}
        return {"generate": name, "generator_options": options, **prepared}
    options_here = [o for o in command.options if (o.group == "data") == (section == "data")]
    own = {o.name: o.kind for o in options_here}
    # What is written goes where one stands, as it does without a configuration.
    outputs = {o.name for o in options_here if o.group == "output"}
    _refuse_unknown(place, values, [*own, *(a for a, name in _ALIASES.items() if name in own)], command, section)
    return {
        (name := _ALIASES.get(key, key)): _checked(place, key, own[name], value, "" if name in outputs else path)
        for key, value in values.items()
    }


def _refuse_unknown(place: str, keys: Iterable[str], known: list[str], command: Command, section: str) -> None:
    for key in keys:
        if key in known:
            continue
        option = command.option(_ALIASES.get(key, key))
        if option is not None:
            right = "data" if section != "data" else command.name
            raise UsageError("E507", f"{place} has no key {key!r}", f"it belongs into [{right}]")
        listed = [*known, "generate"] if section == "data" else known
        cure = nearest(key, listed) or f"the keys are {', '.join(sorted(listed))}"
        raise UsageError("E506", f"{place} has no key {key!r}", cure)


def _checked(place: str, key: str, kind: Kind, value: Any, path: str) -> Any:
    try:
        checked = kind.check(value)
    except Refused as refused:
        raise UsageError(
            refused.code, f"{place} {key} {refused.found}", refused.help or f"for example {key} = {kind.in_toml()}"
        ) from None
    if isinstance(kind, PathName) and checked != "-":
        return os.path.normpath(Path(path).parent / checked)
    return checked
