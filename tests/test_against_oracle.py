"""Every piece of the core against slow float64 loops that share nothing with it, for all families and both dtypes.

The oracle is given what the package is given: data and parameters rounded to the dtype under test.
"""

import numpy as np
import pytest

import jaxgmm
from jaxgmm import Status
from tests.helpers import (
    D,
    K,
    N,
    assert_params_close,
    cast,
    match,
    params_of,
    parts_of,
    random_params,
    relative,
    start,
    tolerance,
)
from tests.oracles import numpy_gmm as oracle

# Rounding of a density (a solve, a log-determinant), of sums over the rows, of parameters (which divide such sums
# by the mass of a component, and come in units of its deviations), of a run of STEPS iterations.
DENSITY_ULPS = 100
PASS_ULPS = 100
STEP_ULPS = 500
RUN_ULPS = 1000
STEPS = 6


def fractions(n: int = N) -> np.ndarray:
    """Row weights that are no whole numbers, two of them 0; exact in float32."""
    weights = np.random.default_rng(8).integers(0, 64, n) / 32
    weights[[3, 50]] = 0
    return weights


def test_densities(small, family, dtype):
    x, params = small.x.astype(dtype), random_params(family, dtype=dtype)
    weights, means, covariances, _ = parts_of(params)
    close = {"rtol": tolerance(dtype, DENSITY_ULPS), "atol": tolerance(dtype, DENSITY_ULPS)}
    components = jaxgmm.component_log_prob(params, x)
    assert components.dtype == dtype
    assert components.shape == (N, K)
    np.testing.assert_allclose(components, oracle.component_log_prob(x, means, covariances, family), **close)
    log_prob = oracle.log_prob(x, weights, means, covariances, family)
    np.testing.assert_allclose(jaxgmm.log_prob(params, x), log_prob, **close)
    assert jaxgmm.score(params, x) == pytest.approx(log_prob.mean(), rel=tolerance(dtype, DENSITY_ULPS))
    assert jaxgmm.score(params, x, fractions()) == pytest.approx(
        np.average(log_prob, weights=fractions()), rel=tolerance(dtype, DENSITY_ULPS)
    )


def test_responsibilities(small, family, dtype):
    x, params = small.x.astype(dtype), random_params(family, dtype=dtype)
    resp = oracle.responsibilities(x, *parts_of(params))
    found = jaxgmm.responsibilities(params, x)
    np.testing.assert_allclose(found, resp, rtol=0, atol=tolerance(dtype, DENSITY_ULPS))
    np.testing.assert_array_equal(jaxgmm.predict(params, x), resp.argmax(axis=1))
    np.testing.assert_allclose(
        jaxgmm.uncertainty(params, x), 1 - resp.max(axis=1), rtol=0, atol=tolerance(dtype, DENSITY_ULPS)
    )


@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
def test_e_step_and_m_step(small, family, dtype, weighted):
    x, params = small.x.astype(dtype), random_params(family, dtype=dtype)
    weight = fractions() if weighted else None
    resp, log_likelihood = oracle.e_step(x, *parts_of(params), weight)
    stats = jaxgmm.e_step(params, x, weight)
    assert relative(float(stats.log_likelihood), log_likelihood) < tolerance(dtype, PASS_ULPS)
    mass = resp * (np.ones(N) if weight is None else weight)[:, None]
    np.testing.assert_allclose(stats.resp_sum, mass.sum(axis=0), rtol=tolerance(dtype, PASS_ULPS))
    for reg_covar in (0.0, 0.25):
        wanted = params_of(oracle.m_step(x, resp, family, reg_covar, weight), family)
        found = jaxgmm.m_step(params, stats, reg_covar)
        assert np.dtype(found.means.dtype) == dtype
        assert_params_close(found, wanted, tolerance(dtype, STEP_ULPS))
    both, again = jaxgmm.em_step(params, x, weight, reg_covar=0.25)
    assert_params_close(both, found, tolerance(dtype, 1))
    assert float(again.log_likelihood) == float(stats.log_likelihood)


@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@pytest.mark.parametrize("reg_covar", [0.0, 0.125])
def test_fit_follows_the_path_of_exact_em(small, family, dtype, weighted, reg_covar):
    x, init = small.x.astype(dtype), cast(start(family), dtype)
    weight = fractions() if weighted else None
    parts, history = oracle.fit(x, *parts_of(init), STEPS, reg_covar, weight)
    result = jaxgmm.fit(
        x,
        K,
        covariance_type=family,
        init=init,
        tol=0.0,
        max_iter=STEPS,
        reg_covar=reg_covar,
        reg_kind="absolute",
        sample_weight=weight,
    )
    assert result.params.dtype == dtype
    assert (result.status, result.n_iter, len(result.history)) == (Status.MAX_ITER, STEPS, STEPS + 1)
    np.testing.assert_allclose(result.history, history, rtol=tolerance(dtype, RUN_ULPS))
    assert_params_close(result.params, params_of(parts, family), tolerance(dtype, RUN_ULPS))

    # The criteria are those of the parameters returned.
    args = (x, *parts, family, weight)
    rel = tolerance(dtype, RUN_ULPS)
    assert result.aic == pytest.approx(oracle.aic(*args), rel=rel)
    assert result.bic == pytest.approx(oracle.bic(*args), rel=rel)
    assert result.icl == pytest.approx(oracle.icl(*args), rel=rel)
    assert result.score == pytest.approx(history[-1] / (N if weight is None else weight.sum()), rel=rel)
    assert result.icl > result.bic


