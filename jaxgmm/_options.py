"""Options of the EM loop: traced scalars, so that changing a value never recompiles."""

from __future__ import annotations

from typing import Any

import numpy as np

from jaxgmm._pytree import pytree
from jaxgmm._status import UsageError


@pytree
class EMOptions:
    """When to stop, and how much to regularise. Every field is a traced scalar.

    tol: relative; stop when |Δℓ| <= tol (1 + |ℓ|), ℓ the total log-likelihood.
    tol_mean: absolute on the mean; stop when |Δℓ| < tol_mean Σ v_n (scikit-learn's rule). Either rule
        ends the fit; 0 switches one off. Below rounding level a fit always counts as converged.
    reg_covar: added to covariance diagonals, data units squared.
    max_iter: the largest number of EM iterations; 0 returns the start.
    max_loss: the `features` kernel halts where `kernels.lost_digits` is larger; infinity never halts it.
    log_volume: Σ_d log s where the rows were divided by s, so that log-likelihoods are per data unit.
    row_weight: the mean weight of a row, which is the 1 in the rule: the scale of the weights decides nothing.
    """

    tol: Any = 1e-8
    tol_mean: Any = 0.0
    reg_covar: Any = 1e-6
    max_iter: Any = 1000
    max_loss: Any = float("inf")
    log_volume: Any = 0.0
    row_weight: Any = 1.0


def em_options(
    dtype: Any, *, tol: float = 1e-8, tol_mean: float = 0.0, reg_covar: float = 1e-6, max_iter: int = 1000
) -> EMOptions:
    """Checked options as scalars of the computing dtype; `UsageError` says which value cannot be used."""
    for name, value in (("tol", tol), ("tol_mean", tol_mean), ("reg_covar", reg_covar), ("max_iter", max_iter)):
        if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.integer, np.floating)):
            raise UsageError("E108", f"{name} must be a number, got {value!r}", f"for example {name}=1e-6")
        if not (np.isfinite(value) and value >= 0):
            raise UsageError("E108", f"{name} must be finite and at least 0, got {value!r}", f"for example {name}=1e-6")
    if int(max_iter) != max_iter:
        raise UsageError("E108", f"max_iter must be a whole number, got {max_iter!r}", "for example max_iter=1000")
    return EMOptions(
        tol=np.asarray(tol, dtype),
        tol_mean=np.asarray(tol_mean, dtype),
        reg_covar=np.asarray(reg_covar, dtype),
        max_iter=np.asarray(min(int(max_iter), np.iinfo(np.int32).max), np.int32),
        max_loss=np.asarray(np.inf, dtype),
        log_volume=np.asarray(0.0, dtype),
        row_weight=np.asarray(1.0, dtype),
    )
