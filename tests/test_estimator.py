"""`GaussianMixture` as a drop-in: scikit-learn's answers, attributes, errors and warnings, plus what is added."""

import pickle
import subprocess
import sys
import warnings

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.mixture import GaussianMixture as SklearnMixture
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

import jaxgmm
from jaxgmm import GaussianMixture
from tests.helpers import K, start, tolerance
from tests.provoked import Frame, X

SKLEARN_TYPES = ("full", "tied", "diag", "spherical")


def explicit_start(covariance_type):
    """The shared start as constructor arguments."""
    params = start(covariance_type)
    matrices = covariance_type in ("full", "tied")
    precisions = np.linalg.inv(params.covariances) if matrices else 1.0 / params.covariances
    return {"weights_init": params.weights, "means_init": params.means, "precisions_init": precisions}


@pytest.fixture(scope="module")
def fitted(small):
    """One fitted model per covariance type."""
    return {t: GaussianMixture(K, covariance_type=t, random_state=0, tol=1e-6).fit(small.x) for t in SKLEARN_TYPES}


@pytest.mark.parametrize("covariance_type", SKLEARN_TYPES)
def test_same_start_gives_scikit_learns_answer(small, covariance_type):
    # Tight enough that both sit at the same fixed point, whatever iteration their stopping rules count.
    options = {"covariance_type": covariance_type, "reg_covar": 0, "tol": 1e-13, "max_iter": 5000}
    options |= explicit_start(covariance_type)
    ours = GaussianMixture(K, **options).fit(small.x)
    theirs = SklearnMixture(K, **options).fit(small.x)
    for name in ("weights_", "means_", "covariances_", "precisions_", "precisions_cholesky_"):
        np.testing.assert_allclose(getattr(ours, name), getattr(theirs, name), rtol=1e-5, atol=1e-6, err_msg=name)
    np.testing.assert_allclose(ours.score_samples(small.x), theirs.score_samples(small.x), atol=1e-6)
    np.testing.assert_array_equal(ours.predict(small.x), theirs.predict(small.x))
    np.testing.assert_allclose(ours.bic(small.x), theirs.bic(small.x), rtol=1e-9)
    np.testing.assert_allclose(ours.aic(small.x), theirs.aic(small.x), rtol=1e-9)


@pytest.mark.parametrize("covariance_type", SKLEARN_TYPES)
def test_scores_equal_scikit_learns_at_equal_parameters(small, fitted, covariance_type):
    ours = fitted[covariance_type]
    theirs = jaxgmm.to_sklearn(ours.result_.params)
    np.testing.assert_allclose(ours.score_samples(small.x), theirs.score_samples(small.x), rtol=1e-12)
    np.testing.assert_allclose(ours.predict_proba(small.x), theirs.predict_proba(small.x), atol=1e-12)
    np.testing.assert_allclose(ours.score(small.x), theirs.score(small.x), rtol=1e-12)


def test_constructor_is_scikit_learns():
    assert GaussianMixture().get_params() == SklearnMixture().get_params()
    assert repr(GaussianMixture(3, tol=0.1)) == "GaussianMixture(n_components=3, tol=0.1)"


@pytest.mark.parametrize("covariance_type", SKLEARN_TYPES)
def test_same_seed_draws_scikit_learns_sample(fitted, covariance_type):
    ours = fitted[covariance_type]
    theirs = jaxgmm.to_sklearn(ours.result_.params).set_params(random_state=5)
    x, labels = clone_fitted(ours, random_state=5).sample(50)
    expected_x, expected_labels = theirs.sample(50)
    np.testing.assert_array_equal(labels, expected_labels)
    np.testing.assert_allclose(x, expected_x, rtol=1e-10)


def clone_fitted(model, **params):
    """A copy that keeps its fit."""
    return pickle.loads(pickle.dumps(model)).set_params(**params)


@pytest.mark.parametrize("covariance_type", ["tied_diag", "tied_spherical"])
def test_added_families_sample_and_score(small, covariance_type):
    model = GaussianMixture(K, covariance_type=covariance_type, random_state=0).fit(small.x)
    x, labels = model.sample(4000)
    spread = np.sqrt(np.mean((x - model.means_[labels]) ** 2, axis=0))
    expected = np.sqrt(np.broadcast_to(model.covariances_, 3))
    np.testing.assert_allclose(spread, expected, rtol=5 / np.sqrt(4000))
    assert np.isfinite(model.score(small.x))


