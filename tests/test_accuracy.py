"""How many digits are right: densities against 50-digit truth, fits in float32 against fits in float64.

The truth is computed by mpmath from the float64 numbers exactly as they are given. The bound is 8 κ ε (1 + |log p|),
κ the condition number of the covariance (the largest of the active ones where components are mixed).
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm
from jaxgmm import GMMParams, Status, density
from tests.helpers import full_covariances, params_of

mpmath = pytest.importorskip("mpmath")
mp = mpmath.mp

EPS = float(np.finfo(np.float64).eps)
ULPS = 8.0
FLOAT32 = 1e-5
OFFSETS = (0.0, 1e4, 1e8)
# (D, K): together all D of 1, 2, 5, 12 and all K of 1 to 4.
SHAPES = ((1, 4), (2, 1), (5, 3), (12, 2))


# Truth


@dataclass(frozen=True)
class Truth:
    """component (N, K) log N(x | k), joint (N, K) with the log weights, total (N) log p(x): 50-digit numbers."""

    component: np.ndarray
    joint: np.ndarray
    total: np.ndarray


def _lower(matrix):
    """Cholesky factor of a matrix of exact numbers as lists of rows."""
    rows = []
    for i in range(len(matrix)):
        row = []
        for j in range(i + 1):
            rest = mp.mpf(float(matrix[i, j])) - mp.fdot(row[:j], (rows[j] if j < i else row)[:j])
            row.append(mp.sqrt(rest) if i == j else rest / rows[j][j])
        rows.append(row)
    return rows


def truth(params: GMMParams, x: np.ndarray) -> Truth:
    """Log-densities of rows x (N, D) to 50 digits; the weights are taken as they are, whatever their sum."""
    with mp.workdps(50):
        means = [[mp.mpf(float(v)) for v in mean] for mean in params.means]
        rows = [[mp.mpf(float(v)) for v in row] for row in x]
        component = np.empty((len(rows), len(means)), object)
        joint = np.empty_like(component)
        for k, covariance in enumerate(full_covariances(params)):
            lower = _lower(covariance)
            log_norm = -sum(mp.log(row[-1]) for row in lower) - mp.mpf(len(lower)) / 2 * mp.log(2 * mp.pi)
            log_weight = mp.log(mp.mpf(float(params.weights[k])))
            for n, row in enumerate(rows):
                white = []
                for i, entries in enumerate(lower):
                    white.append((row[i] - means[k][i] - mp.fdot(entries[:-1], white)) / entries[-1])
                component[n, k] = log_norm - mp.fdot(white, white) / 2
                joint[n, k] = log_weight + component[n, k]
        peaks = [max(terms) for terms in joint]
        total = [peak + mp.log(sum(mp.exp(t - peak) for t in terms)) for peak, terms in zip(peaks, joint, strict=True)]
        return Truth(component, joint, np.array(total, object))


def distance(found: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """|found - exact|, subtracted with 50 digits."""
    with mp.workdps(50):
        pairs = zip(np.ravel(found), np.ravel(exact), strict=True)
        return np.array([float(abs(mp.mpf(float(f)) - e)) for f, e in pairs]).reshape(np.shape(found))


def size(exact: np.ndarray) -> np.ndarray:
    """|exact| rounded to float64."""
    return np.abs(exact.astype(np.float64))


# Mixtures and rows


def mixture(family: str, n_components: int, n_features: int, condition: float, scale: float = 1.0) -> GMMParams:
    """Random weights, means a few widths apart, covariances of the condition number (1 where the family has no other).

    Variances run from `condition`^-½ to `condition`^½, times `scale`².
    """
    rng = np.random.default_rng([n_components, n_features, int(np.log10(condition))])
    weights = rng.dirichlet(np.full(n_components, 2.0))
    means = rng.normal(size=(n_components, n_features)) * 4
    spread = np.geomspace(condition**-0.5, condition**0.5, n_features) if n_features > 1 else np.ones(1)
    variances = np.stack([rng.permutation(spread) for _ in range(n_components)])
    turn = np.linalg.qr(rng.normal(size=(n_components, n_features, n_features)))[0]
    matrices = np.einsum("kij,kj,klj->kil", turn, variances, turn)
    matrices = (matrices + np.swapaxes(matrices, 1, 2)) / 2
    own = rng.uniform(0.3, 3.0, n_components)
    covariances = {
        "full": matrices,
        "tied": matrices[0],
        "diag": variances,
        "spherical": own,
        "tied_diag": variances[0],
        "tied_spherical": own[0],
    }[family]
    return params_of((weights, means * scale, np.asarray(covariances) * scale**2), family)


def rows_for(params: GMMParams, seed: int = 0) -> np.ndarray:
    """Rows in every component, on its mean, between the components, and 10 to 1000 widths from each."""
    rng = np.random.default_rng(seed)
    rows = [params.means, np.mean(params.means, axis=0, keepdims=True)]
    for mean, covariance in zip(params.means, full_covariances(params), strict=True):
        values, vectors = np.linalg.eigh(covariance)
        widths = vectors * np.sqrt(values)
        noise = rng.normal(size=(7, params.n_features))
        far = noise[3:] / np.linalg.norm(noise[3:], axis=1, keepdims=True)
        noise[3:] = far * np.array([[10.0], [100.0], [300.0], [1000.0]])
        rows.append(mean + noise @ widths.T)
    return np.concatenate(rows)


def conditions(params: GMMParams) -> np.ndarray:
    """Condition number of every component's covariance, (K)."""
    return np.linalg.cond(full_covariances(params))


