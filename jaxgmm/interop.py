"""To and from scikit-learn: the same mixture as `GMMParams` and as a fitted `sklearn.mixture.GaussianMixture`."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxgmm._checks import precision_context
from jaxgmm._pytree import replace
from jaxgmm._status import UsageError
from jaxgmm.covariance import get_family
from jaxgmm.em.result import FitResult
from jaxgmm.init.given import make_params
from jaxgmm.params import GMMParams

# The structures scikit-learn has; any other one shared by all components is written as its "tied".
_SKLEARN_TYPES = ("full", "tied", "diag", "spherical")


def from_sklearn(estimator: Any) -> GMMParams:
    """The parameters of a fitted scikit-learn mixture, or of anything with the same attributes.

    estimator: has weights_ (K), means_ (K, D), covariances_ and covariance_type as scikit-learn defines them,
    data units. float32 stays float32, anything else becomes float64. Of a Bayesian mixture this is the
    plug-in mixture of its point estimates, not its predictive density.

    Returns checked `GMMParams`. `UsageError` for an estimator that is not fitted or is no mixture,
    `DataError` for parameters that are no mixture.

    >>> from types import SimpleNamespace
    >>> fitted = SimpleNamespace(weights_=[1.0], means_=[[0.0]], covariances_=[[2.0]], covariance_type="diag")
    >>> from_sklearn(fitted).covariances.tolist()
    [[2.0]]
    """
    if not hasattr(estimator, "covariance_type"):
        raise UsageError("E145", f"{type(estimator).__name__} has no covariance_type", "give a fitted GaussianMixture")
    names = ("weights_", "means_", "covariances_")
    missing = [name for name in names if not hasattr(estimator, name)]
    if missing:
        raise UsageError(
            "E146", f"{type(estimator).__name__} has no {missing[0]}: it is not fitted", "call fit(x) first"
        )
    weights, means, covariances = (getattr(estimator, name) for name in names)
    return make_params(weights, means, covariances, estimator.covariance_type)


def to_sklearn(fitted: GMMParams | FitResult) -> Any:
    """The mixture as a fitted `sklearn.mixture.GaussianMixture`, in float64.

    tied_diag and tied_spherical, which scikit-learn lacks, become its "tied" with a diagonal matrix: the same
    density, but counted with more parameters by its aic and bic. An inactive component keeps its place with
    weight 0, for which scikit-learn's log warns. precisions_cholesky_ is the upper U with Σ⁻¹ = U Uᵀ.

    fitted: parameters, or a fit, which also sets converged_, n_iter_ and lower_bound_ (the mean
    log-likelihood, nats); parameters alone leave them at False, 0 and -inf, as before any iteration.

    Returns the estimator, ready for predict, score_samples and sample. `UsageError` if scikit-learn is not
    installed or `fitted` is something else.

    >>> p = make_params([1.0], [[0.0]], [1.0], "spherical")
    >>> to_sklearn(p).score_samples([[0.0]]).round(4).tolist()
    [-0.9189]
    """
    try:
        from sklearn.mixture import GaussianMixture
    except ImportError:
        raise UsageError("E147", "to_sklearn needs scikit-learn", "pip install 'jaxgmm[sklearn]'") from None
    params = fitted.params if isinstance(fitted, FitResult) else fitted
    if not isinstance(params, GMMParams):
        raise UsageError(
            "E145",
            f"to_sklearn takes GMMParams or a FitResult, got {type(fitted).__name__}",
            "pass the result of jaxgmm.fit, or its params",
        )
    n_components, n_features = params.n_components, params.n_features
    with precision_context(np.float64):
        params = _as_sklearn_type(params)
        precisions, factor = _precisions_and_factor(params.covariances, covariance_type=params.covariance_type)

    estimator = GaussianMixture(n_components, covariance_type=params.covariance_type)
    # scikit-learn draws with these weights, and NumPy's multinomial wants their sum to 1e-12.
    estimator.weights_ = params.weights / params.weights.sum()
    estimator.means_ = params.means
    estimator.covariances_ = params.covariances
    estimator.precisions_ = np.array(precisions)
    estimator.precisions_cholesky_ = np.array(factor)
    estimator.n_features_in_ = n_features
    estimator.converged_, estimator.n_iter_, estimator.lower_bound_ = False, 0, -np.inf
    if isinstance(fitted, FitResult):
        estimator.converged_ = fitted.converged
        estimator.n_iter_ = fitted.n_iter
        estimator.lower_bound_ = fitted.score
    return estimator


def _as_sklearn_type(params: GMMParams) -> GMMParams:
    """Own float64 copies, with covariances in a structure that scikit-learn knows."""
    params = replace(
        params,
        **{name: np.array(getattr(params, name), np.float64) for name in ("weights", "means", "covariances")},
    )
    if params.covariance_type in _SKLEARN_TYPES:
        return params
    tied = get_family("tied")
    matrices = params.family.to_full(jnp.asarray(params.covariances), params.n_components, params.n_features)
    covariance = np.array(tied.from_full(matrices, jnp.asarray(params.weights)))
    return replace(params, covariances=covariance, covariance_type=tied.name)


@partial(jax.jit, static_argnames="covariance_type")
def _precisions_and_factor(covariances: Array, *, covariance_type: str) -> tuple[Array, Array]:
    family = get_family(covariance_type)
    factor = family.factor(covariances)
    return family.precisions(factor), factor
