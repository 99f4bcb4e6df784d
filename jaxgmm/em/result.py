"""What the user reads: the result of a fit and of a sweep, host arrays and plain numbers."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from jaxgmm import criteria
from jaxgmm._status import Status, describe
from jaxgmm.em.diagnosis import Diagnosis
from jaxgmm.params import GMMParams

# Two restarts count as the same optimum when their log-likelihoods agree to this, relative.
SAME_OPTIMUM = 1e-5


@dataclass(frozen=True, kw_only=True, eq=False)
class History:
    """How a fit went, for curves and films.

    log_likelihood (R, T) float64: of every restart after 0, 1, 2 … iterations, NaN past the end. best: the restart that
    is returned. params: its parameters after each of them, with a leading axis T, or None.
    """

    log_likelihood: np.ndarray
    best: int
    params: GMMParams | None = None


@dataclass(frozen=True, kw_only=True)
class FitResult:
    """A fitted mixture and how it came about.

    params: the best state found (NumPy leaves, in data units). log_likelihood: weighted sum over rows,
    belonging to `params`. classification_log_likelihood: Σ v_n max_k log w_k N(x_n | k).
    n_samples: rows; weight_sum: Σ v_n (equal to n_samples without weights).
    restart_log_likelihoods, restart_status, restart_n_iter (R): every restart; one without a usable state has
    log-likelihood -inf. restart_history (R, T): log-likelihoods after 0, 1, 2 … iterations, NaN past the end.
    best_restart: which of them is returned. kernel: the name of the kernel that the returned restart ended with.
    init: how it was started. log_prior: the logarithm of the prior at `params`, up to a constant, less the penalty of
    `fit_gradient`; 0 without either; histories have it too. diagnoses: what is wrong with which component, if anything.
    options: tol, reg_covar, max_iter and their kinds as used. params_history: of the winning restart after 0, 1, 2 …
    iterations, with a leading axis T as `history` has it, where it was asked for.
    """

    params: GMMParams
    log_likelihood: float
    classification_log_likelihood: float
    n_samples: int
    weight_sum: float
    restart_log_likelihoods: np.ndarray
    restart_status: np.ndarray
    restart_n_iter: np.ndarray
    restart_history: np.ndarray
    best_restart: int
    kernel: str
    init: str
    log_prior: float = 0.0
    diagnoses: tuple[Diagnosis, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)
    params_history: GMMParams | None = None

    @property
    def status(self) -> Status:
        """Stop code of the winning restart."""
        return Status(int(self.restart_status[self.best_restart]))

    @property
    def n_iter(self) -> int:
        """Iterations of the winning restart: passes over the rows, updates of `fit_gradient`, or epochs of batches."""
        return int(self.restart_n_iter[self.best_restart])

    @property
    def history(self) -> np.ndarray:
        """Log-likelihoods of the winning restart after 0, 1, 2 … iterations."""
        row = self.restart_history[self.best_restart]
        return row[~np.isnan(row)]

    @property
    def converged(self) -> bool:
        """Whether the winning restart met the stopping rule; never true for NaN or a failure."""
        return self.status == Status.CONVERGED

    @property
    def message(self) -> str:
        """Why the winning restart stopped, in words."""
        return describe(self.status)

    @property
    def degenerate(self) -> bool:
        """Whether a component lost its rows or has a covariance that rests on nothing; see `diagnoses`."""
        return bool(self.diagnoses)

    @property
    def log_posterior(self) -> float:
        """What was maximised: the log-likelihood plus the logarithm of the prior."""
        return self.log_likelihood + self.log_prior

    @property
    def remaining_gain(self) -> float:
        """What the objective would still gain if every change were the same part of the one before (Aitken).

        From the last three entries of the history, so for plain EM only; 0 where the last change is rounding, inf where
        they do not tell. McLachlan and Krishnan 2008, section 4.9.
        """
        if len(self.history) < 3:
            return float("inf")
        before, last = np.diff(self.history[-3:].astype(np.float64))
        if abs(last) <= 64 * np.finfo(self.history.dtype).eps * (self.weight_sum + abs(self.history[-1])):
            return 0.0
        ratio = last / before if before > 0 else np.inf
        return float(last * ratio / (1.0 - ratio)) if 0 < ratio < 1 else float("inf")

    @property
    def covariance_type(self) -> str:
        """The covariance family."""
        return self.params.covariance_type

    @property
    def n_components(self) -> int:
        """K."""
        return self.params.n_components

    @property
    def n_features(self) -> int:
        """D."""
        return self.params.n_features

    @property
    def n_parameters(self) -> int:
        """Free parameters of the model."""
        return criteria.n_parameters(self.covariance_type, self.n_components, self.n_features)

    @property
    def score(self) -> float:
        """Mean log-likelihood per unit of weight, nats."""
        return self.log_likelihood / self.weight_sum

    @property
    def aic(self) -> float:
        """Akaike's criterion; smaller is better."""
        return criteria.aic(self.log_likelihood, self.n_parameters)

    @property
    def bic(self) -> float:
        """Schwarz's criterion; smaller is better."""
        return criteria.bic(self.log_likelihood, self.n_parameters, self.weight_sum)

    @property
    def icl(self) -> float:
        """Integrated completed likelihood; smaller is better."""
        return criteria.icl(self.classification_log_likelihood, self.n_parameters, self.weight_sum)

    @property
    def empty_components(self) -> tuple[int, ...]:
        """Components that lost all their rows: weight exactly 0."""
        return tuple(int(k) for k in np.flatnonzero(np.asarray(self.params.weights) == 0))

    @property
    def best_share(self) -> float:
        """The share of the restarts that reached the best optimum (to `SAME_OPTIMUM` relative)."""
        gap = np.abs(self.log_likelihood - self.restart_log_likelihoods)
        # A restart that ended in a singularity often sits higher, at a likelihood that means nothing.
        sound = ~np.isin(self.restart_status, (Status.SINGULAR, Status.NONFINITE))
        sound[self.best_restart] = True
        return float(np.mean(sound & (gap <= SAME_OPTIMUM * (1.0 + abs(self.log_likelihood)))))

    def rescaled(self, log_scale: float) -> FitResult:
        """The likelihoods, and so the criteria, of x for a fit to z = (x − shift) / scale; all else is still that of z.

        ℓ(x) = ℓ(z) − Σ_n v_n log_scale. log_scale: Σ_d log scale_d.
        """
        offset = self.weight_sum * log_scale
        return replace(
            self,
            log_likelihood=self.log_likelihood - offset,
            classification_log_likelihood=self.classification_log_likelihood - offset,
            restart_log_likelihoods=self.restart_log_likelihoods - offset,
        )


