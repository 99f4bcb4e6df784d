"""What every test shares: strict shapes, the 64-bit switch left alone, dtypes, families, one small data set."""

import contextlib
import io
import os
import shutil
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import jaxgmm
from jaxgmm import COVARIANCE_TYPES
from jaxgmm.__main__ import main
from tests.doors import DOORS
from tests.helpers import Small, make_small
from tests.provoked import make_files

# A vector that meets a matrix must say along which axis: silent rank promotion hides shape mistakes.
jax.config.update("jax_numpy_rank_promotion", "raise")

# Processes that the tests start find the package that is tested, whatever their directory.
_ABOVE = str(Path(jaxgmm.__file__).parent.parent)
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (_ABOVE, os.environ.get("PYTHONPATH"))))


@pytest.fixture(params=[np.float32, np.float64], ids=["float32", "float64"])
def dtype(request):
    """The computing type of a test."""
    return np.dtype(request.param)


@pytest.fixture(params=COVARIANCE_TYPES)
def family(request):
    """The name of a covariance family."""
    return request.param


@pytest.fixture(scope="session")
def small() -> Small:
    """200 rows, 3 features, 3 overlapping components: the shapes that most tests share."""
    return make_small()


@pytest.fixture(autouse=True)
def _sixty_four_bit_switch_stays_off():
    """The package enters 64-bit mode by itself and leaves the process-wide switch as it found it."""
    assert not jax.config.jax_enable_x64
    yield
    assert not jax.config.jax_enable_x64


@pytest.fixture(autouse=True, scope="session")
def _kept_programs(tmp_path_factory):
    """Compiling takes most of the time: a program is kept, for `_room_for_programs` and for processes of the tests.

    Until the session ends, or in $JAX_COMPILATION_CACHE_DIR, where that is set, for the next session.
    """
    named = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    folder = named or str(tmp_path_factory.mktemp("programs"))
    os.environ |= {"JAX_COMPILATION_CACHE_DIR": folder, "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    jax.config.update("jax_compilation_cache_dir", folder)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    yield
    if not named:
        shutil.rmtree(folder)


@pytest.fixture(autouse=True, scope="module")
def _room_for_programs():
    """Compiled programs take memory maps, of which a process may have 65530; the compiler crashes beyond."""
    yield
    maps = Path("/proc/self/maps")
    if maps.exists() and len(maps.read_bytes().splitlines()) > 20_000:
        jax.clear_caches()


@pytest.fixture
def shell(tmp_path, monkeypatch, capsys):
    """Run a command line in an empty directory; returns what it wrote to standard output and to standard error."""
    monkeypatch.chdir(tmp_path)

    def run(*words, code=0):
        found = main([str(word) for word in words])
        out, err = capsys.readouterr()
        assert found == code, err
        return out, err

    return run


@pytest.fixture(params=DOORS)
def door(request):
    """One public function of data after the other."""
    return DOORS[request.param]


@pytest.fixture(scope="session")
def _first_files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    with contextlib.chdir(folder):
        make_files()
    return folder


@pytest.fixture
def files(_first_files, tmp_path):
    """A directory of its own with what the cases of `provoked` need."""
    return shutil.copytree(_first_files, tmp_path / "files")


@pytest.fixture
def write(tmp_path):
    def _write(content: str | bytes, name: str = "data.csv") -> Path:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return _write


@pytest.fixture
def pipe(monkeypatch):
    def _pipe(content: str | bytes) -> str:
        data = content if isinstance(content, bytes) else content.encode()
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
        return "-"

    return _pipe
