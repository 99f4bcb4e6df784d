"""The generators draw from the mixture that they report, and repeat themselves for the same seed."""

import numpy as np
import pytest

from jaxgmm._status import UsageError
from jaxgmm.data import (
    GENERATORS,
    make_1d_blobs,
    make_bimodal,
    make_blobs,
    make_cube,
    make_ellipsoids,
    make_mixture,
    make_random,
    make_three_1d,
    make_two_gaussians,
    standardize,
)

LARGE = {
    "cube": make_cube(n_per_corner=4000, seed=3),
    "random": make_random(n_components=4, n_features=3, n_per_component=4000, seed=3),
    "blobs": make_blobs(n_samples=16000, seed=3),
    "1d-blobs": make_1d_blobs(sizes=(6000, 8000, 4000), seed=3),
    "ellipsoids": make_ellipsoids(sizes=(7000, 5000), n_features=4, seed=3),
    "mixture": make_mixture(20000, [0.2, 0.8], [[0, 0], [3, 1]], [np.eye(2), [[2, 1], [1, 3]]], seed=3),
    "two-gaussians": make_two_gaussians(seed=3),
    "bimodal": make_bimodal(seed=3),
}


@pytest.mark.parametrize("truth", LARGE.values(), ids=LARGE)
def test_moments_agree_with_the_reported_parameters(truth):
    for k, (mean, covariance) in enumerate(zip(truth.means, truth.covariances, strict=True)):
        rows = truth.x[truth.labels == k]
        # Whitened by the truth, every component is a standard normal sample, whatever its shape.
        white = np.linalg.solve(np.linalg.cholesky(covariance), (rows - mean).T)
        error = 1 / np.sqrt(len(rows))
        np.testing.assert_allclose(white.mean(axis=1), 0.0, atol=4.5 * error)
        np.testing.assert_allclose(np.atleast_2d(np.cov(white)), np.eye(len(mean)), atol=4.5 * np.sqrt(2) * error)
        fraction = len(rows) / len(truth.x)
        assert abs(fraction - truth.weights[k]) < 4.5 * np.sqrt(fraction / len(truth.x))


@pytest.mark.parametrize("name", GENERATORS)
def test_default_call_is_well_formed_and_repeatable(name):
    truth, again, other = GENERATORS[name](seed=5), GENERATORS[name](seed=5), GENERATORS[name](seed=6)
    n_components, n_features = truth.means.shape
    assert truth.name == name
    assert truth.x.dtype == np.float64
    assert truth.x.shape == (len(truth.labels), n_features)
    assert truth.covariances.shape == (n_components, n_features, n_features)
    assert truth.weights.shape == (n_components,)
    assert truth.weights.sum() == pytest.approx(1.0, abs=1e-12)
    assert np.array_equal(np.unique(truth.labels), np.arange(n_components))
    assert np.array_equal(truth.x, again.x)
    assert np.array_equal(truth.labels, again.labels)
    assert not np.array_equal(truth.x, other.x)


@pytest.mark.parametrize("name", GENERATORS)
def test_rows_are_shuffled(name):
    labels = GENERATORS[name](seed=0).labels
    changes = np.count_nonzero(np.diff(labels))
    assert changes > len(labels) / 4


@pytest.mark.parametrize(
    ("truth", "sizes"),
    [
        (make_cube(), [500] * 7),
        (make_cube(n_per_corner=3, missing=0), [3] * 8),
        (make_random(), [1000] * 3),
        (make_blobs(), [500] * 4),
        (make_blobs(n_samples=11, n_components=3), [4, 4, 3]),
        (make_1d_blobs(), [30, 40, 20]),
        (make_ellipsoids(), [350, 250]),
        (make_bimodal(), [1000, 1000]),
        (make_two_gaussians(), [1000, 1000]),
        (make_three_1d(), [100, 100, 100]),
    ],
    ids=lambda value: value.name if hasattr(value, "name") else "",
)
def test_sizes(truth, sizes):
    assert np.bincount(truth.labels).tolist() == sizes
    np.testing.assert_allclose(truth.weights, np.divide(sizes, sum(sizes)))


