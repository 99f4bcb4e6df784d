"""What the five projects that jaxgmm grew from could do, done right: the parts that no other test shows.

S0 a NumPy laboratory in 3-D, S1 a 2-D class, S2 a command, S3 notes against scikit-learn, S4 a 1-D tutorial. Where
a project was wrong, the test pins what is right.
"""

import inspect

import numpy as np
import pytest
from scipy.io import savemat
from scipy.stats import multivariate_normal
from sklearn.datasets import load_digits
from sklearn.mixture import GaussianMixture as SklearnMixture

import jaxgmm
from jaxgmm.data import (
    make_1d_blobs,
    make_bimodal,
    make_ellipsoids,
    make_random,
    make_three_1d,
    make_two_gaussians,
    read_table,
)


@pytest.fixture(scope="module")
def plane():
    """S1.8: three random Gaussians in the plane."""
    return make_random(n_components=3, n_features=2, n_per_component=200, seed=4)


@pytest.fixture(scope="module")
def line():
    """S4.4: 3 x 100 rows around -5, 0 and 5."""
    return make_three_1d(seed=0)


# S0


def test_density_of_one_gaussian():
    """S0.2, S3.6."""
    rng = np.random.default_rng(0)
    mean, factor = rng.normal(size=3), rng.normal(size=(3, 3))
    covariance, x = factor @ factor.T + np.eye(3), rng.normal(size=(20, 3))
    params = jaxgmm.make_params([1.0], [mean], [covariance])
    np.testing.assert_allclose(jaxgmm.log_prob(params, x), multivariate_normal(mean, covariance).logpdf(x), rtol=1e-12)


def test_far_rows_do_not_underflow():
    """S0.3; S1, S3 and S4 divide 0 by 0 here because they work with densities instead of logarithms."""
    params = jaxgmm.make_params([0.5, 0.5], [[-1.0], [1.0]], [[1.0], [1.0]], "diag")
    resp = jaxgmm.responsibilities(params, [[-1e6], [1e6]])
    np.testing.assert_array_equal(resp, [[1, 0], [0, 1]])


def test_closed_form_updates_with_a_ridge(plane):
    """S0.4, S0.5, S1.4, S2.11, S4.7, S4.8: weights, means and covariances from responsibilities, plus eps I."""
    params = jaxgmm.params_from_means(plane.x, plane.means)
    r = jaxgmm.responsibilities(params, plane.x)
    new = jaxgmm.m_step(params, jaxgmm.e_step(params, plane.x), reg_covar=0.1)
    mass = r.sum(axis=0)
    np.testing.assert_allclose(new.weights, mass / len(r), rtol=1e-12)
    np.testing.assert_allclose(new.means, r.T @ plane.x / mass[:, None], rtol=1e-12)
    for k in range(3):
        delta = plane.x - new.means[k]
        expected = (r[:, k, None] * delta).T @ delta / mass[k] + 0.1 * np.eye(2)
        np.testing.assert_allclose(new.covariances[k], expected, rtol=1e-9)


def test_stopping_rule_is_relative_and_tight_by_default():
    """S0.7."""
    assert inspect.signature(jaxgmm.fit).parameters["tol"].default == 1e-8


# S1


def test_a_mixture_with_its_own_start(plane):
    """S1.1, S1.2, S1.3, S2.9, S3.4: means drawn from U[-10, 10], unit covariances, equal weights."""
    means = np.random.default_rng(7).uniform(-10, 10, size=(3, 2))
    params = jaxgmm.make_params(np.full(3, 1 / 3), means, np.tile(np.eye(2), (3, 1, 1)))
    assert (params.n_components, params.n_features) == (3, 2)
    result = jaxgmm.fit(plane.x, 3, init=params)
    assert result.init == "given"
    assert result.log_likelihood > jaxgmm.e_step(params, plane.x).log_likelihood


def test_thirty_iterations_and_their_log_likelihoods(plane):
    """S1.10, S1.11, S3.9: a history that never falls, whose last entry is the likelihood of the result."""
    result = jaxgmm.fit(plane.x, 3, key=0, init="random", max_iter=30, tol=0.0, reg_covar=0.0)
    assert result.n_iter == 30
    assert len(result.history) == 31
    assert np.diff(result.history).min() > -1e-9
    np.testing.assert_allclose(jaxgmm.log_prob(result.params, plane.x).sum(), result.history[-1], rtol=1e-12)


def test_likelihood_of_other_data(plane):
    """S1.5, S3.10, S2: of any rows, not only of those that were fitted."""
    result = jaxgmm.fit(plane.x, 3, key=0)
    other = make_random(n_components=3, n_features=2, n_per_component=200, seed=4).x[:50] + 1.0
    assert jaxgmm.score(result.params, other) < result.score
    assert jaxgmm.predict(result.params, other).shape == (50,)


def test_a_better_start_than_random(plane):
    """S1.14."""
    kmeans = jaxgmm.fit(plane.x, 3, key=0, init="kmeans")
    random = jaxgmm.fit(plane.x, 3, key=0, init="random")
    assert kmeans.log_likelihood >= random.log_likelihood - 1e-6
    assert kmeans.history[0] > random.history[0] + 100


