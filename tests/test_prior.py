"""A conjugate prior: the objective that rises is the one that SciPy computes, and covariances do not collapse."""

import numpy as np
import pytest
from scipy import stats
from scipy.special import logsumexp

import jaxgmm
from jaxgmm import Prior, Status
from jaxgmm._status import UsageError
from jaxgmm.prior import default_prior
from tests.helpers import D, K, as_family, full_covariances, params_distance, random_params, start

SCALE = {"full": np.diag([1.0, 2.0, 0.5]), "tied": np.diag([1.0, 2.0, 0.5]), "diag": np.array([1.0, 2.0, 0.5])}
SCALE |= {"tied_diag": SCALE["diag"], "spherical": np.asarray(1.5), "tied_spherical": np.asarray(1.5)}


def prior_of(family: str) -> Prior:
    return Prior(mean=np.array([5.0, -3.0, 2.0]), mean_weight=0.7, dof=6.0, scale=SCALE[family], concentration=3.0)


def log_posterior(params, x, prior: Prior) -> float:
    """Log-likelihood and the densities of the prior, all by SciPy; Dirichlet, normal, inverse Wishart or gamma."""
    covariances, family = full_covariances(params), params.covariance_type
    parts = [
        np.log(w) + stats.multivariate_normal(m, c).logpdf(x)
        for w, m, c in zip(params.weights, params.means, covariances, strict=True)
    ]
    total = logsumexp(parts, axis=0).sum()
    total += stats.dirichlet(np.full(K, prior.concentration)).logpdf(np.asarray(params.weights, np.float64))
    for mean, covariance in zip(params.means, covariances, strict=True):
        total += stats.multivariate_normal(prior.mean, covariance / prior.mean_weight).logpdf(mean)
    if family in ("full", "tied"):
        shapes = covariances if family == "full" else covariances[:1]
        return total + sum(stats.invwishart(prior.dof, prior.scale).logpdf(shape) for shape in shapes)
    scale = np.broadcast_to(prior.scale, params.family.shape(K, D))
    return total + stats.invgamma(prior.dof / 2, scale=scale / 2).logpdf(params.covariances).sum()


def fitted(small, family, **options):
    options = {"max_iter": 400, "tol": 1e-12} | options
    return jaxgmm.fit(small.x, K, covariance_type=family, init=start(family), prior=prior_of(family), **options)


def test_what_rises_is_the_posterior_of_scipy(small, family):
    one, two = (fitted(small, family, max_iter=n) for n in (2, 30))
    wanted = log_posterior(two.params, small.x, prior_of(family)) - log_posterior(one.params, small.x, prior_of(family))
    assert two.log_posterior - one.log_posterior == pytest.approx(wanted, rel=1e-9)
    # The history has the prior in it, in the units of the data.
    assert two.history[-1] == pytest.approx(two.log_posterior, rel=1e-12)
    assert two.history[2] == pytest.approx(one.log_posterior, rel=1e-9)


def test_an_iteration_is_an_e_step_and_an_m_step_with_the_prior(small, family):
    start_params, prior = start(family), prior_of(family)
    stepped = jaxgmm.m_step(start_params, jaxgmm.e_step(start_params, small.x), 0.0, prior)
    assert params_distance(stepped, fitted(small, family, max_iter=1, tol=0.0).params) < 1e-11


@pytest.mark.parametrize("accelerate", [None, "squarem"])
def test_the_objective_rises_to_a_maximum(small, family, accelerate):
    result = fitted(small, family, accelerate=accelerate)
    assert result.options["reg_covar"] == 0
    assert np.diff(result.history).min() >= -1e-12 * abs(result.history[-1])
    assert result.status == Status.CONVERGED
    # No small move in any direction does better, by SciPy.
    best = log_posterior(result.params, small.x, prior_of(family))
    rng = np.random.default_rng(0)
    for _ in range(10):
        other = random_params(family, seed=int(rng.integers(1000)))
        pairs = zip(_parts(result.params), _parts(other), strict=True)
        moved = jaxgmm.make_params(*(0.999 * np.asarray(a) + 0.001 * np.asarray(b) for a, b in pairs), family)
        assert log_posterior(moved, small.x, prior_of(family)) < best


def _parts(params):
    return params.weights, params.means, params.covariances