def shifted(params: GMMParams, x: np.ndarray, offset: float) -> tuple[GMMParams, np.ndarray]:
    """Mixture and rows moved together, rounded to float64 where that is."""
    return params_of((params.weights, params.means + offset, params.covariances), params.covariance_type), x + offset


def ratios(params: GMMParams, x: np.ndarray) -> dict[str, float]:
    """Largest error of every density function in units of its bound."""
    exact = truth(params, x)
    kappa = conditions(params)
    worst = kappa.max()
    total = size(exact.total)
    with mp.workdps(50):
        log_resp = exact.joint - exact.total[:, None]
    component = kappa * (1 + size(exact.component))
    # A responsibility is a difference of two log-densities and as accurate as they are.
    both = worst * (1 + size(exact.joint) + total[:, None])
    found = {
        "log_prob": (jaxgmm.log_prob(params, x), exact.total, worst * (1 + total)),
        "component_log_prob": (jaxgmm.component_log_prob(params, x), exact.component, component),
        "log_responsibilities": (jaxgmm.log_responsibilities(params, x), log_resp, both),
    }
    return {name: float(np.max(distance(f, e) / (ULPS * EPS * b))) for name, (f, e, b) in found.items()}


def assert_within_bound(params: GMMParams, x: np.ndarray) -> None:
    """Every log-density of the rows is right to 8 κ ε (1 + |log p|)."""
    for name, ratio in ratios(params, x).items():
        assert ratio <= 1.0, f"{name} is off by {ratio:.3g} times its bound"


@pytest.mark.parametrize(("n_features", "n_components"), SHAPES)
def test_log_densities_against_truth_at_every_offset(family, n_features, n_components):
    for condition, offset in ((1.0, 0.0), (1e4, 1e4), (1e8, 1e8)):
        params = mixture(family, n_components, n_features, condition)
        assert_within_bound(*shifted(params, rows_for(params), offset))


@pytest.mark.slow
@pytest.mark.parametrize(("n_features", "n_components"), [*SHAPES, (40, 2), (70, 2)])
@pytest.mark.parametrize("condition", [1.0, 1e2, 1e4, 1e6, 1e8, 1e10])
def test_log_densities_against_truth_on_a_long_grid(family, n_features, n_components, condition):
    params = mixture(family, n_components, n_features, condition)
    for seed in range(3):
        rows = rows_for(params, seed)
        for offset in OFFSETS:
            assert_within_bound(*shifted(params, rows, offset))


