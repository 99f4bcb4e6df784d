"""What a start is: seeds per restart, then responsibilities of rows, then one M-step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax import Array

from jaxgmm._blocks import sum_over_blocks
from jaxgmm._numerics import MAX_BLOCK, PRECISION, safe_divide
from jaxgmm.covariance import get_family
from jaxgmm.params import GMMParams
from jaxgmm.stats import collect_assigned, collect_given
from jaxgmm.steps import m_step

# Products of pairs of more features than this take longer to compile than they save.
_MAX_PAIRED = 32


class StartRows(NamedTuple):
    """How rows share themselves out among components at the start.

    resp_of(x_block, *extra_blocks) gives responsibilities (B, K); extra: further per-row arrays it needs;
    pivot: (K, D) points near the components, about which moments are taken; None: their means are found first.
    n_components: K. exclusive: whether a row belongs to one component or to none, all responsibilities being 0 or 1.
    """

    resp_of: Callable[..., Array]
    extra: tuple[Array, ...]
    pivot: Array | None
    n_components: int
    exclusive: bool = False


class StartMethod(Protocol):
    """One way to start."""

    name: str
    random: bool
    """Whether different keys give different starts."""

    def seeds(self, keys: Array, x: Array, weight: Array, active: Array) -> Any:
        """What the start finds before a covariance family is known, leading axes (J, R) for masks and keys.

        Called on the host. What is random is drawn once per key and shared by the masks: the first J of K seeds
        serve J components.
        """
        ...

    def rows(self, seeds: Any, x: Array, weight: Array, active: Array) -> StartRows:
        """Responsibilities for the components where `active` (K) holds, from the seeds of one lane; compiled."""
        ...


def params_from_rows(start: StartRows, x: Array, weight: Array, covariance_type: str, reg_covar: Array) -> GMMParams:
    """One M-step on given responsibilities; a component that no row belongs to is inactive (weight 0)."""
    n_components, n_features = start.n_components, x.shape[1]
    family = get_family(covariance_type)
    pivot = _component_means(start, x, weight) if start.pivot is None else start.pivot
    in_pairs = start.exclusive and (n_features <= _MAX_PAIRED or not family.correlated)
    collect = collect_assigned if in_pairs else collect_given
    stats = collect(start.resp_of, (x, *start.extra), weight, pivot, covariance_type)
    identity = jnp.broadcast_to(jnp.eye(n_features, dtype=x.dtype), (n_components, n_features, n_features))
    unit_weights = jnp.ones(n_components, x.dtype)
    blank = GMMParams(
        weights=unit_weights,
        means=pivot,
        covariances=family.from_full(identity, unit_weights),
        covariance_type=family.name,
    )
    return m_step(blank, stats, reg_covar)


def _component_means(start: StartRows, x: Array, weight: Array) -> Array:
    """Σ v_n r_nk x_n / Σ v_n r_nk, shape (K, D); 0 for a component without rows."""

    def block(rows: Array, *rest: Array) -> tuple[Array, Array]:
        *extra, w = rest
        resp = start.resp_of(rows, *extra) * w[:, None]
        return jnp.sum(resp, axis=0), jnp.matmul(resp.T, rows, precision=PRECISION)

    mass, total = sum_over_blocks(block, (x, *start.extra, weight), MAX_BLOCK)
    return safe_divide(total, mass[:, None])


def uniform(key: Array, shape: tuple[int, ...], dtype: Any) -> Array:
    """Uniform numbers in [0, 1] whose leading digits are the same in every precision.

    So a key gives the same start in float32 and in float64. Two single-precision draws make one number, which
    leaves float64 enough steps to reach every row of a large data set. The first numbers along the first axis
    do not depend on its length.
    """
    draws = jax.random.uniform(key, (*shape, 2), jnp.float32).astype(dtype)
    return draws[..., 0] + draws[..., 1] * jnp.asarray(2.0**-23, dtype)


def weighted_mean(x: Array, weight: Array) -> Array:
    """Σ v_n x_n / Σ v_n, shape (D)."""
    total = sum_over_blocks(lambda rows, w: jnp.sum(rows * w[:, None], axis=0), (x, weight), MAX_BLOCK)
    return total / jnp.sum(weight)
