"""What is plotted: anything that holds a mixture as a `Model`, marginals in data units, columns by name, few rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxgmm._checks import check_count, check_data, precision_context
from jaxgmm._status import DataError, UsageError, choose
from jaxgmm.data.synthetic import Synthetic
from jaxgmm.em.result import FitResult
from jaxgmm.io import _as_model
from jaxgmm.model import Model
from jaxgmm.params import GMMParams

MAX_POINTS = 20_000
# Standard deviations beyond which a component is not seen.
REACH = 4.0
_TINY = float(np.finfo(np.float64).tiny)


def as_model(mixture: Any) -> Model:
    """The mixture as a `Model`, which knows its data units; `UsageError` E145 for what holds none."""
    if isinstance(mixture, Synthetic):  # the truth of generated data
        params = GMMParams(
            weights=mixture.weights, means=mixture.means, covariances=mixture.covariances, covariance_type="full"
        )
        return Model.from_params(params)
    if not isinstance(mixture, (Model, FitResult, GMMParams)) and not hasattr(mixture, "covariance_type"):
        found = f"a {type(mixture).__name__} is no mixture"
        raise UsageError("E145", found, "give a Model, a FitResult, GMMParams or a fitted GaussianMixture")
    return _as_model(mixture)


@dataclass(frozen=True, eq=False)
class Marginal:
    """A mixture over some of the columns, in data units and double precision, without inactive components.

    indices (K): the components' numbers in the whole mixture. weights (K). means, deviations (K, F): means and standard
    deviations. correlations (K, F, F). Deviations are kept apart because squares of 1e200 overflow.
    """

    indices: np.ndarray
    weights: np.ndarray
    means: np.ndarray
    deviations: np.ndarray
    correlations: np.ndarray

    @property
    def covariances(self) -> np.ndarray:
        """(K, F, F), data units squared."""
        return self.correlations * self.deviations[:, :, None] * self.deviations[:, None, :]

    @cached_property
    def _factors(self) -> np.ndarray:
        """L with the correlations L Lᵀ; a correlation that rounds to 1 is taken for nearly so."""
        eye = np.eye(self.correlations.shape[1])
        return np.linalg.cholesky(self.correlations * (1 - 1e-12) + 1e-12 * eye)

    def reach(self, column: int) -> tuple[float, float]:
        """Where the components have nearly all their mass along one column."""
        width = REACH * self.deviations[:, column]
        return float((self.means[:, column] - width).min()), float((self.means[:, column] + width).max())

    def log_densities(self, points: np.ndarray) -> np.ndarray:
        """log w_k N(x | μ_k, Σ_k): (K, P) for points (P, F)."""
        found = np.empty((len(self.weights), len(points)))
        for k, factor in enumerate(self._factors):
            z = np.linalg.solve(factor, ((points - self.means[k]) / self.deviations[k]).T)
            log_det = np.log(np.diag(factor)).sum() + np.log(self.deviations[k]).sum()
            with np.errstate(over="ignore"):
                distance = (z * z).sum(axis=0)
            found[k] = np.log(self.weights[k]) - 0.5 * distance - log_det - 0.5 * len(z) * np.log(2 * np.pi)
        return found

    def log_density(self, points: np.ndarray) -> np.ndarray:
        """log p: (P) for points (P, F)."""
        with np.errstate(under="ignore"):
            return np.asarray(np.logaddexp.reduce(self.log_densities(points), axis=0))

    def sample(self, n: int) -> np.ndarray:
        """n rows (n, F), the same ones in every call."""
        rng = np.random.default_rng(0)
        k = rng.choice(len(self.weights), size=n, p=self.weights / self.weights.sum())
        noise = rng.standard_normal((n, self.means.shape[1], 1))
        return np.asarray(self.means[k] + (self._factors[k] @ noise)[..., 0] * self.deviations[k])


def marginal(model: Model, features: Sequence[int]) -> Marginal:
    """The mixture of some columns: the same weights, and those entries of the means and covariances."""
    params, columns = model.params, np.asarray(features)
    with precision_context(np.float64):
        stored = jnp.asarray(params.covariances, np.float64)
        full = np.asarray(params.family.to_full(stored, model.n_components, model.n_features))
    weights = np.asarray(params.weights, np.float64)
    indices = np.flatnonzero(weights > 0)
    chosen = full[indices][:, columns[:, None], columns]
    deviations = np.sqrt(np.maximum(np.einsum("kii->ki", chosen), _TINY))
    correlations = np.clip(chosen / deviations[:, :, None] / deviations[:, None, :], -1.0, 1.0)
    np.einsum("kii->ki", correlations)[...] = 1.0
    return Marginal(
        indices,
        weights[indices],
        model.data_means[indices][:, columns],
        deviations * model.scale[columns],
        correlations,
    )


def names_of(model: Model | None, n_features: int, columns: Sequence[str] | None = None, x: Any = None) -> list[str]:
    """The names of all columns: those given, the model's, a data frame's, or x0, x1, …"""
    found: Any = columns
    if found is None and model is not None:
        found = model.columns
    if found is None and hasattr(x, "columns"):
        found = [str(name) for name in x.columns]
    if found is None:
        found = [f"x{d}" for d in range(n_features)]
    if len(found) != n_features:
        raise DataError("E240", f"{len(found)} column names for {n_features} features", "give one name a column")
    return [str(name) for name in found]


def columns_of(features: Any, names: Sequence[str]) -> list[int]:
    """Numbers of the chosen columns, each a number from 0 or a name; `UsageError` for what is none, or comes twice."""
    if isinstance(features, (str, int, np.integer)):
        features = [features]
    found = [_column(feature, names) for feature in features]
    for column in found:
        if found.count(column) > 1:
            raise UsageError("E131", f"the column {names[column]} is chosen twice", "name it once")
    return found


def _column(feature: Any, names: Sequence[str]) -> int:
    if isinstance(feature, str):
        if feature not in names:
            raise UsageError("E130", f"no column is called {feature!r}", choose(feature, names, names[:10]))
        return list(names).index(feature)
    column = check_count(feature, "a feature", minimum=0)
    if column >= len(names):
        raise UsageError("E130", f"there is no column {column}", f"the last of the {len(names)} is {len(names) - 1}")
    return column


def exactly(n: int, features: Any, names: Sequence[str], what: str) -> list[int]:
    """As `columns_of`, for what shows n columns; `UsageError` E157 for more, fewer, or a mixture that has fewer."""
    if len(names) < n:
        found = f"{what} shows {n} columns, and the mixture has {len(names)}"
        raise UsageError("E157", found, "draw it with density_1d")
    chosen = columns_of(features, names)
    if len(chosen) != n:
        found = f"{what} shows {n} of the {len(names)} columns, got {len(chosen)}"
        raise UsageError("E157", found, f"give {'features' if n > 1 else 'feature'}={(0, 1) if n > 1 else 0}")
    return chosen


def some_rows(x: Any, model: Model | None, max_points: int = MAX_POINTS) -> tuple[np.ndarray, np.ndarray, str]:
    """The rows checked, the numbers of at most `max_points` of them, and what to say if those are not all.

    The choice is random with a fixed seed, so that the same data give the same picture.
    """
    rows = check_data(x, n_features=None if model is None else model.n_features)
    limit = check_count(max_points, "max_points")
    if len(rows) <= limit:
        return rows, np.arange(len(rows)), ""
    chosen = np.sort(np.random.default_rng(0).choice(len(rows), limit, replace=False))
    return rows, chosen, f"{limit:,} of {len(rows):,} rows"
