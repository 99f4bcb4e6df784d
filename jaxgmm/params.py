"""The parameters of a Gaussian mixture as an immutable pytree, and the quantities derived from them.

    p(x) = Σ_k w_k N(x | μ_k, Σ_k),   Σ_k w_k = 1

Weights, means and covariances are the truth; Cholesky factors are derived by `factorize`. A component
whose weight is exactly 0 is *inactive*: it receives no responsibility, EM leaves it alone, and so one
compiled program of K components serves every smaller component count.
"""

from __future__ import annotations

from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxgmm._checks import is_symmetric
from jaxgmm._numerics import LOG_2PI, PRECISION, safe_log, singular_floor
from jaxgmm._pytree import pytree, replace, static_field
from jaxgmm._status import DataError
from jaxgmm.covariance import CovarianceFamily, get_family

T = TypeVar("T")

# Weights in float32, or printed and read again, miss a sum of 1 by more than rounding in float64.
_WEIGHT_SUM_SLACK = 1e-4


@pytree
class GMMParams:
    """Parameters of a mixture of K Gaussians in D dimensions.

    weights: (K), sum 1; exactly 0 marks an inactive component.
    means: (K, D), in the units of the data.
    covariances: in data units squared; full (K, D, D), tied (D, D), diag (K, D), spherical (K,),
        tied_diag (D,), tied_spherical a scalar.
    covariance_type: the name of the family; static, part of the tree structure.

    Every array may carry the same extra leading (lane) axes.

    >>> p = GMMParams(weights=np.ones(1), means=np.zeros((1, 2)), covariances=np.ones(1),
    ...               covariance_type="spherical")
    >>> p.n_components, p.n_features
    (1, 2)
    """

    weights: Any
    means: Any
    covariances: Any
    covariance_type: str = static_field()

    @property
    def family(self) -> CovarianceFamily:
        """The covariance family object."""
        return get_family(self.covariance_type)

    @property
    def n_components(self) -> int:
        """K, inactive components included."""
        return int(self.means.shape[-2])

    @property
    def n_features(self) -> int:
        """D."""
        return int(self.means.shape[-1])

    @property
    def dtype(self) -> np.dtype:
        """The floating type of the means."""
        return np.dtype(self.means.dtype)

    @property
    def active(self) -> Any:
        """(K) bool: which components can receive responsibility."""
        return self.weights > 0


@pytree
class Factors:
    """What a log-density needs, computed once per E-step.

    log_weights (K): log w_k, -inf for inactive components. means (K, D).
    factor: U_k with Σ_k⁻¹ = U_k U_kᵀ in the family's shape. log_norm (K): log normalising constants
    ½ log det Σ_k⁻¹ − ½ D log 2π.
    """

    log_weights: Any
    means: Any
    factor: Any
    log_norm: Any
    covariance_type: str = static_field()

    @property
    def n_features(self) -> int:
        """D."""
        return int(self.means.shape[-1])


def factorize(params: GMMParams) -> Factors:
    """Cholesky factors and normalising constants of one parameter set (no lane axes)."""
    family = params.family
    n_components, n_features = params.n_components, params.n_features
    factor = family.factor(jnp.asarray(params.covariances))
    log_norm = family.half_log_det(factor, n_components, n_features) - 0.5 * n_features * LOG_2PI
    return Factors(
        log_weights=safe_log(jnp.asarray(params.weights)),
        means=jnp.asarray(params.means),
        factor=factor,
        log_norm=log_norm,
        covariance_type=params.covariance_type,
    )


def is_sound(params: GMMParams, factors: Factors, shift: Array) -> Array:
    """Scalar bool: some component is active, and all active ones are finite and not singular.

    A covariance is singular when the variance of a feature given those before it is at the rounding level of
    the moment it was computed from, Σ_jj + shift_j², where `shift` (K, D) is the way of the mean from the pivot
    of the moments. Such a factor has no correct digit left, and taking it at its word is how a collapsed
    component gets an infinite likelihood. The test does not depend on the units.
    """
    family, n_components, n_features = params.family, params.n_components, params.n_features
    active = factors.log_weights > -jnp.inf
    finite = jnp.isfinite(factors.log_norm) & jnp.all(jnp.isfinite(factors.means), axis=-1)
    conditional = family.conditional_variances(factors.factor, n_components, n_features)
    moment = family.variances(jnp.asarray(params.covariances), n_components, n_features)
    square = shift * shift
    if not family.per_component:
        square = jnp.broadcast_to(jnp.matmul(params.weights, square, precision=PRECISION), square.shape)
    resolved = jnp.all(conditional > singular_floor(n_features, moment.dtype) * (moment + square), axis=-1)
    return jnp.all((finite & resolved) | ~active) & jnp.any(active)


