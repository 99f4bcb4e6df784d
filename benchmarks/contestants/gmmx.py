"""gmmx: EM in JAX, float32 only. Its iteration count is static, so every count compiles anew."""

from __future__ import annotations

import jax
import numpy as np
from gmmx import EMFitter, GaussianMixtureModelJax
from gmmx.gmm import DiagCovariances, FullCovariances

from benchmarks.contestants.base import Absent, Outcome, Prepared
from benchmarks.machine import memory
from benchmarks.problems import Problem, Start
from benchmarks.scoring import log_likelihood

FAMILIES = {"full": FullCovariances, "diag": DiagCovariances}


def em(problem: Problem) -> Prepared:
    """One fit from the given parameters; with tol = 0 only the iteration count ends it."""
    case, start = problem.case, problem.start
    if case.covariance_type not in FAMILIES:
        raise Absent(f"gmmx has no {case.covariance_type} covariances")
    if problem.x.dtype != np.float32:
        raise Absent("gmmx computes in float32 only")
    # The system ends a process that takes more than there is, and this benchmark with it.
    needed = 2 * case.n_samples * case.n_components * case.n_features * problem.x.itemsize
    if jax.default_backend() == "cpu" and needed > memory():
        raise MemoryError(f"arrays of N x K x D would take {needed / 1e9:.0f} GB, more than is free")
    x = jax.numpy.asarray(problem.x)
    model = GaussianMixtureModelJax.from_squeezed(
        means=start.means,
        covariances=start.covariances,
        weights=start.weights,
        covariance_type=case.covariance_type,
    )

    def run(n_iter: int) -> Outcome:
        result = EMFitter(max_iter=n_iter, tol=0.0, reg_covar=case.reg_covar).fit(x, model)
        fitted = result.gmm
        end = Start(fitted.weights_numpy, fitted.means_numpy, fitted.covariances.values_numpy)
        return Outcome(lambda: log_likelihood(problem, end), int(result.n_iter))

    return Prepared(run)
