"""EM from mclust's own starting partitions ends where mclust ends: iris, thyroid and wine, K = 1..9.

`tight` in the tables is the log-likelihood of mclust run on to convergence from a hard partition; the same start,
reg_covar 0 and a tolerance at the limit of float64 must reach it to 1e-8 relative. The default run takes a
few cells of every family and data set (each is a program to compile), the slow run all 108.
"""

from __future__ import annotations

import numpy as np
import pytest

import jaxgmm
from jaxgmm import DataError, FitError, Status
from tests.helpers import params_distance, params_of, relative
from tests.oracles import mclust, numpy_gmm as oracle

MAIN_FAMILIES = ("full", "tied", "diag", "spherical")
OTHER_FAMILIES = ("tied_diag", "tied_spherical")
CELLS = [(name, family, k) for name in mclust.NAMES for family in MAIN_FAMILIES for k in range(1, 10)]


def best_count(name: str, family: str) -> int:
    """The K that mclust prefers for a family: the one whose converged parameters are stored."""
    return len(mclust.load(name).fixed_point(family).weights)


QUICK = {(name, family, best_count(name, family)) for name in mclust.NAMES for family in MAIN_FAMILIES}
QUICK |= {("wine", "full", 7), ("iris", "full", 9)}


def converge(name: str, family: str, n_components: int) -> jaxgmm.FitResult | None:
    """The fit from mclust's partition, or None where it meets a singularity."""
    reference = mclust.load(name)
    start = mclust.hard_start(reference.x, reference.partition(n_components), n_components, family)
    try:
        result = jaxgmm.fit(
            reference.x,
            n_components,
            covariance_type=family,
            init=params_of(start, family),
            reg_covar=0.0,
            tol=1e-15,
            max_iter=20000,
        )
    except (DataError, FitError):
        return None
    if result.status == Status.SINGULAR:
        return None
    assert result.converged, result.message
    return result


def check_cell(name: str, family: str, n_components: int) -> None:
    wanted = mclust.load(name).log_likelihood(family, n_components)
    result = converge(name, family, n_components)
    if wanted is None:
        assert result is None
        return
    assert result is not None
    assert result.log_likelihood == pytest.approx(wanted, rel=1e-8)
    assert result.n_parameters == mclust.load(name).n_parameters(family, n_components)


@pytest.mark.parametrize(("name", "family", "n_components"), sorted(QUICK))
def test_converged_log_likelihood(name, family, n_components):
    check_cell(name, family, n_components)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "family", "n_components"), sorted(set(CELLS) - QUICK))
def test_converged_log_likelihood_everywhere(name, family, n_components):
    check_cell(name, family, n_components)


@pytest.mark.parametrize("family", MAIN_FAMILIES)
@pytest.mark.parametrize("name", mclust.NAMES)
def test_stored_parameters_are_a_fixed_point(name, family):
    reference, point = mclust.load(name), mclust.load(name).fixed_point(family)
    params = params_of((point.weights, point.means, point.covariances), family)
    result = jaxgmm.fit(
        reference.x, len(point.weights), covariance_type=family, init=params, reg_covar=0.0, tol=0.0, max_iter=1
    )
    np.testing.assert_allclose(result.history, point.log_likelihood, rtol=1e-11)
    assert result.history[0] == pytest.approx(point.log_likelihood, rel=1e-12)
    assert params_distance(result.params, params) < 1e-5


@pytest.mark.parametrize("family", OTHER_FAMILIES)
@pytest.mark.parametrize("name", mclust.NAMES)
def test_counts_and_criteria_of_the_other_families(name, family):
    """mclust stopped these early (1e-5 relative), on the path of exact EM: ours ends at or above them."""
    reference = mclust.load(name)
    n_components = 3
    stored = reference.log_likelihood(family, n_components)
    start = mclust.hard_start(reference.x, reference.partition(n_components), n_components, family)
    result = jaxgmm.fit(
        reference.x, n_components, covariance_type=family, init=params_of(start, family), reg_covar=0.0, tol=1e-12
    )
    assert result.converged
    assert result.log_likelihood >= stored - 1e-9 * abs(stored)
    assert np.abs(result.history - stored).min() < 1e-9 * abs(stored)
    # mclust's BIC has the opposite sign.
    n_parameters = reference.n_parameters(family, n_components)
    assert result.n_parameters == n_parameters
    bic = reference.tables["bic"][mclust.CODES[family]][n_components - 1]
    assert jaxgmm.bic(stored, n_parameters, len(reference.x)) == pytest.approx(-bic, rel=1e-12)


@pytest.mark.parametrize("name", mclust.NAMES)
def test_parameters_are_counted_as_mclust_counts_them(name):
    reference = mclust.load(name)
    for family in jaxgmm.COVARIANCE_TYPES:
        for k in range(1, 10):
            counted = jaxgmm.n_parameters(family, k, reference.x.shape[1])
            assert counted == reference.n_parameters(family, k)


@pytest.mark.parametrize("name", mclust.NAMES)
def test_criteria_of_mclusts_choice(name):
    """BIC, ICL, classification error and Rand index of the model that mclust prefers among its fourteen.

    A model outside our families is evaluated as `full`, with mclust's count of parameters.
    """
    reference, best = mclust.load(name), mclust.load(name).best()
    family = "full"
    parts = best["weights"], best["means"], best["covariances"]
    if best["model"] == "VVI":
        # mclust 6.0.0 reports this model one step before the parameters it stores: walk its path to there.
        family = "diag"
        start = mclust.hard_start(reference.x, reference.partition(best["G"]), best["G"], family)
        parts, _ = oracle.fit(reference.x, *start, family, n_iter=31)
    params = params_of(parts, family)
    stats = jaxgmm.e_step(params, reference.x)
    n_rows = len(reference.x)
    assert float(stats.log_likelihood) == pytest.approx(best["loglik"], rel=1e-12)
    assert jaxgmm.bic(float(stats.log_likelihood), best["df"], n_rows) == pytest.approx(-best["bic"], rel=1e-12)
    icl = jaxgmm.icl(float(stats.classification_log_likelihood), best["df"], n_rows)
    assert icl == pytest.approx(-best["icl"], rel=1e-11)
    labels = jaxgmm.predict(params, reference.x)
    assert np.bincount(labels).tolist() == best["counts"]
    assert relative(jaxgmm.misclassification_rate(reference.labels, labels), best["class_error"]) < 1e-12
    assert jaxgmm.adjusted_rand_index(reference.labels, labels) == pytest.approx(best["adjusted_rand"], rel=1e-12)


def test_a_fit_reports_mclusts_icl():
    """The `icl` of a fit, not only the formula: thyroid's best model is one of our families."""
    best = mclust.load("thyroid").best()
    assert best["model"] == "VVI"
    result = converge("thyroid", "diag", best["G"])
    # mclust's default tolerance stops early: 3e-6 relative in the ICL.
    assert result.icl == pytest.approx(-best["icl"], rel=1e-4)
    assert result.bic == pytest.approx(-best["bic"], rel=1e-4)
