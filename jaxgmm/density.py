"""Log-densities and responsibilities, block by block of rows: pure functions of (params, x).

    log N(x | μ, Σ) = −½ |Uᵀ(x − μ)|² + log|U| − ½ D log 2π,        Σ⁻¹ = U Uᵀ
    log p(x)        = logsumexp_k [ log w_k + log N(x | μ_k, Σ_k) ]
    r_k(x)          = w_k N(x | μ_k, Σ_k) / p(x)

The deviation x − μ is taken first, so that an offset of the data costs no digits. Where a function takes
`GMMParams` it also takes their `Factors`.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxgmm._blocks import map_over_blocks
from jaxgmm._numerics import as_floating, default_block_size, fold, log_normal, max_distance
from jaxgmm.covariance import get_family
from jaxgmm.params import Factors, GMMParams, factorize


def deviations(factors: Factors, x: Array) -> Array:
    """x − μ_k for every component, shape (K, D, B)."""
    return x.T[None, :, :] - factors.means[:, :, None]


def component_log_density(factors: Factors, delta: Array) -> Array:
    """log N(x | μ_k, Σ_k) from deviations (K, D, B), shape (K, B); the weights are not included."""
    distance = get_family(factors.covariance_type).squared_distance(delta, factors.factor)
    distance = jnp.minimum(distance, max_distance(distance.dtype))
    return factors.log_norm[:, None] - 0.5 * distance


def joint_log_density(factors: Factors, delta: Array) -> Array:
    """log w_k + log N(x | μ_k, Σ_k), shape (K, B); −inf for inactive components whatever their parameters."""
    log_weights = factors.log_weights[:, None]
    active = log_weights > -jnp.inf
    joint = jnp.where(active, log_weights, 0.0) + component_log_density(factors, delta)
    return jnp.where(active, joint, -jnp.inf)


class Normalised(NamedTuple):
    """A joint log-density (K, B) over components: responsibilities are terms / total.

    peak (B): the largest. anchor (B): that, or 0 where none is finite. terms (K, B): exp(joint − anchor). total (B):
    their sum, and log_total its logarithm, which is lost in anchor + log_total on rows that are far from everything.
    """

    anchor: Array
    log_total: Array
    terms: Array
    total: Array
    peak: Array

    @property
    def log_sum(self) -> Array:
        """log-sum-exp, (B)."""
        return self.anchor + self.log_total


def normalise(joint: Array) -> Normalised:
    """What `Normalised` holds, of log w_k + log N(x | k) (K, B)."""
    peak = fold(jnp.maximum, jnp.max, joint)
    anchor = jax.lax.stop_gradient(jnp.where(jnp.isfinite(peak), peak, 0.0))
    terms = jnp.exp(joint - anchor[None, :])
    total = fold(jnp.add, jnp.sum, terms)
    return Normalised(anchor, log_normal(total), terms, total, peak)


def _per_row(params: GMMParams | Factors, x: Array, block_size: int | None, kind: str) -> Array:
    """One output of the density per row, blocked: which one is `kind`."""
    factors = params if isinstance(params, Factors) else factorize(params)
    n_components, n_features = factors.means.shape
    x = as_floating(x, factors.means.dtype)
    block_size = block_size or default_block_size(n_components, n_features, x.dtype.itemsize)

    def block(rows: Array) -> Array:
        delta = deviations(factors, rows)
        if kind == "component_log_prob":
            return component_log_density(factors, delta).T
        joint = joint_log_density(factors, delta)
        if kind == "predict":
            # Faster on a CPU than argmax, which does not vectorise.
            peak = jnp.max(joint, axis=0, keepdims=True)
            index = jax.lax.broadcasted_iota(jnp.int32, joint.shape, 0)
            return jnp.min(jnp.where(joint >= peak, index, n_components - 1), axis=0)
        found = normalise(joint)
        if kind == "log_prob":
            return found.log_sum
        if kind == "log_resp":
            return ((joint - found.anchor[None, :]) - found.log_total[None, :]).T
        return (found.terms / found.total[None, :]).T

    return map_over_blocks(block, (x,), block_size)


def component_log_prob(params: GMMParams | Factors, x: Array, *, block_size: int | None = None) -> Array:
    """log N(x_n | μ_k, Σ_k) without the weights, shape (N, K)."""
    return _per_row(params, x, block_size, "component_log_prob")


def log_prob(params: GMMParams | Factors, x: Array, *, block_size: int | None = None) -> Array:
    """log p(x_n) in nats, shape (N)."""
    return _per_row(params, x, block_size, "log_prob")


def responsibilities(params: GMMParams | Factors, x: Array, *, block_size: int | None = None) -> Array:
    """Posterior membership r_nk, shape (N, K); rows sum to 1."""
    return _per_row(params, x, block_size, "responsibilities")


def log_responsibilities(params: GMMParams | Factors, x: Array, *, block_size: int | None = None) -> Array:
    """log r_nk, shape (N, K), −inf for inactive components."""
    return _per_row(params, x, block_size, "log_resp")


def predict(params: GMMParams | Factors, x: Array, *, block_size: int | None = None) -> Array:
    """The most probable component of each row, int32 (N)."""
    return _per_row(params, x, block_size, "predict")
