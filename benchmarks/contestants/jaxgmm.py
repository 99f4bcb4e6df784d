"""This package, through its public functions; what they return lies on the host, so the device has finished."""

from __future__ import annotations

import numpy as np

import jaxgmm
from benchmarks.choices import KMEANS_SEEDS, MANY_TOL, SAMPLE_OF_MANY, SWEEP_TOL
from benchmarks.contestants.base import Absent, Outcome, Prepared
from benchmarks.problems import Problem, Start
from benchmarks.scoring import inertia, log_likelihood


def em(problem: Problem) -> Prepared:
    """One fit from the given parameters; tol = 0 lets no iteration be left out."""
    case, start = problem.case, _params(problem)

    def run(n_iter: int) -> Outcome:
        result = jaxgmm.fit(
            problem.x,
            case.n_components,
            covariance_type=case.covariance_type,
            init=start,
            tol=0.0,
            max_iter=n_iter,
            reg_covar=case.reg_covar,
            reg_kind="absolute",
        )
        return Outcome(lambda: log_likelihood(problem, _end(result)), result.n_iter)

    return Prepared(run)


def restarts(problem: Problem) -> Prepared:
    """All restarts as lanes of one fit, from its own k-means starts."""
    case = problem.case

    def run(n_iter: int) -> Outcome:
        result = jaxgmm.fit(
            problem.x,
            case.n_components,
            covariance_type=case.covariance_type,
            key=case.seed,
            n_restarts=case.n_restarts,
            tol=0.0,
            max_iter=n_iter,
            reg_covar=case.reg_covar,
            reg_kind="absolute",
        )
        # A lane that stopped early would make the time look good.
        return Outcome(lambda: log_likelihood(problem, _end(result)), int(result.restart_n_iter.min()))

    return Prepared(run, note="k-means starts of its own", equal_start=False)


def sweep(problem: Problem) -> Prepared:
    """One sweep over all component counts; the value is the best BIC."""
    case = problem.case

    def run(_: int) -> Outcome:
        result = jaxgmm.sweep(
            problem.x,
            range(1, case.n_components + 1),
            covariance_types=case.covariance_type,
            key=case.seed,
            n_restarts=case.n_restarts,
            tol=SWEEP_TOL,
            reg_covar=case.reg_covar,
            reg_kind="absolute",
        )
        return Outcome(lambda: float(np.nanmin(result.values)))

    return Prepared(run, note=f"tol {SWEEP_TOL:.0e}, relative", equal_start=False)


def many(problem: Problem) -> Prepared:
    """All sets as lanes of one call; the value covers the sets that the others were given."""
    case = problem.case
    if not hasattr(jaxgmm, "fit_many"):
        raise Absent("this version of jaxgmm has no fit_many")

    def run(_: int) -> Outcome:
        found = jaxgmm.fit_many(
            list(problem.sets),
            case.n_components,
            covariance_type=case.covariance_type,
            key=case.seed,
            tol=MANY_TOL,
            reg_covar=case.reg_covar,
            reg_kind="absolute",
        )
        return Outcome(lambda: _total(found.fits, problem))

    return Prepared(run, note=f"tol {MANY_TOL:.0e}, relative", equal_start=False)


def predict_proba(problem: Problem) -> Prepared:
    """Responsibilities of all rows; the value is the sum of the largest of each row."""
    params = _params(problem)

    def run(_: int) -> Outcome:
        found = np.asarray(jaxgmm.responsibilities(params, problem.x))
        return Outcome(lambda: float(found.max(axis=1).sum(dtype=np.float64)))

    return Prepared(run)


def score_samples(problem: Problem) -> Prepared:
    """Log-densities of all rows; the value is their sum."""
    params = _params(problem)

    def run(_: int) -> Outcome:
        found = np.asarray(jaxgmm.log_prob(params, problem.x))
        return Outcome(lambda: float(found.sum(dtype=np.float64)))

    return Prepared(run)


def kmeans(problem: Problem) -> Prepared:
    """The k-means start over several seeds, by fits of no iterations; the value is the mean inertia."""

    def run(_: int) -> Outcome:
        centres = [
            jaxgmm.fit(
                problem.x, problem.case.n_components, covariance_type="spherical", key=seed, init="kmeans", max_iter=0
            ).params.means
            for seed in KMEANS_SEEDS
        ]
        return Outcome(lambda: float(np.mean([inertia(problem.x, np.asarray(c)) for c in centres])))

    note = f"{len(KMEANS_SEEDS)} seeds in one call; includes the E-step that a fit ends on"
    return Prepared(run, note=note, equal_start=False)


def _params(problem: Problem) -> jaxgmm.GMMParams:
    start = problem.start
    return jaxgmm.GMMParams(
        weights=start.weights,
        means=start.means,
        covariances=start.covariances,
        covariance_type=problem.case.covariance_type,
    )


def _end(result: jaxgmm.FitResult) -> Start:
    return Start(*(np.asarray(getattr(result.params, name)) for name in ("weights", "means", "covariances")))


def _total(found: object, problem: Problem) -> float:
    """Total log-likelihood of the first sets under their own models."""
    pairs = zip(found, problem.sets[:SAMPLE_OF_MANY], strict=False)  # type: ignore[call-overload]
    return float(sum(np.sum(jaxgmm.log_prob(result.params, x)) for result, x in pairs))
