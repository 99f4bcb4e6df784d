"""``jaxgmm errors``: what the code of an error or a warning means; with ``--long`` the text of ERRORS.md."""

from __future__ import annotations

import textwrap
from typing import Any

from jaxgmm._catalogue import CATALOGUE, ENTRIES, GROUPS, Entry
from jaxgmm._status import UsageError, nearest
from jaxgmm.cli.output import WIDTH, Console
from jaxgmm.cli.parser import Settings

_HEAD = """\
# Errors and warnings

Every error says what was found and one thing to do about it, and ends in a code that stays the same when the words
change: `error.code` and `error.help` in Python, `error[E203]: ... help: ...` in the shell, `"code"` and `"help"` with
`--json`. `jaxgmm errors E203` prints one of the explanations below. All exceptions are `ValueError`s.

This page is made from the table in the code: `jaxgmm errors --long > ERRORS.md`.
"""


def errors(settings: Settings, console: Console) -> None:
    """One code explained, or all of them as a Markdown table. `UsageError` for a code that there is not."""
    word = settings["code"]
    if word is None:
        console.result(page().rstrip() if settings["long"] else table())
        return console.emit({"command": "errors", "codes": [_as_dict(entry) for entry in ENTRIES]})
    entry = CATALOGUE.get(word.upper())
    if entry is None:
        raise UsageError(
            "E113",
            f"there is no code {word!r}",
            nearest(word.upper(), list(CATALOGUE)) or "jaxgmm errors lists them all",
        )
    text = textwrap.fill(entry.text, WIDTH, break_on_hyphens=False)
    console.result(f"{entry.code}: {entry.title}\n\n{text}\n\n{_outcome(entry)}")
    console.emit({"command": "errors", **_as_dict(entry)})


def table() -> str:
    """All codes with their titles as a Markdown table."""
    return "\n".join(["| code | what it says |", "|---|---|", *(f"| {e.code} | {e.title} |" for e in ENTRIES)])


def page() -> str:
    """The text of ERRORS.md."""
    lines = [_HEAD]
    for group in GROUPS:
        members = [entry for entry in ENTRIES if entry.group is group]
        lines += [f"## {group.title}", "", _outcome(members[0]), ""]
        lines += [f"- **{entry.code} {entry.title}.** {entry.text}" for entry in members]
        lines.append("")
    return "\n".join(lines)


def _outcome(entry: Entry) -> str:
    group = entry.group
    if not group.exit_code:
        return "A warning: the work is done and written."
    if not group.exception:
        return "Of the shell only."
    return f"In Python `jaxgmm.{group.exception}`; the shell exits with {group.exit_code}."


def _as_dict(entry: Entry) -> dict[str, Any]:
    return {"code": entry.code, "title": entry.title, "text": entry.text}
