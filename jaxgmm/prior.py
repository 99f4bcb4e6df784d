"""A conjugate prior on the parameters of a mixture: Dirichlet, normal and inverse Wishart (or inverse gamma).

    w ~ Dirichlet(α),   μ_k | Σ_k ~ N(m, Σ_k / κ),   Σ_k ~ inverse Wishart(ν, Λ)

For families without correlations every variance σ² has the density σ²^(−ν/2 − 1) exp(−λ / 2σ²), λ in the place of Λ.
Up to a constant, with n₀ = ν + D + 1 (ν + 2 for a variance of its own, (ν + 2) / D for one that all features share),

    log p = Σ_k (α − 1) log w_k − ½ Σ_k [(n₀ + 1) log |Σ_k| + κ (μ_k − m)ᵀ Σ_k⁻¹ (μ_k − m) + tr(Λ Σ_k⁻¹)]

and, where all components share Σ, n₀ + K in place of the sum of the n₀ + 1, and one trace. EM then rises the
log-likelihood plus this (Fraley and Raftery 2007, Journal of Classification 24).
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxgmm._checks import as_float_array, is_symmetric
from jaxgmm._numerics import safe_divide
from jaxgmm._pytree import pytree, replace
from jaxgmm._status import DataError, UsageError
from jaxgmm.covariance import get_family
from jaxgmm.params import Factors, GMMParams


@pytree
class Prior:
    """Parameters of the prior, the same for every component.

    mean (D): m, in the units of the data. mean_weight: κ > 0, in rows. dof: ν > 0, in rows. scale: Λ (D, D), or λ (D)
    for diag and tied_diag, a scalar for spherical and tied_spherical; data units squared. concentration: α >= 1, in
    rows; 1 says nothing about the weights.
    """

    mean: Any
    mean_weight: Any
    dof: Any
    scale: Any
    concentration: Any = 1.0


def default_prior(mean: np.ndarray, covariance: np.ndarray, n_components: int, covariance_type: str) -> Prior:
    """mclust's default: κ = 0.01, ν = D + 2, m the mean of the data and, with their covariance S, Λ = S / K^(2/D).

    mean (D), covariance (D, D): of the data. For families without correlations λ = tr S / D / K^(2/D).

    >>> float(default_prior(np.zeros(1), np.eye(1), 2, "diag").scale[0])
    0.25
    """
    family, n_features = get_family(covariance_type), len(mean)
    share = n_components ** (-2.0 / n_features)
    shape = family.shape(n_components, n_features)[1 if family.per_component else 0 :]
    scale = covariance if family.correlated else np.full(shape, np.trace(covariance) / n_features)
    return Prior(mean=mean, mean_weight=0.01, dof=n_features + 2.0, scale=np.asarray(scale * share))


def prior_for(prior: Any, covariance_type: str, n_features: int) -> Prior | str | None:
    """A prior that was given, checked; "default" and None as they are."""
    if prior is None or isinstance(prior, Prior):
        return None if prior is None else check_prior(prior, covariance_type, n_features)
    if isinstance(prior, str) and prior == "default":
        return prior
    raise UsageError("E151", f"prior is {prior!r}", 'give a Prior, "default" for that of mclust, or None')


def check_prior(prior: Prior, covariance_type: str, n_features: int) -> Prior:
    """The prior as float64 arrays of the shapes that the family wants; `UsageError` says what cannot be used."""
    family = get_family(covariance_type)
    shape = family.shape(1, n_features)[1 if family.per_component else 0 :]
    found = Prior(**{name: _numbers(prior, name) for name in Prior.__dataclass_fields__})
    for name, wanted in (
        ("mean", (n_features,)),
        ("scale", shape),
        ("mean_weight", ()),
        ("dof", ()),
        ("concentration", ()),
    ):
        value = getattr(found, name)
        if value.shape != wanted:
            raise UsageError("E151", f"prior.{name} has shape {value.shape}", f"give it the shape {wanted}")
        if not np.isfinite(value).all():
            raise UsageError("E151", f"prior.{name} contains {value.ravel()[0]:g}", "give finite numbers")
    for name in ("mean_weight", "dof"):
        if getattr(found, name) <= 0:
            raise UsageError("E151", f"prior.{name} is {getattr(found, name):g}", "give a number of rows above 0")
    if found.concentration < 1.0:
        raise UsageError(
            "E151", f"prior.concentration is {found.concentration:g}", "give 1, which says nothing, or more"
        )
    if family.correlated and not is_symmetric(np.asarray(found.scale)):
        raise UsageError("E151", "prior.scale is not symmetric", "give a covariance matrix")
    lowest = np.linalg.eigvalsh(found.scale)[0] if family.correlated else np.min(found.scale)
    if not lowest > 0:
        raise UsageError(
            "E151",
            f"prior.scale is not positive definite (smallest eigenvalue {lowest:g})",
            "give a covariance matrix, or variances above 0",
        )
    return found


def _numbers(prior: Prior, name: str) -> np.ndarray:
    try:
        return as_float_array(getattr(prior, name), f"prior.{name}").astype(np.float64)
    except DataError as error:
        raise UsageError("E151", error.found, error.help) from None


def rescale_prior(prior: Prior, offset: Any, scale: float) -> Prior:
    """The prior of (x − offset) / scale."""
    return replace(prior, mean=(prior.mean - offset) / scale, scale=prior.scale / scale / scale)


def _own_dof(prior: Prior, params: GMMParams) -> Array:
    """n₀."""
    family, n_features = params.family, params.n_features
    if family.correlated:
        return prior.dof + n_features + 1.0
    # Where all features share a variance, |Σ| has it D times.
    shared = n_features if jnp.ndim(prior.scale) == 0 else 1
    return (prior.dof + 2.0) / shared


def counts(prior: Prior, params: GMMParams, resp_sum: Array) -> tuple[Array, Array]:
    """By how much mass the mean and the covariance of every component are divided, both (K)."""
    used = params.weights > 0
    mean_mass = jnp.where(used, resp_sum + prior.mean_weight, 0.0)
    own = _own_dof(prior, params)
    if params.family.per_component:
        return mean_mass, resp_sum + own + 1.0
    # Shared out equally: what counts is the sum.
    n_used = jnp.sum(used)
    return mean_mass, jnp.where(used, resp_sum + 1.0 + own / n_used, 0.0)


def log_prior(prior: Prior, params: GMMParams, factors: Factors) -> Array:
    """log p of the parameters, up to a constant; scalar."""
    family, n_components, n_features = params.family, params.n_components, params.n_features
    used = factors.log_weights > -jnp.inf
    half_log_det = family.half_log_det(factors.factor, n_components, n_features)
    distance = family.squared_distance((factors.means - prior.mean[None, :])[:, :, None], factors.factor)[:, 0]
    precisions = family.precisions(factors.factor)
    axes = tuple(range(-jnp.ndim(prior.scale), 0))
    trace = jnp.sum(precisions * jnp.broadcast_to(prior.scale, precisions.shape), axis=axes)
    own = _own_dof(prior, params)
    weights = (prior.concentration - 1.0) * jnp.where(used, factors.log_weights, 0.0)
    each = jnp.where(used, half_log_det - 0.5 * prior.mean_weight * distance, 0.0)
    shape = own * half_log_det - 0.5 * trace
    total = jnp.sum(jnp.where(used, shape, 0.0)) if family.per_component else shape[jnp.argmax(used)]
    return jnp.sum(weights + each) + total


def change_of_units(prior: Prior, params: GMMParams, scale: float) -> float:
    """What `log_prior` gains when data, parameters and prior are multiplied by `scale`: Σ_k has |Σ_k| in it."""
    n_used = int(np.count_nonzero(params.weights))
    own = float(_own_dof(prior, params))
    n_factors = n_used * (own + 1.0) if params.family.per_component else own + n_used
    return -n_factors * params.n_features * float(np.log(scale))


def scatter_prior(prior: Prior, params: GMMParams, pivot: Array) -> Array:
    """What the prior adds to the second moments about `pivot` (K, D): a row of weight κ at m, and Λ."""
    used = params.weights > 0
    delta = (prior.mean[None, :] - pivot)[:, :, None]
    added = params.family.scatter(delta, jnp.where(used, prior.mean_weight, 0.0)[:, None])
    return added + jnp.broadcast_to(prior.scale, added.shape)


def shrink(covariances: Array, mass: Array, wanted: Array, params: GMMParams) -> Array:
    """Covariances that were divided by `mass` (K), divided by `wanted` (K) instead."""
    if not params.family.per_component:
        return covariances * (jnp.sum(mass) / jnp.sum(wanted))
    ratio = safe_divide(mass, wanted)
    return covariances * ratio.reshape(-1, *([1] * (covariances.ndim - 1)))