def test_the_default_is_that_of_mclust(small):
    covariance = np.cov(small.x.T, bias=True)
    for family in ("full", "diag", "spherical"):
        prior = default_prior(small.x.mean(axis=0), covariance, 4, family)
        assert (prior.mean_weight, prior.dof, prior.concentration) == (0.01, D + 2, 1.0)
        wanted = covariance if family == "full" else np.trace(covariance) / D * np.ones(D if family == "diag" else ())
        np.testing.assert_allclose(prior.scale, wanted / 4 ** (2 / D))
    given = default_prior(small.x.mean(axis=0), covariance, K, "full")
    by_name, by_hand = (jaxgmm.fit(small.x, K, init=start("full"), prior=p, max_iter=20) for p in ("default", given))
    assert params_distance(by_name.params, by_hand.params) < 1e-9


def test_a_prior_keeps_covariances_from_collapsing(small, family):
    x = np.concatenate([small.x, np.full((5, D), 40.0)])
    result = jaxgmm.fit(x, K + 1, covariance_type=family, key=0, n_restarts=4, prior="default")
    assert result.converged
    assert not result.degenerate
    # Without one a component sits on five equal rows, at a likelihood that means nothing.
    if family == "full":
        assert jaxgmm.fit(x, K + 1, key=0, n_restarts=4).degenerate


@pytest.mark.parametrize("value", [0.0, 0.1, 7.0])
def test_the_default_holds_no_column_that_stands_still(value):
    """Nor does the rounding of a mean, which nobody asked for."""
    x = np.column_stack([np.random.default_rng(1187).normal(size=(24, 2)), np.full(24, value)])
    result = jaxgmm.fit(x, 2, key=0, prior="default")
    assert result.status == Status.SINGULAR
    assert {(d.kind, d.columns) for d in result.diagnoses} == {("singular", (2,))}
    with pytest.raises(jaxgmm.FitError, match="column 2"):
        jaxgmm.fit(x, 2, key=0, prior="default", degenerate="raise")
    many = jaxgmm.fit_many([x, x - [0, 0, value]], 2, key=0, prior="default", init="random_from_data")
    assert many.fits[0] is not None
    np.testing.assert_array_equal(many.fits[0].params.means[:, 2], value)


def test_a_prior_knows_the_units(small, family):
    plain, tiny = (
        jaxgmm.fit(small.x * unit, K, covariance_type=family, key=1, prior="default", tol=0.0, max_iter=30)
        for unit in (1.0, 1e-6)
    )
    np.testing.assert_allclose(tiny.params.means, plain.params.means * 1e-6, rtol=1e-6)
    np.testing.assert_allclose(tiny.params.covariances, plain.params.covariances * 1e-12, rtol=1e-5)


def test_a_sweep_gives_each_count_its_own_prior(small):
    counts = [2, 3]
    together = jaxgmm.sweep(small.x, counts, key=0, prior="default", max_iter=50)
    for fit, n in zip(together.fits, counts, strict=True):
        alone = jaxgmm.fit(small.x, n, key=0, prior="default", max_iter=50)
        assert fit.log_posterior == pytest.approx(alone.log_posterior, rel=1e-9)


def test_no_rows_at_all_leave_the_prior(family):
    """Far more belief than data: the estimate is the mode of the prior."""
    x = np.random.default_rng(0).normal(size=(8, D))
    strong = 1e9
    family_scale = as_family(strong * np.eye(D)[None], np.full((1, D), strong), family)
    scale = family_scale[0] if family in ("full", "diag", "spherical") else family_scale
    prior = Prior(mean=np.full(D, 7.0), mean_weight=1e9, dof=strong, scale=scale)
    result = jaxgmm.fit(x, 1, covariance_type=family, key=0, prior=prior)
    np.testing.assert_allclose(result.params.means, 7.0, rtol=1e-6)
    np.testing.assert_allclose(full_covariances(result.params)[0], np.eye(D), atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"mean": np.zeros(2)}, "prior.mean has shape"),
        ({"scale": np.ones(D)}, "prior.scale has shape"),
        ({"scale": -np.eye(D)}, "not positive definite"),
        ({"scale": np.eye(D) + np.eye(D, k=1)}, "prior.scale is not symmetric"),
        ({"mean": np.full(D, np.nan)}, "prior.mean contains nan"),
        ({"mean": ["a"] * D}, "prior.mean must hold numbers, but contains 'a'"),
        ({"mean_weight": 0.0}, "prior.mean_weight is 0"),
        ({"dof": -1.0}, "prior.dof is -1"),
        ({"concentration": 0.5}, "prior.concentration is 0.5"),
    ],
)
def test_a_prior_that_cannot_be_used(small, changes, words):
    base = {"mean": np.zeros(D), "mean_weight": 1.0, "dof": 5.0, "scale": np.eye(D)}
    with pytest.raises(UsageError, match=words):
        jaxgmm.fit(small.x, K, key=0, prior=Prior(**(base | changes)))
