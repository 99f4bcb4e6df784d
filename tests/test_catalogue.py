"""The catalogue of errors: whole, used, and explained on the page and by the command."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import jaxgmm
from jaxgmm.__main__ import main
from jaxgmm._catalogue import _TABLE, CATALOGUE, ENTRIES, GROUPS
from jaxgmm.cli import errors

PACKAGE = Path(jaxgmm.__file__).parent


def test_the_table_is_read_to_the_last_line():
    heads = [line for line in _TABLE.splitlines() if line and not line.startswith("    ")]
    assert heads == [f"{entry.code} {entry.title}" for entry in ENTRIES]
    assert len(CATALOGUE) == len(ENTRIES)
    assert list(CATALOGUE) == sorted(CATALOGUE)
    for entry in ENTRIES:
        assert re.fullmatch(r"[EW]\d{3}", entry.code)
        assert entry.group in GROUPS
        assert not entry.title.endswith(".")
        assert entry.text.endswith(".")


def constructions() -> list[tuple[str, str, str]]:
    """(class or function, code, place) of every error and warning that the package makes with a code of its own."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                name = ast.unparse(node.func)
                for argument in node.args[:2]:
                    if isinstance(argument, ast.Constant) and re.fullmatch(r"[EW]\d{3}", str(argument.value)):
                        found.append((name, argument.value, f"{path.name}:{node.lineno}"))
    return found


def test_the_class_of_an_error_is_that_of_its_group():
    for name, code, place in constructions():
        if name in ("UsageError", "DataError", "FitError"):
            assert name == CATALOGUE[code].group.exception, place


def test_every_code_is_raised_somewhere():
    named = {code for _, code, _ in constructions()}
    named |= set(re.findall(r'"([EW]\d{3})" if ', "".join(p.read_text("utf-8") for p in PACKAGE.rglob("*.py"))))
    named |= set(re.findall(r' else "([EW]\d{3})"', "".join(p.read_text("utf-8") for p in PACKAGE.rglob("*.py"))))
    assert named == set(CATALOGUE)


def test_nothing_is_raised_without_a_code():
    """A plain built-in exception is for what never leaves the package, or for what Python itself would raise."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
                name = ast.unparse(node.exc.func)
                assert name not in ("ValueError", "Exception", "RuntimeError"), f"{path.name}:{node.lineno}"


def test_the_page_is_made_from_the_table():
    page = (PACKAGE.parent / "ERRORS.md").read_text(encoding="utf-8")
    assert page == errors.page(), "write it anew: jaxgmm errors --long > ERRORS.md"


def test_the_command_explains(capsys):
    assert main(["errors"]) == 0
    table = capsys.readouterr().out.splitlines()
    assert table[2:] == [f"| {entry.code} | {entry.title} |" for entry in ENTRIES]
    assert main(["errors", "--long"]) == 0
    assert capsys.readouterr().out == errors.page()
    for word in ("E203", "e203"):
        assert main(["errors", word]) == 0
        out = capsys.readouterr().out
        assert out.startswith("E203: NaN or infinity\n\n")
        assert " ".join(out.split()).endswith(
            f"{CATALOGUE['E203'].text} In Python `jaxgmm.DataError`; the shell exits with 3."
        )
    assert main(["errors", "203"]) == 2
    assert "there is no code '203'\n  help: did you mean 'E203'?" in capsys.readouterr().err
    assert main(["errors", "W301", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["text"] == CATALOGUE["W301"].text
