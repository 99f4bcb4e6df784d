"""Starts for EM, compiled on the device and blocked over rows; the registry of start methods."""

from __future__ import annotations

from functools import partial

import jax
from jax import Array

from jaxgmm._status import UsageError, nearest
from jaxgmm.init._base import StartMethod, params_from_rows
from jaxgmm.init._centres import KMeans, KMeansPlusPlus, RandomRows
from jaxgmm.init._orthant import Orthant
from jaxgmm.init._responsibilities import RandomResponsibilities
from jaxgmm.params import GMMParams

__all__ = ["INIT_METHODS", "StartMethod", "get_start", "make_starts"]

_METHODS: dict[str, StartMethod] = {
    method.name: method for method in (KMeans(), KMeansPlusPlus(), RandomResponsibilities(), RandomRows(), Orthant())
}

INIT_METHODS: tuple[str, ...] = tuple(_METHODS)


def get_start(name: str) -> StartMethod:
    """The start method of that name; `UsageError` names the nearest known."""
    if name not in _METHODS:
        raise UsageError(
            f"unknown init {name!r}{nearest(str(name), list(INIT_METHODS))}; "
            f"choose one of {', '.join(INIT_METHODS)}, or give starting parameters"
        )
    return _METHODS[name]


@partial(jax.jit, static_argnames=("method", "covariance_type"))
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
    masks. Weights of inactive components are exactly 0.
    """
    start = get_start(method)
    n_components = active.shape[1]
    seeds = jax.vmap(lambda key: start.seed(key, x, weight, n_components))(keys)

    def lane(seed: Array, mask: Array) -> GMMParams:
        rows = start.rows(seed, x, weight, mask)
        return params_from_rows(rows, x, weight, covariance_type, reg_covar)

    per_mask = jax.vmap(jax.vmap(lane, in_axes=(0, None)), in_axes=(None, 0))(seeds, active)
    return jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), per_mask)