def test_lower_bound_belongs_to_the_returned_parameters(small, fitted):
    for model in fitted.values():
        np.testing.assert_allclose(model.lower_bound_, model.score(small.x), rtol=1e-12)
        assert len(model.lower_bounds_) == model.n_iter_
        np.testing.assert_allclose(max(model.lower_bounds_), model.lower_bound_, rtol=1e-14)


def test_icl_and_uncertainty(small, fitted):
    model = fitted["full"]
    proba = model.predict_proba(small.x)
    np.testing.assert_allclose(model.icl(small.x), model.bic(small.x) - 2 * np.log(proba.max(axis=1)).sum(), rtol=1e-12)
    np.testing.assert_allclose(model.uncertainty(small.x), 1 - proba.max(axis=1), atol=1e-15)
    np.testing.assert_allclose(model.icl(small.x), model.result_.icl, rtol=1e-9)


def test_integer_weights_are_repeated_rows(small):
    options = {"reg_covar": 0, "tol": 1e-10, "max_iter": 500} | explicit_start("full")
    weighted = GaussianMixture(K, **options).fit(small.x, sample_weight=small.counts)
    repeated = GaussianMixture(K, **options).fit(np.repeat(small.x, small.counts, axis=0))
    np.testing.assert_allclose(weighted.means_, repeated.means_, rtol=1e-6)
    long = np.repeat(small.x, small.counts, axis=0)
    np.testing.assert_allclose(weighted.score(small.x, sample_weight=small.counts), repeated.score(long), rtol=1e-9)
    for name in ("aic", "bic", "icl"):
        ours = getattr(weighted, name)(small.x, sample_weight=small.counts)
        np.testing.assert_allclose(ours, getattr(weighted, name)(long), rtol=1e-10, err_msg=name)


def test_dtype_follows_the_data(small, dtype):
    model = GaussianMixture(K, random_state=0).fit(small.x.astype(dtype))
    for name in ("weights_", "means_", "covariances_", "precisions_", "precisions_cholesky_"):
        assert getattr(model, name).dtype == dtype, name
    assert model.score_samples(small.x.astype(dtype)).dtype == dtype
    # The rows here are exact in float32, so both precisions score the same model alike.
    np.testing.assert_allclose(
        model.score_samples(small.x.astype(dtype)), model.score_samples(small.x), rtol=tolerance(dtype, 2000)
    )


def test_integers_score_as_floats(small, fitted):
    whole = np.round(small.x).astype(np.int64)
    model = fitted["full"]
    np.testing.assert_array_equal(model.score_samples(whole), model.score_samples(whole.astype(float)))
    np.testing.assert_array_equal(model.predict(whole), model.predict(whole.astype(float)))


def test_warm_start_goes_on(small):
    whole = GaussianMixture(K, random_state=0, tol=1e-8, max_iter=40)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        whole.fit(small.x)
        parts = GaussianMixture(K, random_state=0, tol=1e-8, max_iter=10, warm_start=True)
        for _ in range(4):
            parts.fit(small.x)
    np.testing.assert_allclose(parts.means_, whole.means_, rtol=1e-8)
    assert parts.result_.init == "warm start"


def test_max_iter_zero_returns_the_start(small):
    model = GaussianMixture(K, max_iter=0, **explicit_start("full")).fit(small.x)
    np.testing.assert_allclose(model.means_, start("full").means, rtol=1e-12)
    np.testing.assert_allclose(model.covariances_, start("full").covariances, rtol=1e-9)
    assert model.n_iter_ == 0
    assert model.lower_bounds_ == []
    assert not model.converged_


def test_partial_starts_replace_their_part(small):
    means = small.x[:K]
    model = GaussianMixture(K, max_iter=0, means_init=means, weights_init=[0.2, 0.3, 0.5], random_state=0)
    model.fit(small.x)
    np.testing.assert_allclose(model.means_, means, rtol=1e-12)
    np.testing.assert_allclose(model.weights_, [0.2, 0.3, 0.5])
    assert model.covariances_.shape == (K, 3, 3)


def test_not_converged_warns_and_is_returned(small):
    model = GaussianMixture(K, max_iter=1, tol=0.0, random_state=0)
    with pytest.warns(ConvergenceWarning, match="Best performing initialization did not converge"):
        model.fit(small.x)
    assert not model.converged_
    assert np.isfinite(model.score(small.x))


