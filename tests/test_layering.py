"""Imports point downward: the modules of the package, read but not run, held to the table of layers."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
import pytest

import jaxgmm
from tests.helpers import start

PACKAGE = Path(jaxgmm.__file__).parent
MAX_LINES = 400

# First part of the path -> layer. An import points to the same layer or a lower one.
LAYERS = {
    # 0 ground
    "_blocks": 0,
    "_catalogue": 0,
    "_checks": 0,
    "_numerics": 0,
    "_options": 0,
    "_compile": 0,
    "_files": 0,
    "_ahead": 0,
    "_memory": 0,
    "_progress": 0,
    "_fork": 0,
    "_interrupt": 0,
    "_parallel": 0,
    "_provenance": 0,
    "_pytree": 0,
    "_signals": 0,
    "_slots": 0,
    "_status": 0,
    # 1 numerics and data
    "linalg": 1,
    "covariance": 1,
    "data": 1,
    # 2 model
    "params": 2,
    "prior": 2,
    "unconstrained": 2,
    "density": 2,
    "stats": 2,
    "kernels": 2,
    "steps": 2,
    "objective": 2,
    "sampling": 2,
    "criteria": 2,
    # 3 algorithms
    "init": 3,
    "em": 3,
    # 4 the pieces as public functions, a model as a value, storage
    "functional": 4,
    "io": 4,
    "model": 4,
    "interop": 4,
    "scale": 4,
    # 5 surfaces
    "compare": 5,
    "api": 5,
    "gradient": 5,
    "estimators": 5,
    "many": 5,
    "plot": 5,
    "report": 5,
    # 6 shell
    "cli": 6,
    "__main__": 6,
}
# The package's face names every public module: it imports them on first use, or for type checkers only.
FACE = "__init__"
NEVER_AT_TOP = {"sklearn", "scipy", "matplotlib", "pyarrow", "pandas", "tests", "benchmarks"}

MODULES = {".".join(path.relative_to(PACKAGE).with_suffix("").parts): path for path in sorted(PACKAGE.rglob("*.py"))}


def module_name(name: str) -> str:
    """`em` for `em.__init__`: how a module is imported."""
    return name.removesuffix(".__init__")


def layer(name: str) -> int:
    return LAYERS[name.split(".")[0]]


def _statements(node: ast.AST, *, late: bool) -> Iterator[ast.Import | ast.ImportFrom]:
    """Import statements that run: at import, and with `late` also inside functions; none for type checkers."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.Import, ast.ImportFrom)):
            yield child
        elif isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"):
            continue
        elif late or not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield from _statements(child, late=late)


def imports(name: str, *, late: bool = True) -> set[str]:
    """Full names of the modules that a module imports; ``from a import b`` is ``a.b`` where that is a module."""
    found: set[str] = set()
    for node in _statements(ast.parse(MODULES[name].read_text(encoding="utf-8")), late=late):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
            continue
        assert node.level == 0, f"{name}: relative import on line {node.lineno}"
        for alias in node.names:
            full = f"{node.module}.{alias.name}"
            own = full.removeprefix("jaxgmm.")
            found.add(full if own in MODULES or f"{own}.__init__" in MODULES else node.module)
    return found


def own_imports(name: str) -> set[str]:
    """The package's modules among the imports, without the leading ``jaxgmm.``."""
    ours = {full for full in imports(name) if full.split(".")[0] == "jaxgmm"}
    return {full.removeprefix("jaxgmm").removeprefix(".") or FACE for full in ours}


@pytest.mark.parametrize("name", MODULES)
def test_module(name):
    source = MODULES[name].read_text(encoding="utf-8")
    tree = ast.parse(source)
    assert not source.strip() or ast.get_docstring(tree), "no docstring"
    assert len(source.splitlines()) <= MAX_LINES
    if name == FACE:
        return
    assert name.split(".")[0] in LAYERS, f"{name} has no place in the table of layers"
    for other in own_imports(name):
        assert other != FACE or layer(name) == 6, f"{name} imports the whole package"
        assert other == FACE or layer(other) <= layer(name), f"{name} imports {other}, which lies above it"