@pytest.mark.parametrize("scale", [1e-8, 1e-3, 1e3, 1e8])
def test_the_unit_of_the_data_costs_no_more_than_its_logarithm(family, scale):
    # log p is a difference of the log norm and half the squared distance. Where they meet, log p is 0 and neither
    # is, and the bound must be in their size: no float64 number is as close to the log norm as the bound is to 0.
    params = mixture(family, 3, 5, 1e2, scale)
    covariance = full_covariances(params)[0]
    lower = np.linalg.cholesky(covariance)
    log_norm = -np.log(np.diag(lower)).sum() - 2.5 * np.log(2 * np.pi)
    noise = np.random.default_rng(3).normal(size=(10, 5))
    noise *= np.sqrt(2 * abs(log_norm)) / np.linalg.norm(noise, axis=1, keepdims=True)
    rows = np.concatenate([rows_for(params), params.means[0] + noise @ lower.T])
    exact, kappa = truth(params, rows), conditions(params).max()
    if scale < 1:
        assert size(exact.component).min() < 1e-3 * log_norm
    for found, wanted in (
        (jaxgmm.log_prob(params, rows), exact.total),
        (jaxgmm.component_log_prob(params, rows), exact.component),
    ):
        bound = ULPS * EPS * kappa * (1 + size(wanted)) + ULPS * EPS * abs(log_norm)
        assert (distance(found, wanted) <= bound).all()


def test_an_offset_does_not_change_the_densities(family):
    """Short numbers, so that the offset rounds nothing: the very same log-densities."""
    params = mixture(family, 3, 5, 1e4)
    short = params_of((params.weights, np.round(params.means * 64) / 64, params.covariances), family)
    rows = np.round(rows_for(params) * 64) / 64
    moved, there = shifted(short, rows, float(2**26))
    np.testing.assert_array_equal(jaxgmm.log_prob(moved, there), jaxgmm.log_prob(short, rows))
    np.testing.assert_array_equal(jaxgmm.log_responsibilities(moved, there), jaxgmm.log_responsibilities(short, rows))


@pytest.mark.parametrize("offset", [0.0, 1e8])
def test_gradient_in_the_rows_against_truth(offset):
    params = mixture("full", 3, 5, 1e4)
    params, rows = shifted(params, rows_for(params), offset)
    with jax.enable_x64(True):
        found = np.asarray(jax.jit(jax.grad(lambda x: jnp.sum(density.log_prob(params, x))))(jnp.asarray(rows)))
    # −Σ_k r_k Σ_k⁻¹ (x − μ_k) with responsibilities of 50 digits.
    exact = truth(params, rows)
    with mp.workdps(50):
        resp = np.array([[float(mp.exp(j - t)) for j in row] for row, t in zip(exact.joint, exact.total, strict=True)])
        pulls = np.empty((len(rows), 3, 5))
        for k, covariance in enumerate(full_covariances(params)):
            inverse = mp.matrix(covariance.tolist()) ** -1
            for n, row in enumerate(rows):
                delta = mp.matrix(row.tolist()) - mp.matrix(params.means[k].tolist())
                pulls[n, k] = [float(v) for v in -(inverse * delta)]
    terms = resp[:, :, None] * pulls
    wanted = terms.sum(axis=1)
    size_of_terms = np.abs(terms).sum(axis=1).max(axis=1, keepdims=True)
    # Responsibilities carry the error of the log-densities, which is relative to their size.
    loose = 100 * EPS * conditions(params).max() * (1 + size(exact.joint).max(axis=1, keepdims=True))
    assert (np.abs(found - wanted) <= loose * size_of_terms + loose * EPS).all()
    inside = size(exact.total) < 1e3
    assert inside.sum() > 5
    np.testing.assert_allclose(found[inside], wanted[inside], rtol=0, atol=1e-9 * np.abs(wanted).max())


# Fits in single precision


