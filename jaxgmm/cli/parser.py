"""Words to options: which command, which values; every refusal names the nearest thing that would have worked."""

from __future__ import annotations

import argparse
import difflib
import os
import re
from collections.abc import Sequence
from typing import Any, NoReturn

from jaxgmm._status import UsageError, nearest
from jaxgmm.cli.commands import BARE, COMMANDS, FIT, SWEEP
from jaxgmm.cli.kinds import Refused, Switch
from jaxgmm.cli.spec import Command, Option

Settings = dict[str, Any]

_NUMBER = re.compile(r"-\.?\d")


class HelpRequested(Exception):
    """``--help`` was given; the text is the message."""


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """The spellings of an option, followed by its place-holder once."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=30, width=80)

    def _format_action_invocation(self, action: argparse.Action) -> str:
        place = "" if action.nargs == 0 else f" {action.metavar}"
        return ", ".join(action.option_strings[:2]) + place


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        found = re.match(r"argument (?:-\w/)?([^:/]*)[^:]*: (.*)", message, re.DOTALL)
        if found is None:
            raise UsageError("E104", message, f"{self.prog} --help says more")
        missing = re.match(r"expected (\w+) arguments?", found[2])
        if missing is None:
            raise UsageError("E104", f"{found[1]}: {found[2]}", f"{self.prog} --help says more")
        values = f"{missing[1]} value{'s' * (missing[1] != 'one')}"
        raise UsageError("E104", f"{found[1]} needs {values}", f"give {values} behind it; {self.prog} --help says more")


def split_command(words: Sequence[str]) -> tuple[Command, list[str]]:
    """The command of a command line and the words that follow it; `BARE` where no command is named.

    words: at least one. Raises `UsageError` for a first word that is neither a command nor looks like a file.
    """
    first = words[0]
    if first in COMMANDS:
        return COMMANDS[first], list(words[1:])
    is_file = first == "-" or os.sep in first or "." in first or os.path.exists(first)
    if first.startswith("-") or is_file:
        return BARE, list(words)
    cure = nearest(first, list(COMMANDS)) or f"choose one of {', '.join(COMMANDS)}"
    raise UsageError("E101", f"unknown command {first!r}", cure)


def build(command: Command) -> argparse.ArgumentParser:
    """The argparse parser of one command. Values stay words: kinds check them once all sources are known."""
    title = f"jaxgmm {command.name}".strip()
    examples = "\n".join(f"  {line}" for line in command.examples)
    parser = _Parser(
        prog=title,
        usage=command.usage,
        description=command.help[0].upper() + command.help[1:] + ".",
        epilog=f"examples:\n{examples}" if examples else None,
        allow_abbrev=False,
        add_help=False,
        argument_default=argparse.SUPPRESS,
        formatter_class=_Formatter,
    )
    # argparse knows "-1" as a value, but not "-1e-3".
    parser._negative_number_matcher = _NUMBER
    groups: dict[str, Any] = {}
    for option in command.options:
        if option.group not in groups:
            groups[option.group] = parser.add_argument_group(option.group)
        groups[option.group].add_argument(*_spellings(option), **_details(option, command))
    last = groups.get("output", parser)
    last.add_argument("-h", "--help", action="store_true", help="show this help")
    return parser


def _spellings(option: Option) -> list[str]:
    short = [flag for flag in option.flags if not flag.startswith("--")]
    return [*short, option.flag, *(flag for flag in option.flags if flag not in short)]


def _details(option: Option, command: Command) -> dict[str, Any]:
    text = option.help.replace("%", "%%")
    shown = ",".join(option.default) if isinstance(option.default, list) else option.default
    if shown not in (None, False) and "default" not in text:
        text += f" (default {shown:g})".replace("e-0", "e-") if isinstance(shown, float) else f" (default {shown})"
    if option.name in command.words:
        text += "; the flag may be left out"
    details: dict[str, Any] = {"dest": option.name, "help": text}
    if isinstance(option.kind, Switch):
        if option.default is None:
            return details | {"action": argparse.BooleanOptionalAction}
        return details | {"action": "store_const", "const": True}
    if option.kind.nargs:
        details |= {"nargs": option.kind.nargs}
    return details | {"metavar": option.kind.metavar}


def parse(command: Command, words: Sequence[str]) -> Settings:
    """The options given in `words`, checked, and no others.

    Raises `UsageError` for an unknown flag (with the nearest, or the command it belongs to), a value of the
    wrong kind, or a word too many; `HelpRequested` for ``--help``.
    """
    words = [_hyphens(word) for word in words]
    parser = build(command)
    if any(word in ("-h", "--help") for word in words):
        raise HelpRequested(parser.format_help())
    for word in words[: words.index("--")] if "--" in words else words:
        _check_flag(word, command, parser)
    given, free = parser.parse_known_args(words)
    raw = vars(given)
    free = [word for word in free if word != "--"]
    open_names = [name for name in command.words if name not in raw]
    if len(free) > len(open_names):
        flags = [_named(command, name).flag for name in command.words if name in raw]
        cure = f"{flags[0]} was given as well; keep one" if flags else "quote names with blanks"
        raise UsageError("E105", f"{free[len(open_names)]!r} is one word too many", cure)
    raw |= zip(open_names, free, strict=False)
    return {name: _value(_named(command, name), word) for name, word in raw.items()}


def parse_bare(words: Sequence[str]) -> tuple[Command, Settings]:
    """A command line without a command: a fit, or a sweep when a range of component counts is given."""
    try:
        given = parse(BARE, words)
    except HelpRequested:
        raise HelpRequested(overview()) from None
    ranges = [name for name in ("find_num_clusters_range", "candidates") if name in given]
    if ranges and "n_components" in given:
        flag = "--" + ranges[0].replace("_", "-")
        raise UsageError(
            "E107", f"--n-components and {flag} exclude each other", "give one number, or a range to choose from"
        )
    if not ranges and "n_components" not in given and "init_from" not in given:
        raise UsageError(
            "E106",
            "how many components?",
            "give --n-components K (or --n-clusters K) for one fit, or --find-num-clusters-range A B to choose",
        )
    command = SWEEP if ranges else FIT
    if ranges and "init_from" in given:
        raise UsageError("E107", "--init-from starts one fit and cannot serve a range", "give --n-components instead")
    return command, given


def _named(command: Command, name: str) -> Option:
    option = command.option(name)
    assert option is not None
    return option


def _value(option: Option, word: Any) -> Any:
    try:
        return option.kind.check(word) if isinstance(word, bool) else option.kind.read(word)
    except Refused as refused:
        raise UsageError(
            refused.code,
            f"{option.flag} {refused.found}",
            refused.help or f"for example {option.flag} {option.kind.in_shell()}",
        ) from None


def _hyphens(word: str) -> str:
    """Flags may be spelt with underscores; values are left as they are."""
    if not word.startswith("--"):
        return word
    flag, equals, value = word.partition("=")
    return flag.replace("_", "-") + equals + value


def _check_flag(word: str, command: Command, parser: argparse.ArgumentParser) -> None:
    if not word.startswith("-") or word == "-" or _NUMBER.match(word):
        return
    flag = word.partition("=")[0] if word.startswith("--") else word[:2]
    known = list(parser._option_string_actions)
    if flag in known:
        return
    where = f"jaxgmm {command.name}".strip()
    others = [c.name for c in COMMANDS.values() if any(flag in _spellings(o) for o in c.options)]
    if others:
        raise UsageError("E103", f"{where} has no {flag}", f"it belongs to {' and '.join(others)}")
    close = difflib.get_close_matches(flag[2:], [k[2:] for k in known if k.startswith("--")], n=1)
    cure = f"did you mean --{close[0]}?" if close else f"{where} --help lists them all"
    raise UsageError("E102", f"{where} has no flag {flag}", cure)


def overview() -> str:
    """The text of ``jaxgmm --help``."""
    width = max(len(name) for name in COMMANDS) + 2
    lines = [
        "usage: jaxgmm COMMAND ...      jaxgmm COMMAND --help",
        f"       {BARE.usage}",
        "",
        "Gaussian mixture models by EM in JAX.",
        "",
        "commands:",
        *(f"  {command.name:<{width}}{command.help}" for command in COMMANDS.values()),
        "",
        "Without a command: fit, or sweep when a range of component counts is given.",
        "",
        "examples:",
        *(f"  {line}" for command in COMMANDS.values() for line in command.examples[:1] if command.words),
        "",
        "Compiled programs are kept in ~/.cache/jaxgmm for the next run; the variable",
        "JAXGMM_CACHE_DIR names another directory, or off.",
        "",
        "Ctrl-C ends a fit and keeps the best so far; once more, and it ends at once.",
        "Exit codes: 0 done, 1 no usable fit, 2 usage, 3 data, 4 refused by --strict,",
        "130 interrupted, 143 terminated. jaxgmm errors CODE explains the code of an",
        "error or a warning.",
    ]
    return "\n".join(lines) + "\n"
