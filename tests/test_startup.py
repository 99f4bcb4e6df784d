"""The first seconds: help without JAX, compiled programs kept by the shell and by nothing else."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time

import numpy as np
import pytest

from jaxgmm.__main__ import main
from jaxgmm.cli import cache

OURS, JAXS, MIN_SECONDS = "JAXGMM_CACHE_DIR", "JAX_COMPILATION_CACHE_DIR", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"


@pytest.fixture
def fresh(monkeypatch, tmp_path):
    """As in a new process whose user cache directory is empty."""
    for name in (OURS, JAXS, MIN_SECONDS):
        monkeypatch.setenv(name, "")  # so that it is put back afterwards
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delitem(sys.modules, "jax")
    return monkeypatch


def test_programs_are_kept_in_the_users_cache_directory(fresh, tmp_path):
    assert cache.keep_programs() is None
    folder = os.environ[JAXS]
    assert os.path.dirname(folder) == str(tmp_path / "jaxgmm")
    assert os.path.isdir(folder)
    assert os.environ[MIN_SECONDS] == "0"


def test_a_relative_xdg_directory_is_ignored(fresh, tmp_path):
    fresh.setenv("XDG_CACHE_HOME", "here")
    fresh.setenv("HOME", str(tmp_path))
    cache.keep_programs()
    assert os.environ[JAXS].startswith(str(tmp_path / ".cache" / "jaxgmm"))


def test_the_directory_can_be_named(fresh, tmp_path):
    fresh.setenv(OURS, str(tmp_path / "mine"))
    assert cache.keep_programs() is None
    assert os.path.dirname(os.environ[JAXS]) == str(tmp_path / "mine")


@pytest.mark.parametrize("value", ["", "off"])
def test_nothing_is_kept_when_switched_off(fresh, tmp_path, value):
    fresh.setenv(OURS, value)
    assert cache.keep_programs() is None
    assert JAXS not in os.environ
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("ours", [None, "off", "elsewhere"])
def test_jaxs_own_variable_is_respected(fresh, tmp_path, ours):
    if ours:
        fresh.setenv(OURS, ours)
    fresh.setenv(JAXS, str(tmp_path / "jax"))
    fresh.setenv(MIN_SECONDS, "7")
    assert cache.keep_programs() is None
    assert os.environ[JAXS] == str(tmp_path / "jax")
    assert os.environ[MIN_SECONDS] == "7"
    assert not list(tmp_path.iterdir())


def test_an_unusable_directory_is_said_only_if_it_was_named(fresh, tmp_path):
    (tmp_path / "file").write_text("")
    fresh.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert cache.keep_programs() is None
    fresh.setenv(OURS, str(tmp_path / "file"))
    assert "cannot be used" in cache.keep_programs()
    assert JAXS not in os.environ


def test_a_program_that_calls_main_keeps_its_own_settings(monkeypatch, tmp_path, capsys):
    monkeypatch.delenv(JAXS, raising=False)
    monkeypatch.setenv(OURS, str(tmp_path / "mine"))
    assert main(["summary", str(tmp_path / "none.npz")]) == 3
    assert JAXS not in os.environ
    assert not list(tmp_path.iterdir())


def test_trimming_removes_what_was_used_longest_ago(tmp_path):
    for age in range(8):
        path = tmp_path / f"program{age}"
        path.write_bytes(b"x" * 100)
        os.utime(path, (1e9 - age, 1e9 - age))
    cache.trim(str(tmp_path), 800)
    assert len(list(tmp_path.iterdir())) == 8
    cache.trim(str(tmp_path), 799)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["program0", "program1", "program2"]


HEAVY = ("jax", "jaxlib", "numpy", "tqdm")


@pytest.mark.parametrize("words", [["--help"], ["fit", "--help"], ["--version"], ["fit", "--nonsense"]])
def test_help_imports_nothing_heavy(words):
    script = (
        "import sys\nfrom jaxgmm.__main__ import main\n"
        f"main({words})\nprint([name for name in {HEAVY} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stderr.splitlines()[-1] == "[]"


def _fit(folder) -> tuple[float, float]:
    """Processor and wall-clock seconds of one fit in a new process."""
    words = ["fit", "small.csv", "-n", "3", "--seed", "0", "--force", "--quiet"]
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    environment = {name: value for name, value in os.environ.items() if name != JAXS}
    done = subprocess.run(
        [sys.executable, "-m", "jaxgmm", *words],
        cwd=folder,
        env=environment | {OURS: str(folder / "cache")},
        capture_output=True,
        text=True,
    )
    wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall


@pytest.fixture(scope="module")
def second_fit(tmp_path_factory):
    """Folder, and seconds of a first fit and of the same once more."""
    folder = tmp_path_factory.mktemp("start")
    rng = np.random.default_rng(0)
    x = rng.normal(size=(500, 3)) + 4.0 * rng.integers(3, size=(500, 1))
    np.savetxt(folder / "small.csv", x, delimiter=",", header="a,b,c", comments="")
    first = _fit(folder)
    kept = {path.name for path in (folder / "cache").rglob("*") if path.is_file()}
    second = _fit(folder)
    return folder, kept, first, second


def test_the_second_fit_compiles_nothing(second_fit):
    folder, kept, (first, _), (second, _) = second_fit
    assert kept
    assert {path.name for path in (folder / "cache").rglob("*") if path.is_file()} == kept
    assert second < 0.7 * first


def test_a_damaged_program_is_compiled_again(second_fit):
    folder, kept, *_ = second_fit
    damaged = next((folder / "cache").rglob(max(kept)))
    damaged.write_bytes(b"nonsense")
    _fit(folder)


@pytest.mark.slow
def test_a_small_fit_takes_two_seconds(second_fit):
    folder, *_ = second_fit
    assert min(_fit(folder)[1] for _ in range(5)) < 2.0
