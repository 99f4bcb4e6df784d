"""The front door: `fit`, `sweep` and the pure pieces, each converting its input once.

Called with arrays, a function validates on the host, computes in the data's own precision (float64 data in
float64 whatever the process-wide x64 switch says) and returns NumPy arrays. Called with tracers, inside the
caller's own jit, vmap or grad, it is the pure function itself.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import numpy as np

from jaxgmm import criteria as _criteria
from jaxgmm import density as _density
from jaxgmm import sampling as _sampling
from jaxgmm import steps as _steps
from jaxgmm._checks import (
    check_count,
    check_data,
    check_key,
    check_rows_for,
    check_weights,
    is_traced,
    precision_context,
)
from jaxgmm._numerics import next_power_of_two
from jaxgmm._options import em_options
from jaxgmm._status import DataError, FitError, Status, UsageError, nearest
from jaxgmm.covariance import get_family
from jaxgmm.data.rows import Rows, pad_rows, pad_vector, prepare_rows
from jaxgmm.em.restarts import fit_rows
from jaxgmm.em.result import FitResult, SweepResult
from jaxgmm.init import get_start
from jaxgmm.init._orthant import MAX_FEATURES, MIN_SHARE, orthant_seeds
from jaxgmm.params import GMMParams, as_dtype
from jaxgmm.stats import SuffStats

CRITERIA = ("bic", "aic", "icl", "silhouette")


# ------------------------------------------------------------------------------------------------ pieces


def _common_dtype(params: GMMParams, x: np.ndarray) -> np.dtype:
    """The wider of model and data: a float64 model scores float32 rows in float64."""
    return np.result_type(np.float32, np.dtype(params.means.dtype), x.dtype)


def _per_row(fn: Callable[..., jax.Array]) -> Callable[..., Any]:
    """A public version of a density function (params, x) -> per-row output."""
    compiled = jax.jit(fn, static_argnames="block_size")

    @functools.wraps(fn)
    def public(params: GMMParams, x: Any, *, block_size: int | None = None) -> Any:
        if is_traced(params, x):
            return fn(params, x, block_size=block_size)
        rows = check_data(x, n_features=params.n_features)
        dtype = _common_dtype(params, rows)
        with precision_context(dtype):
            out = compiled(as_dtype(params, dtype), pad_rows(rows, dtype), block_size=block_size)
            return np.asarray(out)[: len(rows)]

    return public


log_prob = _per_row(_density.log_prob)
component_log_prob = _per_row(_density.component_log_prob)
responsibilities = _per_row(_density.responsibilities)
log_responsibilities = _per_row(_density.log_responsibilities)
predict = _per_row(_density.predict)

_compiled_e_step = jax.jit(_steps.e_step, static_argnames="block_size")
_compiled_m_step = jax.jit(_steps.m_step)
_compiled_sample = jax.jit(_sampling.sample, static_argnames="n_samples")
_compiled_silhouette = jax.jit(_criteria.silhouette, static_argnames=("n_clusters", "block_size"))
_compiled_orthants = jax.jit(orthant_seeds)


@functools.wraps(_steps.e_step)
def e_step(
    params: GMMParams, x: Any, sample_weight: Any = None, *, block_size: int | None = None
) -> SuffStats:
    if is_traced(params, x, sample_weight):
        return _steps.e_step(params, x, sample_weight, block_size=block_size)
    rows = check_data(x, n_features=params.n_features)
    dtype = _common_dtype(params, rows)
    weight = check_weights(sample_weight, len(rows), dtype)
    with precision_context(dtype):
        stats = _compiled_e_step(
            as_dtype(params, dtype), pad_rows(rows, dtype), pad_vector(weight, dtype), block_size=block_size
        )
        return jax.tree.map(np.asarray, stats)


@functools.wraps(_steps.m_step)
def m_step(params: GMMParams, stats: SuffStats, reg_covar: Any = 1e-6) -> GMMParams:
    if is_traced(params, stats, reg_covar):
        return _steps.m_step(params, stats, reg_covar)
    dtype = np.dtype(stats.resp_sum.dtype)
    with precision_context(dtype):
        return jax.tree.map(np.asarray, _compiled_m_step(as_dtype(params, dtype), stats, np.asarray(reg_covar, dtype)))


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
    n_samples = check_count(n_samples, "n_samples")
    with precision_context(params.dtype):
        # Drawn in powers of two and cut, so that a new n_samples rarely compiles.
        drawn = _compiled_sample(
            as_dtype(params, params.dtype), check_key(key, "sample"), n_samples=next_power_of_two(n_samples)
        )
        x, labels = (np.asarray(a)[:n_samples] for a in drawn)
        return x, labels


def score(params: GMMParams, x: Any, sample_weight: Any = None) -> float:
    """Mean log-likelihood Σ v_n log p(x_n) / Σ v_n, nats per row.

    params: the mixture. x: (N, D) rows in data units. sample_weight: (N) weights >= 0 or None.
    """
    values = log_prob(params, x)
    weight = check_weights(sample_weight, len(values), values.dtype)
    return float(np.sum(weight * values, dtype=np.float64) / np.sum(weight, dtype=np.float64))


def uncertainty(params: GMMParams, x: Any) -> np.ndarray:
    """1 − max_k r_nk: the probability that `predict` is wrong if the model is right, shape (N)."""
    return np.asarray(1.0 - responsibilities(params, x).max(axis=1))


def silhouette(x: Any, labels: Any, sample_weight: Any = None) -> float:
    """Mean silhouette of a labelling, Euclidean; larger is better, at most 1.

    x: (N, D). labels: (N) integers of any values. sample_weight: (N) or None. Distances are computed block
    against block, so memory stays O(N). `DataError` when there are fewer than two clusters.
    """
    rows = check_data(x)
    found, codes = np.unique(np.asarray(labels), return_inverse=True)
    if codes.shape != (len(rows),):
        raise DataError(f"labels have shape {np.shape(labels)}, but x has {len(rows)} rows; give one label a row")
    if len(found) < 2:
        raise DataError(f"the silhouette needs at least 2 clusters, got {len(found)}; choose another criterion")
    weight = check_weights(sample_weight, len(rows), rows.dtype)
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
    prepared = _prepare(rows, sample_weight)
    with precision_context(rows.dtype):
        counts = np.asarray(_compiled_orthants(prepared.x, prepared.weight).counts)
    floor = max(rows.shape[1], MIN_SHARE * prepared.weight_sum)
    return counts, int(np.sum(counts > floor))


def check_orthant_features(n_features: int) -> None:
    """Refuse the orthant count where 2^D is beyond reach."""
    if n_features > MAX_FEATURES:
        raise UsageError(
            f"the orthant start counts 2^D orthants and x has D={n_features} columns, more than {MAX_FEATURES}; "
            "use init='kmeans', or fewer columns"
        )


# ------------------------------------------------------------------------------------------- fit and sweep


def _prepare(x: np.ndarray, sample_weight: Any) -> Rows:
    weight = check_weights(sample_weight, len(x), x.dtype)
    with precision_context(x.dtype):
        return prepare_rows(x, weight)


def _check_init(
    init: Any, rows: Rows, candidates: Sequence[int], covariance_type: str, key: Any, n_restarts: int
) -> tuple[str | list[GMMParams], jax.Array]:
    """The start (a method's name or lanes of parameters) and one key per restart."""
    if isinstance(init, GMMParams):
        check_params(init, n_features=rows.n_features)
        if get_family(init.covariance_type) is not get_family(covariance_type):
            raise UsageError(
                f"init has covariance_type {init.covariance_type!r}, but {covariance_type!r} was asked for; "
                "give both the same"
            )
        if list(candidates) != [init.n_components]:
            raise UsageError(
                f"init has {init.n_components} components, but n_components is {list(candidates)}; give both the same"
            )
        return [init], jax.random.split(jax.random.key(0), 1)
    method = get_start(init)
    if method.name == "orthant":
        check_orthant_features(rows.n_features)
        occupied = int(np.count_nonzero(np.asarray(_compiled_orthants(rows.x, rows.weight).counts)))
        if occupied < max(candidates):
            raise DataError(
                f"the data occupy {occupied} orthants about their mean, fewer than the {max(candidates)} components "
                f"asked for; ask for at most {occupied}, or use init='kmeans'"
            )
    if not method.random:
        return method.name, jax.random.split(jax.random.key(0), 1)
    return method.name, jax.random.split(check_key(key, f"init={init!r}"), n_restarts)


def fit(
    x: Any,
    n_components: int,
    *,
    covariance_type: str = "full",
    key: Any = None,
    n_restarts: int = 1,
    init: str | GMMParams = "kmeans",
    tol: float = 1e-8,
    reg_covar: float = 1e-6,
    max_iter: int = 1000,
    sample_weight: Any = None,
) -> FitResult:
    """Fit a Gaussian mixture by EM and return the best of `n_restarts` independent starts.

    Maximises ℓ = Σ_n v_n log Σ_k w_k N(x_n | μ_k, Σ_k) until |Δℓ| <= tol (1 + |ℓ|). All restarts run as
    lanes of one compiled program.

    x: (N, D) numbers, N >= K; float64 is computed in float64, float32 in float32, integers as float64.
    n_components: K >= 1. covariance_type: a name in `COVARIANCE_TYPES` or an mclust code. key: a JAX random
    key or an integer seed; required unless the start is deterministic. n_restarts: R independent starts.
    init: a name in `INIT_METHODS`, or `GMMParams` to start from. tol: relative. reg_covar: added to
    covariance diagonals, data units squared. max_iter: largest number of iterations. sample_weight: (N).

    Returns a `FitResult`; look at ``converged``, ``message`` and ``best_share``. Raises `DataError` or
    `UsageError` for input that cannot be used and `FitError` when no start gave a finite model.

    >>> x = np.concatenate([np.linspace(-6, -4, 50), np.linspace(4, 6, 50)])[:, None]
    >>> result = fit(x, 2, key=0)
    >>> result.converged, np.sort(result.params.means[:, 0]).round(3).tolist()
    (True, [-5.0, 5.0])
    """
    n_components = check_count(n_components, "n_components")
    family = get_family(covariance_type)
    rows = _checked_rows(x, n_components, sample_weight)
    with precision_context(rows.dtype):
        start, keys = _check_init(
            init, rows, [n_components], family.name, key, check_count(n_restarts, "n_restarts")
        )
        options = em_options(rows.dtype, tol=tol, reg_covar=reg_covar, max_iter=max_iter)
        result = fit_rows(
            rows, [n_components], covariance_type=family.name, init=start, keys=keys, options=options
        )[n_components]
    if isinstance(result, FitError):
        raise result
    return result


def _checked_rows(x: Any, n_components: int, sample_weight: Any) -> Rows:
    table = check_data(x)
    rows = _prepare(table, sample_weight)
    check_rows_for(n_components, np.asarray(rows.weight))
    return rows


def _check_candidates(candidates: Iterable[int]) -> list[int]:
    if isinstance(candidates, (int, np.integer)):
        candidates = [int(candidates)]
    counts = [check_count(n, "each candidate number of components") for n in candidates]
    if not counts:
        raise UsageError("candidates is empty; give component counts such as range(1, 11)")
    return sorted(set(counts))


def sweep(
    x: Any,
    candidates: Iterable[int] = range(1, 11),
    *,
    covariance_types: str | Sequence[str] = ("full",),
    criterion: str = "bic",
    key: Any = None,
    n_restarts: int = 1,
    init: str = "kmeans",
    tol: float = 1e-8,
    reg_covar: float = 1e-6,
    max_iter: int = 1000,
    sample_weight: Any = None,
) -> SweepResult:
    """Fit every component count and covariance type, and choose by a criterion.

    For each covariance type all (count, restart) pairs run as lanes of one program, padded to a common
    number of components. candidates: component counts J. criterion: ``"bic"``, ``"aic"``, ``"icl"``
    (smaller is better) or ``"silhouette"`` (larger is better; J = 1 has none). The other arguments are those
    of `fit`; a restart's random seeds are shared by all J.

    Returns a `SweepResult`: ``best``, ``table()``, ``at_edge``. A cell in which every restart failed keeps
    its stop code and cannot win; `FitError` only if all cells failed.

    >>> x = np.concatenate([np.linspace(-6, -4, 50), np.linspace(4, 6, 50)])[:, None]
    >>> sweep(x, range(1, 4), covariance_types="diag", key=0).best.n_components
    2
    """
    counts = _check_candidates(candidates)
    types = [covariance_types] if isinstance(covariance_types, str) else list(covariance_types)
    families = list(dict.fromkeys(get_family(name).name for name in types))
    if not families:
        raise UsageError("covariance_types is empty; give at least one, such as 'full'")
    if criterion not in CRITERIA:
        raise UsageError(
            f"unknown criterion {criterion!r}{nearest(str(criterion), list(CRITERIA))}; choose one of {', '.join(CRITERIA)}"
        )
    if not isinstance(init, str):
        raise UsageError("a sweep needs a start method by name: one set of starting parameters fits one count only")
    rows = _checked_rows(x, max(counts), sample_weight)
    cells: list[tuple[str, int]] = []
    outcomes: list[FitResult | FitError] = []
    with precision_context(rows.dtype):
        start, keys = _check_init(init, rows, counts, families[0], key, check_count(n_restarts, "n_restarts"))
        options = em_options(rows.dtype, tol=tol, reg_covar=reg_covar, max_iter=max_iter)
        for name in families:
            found = fit_rows(rows, counts, covariance_type=name, init=start, keys=keys, options=options)
            cells += [(name, n) for n in counts]
            outcomes += [found[n] for n in counts]
    fits = tuple(None if isinstance(o, FitError) else o for o in outcomes)
    failures: tuple[Status | None, ...] = tuple(o.status if isinstance(o, FitError) else None for o in outcomes)
    values = np.array([np.nan if f is None else _criterion_value(f, criterion, x, sample_weight) for f in fits])
    if np.isnan(values).all():
        error = next((o for o in outcomes if isinstance(o, FitError)), None)
        if error is not None:
            raise error
        raise UsageError(f"no candidate in {counts} has a {criterion}; try counts of at least 2")
    return SweepResult(cells=tuple(cells), fits=fits, failures=failures, values=values, criterion=criterion)


def _criterion_value(result: FitResult, criterion: str, x: Any, sample_weight: Any) -> float:
    if criterion != "silhouette":
        return float(getattr(result, criterion))
    labels = predict(result.params, x)
    return silhouette(x, labels, sample_weight) if len(np.unique(labels)) > 1 else float("nan")


# ---------------------------------------------------------------------------------------------- parameters


def check_params(params: GMMParams, *, n_features: int | None = None) -> None:
    """Raise `DataError` unless shapes agree, numbers are finite, weights sum to 1 and covariances are sound."""
    weights, means, covariances = (np.asarray(a) for a in (params.weights, params.means, params.covariances))
    if means.ndim != 2 or weights.shape != means.shape[:1]:
        raise DataError(f"weights {weights.shape} and means {means.shape} must have shapes (K) and (K, D)")
    shape = params.family.shape(*means.shape)
    if covariances.shape != shape:
        raise DataError(f"{params.covariance_type} covariances must have shape {shape}, got {covariances.shape}")
    if n_features is not None and means.shape[1] != n_features:
        raise DataError(f"the parameters have {means.shape[1]} features, but x has {n_features} columns")
    for name, array in (("weights", weights), ("means", means), ("covariances", covariances)):
        if not np.isfinite(array).all():
            raise DataError(f"{name} contain NaN or infinity; give finite starting values")
    if (weights < 0).any() or not np.isclose(weights.sum(), 1.0, rtol=0, atol=1e-4):
        raise DataError(f"weights must be at least 0 and sum to 1, got a sum of {weights.sum():.6g}")
    with precision_context(np.float64):
        factor = np.asarray(params.family.factor(covariances.astype(np.float64)))
    if not np.isfinite(factor).all():
        raise DataError(f"a {params.covariance_type} covariance is not positive definite; raise its diagonal")


def make_params(
    weights: Any, means: Any, covariances: Any = None, covariance_type: str = "full", *, precisions: Any = None
) -> GMMParams:
    """A mixture from known parameters, checked; give covariances or precisions, in the family's shape.

    weights (K) sum to 1; means (K, D); covariances: full (K, D, D), tied (D, D), diag (K, D),
    spherical (K,), tied_diag (D,), tied_spherical a scalar, in data units squared.

    >>> make_params([0.5, 0.5], [[0.0], [4.0]], [[1.0], [1.0]], "diag").n_components
    2
    """
    if (covariances is None) == (precisions is None):
        raise UsageError("give either covariances or precisions")
    family = get_family(covariance_type)
    arrays = [np.asarray(a) for a in (weights, means, precisions if covariances is None else covariances)]
    dtype = np.float32 if all(a.dtype == np.float32 for a in arrays) else np.float64
    w, m, c = (a.astype(dtype) for a in arrays)
    if covariances is None and m.ndim == 2 and c.shape == family.shape(*m.shape):
        with precision_context(dtype), np.errstate(divide="ignore"):
            c = np.asarray(family.from_precisions(c))
    params = GMMParams(weights=w, means=m, covariances=c, covariance_type=family.name)
    check_params(params)
    return params