@pytest.mark.parametrize("n_features", [1, 2, 7])
def test_parameters_are_counted(family, n_features):
    for n_components in (1, 2, 10):
        wanted = oracle.n_parameters(family, n_components, n_features)
        assert jaxgmm.n_parameters(family, n_components, n_features) == wanted


@pytest.mark.parametrize(("n_components", "n_features"), [(4, 1), (1, 5)])
def test_other_shapes(family, n_components, n_features):
    """One feature, one component, more features than components: the shapes in which axes get mixed up."""
    params = random_params(family, n_components, n_features, seed=3)
    x = np.random.default_rng(4).normal(size=(90, n_features)) * 2 + params.means[np.arange(90) % n_components]
    resp, log_likelihood = oracle.e_step(x, *parts_of(params))
    found, stats = jaxgmm.em_step(params, x, reg_covar=1e-3)
    assert relative(float(stats.log_likelihood), log_likelihood) < tolerance(np.float64, PASS_ULPS)
    wanted = params_of(oracle.m_step(x, resp, family, 1e-3), family)
    assert_params_close(found, wanted, tolerance(np.float64, STEP_ULPS))


def test_criteria_from_numbers():
    assert jaxgmm.aic(-100.0, 7) == 214.0
    assert jaxgmm.bic(-100.0, 7, 50) == pytest.approx(200 + 7 * np.log(50), rel=1e-15)
    assert jaxgmm.icl(-110.0, 7, 50) == pytest.approx(220 + 7 * np.log(50), rel=1e-15)


def test_silhouette(small, dtype):
    x = small.x.astype(dtype)
    labels = small.labels.copy()
    labels[0] = 9  # a cluster of one row scores 0
    found = jaxgmm.silhouette(x, labels)
    assert found == pytest.approx(oracle.silhouette(x, labels), rel=tolerance(dtype, PASS_ULPS))
    # Any names for the clusters, and a shift of the data, change nothing.
    assert jaxgmm.silhouette(x, np.array(["c", "a", "b"])[small.labels]) == pytest.approx(
        jaxgmm.silhouette(x + 64, small.labels), rel=tolerance(dtype, PASS_ULPS)
    )


def test_silhouette_of_many_rows_and_of_repeated_rows(small):
    # More rows than one block of distances.
    x, labels = np.tile(small.x, (4, 1))[:700] + np.linspace(0, 1, 700)[:, None], np.tile(small.labels, 4)[:700]
    assert jaxgmm.silhouette(x, labels) == pytest.approx(oracle.silhouette(x, labels), rel=1e-12)
    repeated = oracle.silhouette(np.repeat(small.x, small.counts, axis=0), np.repeat(small.labels, small.counts))
    assert jaxgmm.silhouette(small.x, small.labels, small.counts) == pytest.approx(repeated, rel=1e-12)


def test_partition_helpers(small):
    """Starts from labels, responsibilities and means are one M-step of the oracle."""
    x, labels = small.x, small.labels
    hard = np.eye(K)[labels]
    soft = np.random.default_rng(2).dirichlet(np.ones(K), N)
    for family in oracle.COVARIANCE_TYPES:
        wanted = params_of(oracle.m_step(x, hard, family, 1e-6), family)
        found = jaxgmm.params_from_labels(x, labels, covariance_type=family, reg_kind="absolute")
        assert_params_close(found, wanted, tolerance(np.float64, PASS_ULPS))
    wanted = params_of(oracle.m_step(x, soft, "tied", 0.5, fractions()), "tied")
    found = jaxgmm.params_from_responsibilities(
        x, soft, covariance_type="tied", sample_weight=fractions(), reg_covar=0.5, reg_kind="absolute"
    )
    assert_params_close(found, wanted, tolerance(np.float64, PASS_ULPS))
    centres = wanted.means + np.array([[0, 0, 0], [1, 1, -1], [-1, 0, 2]])
    nearest = np.eye(K)[((x[:, None] - centres) ** 2).sum(axis=2).argmin(axis=1)]
    found = jaxgmm.params_from_means(x, centres, covariance_type="tied", reg_covar=0.0)
    wanted = params_of(oracle.m_step(x, nearest, "tied"), "tied")
    assert_params_close(found, wanted, tolerance(np.float64, PASS_ULPS))
    assert (match(found.means, wanted.means) == np.arange(K)).all()
    assert found.means.shape == (K, D)
