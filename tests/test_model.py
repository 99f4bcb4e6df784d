"""A model gives densities of the data as they came, whatever units the fit was computed in."""

from __future__ import annotations

import hashlib
import json
import math

import numpy as np
import pytest
from scipy import stats

from jaxgmm import _provenance, criteria, functional
from jaxgmm._status import DataError, UsageError
from jaxgmm.api import fit
from jaxgmm.covariance import COVARIANCE_TYPES
from jaxgmm.data.scaling import standardize
from jaxgmm.init.given import make_params
from jaxgmm.model import Model
from jaxgmm.params import GMMParams, as_dtype
from tests.helpers import full_covariances, random_params

RNG = np.random.default_rng(2)
LABELS = np.arange(200) % 3
X = (RNG.normal(size=(200, 3)) + 5.0 * LABELS[:, None]) * [1.0, 50.0, 0.1] + [1e4, 0.0, -3.0]
Z, SHIFT, SCALE = standardize(X)
WEIGHTS = 0.5 + RNG.random(200)


@pytest.fixture(scope="module")
def result():
    return fit(Z, 3, key=0, n_restarts=2, sample_weight=WEIGHTS)


@pytest.fixture(scope="module")
def model(result):
    return Model.from_fit(result, columns=["a", "b", "c"], shift=SHIFT, scale=SCALE, seed=0, fingerprint="f00")


def test_log_prob_of_a_standardised_model_is_the_density_of_the_data(model):
    params = model.params
    expected = np.zeros(len(X))
    for w, mean, covariance in zip(params.weights, params.means, params.covariances, strict=True):
        in_data_units = covariance * np.outer(SCALE, SCALE)
        expected += w * stats.multivariate_normal(mean * SCALE + SHIFT, in_data_units).pdf(X)
    np.testing.assert_allclose(model.log_prob(X), np.log(expected), rtol=1e-10)
    assert model.score(X) == pytest.approx(np.log(expected).mean(), rel=1e-10)
    assert model.score(X, WEIGHTS) == pytest.approx(np.average(np.log(expected), weights=WEIGHTS), rel=1e-10)


def test_labels_and_responsibilities_are_those_of_the_rescaled_rows(model):
    np.testing.assert_allclose(model.responsibilities(X), functional.responsibilities(model.params, Z), atol=1e-12)
    np.testing.assert_array_equal(model.predict(X), functional.predict(model.params, Z))


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_means_and_deviations_are_in_data_units(covariance_type):
    params = random_params(covariance_type)
    model = Model(params=params, shift=SHIFT, scale=SCALE)
    np.testing.assert_allclose(model.data_means, params.means * SCALE + SHIFT, rtol=1e-15)
    diagonals = np.diagonal(full_covariances(params), axis1=1, axis2=2)
    np.testing.assert_allclose(model.data_std, np.sqrt(diagonals) * SCALE, rtol=1e-12)
    assert model.data_std.dtype == model.data_means.dtype == np.float64
    assert (model.n_components, model.n_features, model.covariance_type) == (3, 3, covariance_type)


def test_sample_comes_in_data_units(model):
    x, labels = model.sample(7, 200)
    z, same = functional.sample(model.params, 7, 200)
    np.testing.assert_array_equal(x, z * SCALE + SHIFT)
    np.testing.assert_array_equal(labels, same)
    for k in range(3):
        error = (x[labels == k].mean(axis=0) - model.data_means[k]) / model.data_std[k]
        assert np.abs(error).max() < 5 / np.sqrt((labels == k).sum())


def test_likelihoods_and_criteria_are_those_of_the_data(model, result):
    meta, n = model.meta, result.weight_sum
    total = float(WEIGHTS @ model.log_prob(X))
    assert meta["log_likelihood"] == pytest.approx(total, rel=1e-10)
    assert meta["log_likelihood"] != pytest.approx(result.log_likelihood, rel=1e-3)
    shares = model.responsibilities(X).max(axis=1)
    classification = total + float(WEIGHTS @ np.log(shares))
    assert meta["classification_log_likelihood"] == pytest.approx(classification, rel=1e-10)
    assert meta["aic"] == pytest.approx(criteria.aic(total, result.n_parameters), rel=1e-10)
    assert meta["bic"] == pytest.approx(criteria.bic(total, result.n_parameters, n), rel=1e-10)
    assert meta["icl"] == pytest.approx(criteria.icl(classification, result.n_parameters, n), rel=1e-10)
    assert max(meta["restart_log_likelihoods"]) == meta["log_likelihood"]


def test_meta_tells_how_the_model_came_about(model, result):
    meta = model.meta
    assert json.loads(json.dumps(meta, allow_nan=False)) == meta
    expected = {"seed": 0, "init": "kmeans", "n_samples": 200, "n_parameters": 29, "status": "CONVERGED"}
    assert expected.items() <= meta.items()
    assert (meta["converged"], meta["message"], meta["n_iter"]) == (True, result.message, result.n_iter)
    assert (meta["weight_sum"], meta["best_share"]) == (result.weight_sum, result.best_share)
    assert {"tol", "reg_covar", "max_iter"} <= set(meta["options"])
    assert meta["fingerprint"] == "f00"
    assert set(meta["versions"]) == {"jaxgmm", "jax", "jaxlib", "numpy", "python"}
    assert model.columns == ("a", "b", "c")


