"""`GaussianMixture`: scikit-learn's mixture estimator on this package's EM, a drop-in with sample weights."""

from __future__ import annotations

import warnings
from functools import partial
from typing import Any

import jax
import numpy as np
from jax import Array

from jaxgmm import criteria, functional
from jaxgmm._checks import precision_context
from jaxgmm._numerics import LOG_2PI
from jaxgmm._options import em_options
from jaxgmm._pytree import take
from jaxgmm._status import DataError, FitError, Status, UsageError, marked
from jaxgmm.covariance import COVARIANCE_TYPES, get_family
from jaxgmm.data.batches import Batch
from jaxgmm.data.rows import Rows, prepare_rows
from jaxgmm.em.lanes import run_lanes
from jaxgmm.em.restarts import given_starts, random_starts, summarise
from jaxgmm.em.result import FitResult
from jaxgmm.estimators._given import check_given, override
from jaxgmm.estimators._protocol import (
    EstimatorProtocol,
    check_random_state,
    convergence_warning,
    ill_defined,
    require,
    require_choice,
    require_integer,
    require_real,
    validate_data,
    validate_sample_weight,
)
from jaxgmm.init import INIT_METHODS, get_start
from jaxgmm.params import Factors, GMMParams
from jaxgmm.scale.stepwise import PowerSchedule, Stepper, first_mixture
from jaxgmm.scale.stream import Stream, share_out