# S3


def test_one_dimension_against_truth_and_scikit_learn():
    """S3.1, S3.2, S3.3, S3.11, S3.12, S3.13, S3.14: accuracy up to relabelling, and agreement of two fits."""
    truth = make_1d_blobs(seed=0)
    ours = jaxgmm.GaussianMixture(3, random_state=0, n_init=4).fit(truth.x)
    theirs = SklearnMixture(3, random_state=0, n_init=4).fit(truth.x)
    labels, their_labels = ours.predict(truth.x), theirs.predict(truth.x)
    agreement = jaxgmm.agreement(labels, their_labels)
    assert agreement > 0.9  # the notes found 92 %
    accuracy = jaxgmm.accuracy_up_to_relabelling(truth.labels, labels)
    their_accuracy = jaxgmm.accuracy_up_to_relabelling(truth.labels, their_labels)
    # Two labellings that differ in a share of the rows differ in accuracy by at most that share.
    assert abs(accuracy - their_accuracy) <= 1 - agreement + 1e-12
    assert ours.score(truth.x) >= theirs.score(truth.x) - 1e-3
    order = jaxgmm.match_components(truth.means, ours.means_)
    assert sorted(order) == [0, 1, 2]


@pytest.mark.parametrize("n_features", [1, 2])
def test_ellipsoids_against_scikit_learn(n_features):
    """S3.15, S3.16: misclassification no worse than scikit-learn's."""
    truth = make_ellipsoids(n_features=n_features, seed=1)
    ours = jaxgmm.GaussianMixture(2, random_state=0, n_init=4).fit_predict(truth.x)
    theirs = SklearnMixture(2, random_state=0, n_init=4).fit_predict(truth.x)
    rate = jaxgmm.misclassification_rate(truth.labels, ours)
    assert rate <= jaxgmm.misclassification_rate(truth.labels, theirs) + 0.01


def test_three_dimensions_in_ten_iterations():
    """S3.19, S3.20: 50 points around 2 centres."""
    truth = make_ellipsoids(sizes=(30, 20), n_features=3, seed=0)
    result = jaxgmm.fit(truth.x, 2, key=0, n_restarts=4, max_iter=10)
    assert result.n_iter <= 10
    assert jaxgmm.misclassification_rate(truth.labels, jaxgmm.predict(result.params, truth.x)) <= 0.1


def test_two_digits_from_matlab_files(tmp_path):
    """S3.21: digits 2 and 6 from data.mat and label.mat (scikit-learn's 8 x 8 digits in place of MNIST)."""
    digits = load_digits()
    chosen = np.isin(digits.target, (2, 6))
    savemat(tmp_path / "data.mat", {"data": digits.data[chosen]})
    savemat(tmp_path / "label.mat", {"label": digits.target[chosen][:, None]})
    x = read_table(str(tmp_path / "data.mat")).x
    label = read_table(str(tmp_path / "label.mat")).x[:, 0]
    # Pixels that never change have no variance of their own: the ridge, in grey levels squared, is their floor.
    result = jaxgmm.fit(x, 2, covariance_type="diag", key=0, n_restarts=4, reg_covar=0.1)
    assert jaxgmm.misclassification_rate(label, jaxgmm.predict(result.params, x)) < 0.02


# S4


def test_tutorial_in_one_dimension(line):
    """S4.6, S4.10, S4.13: start at random rows, 50 steps, the three means and variances are found."""
    result = jaxgmm.fit(line.x, 3, key=1, init="random_from_data", n_restarts=4, max_iter=50)
    order = np.argsort(result.params.means[:, 0])
    np.testing.assert_allclose(result.params.means[order, 0], [-5, 0, 5], atol=0.4)
    # The tutorial drew variances as if they were standard deviations.
    np.testing.assert_allclose(result.params.covariances[order, 0, 0], [1.2, 1.6, 1.8], rtol=0.35)


def test_responsibilities_add_up_to_cluster_sizes(line):
    """S4.12, S2.10."""
    result = jaxgmm.fit(line.x, 3, key=0)
    resp = jaxgmm.responsibilities(result.params, line.x)
    np.testing.assert_allclose(resp.sum(axis=1), 1.0, rtol=1e-13)
    after = jaxgmm.m_step(result.params, jaxgmm.e_step(result.params, line.x))
    np.testing.assert_allclose(resp.sum(axis=0), after.weights * 300, rtol=1e-12)


def test_tutorial_sets_are_recovered():
    """S4.1, S4.2, S4.3: choose the number by BIC, then fit."""
    bimodal, tilted = make_bimodal(seed=0), make_two_gaussians(seed=0)
    for truth in (bimodal, tilted):
        best = jaxgmm.sweep(truth.x, range(1, 4), key=0, n_restarts=2, max_iter=300).best
        assert best.n_components == 2
        order = jaxgmm.match_components(truth.means, best.params.means)
        np.testing.assert_allclose(best.params.means[order], truth.means, atol=0.2)
        np.testing.assert_allclose(best.params.covariances[order], truth.covariances, atol=0.2)
