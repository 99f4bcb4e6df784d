"""What a fit maximises, with its gradient from the same pass over the rows (Fisher's identity).

With r_nk the responsibilities at θ itself, held fixed, and Q the expected complete-data log-likelihood,

    ∂/∂θ Σ_n v_n log p(x_n | θ) = ∂/∂θ Q(θ),   Q(θ) = Σ_nk v_n r_nk log w_k N(x_n | μ_k, Σ_k)

and Q needs the rows only through `SuffStats`. So a gradient costs what an E-step costs, in the same blocks.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

from jaxgmm._numerics import PRECISION
from jaxgmm._pytree import replace
from jaxgmm.params import Factors, GMMParams, factorize
from jaxgmm.prior import Prior, counts, log_prior
from jaxgmm.stats import SuffStats, collect
from jaxgmm.unconstrained import FreeParams, constrain, unconstrain


def expected(factors: Factors, params: GMMParams, stats: SuffStats) -> Array:
    """Q(θ) for the mixture `params` with its `factors`: its responsibilities are those behind `stats`; scalar."""
    family = params.family
    shift = params.means - stats.pivot
    precisions = family.precisions(factors.factor)
    pulled = family.apply(precisions, shift)
    distance = (
        jnp.sum(precisions * stats.xx_sum)
        - 2.0 * jnp.sum(stats.x_sum * pulled)
        + jnp.vdot(stats.resp_sum, jnp.sum(shift * pulled, axis=1), precision=PRECISION)
    )
    used = (stats.resp_sum > 0) & (factors.log_weights > -jnp.inf)
    constant = jnp.where(used, stats.resp_sum * (jnp.where(used, factors.log_weights, 0.0) + factors.log_norm), 0.0)
    return jnp.sum(constant) - 0.5 * distance


def log_likelihood(params: GMMParams, x: Array, weight: Array, block_size: int | None = None) -> Array:
    """Σ_n v_n log p(x_n) of rows x (N, D) with weights (N); differentiable once, and by `params` alone."""
    fixed = jax.lax.stop_gradient(params)
    stats = collect(factorize(fixed), x, weight, block_size)
    surrogate = expected(factorize(params), params, stats)
    return stats.log_likelihood + (surrogate - jax.lax.stop_gradient(surrogate))


def slope(params: GMMParams, stats: SuffStats, reg_covar: Array, prior: Prior | None) -> FreeParams:
    """The gradient per row, in free numbers, of what the M-step for `stats` maximises, at the mixture of their E-step.

    Without reg_covar that is the gradient of the objective. reg_covar (D) acts as if every row were blurred by so
    much, so that the gradient vanishes where EM stands still, and a covariance cannot collapse.
    """
    n_components, n_features = params.means.shape
    mass = stats.resp_sum if prior is None else counts(prior, params, stats.resp_sum)[1]
    blur = jnp.diag(jnp.broadcast_to(jnp.sqrt(reg_covar), (n_features,)))
    added = params.family.scatter(
        jnp.broadcast_to(blur, (n_components, n_features, n_features)),
        jnp.broadcast_to(mass[:, None], (n_components, n_features)),
    )
    blurred = replace(stats, xx_sum=stats.xx_sum + added)
    active = params.active

    def value(free: FreeParams) -> Array:
        own = constrain(replace(free, logits=jnp.where(active, free.logits, -jnp.inf)))
        factors = factorize(own)
        total = expected(factors, own, blurred)
        total = total if prior is None else total + log_prior(prior, own, factors)
        return total / stats.weight_sum

    free = unconstrain(params)
    return jax.grad(value)(replace(free, logits=jnp.where(active, free.logits, 0.0)))
