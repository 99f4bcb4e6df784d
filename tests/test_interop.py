"""A mixture that goes to scikit-learn and back must score the same rows the same."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from jaxgmm import functional
from jaxgmm._status import DataError, UsageError
from jaxgmm.api import fit
from jaxgmm.covariance import COVARIANCE_TYPES
from jaxgmm.init.given import make_params
from jaxgmm.interop import from_sklearn, to_sklearn
from tests.helpers import random_params

mixture = pytest.importorskip("sklearn.mixture")

RNG = np.random.default_rng(1)
LABELS = np.arange(200) % 3
X = RNG.normal(size=(200, 3)) @ np.array([[1.0, 0, 0], [0.5, 2.0, 0], [0.1, 0.3, 0.7]]) + 4.0 * LABELS[:, None]


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_scikit_learn_scores_our_parameters_as_we_do(covariance_type):
    params = random_params(covariance_type)
    estimator = to_sklearn(params)
    np.testing.assert_allclose(estimator.score_samples(X), functional.log_prob(params, X), rtol=1e-12)
    expected = {"tied_diag": "tied", "tied_spherical": "tied"}.get(covariance_type, covariance_type)
    assert estimator.covariance_type == expected
    assert (estimator.n_features_in_, estimator.n_components) == (3, 3)
    estimator.sample(5)


@pytest.mark.parametrize("covariance_type", ["full", "tied", "diag", "spherical"])
def test_attributes_are_those_scikit_learn_computes_itself(covariance_type):
    own = mixture.GaussianMixture(3, covariance_type=covariance_type, random_state=0).fit(X)
    params = from_sklearn(own)
    assert params.covariance_type == covariance_type
    np.testing.assert_allclose(functional.log_prob(params, X), own.score_samples(X), rtol=1e-12)
    back = to_sklearn(params)
    for name in ("weights_", "means_", "covariances_"):
        np.testing.assert_allclose(getattr(back, name), getattr(own, name), rtol=1e-15)
    for name in ("precisions_", "precisions_cholesky_"):
        np.testing.assert_allclose(getattr(back, name), getattr(own, name), rtol=1e-8, atol=1e-12)


def test_a_fit_brings_how_it_ended():
    result = fit(X, 3, key=0, n_restarts=2)
    estimator = to_sklearn(result)
    assert (estimator.converged_, estimator.n_iter_) == (True, result.n_iter)
    assert estimator.lower_bound_ == result.score == pytest.approx(estimator.score(X), rel=1e-12)
    np.testing.assert_array_equal(estimator.predict(X), functional.predict(result.params, X))
    bare = to_sklearn(result.params)
    assert (bare.converged_, bare.n_iter_, bare.lower_bound_) == (False, 0, -np.inf)


def test_float32_parameters_become_float64_that_scikit_learn_can_draw_from():
    params = random_params("full", dtype=np.float32)
    estimator = to_sklearn(params)
    for name in ("weights_", "means_", "covariances_", "precisions_", "precisions_cholesky_"):
        assert getattr(estimator, name).dtype == np.float64
    assert abs(estimator.weights_.sum() - 1.0) < 1e-15
    # The weights were made to sum to 1 in float64, which moves a log-density by at most their rounding.
    np.testing.assert_allclose(estimator.score_samples(X), functional.log_prob(params, X), atol=3e-7)


def test_the_estimator_owns_its_arrays():
    params = random_params("diag")
    to_sklearn(params).means_[:] = 0.0
    assert params.means.any()


def test_float32_estimators_stay_float32():
    own = mixture.GaussianMixture(3, random_state=0).fit(X.astype(np.float32))
    assert from_sklearn(own).dtype == own.means_.dtype


def test_anything_with_the_attributes_will_do():
    fitted = SimpleNamespace(weights_=[0.5, 0.5], means_=[[0.0], [4.0]], covariances_=[1.0, 2.0], covariance_type="VII")
    params = from_sklearn(fitted)
    assert (params.covariance_type, params.n_components, params.dtype) == ("spherical", 2, np.float64)


def test_what_is_no_fitted_mixture_is_refused():
    with pytest.raises(UsageError, match=r"not fitted; call fit\(x\) first"):
        from_sklearn(mixture.GaussianMixture(2))
    with pytest.raises(UsageError, match="int has no covariance_type"):
        from_sklearn(3)
    bad = SimpleNamespace(weights_=[1.0], means_=[[0.0]], covariances_=[[-1.0]], covariance_type="diag")
    with pytest.raises(DataError, match="not positive definite"):
        from_sklearn(bad)
    with pytest.raises(UsageError, match="got dict"):
        to_sklearn({})


def test_without_scikit_learn_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.mixture", None)
    with pytest.raises(UsageError, match=r"pip install 'jaxgmm\[sklearn\]'"):
        to_sklearn(make_params([1.0], [[0.0]], [[1.0]], "diag"))