@dataclass(frozen=True, kw_only=True)
class SweepResult:
    """All candidates of a sweep over component counts and covariance types.

    fits: one `FitResult` per cell, or None where no restart gave a usable state. failures: for those
    cells, the stop code. cells: (covariance_type, n_components) of each fit. values: the criterion, NaN for
    failed cells. criterion: its name; `larger_is_better` only for the silhouette.
    """

    cells: tuple[tuple[str, int], ...]
    fits: tuple[FitResult | None, ...]
    failures: tuple[Status | None, ...]
    values: np.ndarray
    criterion: str

    @property
    def larger_is_better(self) -> bool:
        """Which way the criterion points."""
        return self.criterion == "silhouette"

    @property
    def best_index(self) -> int:
        """The winning cell."""
        return int(np.nanargmax(self.values) if self.larger_is_better else np.nanargmin(self.values))

    @property
    def best(self) -> FitResult:
        """The winning fit."""
        fit = self.fits[self.best_index]
        assert fit is not None  # a failed cell has a NaN value and cannot win
        return fit

    @property
    def candidates(self) -> tuple[int, ...]:
        """The component counts that were tried, ascending."""
        return tuple(sorted({n for _, n in self.cells}))

    @property
    def at_edge(self) -> bool:
        """Whether the winner has the smallest (above 1) or the largest count tried: the range may be too short."""
        counts, n = self.candidates, self.best.n_components
        return len(counts) > 1 and (n == counts[-1] or (n == counts[0] and n > 1))

    def table(self) -> list[dict[str, Any]]:
        """One plain dictionary per cell, in order, ready for printing or JSON."""
        rows = []
        for (covariance_type, n_components), fit, failure, value in zip(
            self.cells, self.fits, self.failures, self.values, strict=True
        ):
            row: dict[str, Any] = {"covariance_type": covariance_type, "n_components": n_components}
            if fit is None:
                row |= {"status": Status(failure or 0).name}
            else:
                row |= {
                    "log_likelihood": fit.log_likelihood,
                    "n_parameters": fit.n_parameters,
                    "aic": fit.aic,
                    "bic": fit.bic,
                    "icl": fit.icl,
                    "n_iter": fit.n_iter,
                    "best_share": fit.best_share,
                    "status": fit.status.name,
                }
                if self.criterion not in row:
                    row[self.criterion] = float(value)
            rows.append(row)
        return rows