def test_by_default_nothing_is_rescaled():
    params = random_params("full")
    model = Model.from_params(params)
    np.testing.assert_array_equal(model.log_prob(Z), functional.log_prob(params, Z))
    np.testing.assert_array_equal(model.sample(1, 10)[0], functional.sample(params, 1, 10)[0])
    np.testing.assert_array_equal(model.data_means, params.means)
    assert model.shift.tolist() == [0.0] * 3
    assert model.scale.tolist() == [1.0] * 3
    assert model.score(Z) == functional.score(params, Z)


def test_float32_is_computed_in_float32_without_losing_a_large_offset():
    params = random_params("full", dtype=np.float32)
    x = (Z * 0.25 + 4096.0).astype(np.float32)
    model = Model(params=params, shift=np.full(3, 4096.0), scale=np.full(3, 0.25))
    values = model.log_prob(x)
    assert values.dtype == np.float32
    assert model.sample(0, 4)[0].dtype == np.float32
    exact = functional.log_prob(as_dtype(params, np.float64), (x.astype(np.float64) - 4096.0) / 0.25)
    np.testing.assert_allclose(values, exact - 3 * math.log(0.25), atol=2e-4)


def test_arrays_are_taken_in_any_byte_order_and_kind():
    params = random_params("full")
    swapped = GMMParams(
        weights=list(params.weights),
        means=params.means.astype(">f8"),
        covariances=params.covariances.astype(">f8"),
        covariance_type="full",
    )
    model = Model(params=swapped, scale=np.full(3, 2))
    assert model.params.means.dtype.isnative
    np.testing.assert_array_equal(model.params.covariances, params.covariances)


def change(**arrays):
    base = {"weights": np.full(2, 0.5), "means": np.zeros((2, 2)), "covariances": np.stack([np.eye(2)] * 2)}
    return GMMParams(**{**base, **arrays}, covariance_type=arrays.pop("covariance_type", "full"))


@pytest.mark.parametrize(
    ("params", "options", "words"),
    [
        (change(weights=np.ones(3) / 3), {}, r"must have shapes \(K\) and \(K, D\)"),
        (change(covariances=np.ones((2, 2))), {}, r"must have shape \(2, 2, 2\), got \(2, 2\)"),
        (change(means=np.array([[0.0, np.nan], [0, 0]])), {}, "means contain NaN"),
        (change(weights=np.array([0.5, 0.6])), {}, "sum to 1, got a sum of 1.1"),
        (change(weights=np.array([-0.5, 1.5])), {}, "at least 0"),
        (change(covariances=np.stack([np.eye(2), np.ones((2, 2))])), {}, "not positive definite"),
        (make_params([0.5, 0.5], np.zeros((2, 2)), np.ones((2, 2)), "diag"), {"scale": [1.0, 0.0]}, "scale must be"),
        (change(), {"shift": [1.0]}, "shift must be 2 finite numbers"),
        (change(), {"scale": [1.0, np.inf]}, "scale must be 2 finite numbers"),
        (change(), {"columns": ("a",)}, "1 column names for 2 features"),
    ],
)
def test_unsound_models_are_refused(params, options, words):
    with pytest.raises(DataError, match=words):
        Model(params=params, **options)


def test_an_inactive_component_needs_no_sound_covariance():
    covariances = np.stack([np.eye(2), np.zeros((2, 2))])
    assert Model(params=change(weights=np.array([1.0, 0.0]), covariances=covariances)).n_components == 2


def test_meta_becomes_json_or_is_refused():
    meta = {"a": np.float32(0.5), "b": [np.inf, np.nan, -np.inf], "c": np.arange(2), 3: (True, None), "n": 2**70}
    model = Model(params=change(), meta=meta)
    assert model.meta == {"a": 0.5, "b": [None, None, None], "c": [0, 1], "3": [True, None], "n": 2**70}
    with pytest.raises(UsageError, match=r"meta\['x'\] is a set"):
        Model(params=change(), meta={"x": {1}})


def test_wrong_columns_are_named_by_number(model):
    with pytest.raises(DataError, match="2 columns, but the model was fitted on 3"):
        model.log_prob(X[:, :2])


def test_fingerprint_depends_on_values_and_not_on_memory(tmp_path, monkeypatch):
    x = RNG.normal(size=(50, 3))
    expected = _provenance.fingerprint(x)
    np.save(tmp_path / "x.npy", x)
    monkeypatch.setattr(_provenance, "_CHUNK_BYTES", 100)
    same = [
        np.asfortranarray(x),
        x.astype(">f8"),
        np.repeat(x, 2, axis=0)[::2],
        np.load(tmp_path / "x.npy", mmap_mode="r"),
    ]
    assert {_provenance.fingerprint(other) for other in same} == {expected}
    changed = x.copy()
    changed[-1, -1] = np.nextafter(changed[-1, -1], 9.0)
    different = [changed, x.T, x.reshape(-1), x.astype(np.float32), x[:-1], x.view(np.int64)]
    assert len({expected, *map(_provenance.fingerprint, different)}) == 7
    assert len(_provenance.fingerprint(np.float64(1.0))) == len(_provenance.fingerprint(np.zeros((0, 3)))) == 64
    with pytest.raises(DataError, match="no fingerprint"):
        _provenance.fingerprint(np.array([{}]))


def test_fingerprint_is_the_same_on_every_machine():
    recipe = hashlib.sha256(b"(2, 2) [('', '<f8')]" + np.arange(4, dtype="<f8").tobytes()).hexdigest()
    assert _provenance.fingerprint(np.arange(4.0).reshape(2, 2)) == recipe


def test_provenance_names_versions_and_device():
    assert _provenance.versions()["numpy"] == np.__version__
    assert _provenance.device()["platform"] in {"cpu", "gpu", "tpu"}