def test_more_starts_never_end_lower(small):
    options = {"init_params": "random", "tol": 1e-6, "max_iter": 300, "random_state": 3}
    one = GaussianMixture(K, **options).fit(small.x)
    many = GaussianMixture(K, n_init=4, **options).fit(small.x)
    assert many.lower_bound_ >= one.lower_bound_ - 1e-9
    assert many.result_.restart_log_likelihoods.shape == (4,)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_the_first_of_ten_starts_has_the_bits_it_has_alone(seed):
    x = np.random.default_rng(seed).normal(size=(50, 2)) * [1.0, 3.0]
    alone, among = (
        GaussianMixture(2, n_init=n, max_iter=1, random_state=seed).fit(x).result_.restart_log_likelihoods[0]
        for n in (1, 10)
    )
    assert alone == among


def test_verbose_prints_scikit_learns_lines(small, capsys):
    GaussianMixture(K, random_state=0, verbose=1, verbose_interval=1, n_init=2).fit(small.x)
    text = capsys.readouterr().out
    assert "Initialization 0\n  Iteration 1\n" in text
    assert text.count("Initialization converged.") == 2


def test_hand_set_parameters_score():
    model = GaussianMixture(2, covariance_type="diag")
    model.weights_, model.means_ = np.array([0.25, 0.75]), np.array([[0.0], [4.0]])
    model.precisions_cholesky_ = np.array([[1.0], [0.5]])
    model.n_features_in_ = 1
    x = np.array([[0.0], [4.0]])
    density = 0.25 * np.exp(-0.5 * x**2) + 0.75 * 0.5 * np.exp(-0.5 * (0.5 * (x - 4)) ** 2)
    np.testing.assert_allclose(model.score_samples(x), np.log(density[:, 0] / np.sqrt(2 * np.pi)), rtol=1e-13)


def test_works_in_pipelines_and_cross_validation(small):
    pipeline = make_pipeline(StandardScaler(), GaussianMixture(K, random_state=0))
    labels = pipeline.fit_predict(small.x)
    assert labels.shape == (200,)
    pipeline.fit(small.x, gaussianmixture__sample_weight=np.ones(200))
    assert np.isfinite(cross_val_score(GaussianMixture(K, random_state=0), small.x, cv=2)).all()
    assert clone(GaussianMixture(K, tol=0.5)).tol == 0.5


def test_sample_weight_can_be_requested():
    model = GaussianMixture().set_fit_request(sample_weight=True).set_score_request(sample_weight=False)
    routing = model.get_metadata_routing()
    assert routing.fit.requests == {"sample_weight": True}
    assert routing.score.requests == {"sample_weight": False}


BAD_CONSTRUCTORS = {
    "n_components": (0, "must be an int in the range [1, inf). Got 0 instead"),
    "tol": (-1, "must be a float in the range [0.0, inf). Got -1 instead"),
    "reg_covar": ("a", "must be a float in the range [0.0, inf). Got 'a' instead"),
    "max_iter": (1.5, "must be an int in the range [0, inf). Got 1.5 instead"),
    "n_init": (0, "must be an int in the range [1, inf)"),
    "covariance_type": ("fulll", "must be a str among"),
    "init_params": ("bad", "must be a str among"),
    "verbose": (-1, "must be an int in the range [0, inf)"),
}


@pytest.mark.parametrize("name", BAD_CONSTRUCTORS)
def test_bad_parameters_in_scikit_learns_words(small, name):
    value, text = BAD_CONSTRUCTORS[name]
    with pytest.raises(ValueError, match=f"The '{name}' parameter of GaussianMixture") as caught:
        GaussianMixture(**{name: value}).fit(small.x)
    assert text in str(caught.value)


def test_bad_data_in_scikit_learns_words(small, fitted):
    model = fitted["full"]
    holes = small.x.copy()
    holes[7, 2] = np.nan
    cases = {
        "Input X contains NaN": holes,
        "row 7, column 2": holes,
        "contains infinity or a value too large": np.where(np.isnan(holes), np.inf, holes),
        "Expected 2D array, got 1D array instead": small.x[:, 0],
        "X has 2 features, but GaussianMixture is expecting 3 features as input": small.x[:, :2],
        "Complex data not supported": small.x + 1j,
    }
    for text, x in cases.items():
        with pytest.raises(ValueError, match=text):
            model.predict(x)
    with pytest.raises(ValueError, match="Expected n_samples >= n_components but got n_components = 5, n_samples = 3"):
        GaussianMixture(5).fit(small.x[:3])
    with pytest.raises(ValueError, match="minimum of 2 is required"):
        GaussianMixture().fit(small.x[:1])
    with pytest.raises(NotFittedError, match="This GaussianMixture instance is not fitted yet"):
        GaussianMixture().predict(small.x)
    for weight, text in (([1.0], "expected"), (-np.ones(200), "Negative"), (np.zeros(200), "non-zero")):
        with pytest.raises(ValueError, match=text):
            GaussianMixture().fit(small.x, sample_weight=weight)


