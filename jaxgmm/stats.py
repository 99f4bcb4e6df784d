"""Sufficient statistics: what one pass over the rows leaves behind, an additive monoid.

For responsibilities r_nk, row weights v_n and a pivot c_k near component k:

    resp_sum_k = Σ_n v_n r_nk        x_sum_k = Σ_n v_n r_nk (x_n − c_k)
    xx_sum     = Σ_n v_n r_nk (x_n − c_k)(x_n − c_k)ᵀ    (in the family's smallest shape)

Second moments about zero would cancel: E[x²] − μ² loses every digit once |μ| ≫ σ.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxgmm import linalg
from jaxgmm._blocks import sum_over_blocks
from jaxgmm._numerics import PRECISION, default_block_size, features_block_size
from jaxgmm._pytree import pytree, replace
from jaxgmm.covariance import get_family
from jaxgmm.density import normalise
from jaxgmm.kernels import KERNELS
from jaxgmm.params import Factors


@pytree
class SuffStats:
    """Additive output of an E-step; ``a + b`` is the statistics of both sets of rows (same pivots).

    resp_sum (K), x_sum (K, D), xx_sum (full (K, D, D), tied (D, D), diag (K, D), spherical (K,),
    tied_diag (D,), tied_spherical scalar), pivot (K, D); scalars: log_likelihood Σ v_n log p(x_n),
    classification_log_likelihood Σ v_n max_k log w_k N(x_n | k) (the complete-data log-likelihood at the
    most probable labels, what ICL needs), weight_sum Σ v_n.
    """

    resp_sum: Array
    x_sum: Array
    xx_sum: Array
    pivot: Array
    log_likelihood: Array
    classification_log_likelihood: Array
    weight_sum: Array

    def __add__(self, other: SuffStats) -> SuffStats:
        return SuffStats(
            resp_sum=self.resp_sum + other.resp_sum,
            x_sum=self.x_sum + other.x_sum,
            xx_sum=self.xx_sum + other.xx_sum,
            pivot=self.pivot,
            log_likelihood=self.log_likelihood + other.log_likelihood,
            classification_log_likelihood=self.classification_log_likelihood + other.classification_log_likelihood,
            weight_sum=self.weight_sum + other.weight_sum,
        )


def collect(
    factors: Factors,
    x: Array,
    weight: Array,
    block_size: int | None = None,
    *,
    kernel: str = "whitening",
    span: tuple[Array, Array] | None = None,
) -> SuffStats:
    """The E-step: statistics of rows x (N, D) with weights (N) under a factorised mixture.

    Rows are visited in blocks of `block_size`; responsibilities exist for one block at a time. kernel: a name in
    `KERNELS`. span: the first block and the one after the last, traced; None for all.
    """
    how = KERNELS[kernel]
    n_components, n_features = factors.means.shape
    block_size = block_size or how.block_size(n_components, n_features, x.dtype.itemsize)
    prepared = how.prepare(factors)

    def block(rows: Array, w: Array) -> tuple[Any, dict[str, Array]]:
        # Rows that count for nothing need not be finite, and 0 times infinity is not nothing.
        view = how.view(prepared, jnp.where(w[:, None] > 0, rows, 0.0))
        joint, common = how.joint(prepared, view)
        found = normalise(joint)
        # One division a row instead of one a component.
        resp = found.terms * (w / found.total)[None, :]
        sums = how.sums(prepared, view, resp, w)
        return sums, {
            # As products: faster than sums, and rows of weight 0 are finite here.
            "log_likelihood": jnp.dot(found.log_sum + common, w, precision=PRECISION),
            "classification_log_likelihood": jnp.dot(found.peak + common, w, precision=PRECISION),
            "weight_sum": jnp.sum(w),
        }

    sums, totals = sum_over_blocks(block, (x, weight), block_size, span)
    return SuffStats(**how.moments(sums, factors)._asdict(), **totals)


def collect_given(
    resp_of: Callable[..., Array],
    rows: tuple[Array, ...],
    weight: Array,
    pivot: Array,
    covariance_type: str,
    block_size: int | None = None,
) -> SuffStats:
    """Statistics for responsibilities that a start supplies instead of a mixture.

    `rows` is (x, ...): x (N, D) and whatever per-row arrays ``resp_of(*block)`` needs to give the
    responsibilities (B, K) of a block. `pivot` is (K, D). Log-likelihoods are 0: there is no mixture yet.
    """
    family = get_family(covariance_type)
    n_components, n_features = pivot.shape
    block_size = block_size or default_block_size(n_components, n_features, rows[0].dtype.itemsize)
    zero = jnp.zeros((), rows[0].dtype)

    def block(*args: Array) -> SuffStats:
        *data, w = args
        delta = linalg.columns(jnp.where(w[:, None] > 0, data[0], 0.0))[None, :, :] - pivot[:, :, None]
        # Worked out once, not anew for every feature.
        resp = jax.lax.optimization_barrier(resp_of(*data).T * w[None, :])
        return SuffStats(
            resp_sum=jnp.sum(resp, axis=1),
            x_sum=linalg.weighted_sums(resp, delta),
            xx_sum=family.scatter(delta, resp),
            pivot=jnp.zeros_like(pivot),
            log_likelihood=zero,
            classification_log_likelihood=zero,
            weight_sum=jnp.sum(w),
        )

    return replace(sum_over_blocks(block, (*rows, weight), block_size), pivot=pivot)


def collect_assigned(
    owner_of: Callable[..., Array], rows: tuple[Array, ...], weight: Array, pivot: Array, covariance_type: str
) -> SuffStats:
    """`collect_given` where a row belongs to one component or to none: responsibilities are 0 or 1, one 1 at most.

    A row then has one deviation, from the pivot of its own component, and its products are worked out once for all.
    """
    family = get_family(covariance_type)
    n_components, n_features = pivot.shape
    zero = jnp.zeros((), rows[0].dtype)

    def block(*args: Array) -> SuffStats:
        *data, w = args
        # Read twice, so worked out before.
        owner = jax.lax.optimization_barrier(owner_of(*data).T)
        x = linalg.columns(jnp.where(w[:, None] > 0, data[0], 0.0))
        # A sum of one pivot and zeros rounds nothing.
        delta = x - jnp.matmul(pivot.T, owner, precision=PRECISION)
        share = owner * w[None, :]
        quadratic = family.quadratic(delta)
        features = [jnp.ones_like(w)[None, :], delta, *([quadratic] if family.per_component else [])]
        own = jax.lax.dot_general(jnp.concatenate(features), share, (((1,), (1,)), ((), ())), precision=PRECISION)
        second = own[1 + n_features :]
        if not family.per_component:
            second = jnp.matmul(quadratic, jnp.sum(share, axis=0), precision=PRECISION)
        return SuffStats(
            resp_sum=own[0],
            x_sum=own[1 : 1 + n_features].T,
            xx_sum=family.scatter_of(second),
            pivot=jnp.zeros_like(pivot),
            log_likelihood=zero,
            classification_log_likelihood=zero,
            weight_sum=jnp.sum(w),
        )

    block_size = features_block_size(n_components, n_features, rows[0].dtype.itemsize)
    return replace(sum_over_blocks(block, (*rows, weight), block_size), pivot=pivot)
