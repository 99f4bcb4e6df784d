"""What every test shares: strict shapes, the 64-bit switch left alone, dtypes, families, one small data set."""

from pathlib import Path

import jax
import numpy as np
import pytest

from jaxgmm import COVARIANCE_TYPES
from tests.helpers import Small, make_small

# A vector that meets a matrix must say along which axis: silent rank promotion hides shape mistakes.
jax.config.update("jax_numpy_rank_promotion", "raise")


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


@pytest.fixture(autouse=True, scope="module")
def _room_for_programs():
    """Compiled programs take memory maps, of which a process may have 65530; the compiler crashes beyond."""
    yield
    maps = Path("/proc/self/maps")
    if maps.exists() and len(maps.read_bytes().splitlines()) > 20_000:
        jax.clear_caches()
