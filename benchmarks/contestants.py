"""Who runs: each contestant turns a problem into a function that does exactly `n_iter` EM iterations.

A contestant is prepared once (data handed over, programs compiled) and then called repeatedly. It returns the
total log-likelihood of the parameters after the last iteration and the number of iterations done.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np

from benchmarks.cases import Problem

Run = Callable[[], tuple[float, int]]


def numpy_baseline(problem: Problem) -> Run:
    """The vectorised NumPy EM of `benchmarks.numpy_baseline`."""
    from benchmarks import numpy_baseline as baseline

    case = problem.case

    def run() -> tuple[float, int]:
        start = (problem.weights, problem.means, problem.covariances)
        result = baseline.fit(problem.x, *start, case.covariance_type, case.n_iter, reg_covar=case.reg_covar)
        return float(result.log_likelihood), case.n_iter

    return run


def scikit_learn(problem: Problem) -> Run:
    """scikit-learn's GaussianMixture from the same weights, means and precisions."""
    from sklearn.mixture import GaussianMixture

    case = problem.case
    matrices = case.covariance_type in ("full", "tied")
    precisions = np.linalg.inv(problem.covariances) if matrices else 1.0 / problem.covariances

    def run() -> tuple[float, int]:
        model = GaussianMixture(
            case.n_components,
            covariance_type=case.covariance_type,
            tol=0.0,
            reg_covar=case.reg_covar,
            max_iter=case.n_iter,
            weights_init=problem.weights,
            means_init=problem.means,
            precisions_init=precisions,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.fit(problem.x)
        run.model = model  # type: ignore[attr-defined]
        return float("nan"), model.n_iter_

    return run


def scikit_learn_log_likelihood(run: Run, problem: Problem) -> float:
    """Its log-likelihood, scored outside the clock: the fit itself reports that of one iteration earlier."""
    return float(np.sum(run.model.score_samples(problem.x), dtype=np.float64))  # type: ignore[attr-defined]


def jaxgmm(problem: Problem) -> Run:
    """This package: one lane of the EM engine, the result waited for on the host."""
    from jaxgmm._checks import precision_context
    from jaxgmm._options import em_options
    from jaxgmm.data.rows import prepare_rows
    from jaxgmm.em.lanes import run_lanes
    from jaxgmm.em.restarts import given_starts
    from jaxgmm.params import GMMParams

    case = problem.case
    params = GMMParams(
        weights=problem.weights,
        means=problem.means,
        covariances=problem.covariances,
        covariance_type=case.covariance_type,
    )
    with precision_context(case.dtype):
        rows = prepare_rows(problem.x, np.ones(case.n_samples, case.dtype))
        starts = given_starts([params], rows, case.n_components)
        options = em_options(case.dtype, tol=0.0, reg_covar=case.reg_covar, max_iter=case.n_iter)

    def run() -> tuple[float, int]:
        with precision_context(case.dtype):
            lanes = run_lanes(starts, rows.x, rows.weight, options)
        return float(lanes.history[0, int(lanes.n_iter[0])]), int(lanes.n_iter[0])

    return run


CONTESTANTS: dict[str, Callable[[Problem], Run]] = {
    "numpy": numpy_baseline,
    "scikit-learn": scikit_learn,
    "jaxgmm": jaxgmm,
}