def test_ill_defined_covariance_in_scikit_learns_words(dtype):
    x = np.zeros((10, 3), dtype)
    with pytest.raises(ValueError, match="ill-defined empirical covariance") as caught:
        GaussianMixture(2, reg_covar=0, random_state=0).fit(x)
    assert ("passing float64" in str(caught.value)) == (dtype == np.float32)


def test_given_starts_are_checked(small):
    good = explicit_start("full")
    bad = {
        "The parameter 'weights' should have the shape of": {"weights_init": [1.0]},
        "The parameter 'weights' should be in the range": {"weights_init": [-0.5, 1.0, 0.5]},
        "The parameter 'weights' should be normalized": {"weights_init": [0.5, 0.5, 0.5]},
        "The parameter 'means' should have the shape of": {"means_init": [[0.0]]},
        "The parameter 'full precision' should have the shape of": {"precisions_init": np.eye(3)},
        "'full precision' should be symmetric, positive-definite": {"precisions_init": np.zeros((3, 3, 3))},
    }
    for text, change in bad.items():
        with pytest.raises(ValueError, match=text):
            GaussianMixture(K, **(good | change)).fit(small.x)


def test_without_scikit_learn():
    # A fresh interpreter in which scikit-learn cannot be imported.
    code = """
import sys, warnings
sys.modules["sklearn"] = None
import numpy as np
from jaxgmm import ConvergenceWarning, GaussianMixture
x = np.random.default_rng(0).normal(size=(60, 2))
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    model = GaussianMixture(2, max_iter=1, tol=0.0, random_state=0).fit(x)
assert any(issubclass(w.category, ConvergenceWarning) for w in caught), caught
assert model.predict(x).shape == (60,) and model.sample(3)[0].shape == (3, 2)
for call in (lambda: GaussianMixture(0).fit(x), lambda: GaussianMixture().predict(x), lambda: model.predict(x[:, :1])):
    try:
        call()
    except ValueError as error:
        print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "must be an int in the range [1, inf)" in done.stdout
    assert "is not fitted yet" in done.stdout
    assert "X has 1 features" in done.stdout


@pytest.mark.parametrize(
    "covariance_type",
    ["full", *(pytest.param(t, marks=pytest.mark.slow) for t in ("tied", "diag", "spherical"))],
)
@pytest.mark.filterwarnings("ignore")
def test_check_estimator(covariance_type):
    report = check_estimator(GaussianMixture(covariance_type=covariance_type), on_fail=None, on_skip=None)
    assert [r["check_name"] for r in report if r["status"] == "failed"] == []
    assert sum(r["status"] == "passed" for r in report) > 40


def test_column_names_are_those_of_the_fit():
    """As in scikit-learn: the same names in the same order, or none on either side and a warning."""
    named = GaussianMixture(K, max_iter=1, tol=10, random_state=0).fit(Frame("a", "b", "c"))
    assert named.feature_names_in_.tolist() == ["a", "b", "c"]
    assert named.predict(Frame("a", "b", "c")).shape == (len(X),)
    for other, words in (
        (("c", "b", "a"), "must be in the same order"),
        (("a", "b", "d"), "unseen at fit time:\n- d\nFeature names seen at fit time, yet now missing:\n- c"),
    ):
        with pytest.raises(ValueError, match=words):
            named.predict(Frame(*other))
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        named.predict(X)
    named.fit(X)
    assert not hasattr(named, "feature_names_in_")
    with pytest.warns(UserWarning, match="was fitted without feature names"):
        named.predict(Frame("a", "b", "c"))


def test_random_states_are_numpys():
    options = {"max_iter": 1, "tol": 10, "init_params": "random_from_data"}
    by = [GaussianMixture(K, random_state=s, **options).fit(X).means_ for s in (3, np.random.RandomState(3))]
    np.testing.assert_array_equal(*by)
    for wrong in (-1, "x"):
        with pytest.raises(ValueError, match=r"seed|Seed"):
            GaussianMixture(K, random_state=wrong).fit(X)
