"""Options of the EM loop: traced scalars, so that changing a value never recompiles."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxgmm._numerics import singular_floor
from jaxgmm._pytree import pytree, replace
from jaxgmm._status import UsageError, choose

# What reg_covar adds is small when it is at most this part of the largest variance of a feature.
_SMALL_FLOOR = 0.01

TOL_KINDS = ("change", "aitken")
REG_KINDS = ("relative", "absolute")


@pytree
class EMOptions:
    """When to stop, and how much to regularise. Every field is a traced scalar.

    tol: relative; stop when |Δℓ| <= tol (1 + |ℓ|), ℓ the total log-likelihood and Δℓ the change of the objective.
    tol_mean: absolute on the mean; stop when |Δℓ| < tol_mean Σ v_n (scikit-learn's rule). Either rule
        ends the fit; 0 switches one off. Below rounding level a fit always counts as converged.
    aitken: bool; compare what is still to be gained, by Aitken's estimate, instead of the last change.
    reg_covar: added to covariance diagonals, data units squared; a scalar, or one number for each feature (D).
    watched: reg_covar where a variance that hardly exceeds it tells of degeneracy, else 0: see `watched_floor`.
    relative: bool; reg_covar is in units of the variance of each feature. Rows turn it into data units.
    max_iter: the largest number of EM iterations; 0 returns the start.
    max_loss: the `features` kernel halts where `kernels.lost_digits` is larger; infinity never halts it.
    log_volume: Σ_d log s where the rows were divided by s, so that log-likelihoods are per data unit.
    prior: on the parameters; None is maximum likelihood. Without one the objective is the log-likelihood.
    row_weight: the mean weight of a row, which is the 1 in the rule: the scale of the weights decides nothing.
    """

    tol: Any = 1e-8
    tol_mean: Any = 0.0
    reg_covar: Any = 1e-6
    watched: Any = 0.0
    relative: Any = False
    max_iter: Any = 1000
    max_loss: Any = float("inf")
    log_volume: Any = 0.0
    row_weight: Any = 1.0
    aitken: Any = False
    prior: Any = None

    def as_dict(self) -> dict[str, Any]:
        """The numbers that were asked for, as a result keeps them."""
        numbers = {name: getattr(self, name).item() for name in ("tol", "tol_mean", "reg_covar", "max_iter")}
        kinds = {"tol_kind": TOL_KINDS[bool(self.aitken)], "reg_kind": REG_KINDS[not self.relative]}
        return numbers | kinds


def em_options(
    dtype: Any,
    *,
    tol: float = 1e-8,
    tol_mean: float = 0.0,
    tol_kind: str = "change",
    reg_covar: float = 1e-6,
    reg_kind: str = "relative",
    max_iter: int = 1000,
) -> EMOptions:
    """Checked options as scalars of the computing dtype; `UsageError` says which value cannot be used."""
    for name, value in (("tol", tol), ("tol_mean", tol_mean), ("reg_covar", reg_covar), ("max_iter", max_iter)):
        example = f"for example {name}={'1000' if name == 'max_iter' else '1e-6'}"
        if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.integer, np.floating)):
            raise UsageError("E108", f"{name} must be a number, got {value!r}", example)
        if not (_is_finite(value) and value >= 0):
            raise UsageError("E108", f"{name} must be finite and at least 0, got {value!r}", example)
    if int(max_iter) != max_iter:
        raise UsageError("E108", f"max_iter must be a whole number, got {max_iter!r}", "for example max_iter=1000")
    return EMOptions(
        tol=np.asarray(tol, dtype),
        tol_mean=np.asarray(tol_mean, dtype),
        reg_covar=np.asarray(reg_covar, dtype),
        watched=np.asarray(0.0, dtype),
        relative=np.asarray(check_choice(reg_kind, "reg_kind", REG_KINDS) == "relative"),
        max_iter=np.asarray(min(int(max_iter), np.iinfo(np.int32).max), np.int32),
        max_loss=np.asarray(np.inf, dtype),
        log_volume=np.asarray(0.0, dtype),
        row_weight=np.asarray(1.0, dtype),
        aitken=np.asarray(check_choice(tol_kind, "tol_kind", TOL_KINDS) == "aitken"),
    )


def _is_finite(value: Any) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond every float
        return False


def default_reg_covar(reg_covar: float | None, prior: Any) -> float:
    """What None stands for: a prior keeps covariances regular by itself."""
    if reg_covar is not None:
        return reg_covar
    return 1e-6 if prior is None else 0.0


def firmer(options: EMOptions, n_features: int, dtype: Any) -> EMOptions | None:
    """Options with the smallest relative floor that is no rounding in `dtype`; None if these have it, or want none."""
    least = np.asarray(singular_floor(n_features, dtype), dtype)
    return replace(options, reg_covar=least) if options.relative and 0 < options.reg_covar < least else None


def check_choice(value: Any, name: str, choices: Sequence[str]) -> str:
    """One of the `choices`; `UsageError` names the nearest of them."""
    if value not in choices:
        raise UsageError("E109", f"unknown {name} {value!r}", choose(value, choices))
    return str(value)


@np.errstate(over="ignore")  # rounding whose square is infinite hides everything
def vary(variances: Any, resolution: Any) -> Any:
    """Which features vary by more than rounding, whose size is `resolution`."""
    return variances > (8.0 * resolution) ** 2


def floor_by_feature(options: EMOptions, variances: Any, resolution: Any, scale: Any = 1.0) -> np.ndarray:
    """What is added to covariance diagonals of z = x / scale, (..., D), for features of z with these variances.

    variances, resolution (..., D): of z, the latter the size of rounding. A feature that varies by no more than that
    is constant, and is given the mean variance of the others; if there are none, 1 data unit squared. Where rounding
    feigns a larger variance, a few times that: so the floor is resolved.
    """
    unit = 1.0 / scale / scale
    if not options.relative:
        return np.full(np.shape(variances), float(options.reg_covar) * unit)
    varies = vary(variances, resolution)
    n_varying = np.maximum(np.sum(varies, axis=-1, keepdims=True), 1)
    typical = np.sum(np.where(varies, variances, 0.0), axis=-1, keepdims=True) / n_varying
    typical = np.where(varies.any(axis=-1, keepdims=True), typical, unit)
    scatter = np.where(varies, variances, np.maximum(typical, 4.0 * variances))
    return np.asarray(options.reg_covar * scatter, np.float64)


def watched_floor(floor: np.ndarray, variances: np.ndarray, resolution: Any) -> np.ndarray:
    """`floor` (..., D) where it is small beside features with these variances; where not, it is there to shrink: 0.

    resolution: as in `floor_by_feature`; beside features that are all constant any floor is small.
    """
    largest = np.max(np.where(vary(variances, resolution), variances, 0.0), axis=-1, keepdims=True)
    small = (largest == 0) | (np.max(floor, axis=-1, keepdims=True) <= _SMALL_FLOOR * largest)
    return np.where(small, floor, 0.0)
