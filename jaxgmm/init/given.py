"""Starts that the user gives: known parameters, labels, responsibilities or means."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxgmm._blocks import map_over_blocks
from jaxgmm._checks import as_float_array, check_data, check_weights, precision_context
from jaxgmm._numerics import MAX_BLOCK
from jaxgmm._options import em_options
from jaxgmm._pytree import replace
from jaxgmm._status import DataError, UsageError
from jaxgmm.covariance import get_family
from jaxgmm.data.rows import pad_rows, pad_vector, prepare_rows
from jaxgmm.init._base import StartRows, params_from_rows
from jaxgmm.init._centres import nearest_centre
from jaxgmm.params import GMMParams, as_dtype, check_params, rescale, translate


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
        found = f"got {'neither' if precisions is None else 'both'}"
        raise UsageError("E107", f"a mixture takes either covariances or precisions, {found}", "give one of the two")
    family = get_family(covariance_type)
    scale_name = "precisions" if covariances is None else "covariances"
    given = {"weights": weights, "means": means, scale_name: precisions if covariances is None else covariances}
    arrays = [as_float_array(value, name) for name, value in given.items()]
    dtype = np.result_type(*arrays)
    w, m, c = (a.astype(dtype) for a in arrays)
    if covariances is None and m.ndim == 2 and c.shape == family.shape(*m.shape):
        with precision_context(dtype), np.errstate(divide="ignore"):
            c = np.asarray(family.from_precisions(jnp.asarray(c)))
    params = GMMParams(weights=w, means=m, covariances=c, covariance_type=family.name)
    check_params(params)
    return params


def check_start(init: GMMParams, n_features: int, candidates: Sequence[int], covariance_type: str) -> GMMParams:
    """A mixture as a start for one number of components; `UsageError` if it is not what was asked for."""
    check_params(init, n_features=n_features)
    family = get_family(covariance_type)
    if get_family(init.covariance_type) is not family:
        found = f"init has covariance_type {init.covariance_type!r}, but {covariance_type!r} was asked for"
        raise UsageError("E143", found, "give both the same")
    if list(candidates) != [init.n_components]:
        found = f"init has {init.n_components} components, but n_components is {list(candidates)}"
        raise UsageError("E143", found, "give both the same")
    return replace(init, covariance_type=family.name)


def params_from_responsibilities(
    x: Any,
    responsibilities: Any,
    *,
    covariance_type: str = "full",
    sample_weight: Any = None,
    reg_covar: float = 1e-6,
    reg_kind: str = "relative",
) -> GMMParams:
    """One M-step on given responsibilities: a start for ``fit(..., init=params)``.

    x: (N, D). responsibilities: (N, K) >= 0, one column per component; rows need not sum to 1.
    reg_covar, reg_kind: as in `fit`.

    >>> params_from_responsibilities([[0.0], [1.0], [9.0]], [[1, 0], [1, 0], [0, 1]]).means.tolist()
    [[0.5], [9.0]]
    """
    rows = check_data(x)
    shares = check_data(responsibilities, name="responsibilities").astype(rows.dtype, copy=False)
    if len(shares) != len(rows):
        raise DataError(
            "E240", f"responsibilities have {len(shares)} rows, but x has {len(rows)}", "give one row per row of x"
        )
    if (shares < 0).any():
        raise DataError(
            "E245",
            f"responsibilities must be at least 0, got {shares.min():g}",
            "give the share of each row in each component",
        )
    empty = np.flatnonzero(shares.sum(axis=0) == 0)
    if len(empty):
        raise DataError("E246", f"no row belongs to component {int(empty[0])}", "give every component at least one row")
    return _one_m_step(
        rows, pad_rows(shares, rows.dtype), shares.shape[1], covariance_type, sample_weight, reg_covar, reg_kind
    )


def params_from_labels(
    x: Any,
    labels: Any,
    *,
    covariance_type: str = "full",
    sample_weight: Any = None,
    reg_covar: float = 1e-6,
    reg_kind: str = "relative",
) -> GMMParams:
    """The maximum-likelihood mixture of a hard partition; component k is the k-th label in sorted order.

    x: (N, D). labels: (N) of any sortable type. reg_covar, reg_kind: as in `fit`.

    >>> params_from_labels([[0.0], [1.0], [9.0]], ["a", "a", "b"]).weights.round(3).tolist()
    [0.667, 0.333]
    """
    found, codes = np.unique(np.asarray(labels), return_inverse=True)
    rows = check_data(x)
    if codes.shape != (len(rows),):
        raise DataError(
            "E230", f"labels have shape {np.shape(labels)}, but x has {len(rows)} rows", "give one label a row"
        )
    padded = pad_vector(codes.astype(np.int32), np.int32)
    return _one_m_step(rows, padded, len(found), covariance_type, sample_weight, reg_covar, reg_kind)


def params_from_means(
    x: Any,
    means: Any,
    *,
    covariance_type: str = "full",
    sample_weight: Any = None,
    reg_covar: float = 1e-6,
    reg_kind: str = "relative",
) -> GMMParams:
    """Every row to the nearest of the given means (K, D), then one M-step; reg_covar and reg_kind as in `fit`.

    >>> params_from_means([[0.0], [1.0], [9.0]], [[0.2], [8.0]]).means.tolist()
    [[0.5], [9.0]]
    """
    rows = check_data(x)
    centres = check_data(means, name="means", n_features=rows.shape[1]).astype(rows.dtype, copy=False)
    offset = rows.mean(axis=0, dtype=np.float64)
    with precision_context(rows.dtype):
        nearest = np.asarray(_nearest(pad_rows(rows, rows.dtype, offset), (centres - offset).astype(rows.dtype)))[
            : len(rows)
        ]
    missing = sorted(set(range(len(centres))) - set(nearest.tolist()))
    if missing:
        raise DataError("E246", f"no row of x is nearest to mean {missing[0]}", "move it into the data or leave it out")
    return params_from_labels(
        rows,
        nearest,
        covariance_type=covariance_type,
        sample_weight=sample_weight,
        reg_covar=reg_covar,
        reg_kind=reg_kind,
    )


def _one_m_step(
    x: np.ndarray,
    membership: np.ndarray,
    n_components: int,
    covariance_type: str,
    sample_weight: Any,
    reg_covar: float,
    reg_kind: str,
) -> GMMParams:
    """The M-step on padded memberships: labels (N') int, or responsibilities (N', K)."""
    with precision_context(x.dtype):
        rows = prepare_rows(x, check_weights(sample_weight, len(x), x.dtype))
        options = rows.options(em_options(x.dtype, reg_covar=reg_covar, reg_kind=reg_kind))
        params = _m_step_on_rows(
            rows.x,
            rows.weight,
            membership,
            options.reg_covar,
            n_components=n_components,
            covariance_type=get_family(covariance_type).name,
        )
        params = translate(rescale(as_dtype(params, np.float64), rows.scale), rows.offset)
    return as_dtype(params, x.dtype)


@partial(jax.jit, static_argnames=("n_components", "covariance_type"))
def _m_step_on_rows(
    x: Array, weight: Array, membership: Array, reg_covar: Array, *, n_components: int, covariance_type: str
) -> GMMParams:
    def resp_of(_: Array, block: Array) -> Array:
        return block if block.ndim == 2 else jax.nn.one_hot(block, n_components, dtype=x.dtype)

    start = StartRows(resp_of, (membership,), None, n_components)
    return params_from_rows(start, x, weight, covariance_type, reg_covar)


@jax.jit
def _nearest(x: Array, centres: Array) -> Array:
    active = jnp.ones(len(centres), bool)
    block = partial(nearest_centre, centres=centres, active=active)
    return map_over_blocks(lambda rows: jnp.argmax(block(rows), axis=1), (x,), MAX_BLOCK)
