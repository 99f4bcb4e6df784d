"""The two steps of EM as pure functions: e_step sees rows, m_step sees statistics only.

    E:  r_nk = w_k N(x_n | μ_k, Σ_k) / Σ_j w_j N(x_n | μ_j, Σ_j)
    M:  w_k = R_k / Σ R,   μ_k = c_k + s_k / R_k,   Σ_k = S_k / R_k − (μ_k − c_k)(μ_k − c_k)ᵀ + reg_covar I

with R, s, S the moments of `SuffStats` about the pivot c (Dempster, Laird and Rubin 1977).
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from jaxgmm._numerics import as_floating, min_mass, safe_divide
from jaxgmm._pytree import replace
from jaxgmm.params import GMMParams, factorize
from jaxgmm.prior import Prior, counts, scatter_prior, shrink
from jaxgmm.stats import SuffStats, collect


def e_step(
    params: GMMParams, x: Array, sample_weight: Array | None = None, *, block_size: int | None = None
) -> SuffStats:
    """Expected sufficient statistics of the rows under the mixture, and their log-likelihood.

    params: a mixture of K components in D dimensions. x: (N, D) rows in data units, float32 or float64.
    sample_weight: (N) weights >= 0, None for all ones; a row of weight 0 is as if absent.
    block_size: rows per scan step; the result does not depend on it beyond rounding.

    Returns `SuffStats`. A singular covariance gives NaN, never an exception.

    >>> import numpy as np
    >>> p = GMMParams(weights=np.ones(1), means=np.zeros((1, 1)), covariances=np.ones((1, 1)),
    ...               covariance_type="diag")
    >>> float(e_step(p, np.zeros((3, 1), np.float32)).resp_sum[0])
    3.0
    """
    x = as_floating(x, jnp.asarray(params.means).dtype)
    weight = jnp.ones(x.shape[0], x.dtype) if sample_weight is None else jnp.asarray(sample_weight, x.dtype)
    return collect(factorize(params), x, weight, block_size)


def m_step(
    params: GMMParams, stats: SuffStats, reg_covar: float | Array = 1e-6, prior: Prior | None = None
) -> GMMParams:
    """The mixture that maximises the expected log-likelihood, plus the logarithm of a prior, given statistics.

    params: the previous mixture; gives the covariance type, and the mean and covariance of a component
    that has become empty (it gets weight 0, which makes it inactive). reg_covar: added to the diagonal of
    every covariance, data units squared; one number, or one for each feature (D). prior: see `jaxgmm.prior`.

    >>> import numpy as np
    >>> p = GMMParams(weights=np.ones(1), means=np.zeros((1, 1)), covariances=np.ones((1, 1)),
    ...               covariance_type="diag")
    >>> x = np.array([[1.0], [3.0]], np.float32)
    >>> q = m_step(p, e_step(p, x), reg_covar=0.0)
    >>> float(q.means[0, 0]), float(q.covariances[0, 0])
    (2.0, 1.0)
    """
    family = params.family
    occupied = stats.resp_sum > min_mass(stats.resp_sum.dtype) * jnp.sum(stats.resp_sum)
    resp_sum = jnp.where(occupied, stats.resp_sum, 0.0)
    reg_covar = jnp.asarray(reg_covar, resp_sum.dtype)
    if prior is None:
        shift = safe_divide(stats.x_sum, resp_sum[:, None])
        covariances = family.estimate(stats.xx_sum, shift, resp_sum)
        shares = resp_sum
    else:
        # As if there were more rows, but not as many for the covariance as for the mean.
        mass, wanted = counts(prior, params, resp_sum)
        pulled = stats.x_sum + prior.mean_weight * (prior.mean[None, :] - stats.pivot)
        shift = safe_divide(pulled, mass[:, None])
        scatter = stats.xx_sum + scatter_prior(prior, params, stats.pivot)
        covariances = shrink(family.estimate(scatter, shift, mass), mass, wanted, params)
        shares = jnp.where(occupied, resp_sum + prior.concentration - 1.0, 0.0)
    means = jnp.where(occupied[:, None], stats.pivot + shift, params.means)
    covariances = family.add_to_diagonal(covariances, reg_covar)
    if family.per_component:
        keep = occupied.reshape(-1, *([1] * (covariances.ndim - 1)))
        covariances = jnp.where(keep, covariances, params.covariances)
    return replace(params, weights=shares / jnp.sum(shares), means=means, covariances=covariances)


def em_step(
    params: GMMParams,
    x: Array,
    sample_weight: Array | None = None,
    *,
    reg_covar: float | Array = 1e-6,
    prior: Prior | None = None,
    block_size: int | None = None,
) -> tuple[GMMParams, SuffStats]:
    """One EM iteration: the updated mixture, and the statistics (with the log-likelihood) of the *old* one."""
    stats = e_step(params, x, sample_weight, block_size=block_size)
    return m_step(params, stats, reg_covar, prior), stats
