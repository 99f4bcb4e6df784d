"""Mixture parameters as free real numbers: what may be extrapolated or handed to any optimiser.

    w_k = exp(a_k) / Σ_j exp(a_j),   Σ_k = L_k L_kᵀ,   L_k lower triangular with diagonal exp(c_k)

Every real (a, μ, L, c) is a mixture with positive definite covariances; for families without correlations c is half
the logarithm of a variance, and there is no L.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxgmm._pytree import pytree, static_field
from jaxgmm.covariance import get_family
from jaxgmm.params import GMMParams


@pytree
class FreeParams:
    """The same mixture as `GMMParams`, in numbers that need not satisfy anything.

    logits (K): a, -inf for an inactive component. means (K, D). shapes: L with c on its diagonal, or c alone, in the
    family's shape. covariance_type: static.
    """

    logits: Any
    means: Any
    shapes: Any
    covariance_type: str = static_field()


def unconstrain(params: GMMParams) -> FreeParams:
    """Free numbers of a mixture (no lane axes); NaN where a covariance is singular.

    >>> import numpy as np
    >>> p = GMMParams(weights=np.array([0.25, 0.75]), means=np.zeros((2, 1)), covariances=np.array([1.0, 4.0]),
    ...               covariance_type="spherical")
    >>> round(float(constrain(unconstrain(p)).covariances[1]), 5)
    4.0
    """
    return FreeParams(
        logits=jnp.log(jnp.asarray(params.weights)),
        means=jnp.asarray(params.means),
        shapes=params.family.free(jnp.asarray(params.covariances)),
        covariance_type=params.covariance_type,
    )


def constrain(free: FreeParams) -> GMMParams:
    """The mixture of free numbers; the logits need not be normalised."""
    return GMMParams(
        weights=jax.nn.softmax(free.logits),
        means=free.means,
        covariances=get_family(free.covariance_type).of_free(free.shapes),
        covariance_type=free.covariance_type,
    )