@pytest.mark.parametrize("name", MODULES)
def test_optional_packages_are_imported_late(name):
    roots = {full.split(".")[0] for full in imports(name, late=False)}
    assert not roots & NEVER_AT_TOP


def test_tests_and_benchmarks_are_never_imported():
    for name in MODULES:
        roots = {full.split(".")[0] for full in imports(name)}
        assert not roots & {"tests", "benchmarks"}, name


def _with_parents(name: str, others: set[str]) -> set[str]:
    """Importing a.b runs a first, except from inside a."""
    parents = {other.rsplit(".", 1)[0] for other in others if "." in other}
    return others | {parent for parent in parents if not name.startswith(f"{parent}.") and parent != name}


def test_no_cycles():
    graph = {
        module_name(name): _with_parents(name, own_imports(name) - {FACE}) for name in MODULES if name != FACE
    }  # fmt: skip
    state: dict[str, str] = {}

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert state.get(name) != "open", "cycle: " + " -> ".join([*path[path.index(name) :], name])
        if name in state:
            return
        state[name] = "open"
        for other in sorted(graph[name]):
            visit(other, (*path, name))
        state[name] = "done"

    for name in graph:
        visit(name, ())
    assert set(state) == set(graph)


def test_layers_name_existing_modules():
    first = {name.split(".")[0] for name in MODULES} - {FACE}
    assert set(LAYERS) == first


@pytest.mark.parametrize("name", MODULES)
def test_a_family_is_an_object(name):
    """Nobody asks for the name of a covariance type in order to decide what to do."""
    if name.split(".")[0] == "covariance":
        return
    families = set(jaxgmm.COVARIANCE_TYPES)
    for node in ast.walk(ast.parse(MODULES[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
        elif isinstance(node, ast.Match):
            sides = [node.subject, *(case.pattern for case in node.cases)]
        elif isinstance(node, ast.Dict):
            sides = [key for key in node.keys if key is not None]
        else:
            continue
        constants = {part.value for side in sides for part in ast.walk(side) if isinstance(part, ast.Constant)}
        found = {text for text in constants if isinstance(text, str)} & families
        assert not found, f"{name}, line {sides[0].lineno} decides by the name of a family: {found}"


CORE = [
    "api",
    "em.lanes",
    "em.restarts",
    "functional",
    "init.given",
    "criteria",
    "compare",
    "io",
    "model",
    "interop",
    "estimators",
    "report",
    "data",
]

IMPORT_SCRIPT = f"""
import importlib, sys, warnings
warnings.simplefilter("error")
import jax
before = jax.config.jax_enable_x64, jax.config.jax_numpy_rank_promotion
for name in {CORE}:
    importlib.import_module("jaxgmm." + name)
import jaxgmm
for name in jaxgmm.__all__:
    getattr(jaxgmm, name)
from jax._src import xla_bridge
assert not xla_bridge._backends, "an array was created at import"
assert (jax.config.jax_enable_x64, jax.config.jax_numpy_rank_promotion) == before
heavy = {sorted(NEVER_AT_TOP | {"optax", "chex"})}
loaded = [name for name in heavy if name in sys.modules]
assert not loaded, loaded
"""


def test_import_creates_nothing_and_loads_nothing_heavy():
    done = subprocess.run([sys.executable, "-c", IMPORT_SCRIPT], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize("setting", [False, True])
def test_the_64_bit_switch_stays_as_it_was(small, setting):
    with jax.enable_x64(setting):
        for dtype in (np.float64, np.float32):
            result = jaxgmm.fit(small.x.astype(dtype), 3, init=start("full"), max_iter=2)
            assert result.params.means.dtype == dtype
            assert jax.config.jax_enable_x64 is setting
        with pytest.raises(jaxgmm.DataError):
            jaxgmm.fit(np.full((9, 3), np.nan), 3, key=0)
        assert jax.config.jax_enable_x64 is setting
