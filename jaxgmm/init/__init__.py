"""Starts for EM, compiled on the device and blocked over rows; the registry of start methods."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import numpy as np
from jax import Array

from jaxgmm._compile import hot_jit
from jaxgmm._pytree import take
from jaxgmm._slots import deal_out
from jaxgmm._status import UsageError, choose
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
            "E143",
            f"init must be the name of a start or GMMParams, got {type(name).__name__}",
            "params_from_labels, params_from_means and params_from_responsibilities make GMMParams from arrays",
        )
    if name not in _METHODS:
        raise UsageError(
            "E109", f"unknown init {name!r}", f"{choose(name, list(INIT_METHODS))}, or give starting parameters"
        )
    return _METHODS[name]


@partial(hot_jit, static_argnames=("method", "covariance_type"))
def _m_steps(
    lanes: Array,
    seeds: Any,
    x: Array,
    weight: Array,
    active: Array,
    reg_covar: Array,
    *,
    method: str,
    covariance_type: str,
) -> GMMParams:
    """The M-steps of some of the (mask, key) pairs, numbered by `lanes`, masks outermost."""
    start = get_start(method)
    n_keys = jax.tree.leaves(seeds)[0].shape[1]

    def one(lane: Array) -> GMMParams:
        mask, seed = active[lane // n_keys], take(seeds, (lane // n_keys, lane % n_keys))
        return params_from_rows(start.rows(seed, x, weight, mask), x, weight, covariance_type, reg_covar)

    return jax.lax.map(one, lanes) if jax.default_backend() == "cpu" else jax.vmap(one)(lanes)


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

    def program(lanes: Any, _: Array) -> GMMParams:
        return _m_steps(lanes, seeds, x, weight, active, reg_covar, method=method, covariance_type=covariance_type)

    n_lanes = len(active) * len(keys)
    flops = 2.0 * x.size * x.shape[1] * active.shape[1]
    starts: GMMParams = deal_out(program, np.arange(n_lanes, dtype=np.int32), n_lanes, flops=flops)
    return starts
