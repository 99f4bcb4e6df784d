"""Starts for EM, compiled on the device and blocked over rows; the registry of start methods."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
from jax import Array

from jaxgmm._status import UsageError, nearest
from jaxgmm.init._base import StartMethod, params_from_rows
from jaxgmm.init._centres import CentreStart, random_rows
from jaxgmm.init._kmeans import kmeans_plus_plus, lloyd
from jaxgmm.init._orthant import Orthant
from jaxgmm.init._responsibilities import RandomResponsibilities
from jaxgmm.params import GMMParams

__all__ = ["INIT_METHODS", "StartMethod", "get_start", "make_starts"]

_METHODS: dict[str, StartMethod] = {
    method.name: method
    for method in (
        CentreStart("kmeans", kmeans_plus_plus, lloyd),
        CentreStart("k-means++", kmeans_plus_plus),
        RandomResponsibilities(),
        CentreStart("random_from_data", random_rows),
        Orthant(),
    )
}

INIT_METHODS: tuple[str, ...] = tuple(_METHODS)


def get_start(name: str) -> StartMethod:
    """The start method of that name; `UsageError` names the nearest known."""
    if not isinstance(name, str):
        raise UsageError(
            f"init must be the name of a start or GMMParams, got {type(name).__name__}; "
            "params_from_labels, params_from_means and params_from_responsibilities make GMMParams from arrays"
        )
    if name not in _METHODS:
        raise UsageError(
            f"unknown init {name!r}{nearest(name, list(INIT_METHODS))}; "
            f"choose one of {', '.join(INIT_METHODS)}, or give starting parameters"
        )
    return _METHODS[name]


@partial(jax.jit, static_argnames=("method", "covariance_type"))
def _m_step(
    seeds: Any, x: Array, weight: Array, active: Array, reg_covar: Array, *, method: str, covariance_type: str
) -> GMMParams:
    start = get_start(method)

    def lane(seed: Any, mask: Array) -> GMMParams:
        return params_from_rows(start.rows(seed, x, weight, mask), x, weight, covariance_type, reg_covar)

    per_mask = jax.vmap(jax.vmap(lane, in_axes=(0, None)))(seeds, active)
    return jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), per_mask)


def make_starts(
    keys: Array,
    x: Array,
    weight: Array,
    active: Array,
    reg_covar: Array,
    *,
    method: str,
    covariance_type: str,
) -> GMMParams:
    """Starting parameters for every (active mask, key) pair, leading lane axis J·R in that order.

    keys: (R) random keys. active: (J, K) bool. The random part is drawn once per key and shared by the
    masks. Weights of inactive components are exactly 0. Two steps: the seeds do not depend on the covariance
    family, so a sweep over families compiles them once.
    """
    seeds = get_start(method).seeds(keys, x, weight, active)
    return _m_step(seeds, x, weight, active, reg_covar, method=method, covariance_type=covariance_type)
