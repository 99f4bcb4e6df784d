"""A mixture ready for use and for storage: parameters, the scaling of the columns, and how it came about.

    z = (x − shift) / scale,   p(x) = Σ_k w_k N(z | μ_k, Σ_k) / Π_d scale_d

Weights, means and covariances are in the units of z; every method takes and gives rows in data units, and takes all
that `fit` takes.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxgmm import density, functional
from jaxgmm._checks import precision_context
from jaxgmm._provenance import device, fingerprint, plain, versions
from jaxgmm._pytree import replace
from jaxgmm._status import DataError, Status
from jaxgmm.em.result import FitResult, History, SweepResult
from jaxgmm.params import GMMParams, check_params

_ARRAYS = ("weights", "means", "covariances")
_FACTS = [
    "init",
    "kernel",
    "options",
    "n_samples",
    "weight_sum",
    "log_likelihood",
    "classification_log_likelihood",
    "aic",
    "bic",
]
# Log-likelihoods of restarts that are kept; of a run with more only those of the winner.
_MAX_HISTORY = 1 << 20
_FACTS += ["icl", "n_parameters", "n_iter", "message", "converged", "remaining_gain", "restart_log_likelihoods"]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Model:
    """A Gaussian mixture over x with z = (x − shift) / scale; the defaults rescale nothing.

    params: the mixture of z, NumPy leaves in float32 or float64. shift, scale (D) float64, data units,
    scale > 0. columns: the names of the D columns, or None. meta: what is known of the fit, JSON-able
    (NaN and infinity become None); likelihoods and criteria in it are those of x, not of z. history: how the fit went,
    with likelihoods of x and parameters of z, or None.
    Raises `DataError` where shapes disagree, a number is not finite or a covariance is not positive definite.

    >>> p = GMMParams(weights=np.ones(1), means=np.zeros((1, 1)), covariances=np.ones((1, 1)),
    ...               covariance_type="diag")
    >>> m = Model(params=p, shift=[5.0], scale=[2.0])
    >>> m.data_means.tolist(), m.data_std.tolist(), m.log_prob([[5.0]]).round(4).tolist()
    ([[5.0]], [[2.0]], [-1.6121])
    """

    params: GMMParams
    shift: Any = None
    scale: Any = None
    columns: tuple[str, ...] | None = None
    meta: dict[str, Any] = dataclasses.field(default_factory=dict)
    history: History | None = None

    def __post_init__(self) -> None:
        params = replace(self.params, **{name: _native(getattr(self.params, name)) for name in _ARRAYS})
        check_params(params)
        shift = _vector(0.0 if self.shift is None else self.shift, "shift", params.n_features)
        scale = _vector(1.0 if self.scale is None else self.scale, "scale", params.n_features)
        if not (scale > 0).all():
            raise DataError("E244", f"scale must be positive, got {scale.min():g}", "use 1 for a constant column")
        columns = self.columns if self.columns is None else tuple(map(str, self.columns))
        if columns is not None and len(columns) != params.n_features:
            raise DataError(
                "E240", f"{len(columns)} column names for {params.n_features} features", "give one name a column"
            )
        if self.history is not None:
            _check_history(self.history, params)
        # The only moment at which a frozen instance may change.
        self.__dict__.update(params=params, shift=shift, scale=scale, columns=columns, meta=plain(self.meta))

    @classmethod
    def from_fit(
        cls,
        result: FitResult,
        *,
        columns: Sequence[str] | None = None,
        shift: Any = None,
        scale: Any = None,
        seed: int | None = None,
        fingerprint: str | None = None,
        sweep: SweepResult | None = None,
    ) -> Model:
        """A model of x from a fit to z = (x − shift) / scale.

        ℓ(x) = ℓ(z) − Σ_n v_n Σ_d log scale_d, and AIC, BIC and ICL follow from it, so that fits to differently
        scaled columns can be compared. meta also holds the stop code, options (an absolute reg_covar in
        units of z squared), versions and the date.

        result: the fit. columns: D names. shift, scale: (D), data units; None rescales nothing. seed: what
        the fit's random key was made from. fingerprint: of the data, see `jaxgmm._provenance.fingerprint`. sweep: what
        the fit is the winner of, with likelihoods of x; its table goes into meta.
        """
        columns = None if columns is None else tuple(columns)
        model = cls(params=result.params, shift=shift, scale=scale, columns=columns)
        in_data_units = result.rescaled(model._log_scale)
        meta: dict[str, Any] = {
            "seed": seed,
            "fingerprint": fingerprint,
            "status": result.status.name,
            "best_share": result.best_share,
        }
        meta |= {"diagnoses": [d.as_dict(columns) for d in result.diagnoses], "log_prior": result.log_prior}
        meta |= {name: getattr(in_data_units, name) for name in _FACTS}
        meta |= {"restart_status": [Status(int(s)).name for s in result.restart_status]}
        meta |= {"restart_n_iter": result.restart_n_iter, "best_restart": result.best_restart}
        if sweep is not None:
            meta["sweep"] = {"criterion": sweep.criterion, "table": sweep.table()}
        curves, best = result.restart_history, result.best_restart
        if curves.size > _MAX_HISTORY:
            curves, best = curves[best : best + 1], 0
        offset = result.weight_sum * model._log_scale
        history = History(log_likelihood=curves.astype(np.float64) - offset, best=best, params=result.params_history)
        return replace(
            model, meta=meta | _origin() | {"device": {n: device()[n] for n in ("platform", "kind")}}, history=history
        )

    @classmethod
    def from_params(cls, params: GMMParams) -> Model:
        """A model of given parameters in data units; meta holds versions and the date only."""
        return cls(params=params, meta=_origin())

    @property
    def n_components(self) -> int:
        """K, inactive components included."""
        return self.params.n_components

    @property
    def n_features(self) -> int:
        """D."""
        return self.params.n_features

    @property
    def covariance_type(self) -> str:
        """The covariance family."""
        return self.params.covariance_type

    @property
    def digest(self) -> str:
        """Twelve hexadecimal digits that two models share when they agree in every bit: the head of a SHA-256.

        It covers the covariance family, parameters, shift and scale, and not how the model came about. The same data,
        options, seed, device and versions give the same digest.
        """
        arrays = [*(getattr(self.params, name) for name in _ARRAYS), self.shift, self.scale]
        parts = [self.covariance_type, *map(fingerprint, arrays)]
        return hashlib.sha256(" ".join(parts).encode()).hexdigest()[:12]

    @property
    def data_means(self) -> np.ndarray:
        """Component means in data units, (K, D) float64."""
        return np.asarray(self.params.means.astype(np.float64) * self.scale + self.shift)

    @property
    def data_std(self) -> np.ndarray:
        """Standard deviations of the components along the axes, in data units, (K, D) float64."""
        with precision_context(np.float64):
            covariances = jnp.asarray(self.params.covariances, np.float64)
            variances = self.params.family.variances(covariances, self.n_components, self.n_features)
            return np.sqrt(np.asarray(variances)) * self.scale

    def log_prob(self, x: Any) -> Any:
        """log p(x_n) in nats, a density per data unit: (N). x: (N, D) in data units."""
        values = self._over(density.log_prob, x)
        values -= self._log_scale
        return values

    def responsibilities(self, x: Any) -> Any:
        """r_nk = p(k | x_n), (N, K), rows sum to 1. x: (N, D) in data units."""
        return self._over(density.responsibilities, x)

    def uncertainty(self, x: Any) -> Any:
        """1 − max_k r_nk, (N). x: (N, D) in data units."""
        return self._over(functional.one_minus_largest, x)

    def predict(self, x: Any) -> Any:
        """The most probable component of each row, integers (N). x: (N, D) in data units."""
        return self._over(density.predict, x)

    def score(self, x: Any, sample_weight: Any = None) -> float:
        """Mean log-likelihood Σ v_n log p(x_n) / Σ v_n, nats per row. x: (N, D); sample_weight: (N) or None."""
        mean = functional.mean_over(lambda rows: self._over(density.log_prob, rows), self.n_features, x, sample_weight)
        return mean - self._log_scale

    def sample(self, key: Any, n: int) -> tuple[Any, Any]:
        """n independent rows in data units (n, D), dtype of the parameters, and their components (n).

        key: a JAX random key or an integer seed; the same key gives the same rows.
        """
        z, labels = functional.sample(self.params, key, n)
        return ((z * self.scale + self.shift).astype(z.dtype) if self._rescales else z), labels

    @property
    def _rescales(self) -> bool:
        return bool(self.shift.any() or (self.scale != 1).any())

    @property
    def _log_scale(self) -> float:
        return math.fsum(np.log(self.scale))

    def _over(self, fn: Callable[..., Any], x: Any) -> np.ndarray:
        """A density function of z over rows in data units, rescaled a piece at a time."""
        return functional.over_rows(fn, self.params, x, convert=self._to_z if self._rescales else None)

    def _to_z(self, rows: np.ndarray) -> np.ndarray:
        """(x − shift) / scale in float64; only the result is rounded to the computing type."""
        return np.asarray((rows - self.shift) / self.scale)


def _origin() -> dict[str, Any]:
    # No date: the same fit is to give the same file, byte for byte.
    return {"versions": versions()}


def _check_history(history: History, params: GMMParams) -> None:
    """Refuse curves and parameters that do not fit together or to the mixture."""
    curves, path = history.log_likelihood, history.params
    known = curves.ndim == 2 and 0 <= history.best < len(curves) and curves.dtype == np.float64
    if known and path is not None:
        n_steps = np.count_nonzero(~np.isnan(curves[history.best]))
        # Components without rows at the end may have been left out of the mixture.
        shape = (n_steps, path.means.shape[1], params.n_features)
        known = path.means.shape == shape and path.weights.shape == shape[:2]
        known = known and path.covariances.shape == (n_steps, *params.family.shape(*shape[1:]))
    if not known:
        raise DataError("E240", "the history does not belong to the mixture", "save the model again")


def _native(array: Any) -> np.ndarray:
    """float32 and float64 in native byte order, anything else as float64."""
    array = np.asarray(array)
    kept = array.dtype.kind == "f" and array.dtype.itemsize in (4, 8)
    return array.astype(array.dtype.newbyteorder("=") if kept else np.float64, copy=False)


def _vector(value: Any, name: str, n_features: int) -> np.ndarray:
    vector = np.asarray(value, np.float64)
    vector = np.full(n_features, vector) if vector.ndim == 0 else vector
    if vector.shape != (n_features,) or not np.isfinite(vector).all():
        raise DataError(
            "E240",
            f"{name} must be {n_features} finite numbers, one a column, got shape {vector.shape}",
            "give one finite number for each column",
        )
    return vector