class GaussianMixture(EstimatorProtocol):
    """Gaussian mixture with the constructor, attributes, methods and defaults of scikit-learn's.

    p(x) = Σ_k w_k N(x | μ_k, Σ_k), fitted by EM; all `n_init` starts run as one compiled batch. Data in float64
    are computed in float64, data in float32 in float32. What differs from scikit-learn: rows may carry
    `sample_weight`; `lower_bound_` belongs to the returned parameters; the returned state is the best one seen; the
    families ``"tied_diag"`` and ``"tied_spherical"`` and the start ``"orthant"`` are added.

    Parameters
    ----------
    n_components: K >= 1. covariance_type: "full", "tied", "diag", "spherical", "tied_diag" or "tied_spherical".
    tol: stop when the mean log-likelihood changes by less. reg_covar: added to covariance diagonals, data units
    squared. max_iter: largest number of EM iterations; 0 returns the start. n_init: independent starts, the best is
    kept. init_params: "kmeans", "k-means++", "random", "random_from_data" or "orthant". weights_init (K), means_init
    (K, D), precisions_init (shape of `precisions_`): replace that part of the start. random_state: seed, RandomState
    or None. warm_start: go on from the last fit. verbose, verbose_interval: print progress after the fit.

    Attributes
    ----------
    weights_ (K), means_ (K, D), covariances_, precisions_, precisions_cholesky_: full (K, D, D), tied (D, D), diag
    (K, D), spherical (K,), tied_diag (D,), tied_spherical a scalar. converged_, n_iter_, lower_bound_ (mean
    log-likelihood), lower_bounds_ (after each iteration), n_features_in_, feature_names_in_, result_ (`FitResult`
    with every restart's log-likelihood and stop code).

    >>> X = np.array([[1.0, 2.0], [1.0, 4.0], [1.0, 0.0], [10.0, 2.0], [10.0, 4.0], [10.0, 0.0]])
    >>> gm = GaussianMixture(n_components=2, random_state=0).fit(X)
    >>> sorted(gm.means_.round(3).tolist())
    [[1.0, 2.0], [10.0, 2.0]]
    """

    def __init__(
        self,
        n_components: int = 1,
        *,
        covariance_type: str = "full",
        tol: float = 1e-3,
        reg_covar: float = 1e-6,
        max_iter: int = 100,
        n_init: int = 1,
        init_params: str = "kmeans",
        weights_init: Any = None,
        means_init: Any = None,
        precisions_init: Any = None,
        random_state: Any = None,
        warm_start: bool = False,
        verbose: int = 0,
        verbose_interval: int = 10,
    ) -> None:
        self.n_components = n_components
        self.covariance_type = covariance_type
        self.tol = tol
        self.reg_covar = reg_covar
        self.max_iter = max_iter
        self.n_init = n_init
        self.init_params = init_params
        self.weights_init = weights_init
        self.means_init = means_init
        self.precisions_init = precisions_init
        self.random_state = random_state
        self.warm_start = warm_start
        self.verbose = verbose
        self.verbose_interval = verbose_interval

    _stepper: Stepper

    # ------------------------------------------------------------------------------------------------ fitting

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> GaussianMixture:
        """Fit the mixture to rows X (N, D) with optional weights (N); `y` is ignored. Returns self.

        Warns `ConvergenceWarning` when max_iter was reached; raises ValueError when a covariance is ill-defined.
        """
        self._check_constructor()
        x = validate_data(self, X, reset=True, min_samples=2)
        weight = validate_sample_weight(self, sample_weight, len(x), x.dtype)
        self._check_enough(weight)
        given = check_given(self, x.shape[1])
        with precision_context(x.dtype):
            self._adopt(self._run(*share_out(x, weight), given))
        return self

    def fit_predict(self, X: Any, y: Any = None, sample_weight: Any = None) -> np.ndarray:
        """``fit(X).predict(X)``."""
        return self.fit(X, y, sample_weight).predict(X)

    def partial_fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> GaussianMixture:
        """One step of stepwise EM with the rows X (N, D) as the next batch; `y` is ignored. Returns self.

        The first call takes its start, and the units of `reg_covar`, from its rows, and a later one goes on from there,
        with step sizes (t + 2)^-0.6 for t = 1, 2 … Batches should be random samples, with many rows to a component.
        `lower_bound_` is the mean log-likelihood of X under the mixture before.
        """
        first = not hasattr(self, "_stepper")
        if first:
            self._check_constructor()
        x = validate_data(self, X, reset=first)
        weight = validate_sample_weight(self, sample_weight, len(x), x.dtype)
        given = check_given(self, x.shape[1]) if first else {}
        with precision_context(x.dtype if first else self._stepper.state.params.dtype):
            if first:
                self._check_enough(weight)
                rows = prepare_rows(x, weight)
                seed = check_random_state(self.random_state).randint(2**31 - 1)
                how = (self.covariance_type, seed, self.n_init, self.init_params, (self.reg_covar, "absolute"))
                start, inside = first_mixture(rows, self.n_components, *how)
                if given:
                    lanes = jax.tree.map(lambda a: np.asarray(a)[None], start)
                    start = take(override(lanes, given, rows), 0)
                stepper = Stepper.of(rows, start, inside, PowerSchedule())
            else:
                stepper = self._stepper
            score = stepper.step(Batch(x, weight.astype(np.float64)))
            # Only now: rows that lead nowhere leave no start behind.
            self._stepper = stepper
            self._set_params(stepper.params)
        self.n_iter_ = int(self._stepper.state.n_steps)
        self.converged_ = False
        self.lower_bound_ = score
        return self

    def _check_enough(self, weight: np.ndarray) -> None:
        n_samples = int(np.count_nonzero(weight))
        if n_samples < self.n_components:
            raise DataError(
                "E211",
                f"Expected n_samples >= n_components but got n_components = {self.n_components}, "
                f"n_samples = {n_samples}",
                "ask for fewer components, or give more rows",
            )

    def _check_constructor(self) -> None:
        for name, minimum in (("n_components", 1), ("max_iter", 0), ("n_init", 1), ("verbose_interval", 1)):
            require_integer(self, name, minimum)
        require_real(self, "tol", 0.0)
        require_real(self, "reg_covar", 0.0)
        require_choice(self, "covariance_type", COVARIANCE_TYPES)
        require_choice(self, "init_params", INIT_METHODS)
        boolean = isinstance(self.warm_start, (bool, np.bool_, int))
        require(self, "warm_start", boolean, "an instance of 'bool' or an instance of 'numpy.bool'")
        verbose = isinstance(self.verbose, (bool, np.bool_, int, np.integer)) and self.verbose >= 0
        require(self, "verbose", verbose, "an int in the range [0, inf) or an instance of 'bool'")

    def _run(self, rows: Rows, stream: Stream | None, given: dict[str, np.ndarray]) -> FitResult:
        """Start every lane, run EM, and keep the best. stream: of all rows, of which `rows` are a sample then."""
        family = get_family(self.covariance_type)
        options = em_options(
            rows.dtype,
            tol=0.0,
            tol_mean=self.tol,
            reg_covar=self.reg_covar,
            reg_kind="absolute",
            max_iter=self.max_iter,
        )
        inside = rows.options(options)
        self._warn_of_floor(rows)
        rng = check_random_state(self.random_state)
        if self.warm_start and hasattr(self, "converged_"):
            starts, init = given_starts([self._params()], rows, self.n_components), "warm start"
        elif len(given) == 3:
            params = GMMParams(
                weights=given["weights"],
                means=given["means"],
                covariances=np.asarray(family.from_precisions(jax.numpy.asarray(given["precisions"], rows.dtype))),
                covariance_type=family.name,
            )
            starts, init = given_starts([params], rows, self.n_components), "given"
        else:
            n_init = self.n_init if get_start(self.init_params).random else 1
            keys = jax.random.split(jax.random.key(rng.randint(2**31 - 1)), n_init)
            everything = np.ones((1, self.n_components), bool)
            starts = random_starts(rows, keys, everything, self.init_params, family.name, inside.reg_covar)
            starts, init = override(starts, given, rows), self.init_params
        try:
            if stream is None:
                lanes = run_lanes(starts, rows.x, rows.weight, inside, n_rows=rows.n_samples)
            else:
                lanes = stream.run(rows, starts, inside)
            result = summarise(lanes, rows, self.n_components, init, options, inside)
        except FitError:
            raise ill_defined(rows.dtype, Status.SINGULAR) from None
        # A failure in the very last iteration allowed still leaves the state before it: not converged, not ill.
        if result.status in (Status.SINGULAR, Status.NONFINITE) and result.n_iter < self.max_iter:
            raise ill_defined(rows.dtype, result.status)
        return result

    @np.errstate(over="ignore")  # a variance that is infinite is not small
    def _warn_of_floor(self, rows: Rows) -> None:
        """Say so when `reg_covar`, which is absolute here, is no longer small beside the data."""
        variances = rows.variances * rows.scale * rows.scale
        varying = rows.varying
        small = np.where(varying, variances, np.inf)
        column = int(np.argmin(small))
        if varying.any() and self.reg_covar > 1e-3 * small[column]:
            found = (
                f"reg_covar={self.reg_covar:g} is more than a thousandth of the variance of column {column}, "
                f"{small[column]:.3g}, and will be seen in the covariances"
            )
            cure = f"standardize the data or pass reg_covar={1e-6 * small[column]:.1g}"
            warnings.warn(marked(UserWarning, "W308", found, cure), stacklevel=4)

    def _adopt(self, result: FitResult) -> None:
        """Set the fitted attributes from a result, print what `verbose` asks for, warn if not converged."""
        self.result_ = result
        vars(self).pop("_stepper", None)
        self._set_params(result.params)
        self.converged_ = result.converged
        self.n_iter_ = result.n_iter
        self.lower_bound_ = result.score
        self.lower_bounds_ = [float(v) / result.weight_sum for v in result.history[1:]]
        if self.verbose:
            self._print_progress(result)
        if not self.converged_ and self.max_iter > 0:
            cure = "try different init parameters, or increase max_iter, tol, or check for degenerate data."
            found = "Best performing initialization did not converge."
            warnings.warn(marked(convergence_warning(), "W301", found, cure), stacklevel=3)

    def _set_params(self, params: GMMParams) -> None:
        self.weights_, self.means_, self.covariances_ = params.weights, params.means, params.covariances
        self.precisions_cholesky_, self.precisions_ = map(np.asarray, _precisions(params))

    @property
    def params_family(self) -> Any:
        """The covariance family object."""
        return get_family(self.covariance_type)

    def _print_progress(self, result: FitResult) -> None:
        """scikit-learn's messages, printed once the compiled fit is over."""
        for r, history in enumerate(result.restart_history / result.weight_sum):
            print(f"Initialization {r}")
            for i in range(self.verbose_interval, int(result.restart_n_iter[r]) + 1, self.verbose_interval):
                change = f"\t ll change {history[i] - history[i - 1]:.5f}" if self.verbose >= 2 else ""
                print(f"  Iteration {i}{change}")
            ended = "converged" if result.restart_status[r] == Status.CONVERGED else "did not converge"
            bound = f" lower bound {np.nanmax(history):.5f}." if self.verbose >= 2 else ""
            print(f"Initialization {ended}.{bound}")

    # ---------------------------------------------------------------------------------------------- inference

    def _params(self) -> GMMParams:
        """The fitted parameters as a pytree."""
        return GMMParams(
            weights=np.asarray(self.weights_),
            means=np.asarray(self.means_),
            covariances=np.asarray(self.covariances_),
            covariance_type=self.params_family.name,
        )

    def _factors(self) -> Factors:
        """Factors from `precisions_cholesky_`, which users may set by hand."""
        self._check_is_fitted()
        means, factor = np.asarray(self.means_), np.asarray(self.precisions_cholesky_)
        n_components, n_features = map(int, means.shape)
        with precision_context(factor.dtype), np.errstate(divide="ignore"):
            half_log_det = _half_log_det(
                factor, n_components=n_components, n_features=n_features, covariance_type=self.params_family.name
            )
            return Factors(
                log_weights=np.log(np.asarray(self.weights_)),
                means=means,
                factor=factor,
                log_norm=np.asarray(half_log_det) - 0.5 * n_features * LOG_2PI,
                covariance_type=self.params_family.name,
            )

    def _rows(self, X: Any) -> np.ndarray:
        return validate_data(self, X, reset=False)

    def score_samples(self, X: Any) -> np.ndarray:
        """log p(x_n) of every row, nats, shape (N)."""
        return functional.log_prob(self._factors(), self._rows(X))

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Mean log-likelihood Σ v_n log p(x_n) / Σ v_n, nats per row; `y` is ignored."""
        total, weight_sum = self._total(X, sample_weight)
        return total / weight_sum

    def _total(self, X: Any, sample_weight: Any) -> tuple[float, float]:
        """Σ v_n log p(x_n) and Σ v_n."""
        values = self.score_samples(X).astype(np.float64, copy=False)
        weight = validate_sample_weight(self, sample_weight, len(values), np.float64)
        return float(weight @ values), float(weight.sum())

    def predict(self, X: Any) -> np.ndarray:
        """The most probable component of every row, int64 (N)."""
        return functional.predict(self._factors(), self._rows(X)).astype(np.int64)

    def predict_proba(self, X: Any) -> np.ndarray:
        """Posterior membership of every row, shape (N, K); rows sum to 1."""
        return functional.responsibilities(self._factors(), self._rows(X))

    def uncertainty(self, X: Any) -> np.ndarray:
        """1 − max_k of `predict_proba`, shape (N)."""
        return functional.uncertainty(self._factors(), self._rows(X))

    def sample(self, n_samples: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """`n_samples` draws grouped by component: X (n, D) float64 and labels int64 (n)."""
        self._check_is_fitted()
        if n_samples < 1:
            raise UsageError(
                "E108",
                f"Invalid value for 'n_samples': {n_samples} . The sampling requires at least one sample.",
                "for example n_samples=1",
            )
        # The draws are NumPy's, in scikit-learn's order, so that a seed gives the same rows in both.
        rng = check_random_state(self.random_state)
        weights = np.asarray(self.weights_, np.float64)
        counts = rng.multinomial(n_samples, weights / weights.sum())
        means, family = np.asarray(self.means_), self.params_family
        covariances = np.asarray(self.covariances_)
        per_component = covariances if family.per_component else [covariances] * len(means)
        if family.correlated:
            # They are positive definite; NumPy's own test of that misjudges entries far smaller than others.
            parts = [
                rng.multivariate_normal(m, c, int(n), check_valid="ignore")
                for m, c, n in zip(means, per_component, counts, strict=True)
            ]
        else:
            parts = [
                m + rng.standard_normal(size=(n, means.shape[1])) * np.sqrt(c)
                for m, c, n in zip(means, per_component, counts, strict=True)
            ]
        return np.vstack(parts).astype(np.float64), np.repeat(np.arange(len(means)), counts)

    # ----------------------------------------------------------------------------------------------- criteria

    def _n_parameters(self) -> int:
        """Free parameters of the model."""
        return criteria.n_parameters(self.covariance_type, *np.shape(self.means_))

    def aic(self, X: Any, sample_weight: Any = None) -> float:
        """Akaike's criterion on X; smaller is better."""
        return criteria.aic(self._total(X, sample_weight)[0], self._n_parameters())

    def bic(self, X: Any, sample_weight: Any = None) -> float:
        """Schwarz's criterion on X; smaller is better."""
        total, weight_sum = self._total(X, sample_weight)
        return criteria.bic(total, self._n_parameters(), weight_sum)

    def icl(self, X: Any, sample_weight: Any = None) -> float:
        """Integrated completed likelihood on X; smaller is better."""
        total, weight_sum = self._total(X, sample_weight)
        certainty = np.log1p(-self.uncertainty(X).astype(np.float64, copy=False))
        weight = validate_sample_weight(self, sample_weight, len(certainty), np.float64)
        return criteria.icl(total + float(weight @ certainty), self._n_parameters(), weight_sum)


@jax.jit
def _precisions(params: GMMParams) -> tuple[Array, Array]:
    """Precision factors and precisions of a mixture."""
    factor = params.family.factor(params.covariances)
    return factor, params.family.precisions(factor)


@partial(jax.jit, static_argnames=("n_components", "n_features", "covariance_type"))
def _half_log_det(factor: Array, *, n_components: int, n_features: int, covariance_type: str) -> Array:
    return get_family(covariance_type).half_log_det(factor, n_components, n_features)
