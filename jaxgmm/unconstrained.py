"""Mixture parameters as free real numbers: what may be extrapolated or handed to any optimiser.

    w_k = exp(a_k) / Σ_j exp(a_j),   Σ_k = L_k L_kᵀ,   L_k lower triangular with diagonal exp(c_k)

Every real (a, μ, L, c) is a mixture with positive definite covariances; for families without correlations c is half
the logarithm of a variance, and there is no L.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxgmm._fork import check_threads
from jaxgmm._numerics import PRECISION
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
    check_threads()
    return FreeParams(
        logits=jnp.log(jnp.asarray(params.weights)),
        means=jnp.asarray(params.means),
        shapes=params.family.free(jnp.asarray(params.covariances)),
        covariance_type=params.covariance_type,
    )


def constrain(free: FreeParams) -> GMMParams:
    """The mixture of free numbers; the logits need not be normalised."""
    check_threads()
    return GMMParams(
        weights=jax.nn.softmax(free.logits),
        means=free.means,
        covariances=get_family(free.covariance_type).of_free(free.shapes),
        covariance_type=free.covariance_type,
    )


def metric(params: GMMParams) -> FreeParams:
    """Square roots of a rough Fisher information per row, by which lengths do not depend on the units of the features.

    All are positive: those of an inactive component are 1, and nothing there moves.
    """
    family, n_components, n_features = params.family, params.n_components, params.n_features
    share = jnp.where(params.weights > 0, jnp.sqrt(params.weights), 1.0)
    deviation = jnp.sqrt(family.variances(params.covariances, n_components, n_features))
    shapes = jnp.ones_like(params.covariances)
    if family.correlated:
        # Row i of L has the units of feature i, but for the logarithm on the diagonal.
        unit = jnp.where(jnp.eye(n_features, dtype=bool)[None], 1.0, 1.0 / deviation[:, :, None])
        shapes = unit if family.per_component else unit[0]
    if family.per_component:
        shapes = shapes * jnp.broadcast_to(share.reshape(-1, *([1] * (shapes.ndim - 1))), shapes.shape)
    return FreeParams(
        logits=share, means=share[:, None] / deviation, shapes=shapes, covariance_type=params.covariance_type
    )


def weighed(scale: FreeParams, free: FreeParams) -> FreeParams:
    """Free numbers in units of a `metric`."""
    return jax.tree.map(jnp.multiply, scale, free)


def dot(a: FreeParams, b: FreeParams) -> Array:
    """The sum of all products."""
    return jax.tree.reduce(jnp.add, jax.tree.map(lambda x, y: jnp.vdot(x, y, precision=PRECISION), a, b))