def clouds(n_samples: int, n_features: int, separation: float, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Three tilted clouds, their centres at least `separation` widths apart, widths about 10; rows and poor labels."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(3, n_features))
    centres *= separation / min(np.linalg.norm(centres[i] - centres[j]) for i in range(3) for j in range(i))
    mixing = np.stack(
        [
            np.linalg.qr(rng.normal(size=(n_features, n_features)))[0] * rng.uniform(0.5, 1.5, n_features)
            for _ in range(3)
        ]
    )
    labels = rng.choice(3, size=n_samples, p=[1 / 6, 2 / 6, 3 / 6])
    x = np.einsum("nij,nj->ni", mixing[labels], rng.normal(size=(n_samples, n_features))) + centres[labels]
    wrong = rng.random(n_samples) < 0.3
    return x * 10, np.where(wrong, rng.integers(0, 3, n_samples), labels)


def both_precisions(x: np.ndarray, labels: np.ndarray, shift: float, family: str, max_iter: int, tol: float = 0.0):
    """The same rows, which float32 can hold, fitted in float32 and in float64 from the same start."""
    single = (x + shift).astype(np.float32)
    double = single.astype(np.float64)
    init = jaxgmm.params_from_labels(double, labels, covariance_type=family)
    return [
        jaxgmm.fit(rows, 3, covariance_type=family, init=init, tol=tol, reg_covar=0.0, max_iter=max_iter)
        for rows in (single, double)
    ]


def differences(a, b) -> dict[str, float]:
    """Relative differences of two fits; `way`: means in standard deviations, less the rounding of the means."""
    mean_a, mean_b = (np.asarray(r.params.means, np.float64) for r in (a, b))
    cov_a, cov_b = (full_covariances(r.params) for r in (a, b))
    deviation = np.sqrt(np.einsum("kii->ki", cov_b))
    rounding = np.spacing(np.abs(mean_b).astype(np.float32)).astype(np.float64) / 2
    return {
        "weights": float(np.max(np.abs(a.params.weights / b.params.weights - 1))),
        "means": float(np.max(np.abs(mean_a / mean_b - 1))),
        "way": float(np.max((np.abs(mean_a - mean_b) - rounding) / deviation)),
        "covariances": float(np.max(np.abs(cov_a - cov_b) / np.abs(cov_b).max(axis=(1, 2), keepdims=True))),
        "log_likelihood": abs(a.log_likelihood / b.log_likelihood - 1),
    }


def assert_same_fit(a, b) -> None:
    """float32 and float64 went the same way."""
    assert a.params.means.dtype == np.float32
    assert b.params.means.dtype == np.float64
    assert a.n_iter == b.n_iter
    for name, value in differences(a, b).items():
        assert value <= FLOAT32, f"{name} differ by {value:.3g} ({a.kernel} in float32, {b.kernel} in float64)"


# Overlapping, and well separated; there float32 has no progress left to see after a few iterations.
RUNS = ((1.5, 10), (8.0, 2))


@pytest.mark.parametrize("n_features", [2, pytest.param(8, marks=pytest.mark.slow)])
def test_single_precision_fits_match_double(family, n_features):
    for separation, max_iter in RUNS:
        x, labels = clouds(2000, n_features, separation)
        for shift in (1e4, 1e6):
            assert_same_fit(*both_precisions(x, labels, shift, family, max_iter))


@pytest.mark.parametrize("covariance_type", ["diag", pytest.param("full", marks=pytest.mark.slow)])
def test_single_precision_fits_of_many_rows_match_double(covariance_type):
    """Enough rows for the features kernel, which loses digits that single precision does not have to give."""
    kernels = set()
    for seed in (1, 2):
        x, labels = clouds(40_000, 2, 1.5, seed)
        for shift in (1e4, 1e6):
            single, double = both_precisions(x, labels, shift, covariance_type, 10)
            assert_same_fit(single, double)
            kernels.add(single.kernel)
    assert "features" in kernels  # nothing is shown otherwise


@pytest.mark.parametrize("separation", [1.5, 3.0, 8.0])
def test_single_precision_stops_where_double_does(separation):
    """At the options by default, among them a covariance that is regularised.

    A change of the log-likelihood that float32 cannot see is no reason to stop while the parameters move. How much EM
    gains, float32 knows to about 1e-3 from how they move: nearer than that to the tolerance nobody can tell.
    """
    told = 0
    for seed in range(4):
        x, labels = clouds(2000, 2, separation, seed)
        for shift in (1e4, 1e6):
            single = (x + shift).astype(np.float32)
            init = jaxgmm.params_from_labels(single.astype(np.float64), labels)
            a, b = (jaxgmm.fit(rows, 3, init=init) for rows in (single, single.astype(np.float64)))
            assert a.status == b.status == Status.CONVERGED
            steps = np.diff(b.history)[-2:] / (1e-8 * (1 + abs(b.log_likelihood)))
            # A regularised objective may fall by 1e-11 at last. float64 then returns the state before, 1e-5 away.
            rises = b.log_likelihood == b.history[-1]
            if rises and (np.abs(steps - 1) > 1e-3).all():
                assert_same_fit(a, b)
                told += 1
    assert told >= 6
