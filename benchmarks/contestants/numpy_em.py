"""The vectorised NumPy EM of `benchmarks.numpy_baseline`; the reference of every log-likelihood."""

from __future__ import annotations

from benchmarks import numpy_baseline
from benchmarks.contestants.base import Outcome, Prepared
from benchmarks.problems import Problem, Start
from benchmarks.scoring import log_likelihood


def em(problem: Problem) -> Prepared:
    """One fit from the given start."""
    case, start = problem.case, problem.start
    params = (start.weights, start.means, start.covariances)

    def run(n_iter: int) -> Outcome:
        fitted = numpy_baseline.fit(problem.x, *params, case.covariance_type, n_iter, reg_covar=case.reg_covar)
        end = Start(fitted.weights, fitted.means, fitted.covariances)
        return Outcome(lambda: log_likelihood(problem, end), fitted.n_iter)

    return Prepared(run, note="one Python thread, BLAS threads as the environment has them")
