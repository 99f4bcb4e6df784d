"""The pure pieces as public functions, each converting its input once at the door.

Called with arrays, a function validates on the host, computes in the data's own precision (float64 data in
float64 whatever the process-wide x64 switch says) and returns NumPy arrays. Functions of single rows, and `score`, also
take what `fit` streams, of which they have one batch in memory. Called with tracers, inside the caller's own jit, vmap
or grad, a function is the pure function itself.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxgmm import criteria as _criteria, density as _density, sampling as _sampling, steps as _steps
from jaxgmm._checks import check_count, check_data, check_key, check_weights, is_traced, precision_context
from jaxgmm._compile import hot_jit
from jaxgmm._numerics import next_power_of_two
from jaxgmm._parallel import side_by_side
from jaxgmm._status import DataError, UsageError
from jaxgmm.data.batches import weights_of
from jaxgmm.data.rows import Rows, pad_rows, pad_vector, prepare_rows
from jaxgmm.init._orthant import MAX_FEATURES, MIN_SHARE, orthant_seeds
from jaxgmm.params import Factors, GMMParams, as_dtype, check_params
from jaxgmm.prior import Prior
from jaxgmm.scale.choose import as_source, check_columns, read_batches, weighted
from jaxgmm.stats import SuffStats

# Rows of the pieces that a table is cut into. The largest is long enough to make the cost of a call small, and
# short enough for the output of a piece to stay in cache until it is copied to its place.
_PIECES = (1 << 7, 1 << 9, 1 << 11, 1 << 13, 1 << 14)


def rows_of(x: np.ndarray, sample_weight: Any) -> Rows:
    """Checked data as prepared rows: weights checked, centred, padded, on the device."""
    weight = check_weights(sample_weight, len(x), x.dtype)
    with precision_context(x.dtype):
        return prepare_rows(x, weight)


def _common_dtype(params: GMMParams | Factors, x: np.ndarray) -> np.dtype:
    """The wider of model and data: a float64 model scores float32 rows in float64."""
    return np.result_type(np.float32, np.dtype(params.means.dtype), x.dtype)


def _pieces(n_rows: int) -> list[tuple[int, int]]:
    """Start and padded size of the pieces of a table: the largest that fit, or one more than half full."""
    pieces, start = [], 0
    while start < n_rows:
        rest = n_rows - start
        largest = max((size for size in _PIECES if size <= rest), default=_PIECES[0])
        size = next((size for size in _PIECES if size // 2 < rest <= size), largest)
        pieces.append((start, size))
        start += size
    return pieces


@functools.cache
def _compiled(fn: Callable[..., jax.Array]) -> Any:
    return hot_jit(fn, static_argnames="block_size")


def map_rows(
    fn: Callable[..., jax.Array],
    params: GMMParams | Factors,
    rows: np.ndarray,
    *,
    convert: Callable[[np.ndarray], np.ndarray] | None = None,
    block_size: int | None = None,
) -> np.ndarray:
    """A density function (params, x) -> one output per row, over checked rows (N, D), piece by piece on all cores.

    Beside the result nothing that is made has more rows than a piece, and a few programs, one per size of a piece,
    serve tables of every length. convert: what a piece of the rows goes through first.
    """
    n_features, dtype = rows.shape[1], _common_dtype(params, rows)
    params, program, pieces = as_dtype(params, dtype), _compiled(fn), _pieces(len(rows))

    def fill(piece: tuple[int, int]) -> None:
        start, size = piece
        part = rows[start : start + size]
        part = (part if convert is None else convert(part)).astype(dtype, copy=False)
        if len(part) < size:
            part = np.concatenate([part, np.zeros((size - len(part), n_features), dtype)])
        # Cut at the end of the table: what lies beyond are answers for padding.
        place = result[start : start + size]
        place[:] = np.asarray(program(params, part, block_size=block_size))[: len(place)]

    with precision_context(dtype):
        largest = jax.ShapeDtypeStruct((pieces[0][1], n_features), dtype)
        one = program.eval_shape(params, largest, block_size=block_size)
        result = np.empty((len(rows), *one.shape[1:]), one.dtype)
        side_by_side(fill, pieces)
    return result


def over_rows(
    fn: Callable[..., jax.Array],
    params: GMMParams | Factors,
    x: Any,
    *,
    convert: Callable[[np.ndarray], np.ndarray] | None = None,
    block_size: int | None = None,
) -> np.ndarray:
    """`map_rows` over all that `fit` takes: rows in memory, or those of a source, of which a batch is in memory."""
    source = as_source(x)
    if source is None:
        return map_rows(fn, params, check_data(x, n_features=params.n_features), convert=convert, block_size=block_size)
    check_columns(source, params.n_features)
    return np.concatenate(
        [map_rows(fn, params, batch.x, convert=convert, block_size=block_size) for batch in read_batches(source)]
    )


def _per_row(fn: Callable[..., jax.Array]) -> Callable[..., Any]:
    """A public version of a density function (params, x) -> per-row output."""

    @functools.wraps(fn)
    def public(params: GMMParams | Factors, x: Any, *, block_size: int | None = None) -> Any:
        # First: of what can be gone through, no more than that is to be asked.
        source = as_source(x)
        x = x if source is None else source
        if is_traced(params, x):
            return fn(params, x, block_size=block_size)
        if isinstance(params, GMMParams):
            check_params(params)
        return over_rows(fn, params, x, block_size=block_size)

    return public


def one_minus_largest(params: GMMParams | Factors, x: Any, *, block_size: int | None = None) -> jax.Array:
    """1 − max_k r_nk: the probability that `predict` is wrong if the model is right, shape (N)."""
    return 1.0 - jnp.max(_density.responsibilities(params, x, block_size=block_size), axis=1)


log_prob = _per_row(_density.log_prob)
component_log_prob = _per_row(_density.component_log_prob)
responsibilities = _per_row(_density.responsibilities)
log_responsibilities = _per_row(_density.log_responsibilities)
predict = _per_row(_density.predict)
uncertainty = _per_row(one_minus_largest)

_compiled_e_step = jax.jit(_steps.e_step, static_argnames="block_size")
_compiled_m_step = jax.jit(_steps.m_step)
_compiled_sample = jax.jit(_sampling.sample, static_argnames="n_samples")
_compiled_silhouette = jax.jit(_criteria.silhouette, static_argnames=("n_clusters", "block_size"))
_compiled_orthants = jax.jit(orthant_seeds)


@functools.wraps(_steps.e_step)
def e_step(params: GMMParams, x: Any, sample_weight: Any = None, *, block_size: int | None = None) -> SuffStats:
    if is_traced(params, x, sample_weight):
        return _steps.e_step(params, x, sample_weight, block_size=block_size)
    check_params(params)
    rows = check_data(x, n_features=params.n_features)
    dtype = _common_dtype(params, rows)
    weight = check_weights(sample_weight, len(rows), dtype)
    with precision_context(dtype):
        stats = _compiled_e_step(
            as_dtype(params, dtype), pad_rows(rows, dtype), pad_vector(weight, dtype), block_size=block_size
        )
        return jax.tree.map(np.array, stats)


@functools.wraps(_steps.m_step)
def m_step(params: GMMParams, stats: SuffStats, reg_covar: Any = 1e-6, prior: Prior | None = None) -> GMMParams:
    if is_traced(params, stats, reg_covar, prior):
        return _steps.m_step(params, stats, reg_covar, prior)
    dtype = np.dtype(stats.resp_sum.dtype)
    with precision_context(dtype):
        own = as_dtype(prior, dtype)
        update = _compiled_m_step(as_dtype(params, dtype), stats, np.asarray(reg_covar, dtype), own)
        return jax.tree.map(np.array, update)


@functools.wraps(_steps.em_step)
def em_step(
    params: GMMParams,
    x: Any,
    sample_weight: Any = None,
    *,
    reg_covar: Any = 1e-6,
    block_size: int | None = None,
) -> tuple[GMMParams, SuffStats]:
    if is_traced(params, x, sample_weight, reg_covar):
        return _steps.em_step(params, x, sample_weight, reg_covar=reg_covar, block_size=block_size)
    stats = e_step(params, x, sample_weight, block_size=block_size)
    return m_step(params, stats, reg_covar), stats


@functools.wraps(_sampling.sample)
def sample(params: GMMParams, key: Any, n_samples: int) -> tuple[Any, Any]:
    if is_traced(params, key):
        return _sampling.sample(params, key, n_samples)
    check_params(params)
    n_samples = check_count(n_samples, "n_samples")
    size = max(_PIECES[0], next_power_of_two(n_samples))
    # What does not fit is a MemoryError here; under XLA it would end the process.
    np.empty((2, size, params.n_features + params.n_components), params.dtype)
    with precision_context(params.dtype):
        # Drawn in powers of two and cut, so that a new n_samples rarely compiles.
        drawn = _compiled_sample(as_dtype(params, params.dtype), check_key(key, "sample"), n_samples=size)
        x, labels = (np.array(np.asarray(a)[:n_samples]) for a in drawn)
        return x, labels


def score(params: GMMParams, x: Any, sample_weight: Any = None) -> float:
    """Mean log-likelihood Σ v_n log p(x_n) / Σ v_n, nats per row.

    params: the mixture. x: (N, D) rows in data units, or what `fit` takes besides, which may give weights itself.
    sample_weight: (N) weights >= 0 or None.
    """
    return mean_over(lambda rows: log_prob(params, rows), params.n_features, x, sample_weight)


def mean_over(values_of: Callable[[Any], np.ndarray], n_features: int, x: Any, sample_weight: Any) -> float:
    """Σ v_n a_n / Σ v_n of the values a_n of rows; of a source, of which a batch is in memory, with its own weights."""
    source = as_source(x)
    if source is None:
        return _weighted_mean(values_of(x), sample_weight)
    check_columns(source, n_features)
    weights, totals = [], []
    for batch in read_batches(weighted(source, sample_weight)):
        weight = weights_of(batch, np.float64)
        weights.append(float(np.sum(weight)))
        totals.append(float(weight @ values_of(batch.x).astype(np.float64)))
    if not any(weights):
        raise DataError("E222", f"the weights of {source.name} are zero for every row", "at least one row must count")
    return math.fsum(totals) / math.fsum(weights)


def _weighted_mean(values: np.ndarray, sample_weight: Any) -> float:
    if sample_weight is None:
        return float(np.mean(values, dtype=np.float64))
    weight = check_weights(sample_weight, len(values), values.dtype)
    return float(np.sum(weight * values, dtype=np.float64) / np.sum(weight, dtype=np.float64))


def silhouette(x: Any, labels: Any, sample_weight: Any = None) -> float:
    """Mean silhouette of a labelling, Euclidean; larger is better, at most 1.

    x: (N, D). labels: (N) integers of any values. sample_weight: (N) repetitions of the rows, or None. Distances
    are computed block against block, so memory stays O(N). `DataError` when there are fewer than two clusters.
    """
    rows = check_data(x)
    found, codes = np.unique(np.asarray(labels), return_inverse=True)
    if codes.shape != (len(rows),):
        raise DataError(
            "E230", f"labels have shape {np.shape(labels)}, but x has {len(rows)} rows", "give one label a row"
        )
    if len(found) < 2:
        raise DataError(
            "E233", f"the silhouette needs at least 2 clusters, got {len(found)}", "choose another criterion"
        )
    weight = check_weights(sample_weight, len(rows), rows.dtype)
    fraction = weight[(weight > 0) & (weight < 1)]
    if len(fraction):
        raise DataError(
            "E234",
            f"the silhouette counts a weight as repetitions of its row, but found a weight of {fraction[0]:g}",
            "give whole numbers, or choose another criterion",
        )
    with precision_context(rows.dtype):
        value = _compiled_silhouette(
            pad_rows(rows, rows.dtype, rows.mean(axis=0, dtype=np.float64)),
            pad_vector(codes.astype(np.int32), np.int32),
            next_power_of_two(len(found)),
            pad_vector(weight, rows.dtype),
        )
        return float(value)


def orthant_counts(x: Any, sample_weight: Any = None) -> tuple[np.ndarray, int]:
    """Weight in each of the 2^D orthants about the mean, and the number of components it proposes.

    Entry Σ_j 2^j s_j counts the rows with sign pattern s (s_j = 1 where x_j is above the mean of feature j).
    Proposed is the number of orthants that hold more than D rows and more than 1 % of all. x: (N, D),
    D <= 16.

    >>> corners = np.array([[-1.0, -1.0], [1.0, -1.0], [-1.0, 1.0]])
    >>> orthant_counts(np.repeat(corners, 10, axis=0))
    (array([10., 10., 10.,  0.]), 3)
    """
    rows = check_data(x)
    check_orthant_features(rows.shape[1])
    prepared = rows_of(rows, sample_weight)
    counts = count_orthants(prepared)
    floor = max(rows.shape[1] / prepared.n_used, MIN_SHARE) * prepared.weight_sum
    return counts, int(np.sum(counts > floor))


def count_orthants(rows: Rows) -> np.ndarray:
    """Weight in each orthant about the mean of prepared rows, shape (2^D)."""
    with precision_context(rows.dtype):
        return np.asarray(_compiled_orthants(rows.x, rows.weight).counts)


def check_orthant_features(n_features: int) -> None:
    """Refuse the orthant count where 2^D is beyond reach."""
    if n_features > MAX_FEATURES:
        raise UsageError(
            "E144",
            f"the orthant start counts 2^D orthants and x has D={n_features} columns, more than {MAX_FEATURES}",
            "use init='kmeans', or fewer columns",
        )