def test_cube_leaves_the_last_corner_empty():
    truth = make_cube(half_side=7.0, std=0.5)
    assert np.all(np.abs(truth.means) == 7.0)
    assert len(np.unique(truth.means, axis=0)) == 7
    assert not np.any(np.all(truth.x > 0, axis=1))
    assert np.all(truth.covariances == 0.25 * np.eye(3))


def test_published_parameters():
    assert make_three_1d().means.ravel().tolist() == [-5, 5, 0]
    np.testing.assert_allclose(make_1d_blobs().covariances.ravel(), [1.0, 0.64, 2.25])
    assert make_two_gaussians().covariances[1].tolist() == [[0.5, 0.4], [0.4, 0.5]]
    assert np.all(np.abs(make_random(20, 2, 1, lim=3.0).means) <= 3.0)


def test_ellipsoids_can_be_fitted_whatever_the_seed():
    for seed in range(30):
        covariance = make_ellipsoids(sizes=(2, 2), n_features=3, seed=seed).covariances[0]
        assert np.linalg.cond(covariance) <= 100**2 * 1.001


def test_a_component_of_weight_zero_is_never_drawn():
    truth = make_mixture(200, [0.0, 1.0], [[0.0], [9.0]], [[[1.0]], [[1.0]]])
    assert set(truth.labels) == {1}
    assert truth.weights.tolist() == [0.0, 1.0]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((5, [0.5, 0.6], [[0.0], [1.0]], np.ones((2, 1, 1))), "sum 1"),
        ((5, [1.5, -0.5], [[0.0], [1.0]], np.ones((2, 1, 1))), "sum 1"),
        ((5, [1.0], [[0.0, 0.0]], [[[1.0, 2.0], [2.0, 1.0]]]), "positive definite"),
        ((5, [1.0], [[0.0, 0.0]], [[[1.0, 0.9], [0.0, 1.0]]]), "symmetric"),
        ((5, [1.0], [0.0], [[[1.0]]]), "K x D"),
        ((5, [0.5, 0.5], [[0.0], [1.0]], [[[1.0]]]), "K x D"),
        ((0, [1.0], [[0.0]], [[[1.0]]]), "N >= 1"),
    ],
)
def test_impossible_mixtures_are_refused(arguments, words):
    with pytest.raises(UsageError, match=words):
        make_mixture(*arguments)


def test_cube_needs_a_corner():
    with pytest.raises(UsageError, match="0 to 7"):
        make_cube(missing=8)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_standardize(dtype):
    # More rows than one block, far from zero: float32 sums would be off in the third digit here.
    x = (1000 + np.random.default_rng(0).normal(size=(70000, 2)) * [1.0, 5.0]).astype(dtype)
    z, mean, scale = standardize(x)
    assert z.dtype == dtype
    assert mean.dtype == scale.dtype == np.float64
    exact = x.astype(np.longdouble)
    np.testing.assert_allclose(mean, exact.mean(axis=0).astype(float), rtol=1e-13)
    np.testing.assert_allclose(scale, exact.std(axis=0).astype(float), rtol=1e-12)
    rtol = 3e-7 if dtype == np.float32 else 1e-14
    np.testing.assert_allclose(z.astype(float) * scale + mean, x.astype(float), rtol=rtol)


def test_standardize_constant_and_extreme_columns():
    # The mean of many 0.1s is not 0.1 in floating point, which must not be taken for spread.
    x = np.column_stack([np.full(1001, 0.1), np.linspace(0, 1e-200, 1001), np.linspace(-1e200, 1e200, 1001)])
    z, mean, scale = standardize(x)
    assert scale[0] == 1.0
    assert mean[0] == 0.1
    assert np.all(z[:, 0] == 0.0)
    np.testing.assert_allclose(z[:, 1:].std(axis=0), 1.0, rtol=1e-12)


def test_standardize_integers_and_one_row():
    z, mean, scale = standardize(np.array([[1, 2]]))
    assert z.tolist() == [[0.0, 0.0]]
    assert (mean.tolist(), scale.tolist()) == ([1.0, 2.0], [1.0, 1.0])