def translate(params: GMMParams, offset: Any) -> GMMParams:
    """The mixture of x + offset, offset (D)."""
    return replace(params, means=params.means + offset)


def rescale(params: GMMParams, scale: float) -> GMMParams:
    """The mixture of scale · x."""
    return replace(params, means=params.means * scale, covariances=params.covariances * scale * scale)


def select_components(params: GMMParams, index: Any) -> GMMParams:
    """The components `index` (integers or a mask) in that order; weights are not rescaled."""
    covariances = params.covariances[index] if params.family.per_component else params.covariances
    return replace(params, weights=params.weights[index], means=params.means[index], covariances=covariances)


def pad_components(params: GMMParams, n_components: int) -> GMMParams:
    """Append inactive components (weight 0, copies of the first) up to `n_components`; lane axes allowed."""
    extra = n_components - params.n_components
    if extra <= 0:
        return params

    def repeat_first(array: Any, axis: int) -> Any:
        first = jnp.take(array, jnp.zeros(extra, jnp.int32), axis=axis)
        return jnp.concatenate([array, first], axis=axis)

    lead = params.means.ndim - 2
    weights = jnp.asarray(params.weights)
    return replace(
        params,
        weights=jnp.concatenate([weights, jnp.zeros((*weights.shape[:-1], extra), weights.dtype)], axis=-1),
        means=repeat_first(params.means, lead),
        covariances=repeat_first(params.covariances, lead) if params.family.per_component else params.covariances,
    )


def check_params(params: GMMParams, *, n_features: int | None = None) -> None:
    """Raise `DataError` unless shapes agree, numbers are finite, weights sum to 1 and covariances are sound.

    On the host and without compiling. The covariance of an inactive component may be anything finite.
    """
    weights, means, covariances = (np.asarray(a) for a in (params.weights, params.means, params.covariances))
    if means.ndim != 2 or 0 in means.shape or weights.shape != means.shape[:1]:
        raise DataError(
            "E240",
            f"weights {weights.shape} and means {means.shape} must have shapes (K) and (K, D)",
            "give one weight and one mean for each component",
        )
    shape = params.family.shape(*means.shape)
    if covariances.shape != shape:
        raise DataError(
            "E240",
            f"{params.covariance_type} covariances must have shape {shape}, got {covariances.shape}",
            f"give an array of shape {shape}, or another covariance_type",
        )
    if n_features is not None and means.shape[1] != n_features:
        raise DataError(
            "E210",
            f"the parameters have {means.shape[1]} features, but x has {n_features} columns",
            "give the same columns as the parameters have",
        )
    for name, array in (("weights", weights), ("means", means), ("covariances", covariances)):
        if not np.isfinite(array).all():
            raise DataError("E241", f"{name} contain NaN or infinity", "a mixture needs finite numbers")
    if (weights < 0).any() or abs(weights.sum() - 1.0) > _WEIGHT_SUM_SLACK:
        found = f"got a sum of {weights.sum():.6g} and a smallest of {weights.min():.6g}"
        raise DataError("E242", f"weights must be at least 0 and sum to 1, {found}", "divide them by their sum")
    if params.family.correlated and not is_symmetric(_used_covariances(params)):
        found = f"a {params.covariance_type} covariance is not symmetric"
        raise DataError("E243", found, "give the mean of it and of its transpose")
    if not smallest_variance(params) > 0:
        raise DataError("E243", f"a {params.covariance_type} covariance is not positive definite", "raise its diagonal")


def smallest_variance(params: GMMParams) -> float:
    """The smallest variance of a feature given those before it in an active component; 0 if there is none.

    On the host, in double precision and with numbers below the normal ones, which compiled code takes for 0.
    """
    used = _used_covariances(params)
    if not params.family.correlated:
        return float(used.min())
    try:
        return float((np.diagonal(np.linalg.cholesky(used), axis1=-2, axis2=-1) ** 2).min())
    except np.linalg.LinAlgError:
        return 0.0


def _used_covariances(params: GMMParams) -> np.ndarray:
    """Those of the active components, on the host in double precision."""
    covariances = np.asarray(params.covariances, np.float64)
    return covariances[np.asarray(params.weights) > 0] if params.family.per_component else covariances


def as_dtype(tree: T, dtype: Any) -> T:
    """Parameters or factors with every array converted on the host to `dtype`."""
    return jax.tree.map(lambda a: np.asarray(a).astype(dtype, copy=False), tree)
