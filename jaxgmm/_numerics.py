"""Floors, precision policy and shape buckets: every numerical constant of the package, with its reason."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import reduce
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

# float32 products default to TF32 on NVIDIA (1e-3 relative), which is not enough for a likelihood.
PRECISION = jax.lax.Precision.HIGHEST

LOG_2PI = math.log(2.0 * math.pi)
# log 2 in two parts: the first has so few digits that its product with an exponent is exact.
_LOG_2_HIGH = 6.93147180369123816490e-01
_LOG_2_LOW = 1.90821492927058770002e-10
_LOG_SERIES = (
    0.6666666666666735130,
    0.3999999999940941908,
    0.2857142874366239149,
    0.2222219843214978396,
    0.1818357216161805012,
    0.1531383769920937332,
    0.1479819860511658591,
)

# Components that are compared or added one by one in one step, in code of that length.
MAX_UNROLLED = 16

# A change of the log-likelihood below this many units in the last place is rounding, not progress.
NOISE_ULPS = 4.0
# From so many times the rounding level on, a change of a single-precision objective is better known from the objective
# itself than from the movement of the parameters, whose second order then misses more.
CLEAR_CHANGE = 64.0
# Gain per row below which a single-precision fit has settled whatever its tolerance.
RESOLVED_GAIN = 1e-10
# A covariance is at the floor when an eigenvalue, in units of what reg_covar adds, is at most this.
AT_FLOOR = 1.5
# A fall larger than this multiple of the rounding level is reported as a fall.
DECREASE_FACTOR = 256.0

# Rows per device scan step: blocks of this size keep a block's K x B x D work in cache.
MAX_BLOCK = 1024
MIN_BLOCK = 64
BLOCK_BYTES = 1 << 17
# The same for the `features` kernel, whose two products want longer blocks.
FEATURE_BYTES = 1 << 20
MIN_FEATURE_BLOCK = 128
# An accelerator has no such cache to stay in, and starting its kernels costs as much as thousands of rows.
ACCELERATOR_SCALE = 1 << 8


def eps(dtype: jnp.dtype) -> float:
    """Distance from 1 to the next number of `dtype`."""
    return float(jnp.finfo(dtype).eps)


def min_mass(dtype: jnp.dtype) -> float:
    """Share of the total weight below which a component is empty: its moments would divide by nearly nothing."""
    return math.sqrt(float(jnp.finfo(dtype).tiny))


def singular_floor(n_features: int, dtype: jnp.dtype) -> float:
    """Conditional variance, relative to the variance, below which a covariance is singular in `dtype`.

    Factorising again in another order moves it by up to about D eps; a state that passes must pass there too.
    """
    return (n_features + 8) * eps(dtype)


def max_distance(dtype: jnp.dtype) -> float:
    """Cap on squared distances, so that rows far from everything keep finite log-densities that can be summed."""
    return float(jnp.finfo(dtype).max) * 1e-10


def as_floating(x: Any, dtype: jnp.dtype) -> Array:
    """`x` as it is if floating, else converted to `dtype`: whole numbers would truncate what they meet."""
    x = jnp.asarray(x)
    return x if jnp.issubdtype(x.dtype, jnp.inexact) else x.astype(dtype)


def safe_log(x: Array) -> Array:
    """log x with log 0 = -inf, and a zero (not NaN) gradient there."""
    positive = x > 0
    return jnp.where(positive, jnp.log(jnp.where(positive, x, 1.0)), -jnp.inf)


@jax.custom_jvp
def log_normal(x: Array) -> Array:
    """log x of 0 and of normal numbers x > 0; in double precision within an ulp.

    With x = 2ᵉ (1 + f), √½ <= 1 + f < √2, s = f/(2 + f): log(1 + f) = f − s (f − R(s²)), where little is lost, with
    the minimax polynomial R of Sun's fdlibm (e_log.c, 1993). NaN, on a CPU also for inf, of what is not finite: there
    the compiler's own logarithm of a double is a call for every number and takes four times as long. With many more
    operations than these for a number that is read, it would split the loop between threads, and wait for them.
    """
    if x.dtype != jnp.float64 or jax.default_backend() != "cpu":
        return jnp.log(x)
    bits = jax.lax.bitcast_convert_type(x, jnp.int64)
    exponent = (bits - np.float64(math.sqrt(0.5)).view(np.int64)) >> 52
    f = jax.lax.bitcast_convert_type(bits - (exponent << 52), jnp.float64) - 1.0
    s = f / (2.0 + f)
    z = s * s
    series = jnp.full_like(z, _LOG_SERIES[-1])
    for coefficient in reversed(_LOG_SERIES[:-1]):
        series = coefficient + z * series
    e = exponent.astype(jnp.float64)
    log = e * _LOG_2_HIGH - ((s * (f - z * series) - e * _LOG_2_LOW) - f)
    return jnp.where(x == 0, -jnp.inf, log + (x - x))


@log_normal.defjvp
def _(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    return log_normal(primals[0]), tangents[0] / primals[0]


def fold(pairwise: Callable[[Array, Array], Array], reduction: Callable[..., Array], terms: Array) -> Array:
    """``reduction(terms, axis=0)``; of a few doubles by `pairwise`, in one step over all other axes.

    The compiler's reductions of doubles are several times slower where there is more than one other axis; of single
    precision they are faster. The barrier keeps it from working the result out anew for everyone who reads it.
    """
    few = len(terms) <= MAX_UNROLLED and terms.dtype.itemsize == 8
    return jax.lax.optimization_barrier(reduce(pairwise, list(terms)) if few else reduction(terms, axis=0))


def safe_divide(numerator: Array, denominator: Array) -> Array:
    """numerator / denominator, and 0 where the denominator is 0."""
    nonzero = denominator != 0
    return jnp.where(nonzero, numerator / jnp.where(nonzero, denominator, 1.0), 0.0)


def max_lost_digits(dtype: jnp.dtype, n_features: int) -> float:
    """Largest `kernels.lost_digits` at which the `features` kernel is used.

    Measured over six families, D 1 to 32 and separations up to 300 widths, in units of eps times the loss: its mean
    log-density is off by at most 0.41, its covariances by 16 (float32, D 1) or 45 (float64, D 1) and less for
    larger D. In float32, up to D 64 and a million rows, covariances are right to 3e-6 below a loss of 14 D and to
    1e-5 up to one of 20 D.
    """
    return n_features * (1e5 if jnp.dtype(dtype).itemsize > 4 else 16.0)


def noise_level(log_likelihood: Array, weight_sum: Array, loss: Array | float = 0.0) -> Array:
    """Rounding level of a log-likelihood summed over rows.

    A sum that happens to pass near 0 still carries the rounding of its terms, which are of order one
    per unit of weight; hence `weight_sum` beside |log-likelihood|. `loss` magnifies it: see `kernels.lost_digits`.
    """
    return NOISE_ULPS * eps(log_likelihood.dtype) * (weight_sum * (1.0 + loss / 8.0) + jnp.abs(log_likelihood))


def jitter(size: Array) -> Array:
    """Gain per row that moving every mean by a few units in its last place pretends; size: `kernels.lost_digits`."""
    return (NOISE_ULPS * eps(size.dtype)) ** 2 * size


def default_block_size(n_components: int, n_features: int, itemsize: int) -> int:
    """Rows per block: a power of two whose K x B x D temporaries fit the cache."""
    return _fitting(BLOCK_BYTES, n_components * n_features * itemsize, MIN_BLOCK)


def features_block_size(n_components: int, n_features: int, itemsize: int) -> int:
    """Rows per block for the `features` kernel: a power of two whose products and responsibilities fit the cache."""
    height = 1 + n_features + n_features * (n_features + 1) // 2 + 2 * n_components
    return _fitting(FEATURE_BYTES, height * itemsize, MIN_FEATURE_BLOCK)


def _fitting(room: int, per_row: int, least: int) -> int:
    scale = 1 if jax.default_backend() == "cpu" else ACCELERATOR_SCALE
    rows = scale * room // max(1, per_row)
    return min(scale * MAX_BLOCK, max(least, 1 << max(0, rows.bit_length() - 1)))


def next_power_of_two(n: int) -> int:
    """The smallest power of two that is >= n."""
    return 1 << max(0, n - 1).bit_length()


def row_bucket(n_rows: int) -> int:
    """Padded number of rows: neighbouring sizes share one compiled program, little is padding.

    Powers of two up to `MAX_BLOCK`, beyond it multiples of the block and of a sixteenth of the octave.
    """
    if n_rows <= MAX_BLOCK:
        return max(MIN_BLOCK, next_power_of_two(n_rows))
    step = max(MAX_BLOCK, next_power_of_two(n_rows) // 32)
    return -(-n_rows // step) * step
