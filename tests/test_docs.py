"""What the documentation shows works: the examples in docstrings, and the Python blocks of the README in order."""

import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import jax
import numpy as np
import pytest

import jaxgmm

README = Path(jaxgmm.__file__).parents[1] / "README.md"
FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
MODULES = sorted(
    ["jaxgmm", *(found.name for found in pkgutil.walk_packages(jaxgmm.__path__, "jaxgmm."))], key=str.lower
)  # fmt: skip


def examples(name: str) -> list[doctest.DocTest]:
    """The docstring examples of a module, with `np`, `jax`, `jaxgmm` and the module's own names at hand."""
    module = importlib.import_module(name)
    scope = {"np": np, "jax": jax, "jaxgmm": jaxgmm, **vars(module)}
    tests = doctest.DocTestFinder(exclude_empty=True).find(module, name, module=module, globs=scope)
    return [test for test in tests if test.examples]


@pytest.mark.parametrize("name", [name for name in MODULES if not name.endswith("__main__")])
def test_docstring_examples(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for test in examples(name):
        printed: list[str] = []
        result = doctest.DocTestRunner(optionflags=FLAGS).run(test, out=printed.append)
        assert result.failed == 0, "".join(printed)


def test_there_are_examples():
    shown = {
        test.name.rsplit(".", 1)[-1]
        for name in ("jaxgmm.api", "jaxgmm.steps", "jaxgmm.em.loop")
        for test in examples(name)
    }
    assert {"fit", "sweep", "e_step", "m_step", "run_em"} <= shown


def blocks(text: str) -> list[str]:
    """The contents of the ```python fences of a Markdown text."""
    return re.findall(r"^```python[^\n]*\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)


def test_blocks_are_found():
    assert blocks("a\n```python\nx = 1\n```\nb\n```sh\nls\n```\n```python\ny = x\n```\n") == ["x = 1\n", "y = x\n"]


def test_readme_blocks_run(tmp_path, monkeypatch):
    """In order and in one scope, so that a block may use what an earlier one made."""
    monkeypatch.chdir(tmp_path)
    scope: dict[str, object] = {"__name__": "readme"}
    for number, block in enumerate(blocks(README.read_text(encoding="utf-8")), start=1):
        exec(compile(block, f"README.md, Python block {number}", "exec"), scope)
