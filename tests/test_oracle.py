"""The judges are judged first: the loop oracle against closed forms, SciPy, scikit-learn and mclust."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from tests.oracles import mclust, numpy_gmm as oracle

FAMILIES = oracle.COVARIANCE_TYPES
MAIN_FAMILIES = ("full", "tied", "diag", "spherical")


def _rows(n_rows: int = 40, n_features: int = 3, seed: int = 0) -> np.ndarray:
    """Two correlated clouds, so that neither K = 1 nor a diagonal is the truth."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n_rows, n_features)) @ rng.normal(size=(n_features, n_features))
    x[: n_rows // 3] += 4.0
    return x


def _start(
    x: np.ndarray, covariance_type: str, n_components: int = 2, seed: int = 1
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    resp = np.random.default_rng(seed).dirichlet(np.ones(n_components), size=len(x))
    return oracle.m_step(x, resp, covariance_type)


@pytest.mark.parametrize("covariance_type", FAMILIES)
def test_one_component_has_the_closed_form(covariance_type: str) -> None:
    x = _rows()
    n, d = x.shape
    scatter = np.cov(x.T, bias=True)
    if covariance_type in ("full", "tied"):
        log_det = np.linalg.slogdet(scatter)[1]
    elif covariance_type in ("diag", "tied_diag"):
        log_det = np.log(np.diag(scatter)).sum()
    else:
        log_det = d * np.log(np.diag(scatter).mean())
    params = oracle.m_step(x, np.ones((n, 1)), covariance_type)
    _, log_likelihood = oracle.e_step(x, *params, covariance_type)
    assert log_likelihood == pytest.approx(-n / 2 * (d * math.log(2 * math.pi * math.e) + log_det), rel=1e-13)


@pytest.mark.parametrize("covariance_type", FAMILIES)
def test_densities_are_scipys(covariance_type: str) -> None:
    x = _rows()
    weights, means, covariances = _start(x, covariance_type, n_components=3)
    full = oracle.to_full(covariances, covariance_type, 3, x.shape[1])
    parts = np.array([stats.multivariate_normal(means[k], full[k]).pdf(x) for k in range(3)]).T
    np.testing.assert_allclose(
        oracle.component_log_prob(x, means, covariances, covariance_type), np.log(parts), rtol=1e-10
    )
    mixture = parts @ weights
    args = (x, weights, means, covariances, covariance_type)
    np.testing.assert_allclose(oracle.log_prob(*args), np.log(mixture), rtol=1e-10)
    np.testing.assert_allclose(oracle.responsibilities(*args), parts * weights / mixture[:, None], rtol=1e-9)
    row_weight = np.linspace(0, 2, len(x))
    assert oracle.e_step(*args, row_weight)[1] == pytest.approx(row_weight @ np.log(mixture), rel=1e-12)


def test_family_shapes() -> None:
    shapes = {t: np.shape(_start(_rows(), t)[2]) for t in FAMILIES}
    assert shapes == {
        "full": (2, 3, 3),
        "tied": (3, 3),
        "diag": (2, 3),
        "spherical": (2,),
        "tied_diag": (3,),
        "tied_spherical": (),
    }


def test_m_step_is_numpys_weighted_covariance() -> None:
    x, row_weight = _rows(), np.linspace(0.1, 2, 40)
    resp = np.random.default_rng(3).dirichlet(np.ones(2), size=40)
    weights, means, covariances = oracle.m_step(x, resp, "full", reg_covar=0.5, sample_weight=row_weight)
    for k in range(2):
        mass = row_weight * resp[:, k]
        assert weights[k] == pytest.approx(mass.sum() / row_weight.sum(), rel=1e-13)
        np.testing.assert_allclose(means[k], np.average(x, axis=0, weights=mass), rtol=1e-12)
        expected = np.cov(x.T, aweights=mass, ddof=0) + 0.5 * np.eye(3)
        np.testing.assert_allclose(covariances[k], expected, rtol=1e-12)
    tied = np.tensordot(weights, covariances, axes=1)
    diag = np.array([np.diag(c) for c in covariances])
    others = {
        "tied": tied,
        "diag": diag,
        "spherical": diag.mean(axis=1),
        "tied_diag": np.diag(tied),
        "tied_spherical": np.diag(tied).mean(),
    }
    for covariance_type, expected in others.items():
        result = oracle.m_step(x, resp, covariance_type, 0.5, row_weight)[2]
        np.testing.assert_allclose(result, expected, rtol=1e-12)


def test_m_step_refuses_a_component_without_mass() -> None:
    resp = np.column_stack([np.ones(40), np.zeros(40)])
    with pytest.raises(ValueError, match="component 1 has no mass"):
        oracle.m_step(_rows(), resp, "full")


@pytest.mark.parametrize("covariance_type", FAMILIES)
def test_likelihood_never_falls(covariance_type: str) -> None:
    x, row_weight = _rows(), np.linspace(0.1, 2, 40)
    start = _start(x, covariance_type)
    params, history = oracle.fit(x, *start, covariance_type, n_iter=8, sample_weight=row_weight)
    assert len(history) == 9
    assert np.diff(history).min() > -1e-10
    # The last entry belongs to the parameters returned, the first to those given.
    assert history[-1] == oracle.e_step(x, *params, covariance_type, row_weight)[1]
    assert history[0] == oracle.e_step(x, *start, covariance_type, row_weight)[1]
    assert oracle.fit(x, *start, covariance_type, 0, 0.0, row_weight)[1] == history[:1]


@pytest.mark.parametrize("covariance_type", FAMILIES)
def test_a_weight_counts_copies_and_zero_means_absent(covariance_type: str) -> None:
    x = _rows()
    start = _start(x, covariance_type)
    counts = np.arange(40) % 3
    padded = np.where(counts[:, None] == 0, np.nan, x)
    weighted, history = oracle.fit(padded, *start, covariance_type, 3, 1e-3, counts)
    copied, copied_history = oracle.fit(np.repeat(x, counts, axis=0), *start, covariance_type, 3, 1e-3)
    np.testing.assert_allclose(history, copied_history, rtol=1e-12)
    for a, b in zip(weighted, copied, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10)


def test_a_zero_mixing_weight_is_a_component_left_out() -> None:
    x = _rows()
    weights, means, covariances = _start(x, "full")
    three = (
        np.append(weights, 0.0),
        np.vstack([means, means[:1]]),
        np.concatenate([covariances, np.eye(3)[None]]),
    )
    np.testing.assert_array_equal(
        oracle.log_prob(x, *three, "full"), oracle.log_prob(x, weights, means, covariances, "full")
    )
    assert (oracle.responsibilities(x, *three, "full")[:, 2] == 0).all()


def test_criteria() -> None:
    x, row_weight = _rows(), np.linspace(0.1, 2, 40)
    params = _start(x, "diag")
    log_likelihood = oracle.e_step(x, *params, "diag", row_weight)[1]
    n_params = oracle.n_parameters("diag", 2, 3)
    assert n_params == 1 + 6 + 6
    assert oracle.aic(x, *params, "diag", row_weight) == pytest.approx(-2 * log_likelihood + 2 * 13)
    bic = oracle.bic(x, *params, "diag", row_weight)
    assert bic == pytest.approx(-2 * log_likelihood + 13 * math.log(row_weight.sum()))
    doubt = row_weight @ np.log(oracle.responsibilities(x, *params, "diag").max(axis=1))
    assert oracle.icl(x, *params, "diag", row_weight) == pytest.approx(bic - 2 * doubt)
    assert oracle.bic(x, *params, "diag") == pytest.approx(oracle.bic(x, *params, "diag", np.ones(40)))


def test_partition_measures_agree_with_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    x = _rows()
    rng = np.random.default_rng(5)
    a, b = rng.integers(0, 3, 40), rng.integers(0, 4, 40)
    a[7] = 3  # a cluster of one
    assert oracle.silhouette(x, a) == pytest.approx(metrics.silhouette_score(x, a), rel=1e-10)
    assert oracle.adjusted_rand(a, b) == pytest.approx(metrics.adjusted_rand_score(a, b), rel=1e-12)
    assert oracle.adjusted_rand(a, (a + 1) % 4) == 1.0


def test_best_relabelled_accuracy() -> None:
    truth = np.array([0, 0, 1, 1, 2, 2])
    assert oracle.best_relabelled_accuracy(truth, (truth + 1) % 3) == 1.0
    assert oracle.best_relabelled_accuracy(truth, np.array([5, 5, 5, 9, 9, 9])) == pytest.approx(4 / 6)
    assert oracle.best_relabelled_accuracy(truth, np.arange(6)) == pytest.approx(3 / 6)


@pytest.mark.parametrize("name", mclust.NAMES)
def test_hard_start_is_one_m_step(name: str) -> None:
    reference = mclust.load(name)
    labels = reference.partition(3)
    for covariance_type in FAMILIES:
        start = mclust.hard_start(reference.x, labels, 3, covariance_type)
        for a, b in zip(start, oracle.m_step(reference.x, np.eye(3)[labels], covariance_type), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", mclust.NAMES)
def test_parameters_are_counted_as_mclust_counts_them(name: str) -> None:
    reference = mclust.load(name)
    for covariance_type in FAMILIES:
        for k in range(1, 10):
            ours = oracle.n_parameters(covariance_type, k, reference.x.shape[1])
            assert ours == reference.n_parameters(covariance_type, k)


@pytest.mark.parametrize("covariance_type", MAIN_FAMILIES)
@pytest.mark.parametrize("name", mclust.NAMES)
def test_mclusts_parameters_are_a_fixed_point(name: str, covariance_type: str) -> None:
    reference = mclust.load(name)
    point = reference.fixed_point(covariance_type)
    resp, log_likelihood = oracle.e_step(
        reference.x, point.weights, point.means, point.covariances, covariance_type
    )
    assert log_likelihood == pytest.approx(point.log_likelihood, rel=1e-12)
    assert reference.log_likelihood(covariance_type, len(point.weights)) == point.log_likelihood
    if len(point.weights) <= 3:  # the M-step loop is the slow half
        weights, means, covariances = oracle.m_step(reference.x, resp, covariance_type)
        scale = reference.x.std(axis=0)  # the columns of wine differ by a factor of 2500
        moved = (
            oracle.to_full(covariances, covariance_type, *means.shape)
            - oracle.to_full(point.covariances, covariance_type, *means.shape)
        )
        np.testing.assert_allclose(weights, point.weights, atol=1e-6)
        np.testing.assert_allclose(means / scale, point.means / scale, atol=1e-6)
        np.testing.assert_allclose(moved / np.outer(scale, scale), 0, atol=1e-6)


@pytest.mark.parametrize("covariance_type", MAIN_FAMILIES)
def test_em_from_mclusts_start_reaches_mclusts_limit(covariance_type: str) -> None:
    reference = mclust.load("iris")
    start = mclust.hard_start(reference.x, reference.partition(2), 2, covariance_type)
    _, history = oracle.fit(reference.x, *start, covariance_type, n_iter=6)
    assert history[-1] == pytest.approx(reference.log_likelihood(covariance_type, 2), rel=1e-9)


@pytest.mark.parametrize("covariance_type", ["tied_diag", "tied_spherical"])
def test_em_passes_through_mclusts_loosely_converged_fits(covariance_type: str) -> None:
    reference = mclust.load("iris")
    stored = reference.log_likelihood(covariance_type, 2)
    start = mclust.hard_start(reference.x, reference.partition(2), 2, covariance_type)
    _, history = oracle.fit(reference.x, *start, covariance_type, n_iter=12)
    assert np.abs(np.array(history) - stored).min() < 1e-9 * abs(stored)


@pytest.mark.parametrize("name", mclust.NAMES)
def test_mclusts_choice(name: str) -> None:
    reference = mclust.load(name)
    best = reference.best()
    params = best["weights"], best["means"], best["covariances"]
    covariance_type = "full"
    if best["model"] == "VVI":
        # mclust 6.0.0 ends this model on an M-step: all it reports belongs to the step before the stored
        # parameters. So walk mclust's path to there, and see that one more step gives what is stored.
        covariance_type = "diag"
        start = mclust.hard_start(reference.x, reference.partition(best["G"]), best["G"], "diag")
        params, _ = oracle.fit(reference.x, *start, "diag", n_iter=31)
        (_, means, _), _ = oracle.fit(reference.x, *params, "diag", n_iter=1)
        np.testing.assert_allclose(means, best["means"], rtol=1e-11)
    args = (reference.x, *params, covariance_type)
    resp, log_likelihood = oracle.e_step(*args)
    assert log_likelihood == pytest.approx(best["loglik"], rel=1e-12)
    assert oracle.bic(*args, n_params=best["df"]) == pytest.approx(-best["bic"], rel=1e-12)
    assert oracle.icl(*args, n_params=best["df"]) == pytest.approx(-best["icl"], rel=1e-11)
    labels = resp.argmax(axis=1)
    assert np.bincount(labels).tolist() == best["counts"]
    assert 1 - oracle.best_relabelled_accuracy(reference.labels, labels) == pytest.approx(best["class_error"])
    assert oracle.adjusted_rand(reference.labels, labels) == pytest.approx(best["adjusted_rand"], rel=1e-12)


def test_singular_fits_are_left_out() -> None:
    wine = mclust.load("wine")
    assert wine.log_likelihood("full", 6) is not None
    assert wine.log_likelihood("full", 7) is None
    assert {(t, k) for t, k, _ in wine.cells() if t == "full"} == {("full", k) for k in range(1, 7)}
    assert sum(1 for name in mclust.NAMES for _ in mclust.load(name).cells()) == 104
