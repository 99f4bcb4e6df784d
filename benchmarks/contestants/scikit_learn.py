"""scikit-learn with its default threads."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from benchmarks.choices import KMEANS_SEEDS, MANY_TOL, SAMPLE_OF_MANY, SWEEP_TOL
from benchmarks.contestants.base import Outcome, Prepared
from benchmarks.problems import Problem, Start
from benchmarks.scoring import inertia, log_likelihood


def em(problem: Problem) -> Prepared:
    """One fit from the given weights, means and precisions; tol = 0 lets no iteration be left out."""
    case, start = problem.case, problem.start
    given = {"weights_init": start.weights, "means_init": start.means, "precisions_init": _precisions(problem)}

    def run(n_iter: int) -> Outcome:
        model = _fit(problem, problem.x, case.n_components, tol=0.0, max_iter=n_iter, **given)
        return Outcome(lambda: log_likelihood(problem, _end(model)), model.n_iter_)

    return Prepared(run)


def restarts(problem: Problem) -> Prepared:
    """n_init fits from its own k-means starts, each for the same number of iterations."""
    case = problem.case

    def run(n_iter: int) -> Outcome:
        model = _fit(
            problem, problem.x, case.n_components, tol=0.0, max_iter=n_iter, n_init=case.n_restarts, random_state=0
        )
        return Outcome(lambda: log_likelihood(problem, _end(model)), model.n_iter_)

    return Prepared(run, note=f"n_init={case.n_restarts}; k-means starts of its own", equal_start=False)


def sweep(problem: Problem) -> Prepared:
    """A loop over the component counts; the value is the best BIC."""
    case = problem.case
    # Its rule is absolute, on the mean log-likelihood: the relative one of jaxgmm at the scale of one Gaussian
    # (the loosest of all counts), log sqrt(2 pi e v) a feature.
    scale = float(0.5 * np.log(2 * np.pi * np.e * problem.x.var(axis=0)).sum())

    def run(_: int) -> Outcome:
        models = [
            _fit(problem, problem.x, k, tol=SWEEP_TOL * scale, max_iter=1000, n_init=case.n_restarts, random_state=0)
            for k in range(1, case.n_components + 1)
        ]
        return Outcome(lambda: min(model.bic(problem.x) for model in models))

    return Prepared(run, note=f"loop of fits, tol {SWEEP_TOL * scale:.1e} on the mean", equal_start=False)


def many(problem: Problem) -> Prepared:
    """A loop over some of the sets, its time scaled up to all of them."""
    part = problem.sets[:SAMPLE_OF_MANY]
    # As for the sweep; the mean log-likelihood of a row of these sets is about -3.5.
    tol = MANY_TOL * 3.5

    def run(_: int) -> Outcome:
        models = [_fit(problem, x, problem.case.n_components, tol=tol, max_iter=1000, random_state=0) for x in part]
        return Outcome(lambda: sum(m.score(x) * len(x) for m, x in zip(models, part, strict=True)))

    scale = len(problem.sets) / len(part)
    note = f"loop of fits on {len(part)} sets, time x {scale:g}; tol {tol:.1e} on the mean"
    return Prepared(run, note=note, equal_start=False, scale=scale)


def predict_proba(problem: Problem) -> Prepared:
    """Responsibilities of all rows; the value is the sum of the largest of each row."""
    model = _given(problem)

    def run(_: int) -> Outcome:
        found = model.predict_proba(problem.x)
        return Outcome(lambda: float(found.max(axis=1).sum(dtype=np.float64)))

    return Prepared(run)


def score_samples(problem: Problem) -> Prepared:
    """Log-densities of all rows; the value is their sum."""
    model = _given(problem)

    def run(_: int) -> Outcome:
        found = model.score_samples(problem.x)
        return Outcome(lambda: float(found.sum(dtype=np.float64)))

    return Prepared(run)


def kmeans(problem: Problem) -> Prepared:
    """KMeans as a mixture's start runs it, over several seeds; the value is the mean inertia."""

    def run(_: int) -> Outcome:
        centres = [
            KMeans(problem.case.n_components, n_init=1, random_state=seed).fit(problem.x).cluster_centers_
            for seed in KMEANS_SEEDS
        ]
        return Outcome(lambda: float(np.mean([inertia(problem.x, c) for c in centres])))

    return Prepared(run, note=f"{len(KMEANS_SEEDS)} seeds in one call", equal_start=False)


def _fit(problem: Problem, x: np.ndarray, n_components: int, **options: Any) -> GaussianMixture:
    case = problem.case
    model = GaussianMixture(n_components, covariance_type=case.covariance_type, reg_covar=case.reg_covar, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(x)


def _precisions(problem: Problem) -> np.ndarray:
    covariances = problem.start.covariances
    return np.linalg.inv(covariances) if problem.case.covariance_type in ("full", "tied") else 1.0 / covariances


def _end(model: GaussianMixture) -> Start:
    return Start(model.weights_, model.means_, model.covariances_)


def _given(problem: Problem) -> GaussianMixture:
    """A model with the start's parameters, as if it had been fitted."""
    model = GaussianMixture(problem.case.n_components, covariance_type=problem.case.covariance_type)
    model.weights_, model.means_ = problem.start.weights, problem.start.means
    model.covariances_ = problem.start.covariances
    # Of diagonal start covariances, full or not, the Cholesky factor of the precision is the root.
    model.precisions_cholesky_ = np.sqrt(_precisions(problem))
    return model
