"""The NumPy baseline of the benchmarks computes the same EM as the loop oracle."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.numpy_baseline import BaselineResult, fit
from tests.oracles import mclust, numpy_gmm as oracle

FAMILIES = ("full", "tied", "diag", "spherical")
N_ITER = 4


def _problem(covariance_type: str, offset: float = 0.0) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(120, 4)) @ rng.normal(size=(4, 4))
    x[:50] += 3.0
    x += offset
    return x, mclust.hard_start(x, rng.integers(0, 3, len(x)), 3, covariance_type)


def _relative_error(ours: np.ndarray, truth: np.ndarray) -> float:
    return float(np.abs(ours - truth).max() / np.abs(truth).max())


def _worst_error(result: BaselineResult, params: tuple[np.ndarray, ...], log_likelihood: float) -> float:
    ours = (result.weights, result.means, result.covariances, np.array(result.log_likelihood))
    return max(map(_relative_error, ours, (*params, np.array(log_likelihood))))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kernel", ["features", "centred"])
@pytest.mark.parametrize("covariance_type", FAMILIES)
def test_float64_is_the_oracle(covariance_type: str, kernel: str, weighted: bool) -> None:
    x, start = _problem(covariance_type, offset=10.0)
    row_weight = np.arange(len(x)) % 4 / 2 if weighted else None
    params, history = oracle.fit(x, *start, covariance_type, N_ITER, 1e-3, row_weight)
    # Blocks of 50 rows leave a short one at the end.
    result = fit(
        x, *start, covariance_type, N_ITER, 1e-3, sample_weight=row_weight, kernel=kernel, block_rows=50
    )
    assert result.n_iter == N_ITER
    assert _worst_error(result, params, history[-1]) < 1e-10
    for a, b in zip((result.weights, result.means, result.covariances), params, strict=True):
        assert np.shape(a) == np.shape(b)
        assert a.dtype == np.float64


@pytest.mark.parametrize("covariance_type", FAMILIES)
def test_float32_is_close(covariance_type: str) -> None:
    x, start = _problem(covariance_type)
    x32 = x.astype(np.float32)
    params, history = oracle.fit(x32, *start, covariance_type, N_ITER, 1e-3)
    for kernel in ("centred", "features"):
        result = fit(x32, *start, covariance_type, N_ITER, 1e-3, kernel=kernel)
        assert result.means.dtype == result.weights.dtype == result.covariances.dtype == np.float32
        assert _worst_error(result, params, history[-1]) < 2e-5


def test_float32_leaves_the_features_where_components_are_far_apart() -> None:
    """Widths of 1 at distances of 1000: there "auto" must give up the features."""
    rng = np.random.default_rng(2)
    labels = np.arange(90) % 3
    x = (rng.normal(size=(90, 3)) + 1000.0 * labels[:, None]).astype(np.float32)
    start = mclust.hard_start(np.float64(x), labels, 3, "full")
    params, history = oracle.fit(x, *start, "full", 2)
    result = fit(x, *start, "full", 2, reg_covar=0.0)
    assert _relative_error(result.covariances, params[2]) < 1e-5
    assert result.log_likelihood == pytest.approx(history[-1], rel=1e-6)
    assert result.log_likelihood == fit(x, *start, "full", 2, reg_covar=0.0, kernel="centred").log_likelihood
    near, near_start = _problem("full")
    auto, features = (fit(np.float32(near), *near_start, "full", 2, kernel=k) for k in ("auto", "features"))
    assert auto.log_likelihood == features.log_likelihood


@pytest.mark.parametrize("covariance_type", FAMILIES)
def test_threads_share_the_rows(covariance_type: str) -> None:
    x, start = _problem(covariance_type)
    one = fit(x, *start, covariance_type, N_ITER)
    two = fit(x, *start, covariance_type, N_ITER, n_threads=2, block_rows=16)
    assert _worst_error(two, (one.weights, one.means, one.covariances), one.log_likelihood) < 1e-12


def test_no_iterations_score_the_start() -> None:
    x, start = _problem("full")
    result = fit(x, *start, "full", 0)
    assert result.log_likelihood == pytest.approx(oracle.e_step(x, *start, "full")[1], rel=1e-12)
    np.testing.assert_allclose(result.means, start[1], rtol=1e-14)


@pytest.mark.parametrize("covariance_type", FAMILIES)
def test_the_baseline_reaches_mclusts_limit(covariance_type: str) -> None:
    reference = mclust.load("iris")
    start = mclust.hard_start(reference.x, reference.partition(3), 3, covariance_type)
    result = fit(reference.x, *start, covariance_type, 80, reg_covar=0.0)
    assert result.log_likelihood == pytest.approx(reference.log_likelihood(covariance_type, 3), rel=1e-8)


def test_an_unknown_family_is_refused() -> None:
    x, start = _problem("full")
    with pytest.raises(ValueError, match="unknown covariance_type 'banded'"):
        fit(x, *start, "banded", 1)
