"""Samples from Gaussian mixtures whose parameters are known, to fit and to check a fit against.

Every `seed` is an integer for `numpy.random.default_rng`. Rows come in random order, labels with them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from jaxgmm._status import UsageError


@dataclasses.dataclass(frozen=True, eq=False)
class Synthetic:
    """Samples and the mixture they were drawn from.

    Where the number of samples of each component is fixed, not random, `weights` are fractions of samples.
    """

    x: np.ndarray  # N × D, float64
    labels: np.ndarray  # N, the component of each row
    weights: np.ndarray  # K
    means: np.ndarray  # K × D
    covariances: np.ndarray  # K × D × D
    name: str
    label_names: tuple[str, ...] = ()  # what label k stands for, where it has a name


def make_mixture(
    n_samples: int, weights: Sequence[float], means: ArrayLike, covariances: ArrayLike, seed: int = 0
) -> Synthetic:
    """Draw from a given mixture, component first.

        k ~ Categorical(π),    x | k ~ N(μ_k, Σ_k),    x = μ_k + L_k z  with  Σ_k = L_k L_kᵀ,  z ~ N(0, I)

    Args:
        n_samples: N, rows to draw.
        weights: (K) proportions, not negative, sum 1.
        means: (K, D).
        covariances: (K, D, D), symmetric and positive definite.
    Returns: Synthetic with the parameters as given.
    Source: ancestral sampling, Bishop (2006), section 9.2.
    Example:
        >>> truth = make_mixture(1000, [0.3, 0.7], [[0.0], [4.0]], [[[1.0]], [[0.25]]], seed=1)
        >>> truth.x.shape, truth.weights.tolist()
        ((1000, 1), [0.3, 0.7])
    """
    p = np.asarray(weights, dtype=np.float64)
    if p.ndim != 1 or not np.all(p >= 0) or not np.isclose(p.sum(), 1.0):
        raise UsageError("E149", f"weights must be K proportions with sum 1, not {weights}", "divide them by their sum")
    rng = np.random.default_rng(seed)
    drawn = _draw("mixture", rng, rng.multinomial(n_samples, p / p.sum()), means, covariances)
    return dataclasses.replace(drawn, weights=p / p.sum())


def make_cube(
    n_per_corner: int = 500, half_side: float = 20.0, missing: int = 1, seed: int = 0, std: float = 1.0
) -> Synthetic:
    """Round clusters on the corners of a cube, the last `missing` of the eight left empty.

        μ_k = half_side · (±1, ±1, ±1),    Σ_k = std² I,    π_k = 1 / (8 - missing)

    Args:
        n_per_corner: samples on each corner that is not empty.
        half_side: half the edge of the cube, in data units.
        missing: empty corners, 0 to 7, from (+, +, +) backwards.
        std: standard deviation of a cluster, in data units.
    Returns: Synthetic with N = (8 - missing) · n_per_corner, D = 3.
    Source: the seven-corner set of Mathos34/gmm-from-scratch.
    Example:
        >>> make_cube().x.shape
        (3500, 3)
    """
    if not 0 <= missing <= 7:
        raise UsageError("E108", f"missing must be 0 to 7 corners of the eight, not {missing}", "for example missing=1")
    n_corners = 8 - missing
    means = [[half_side if corner & bit else -half_side for bit in (4, 2, 1)] for corner in range(n_corners)]
    covariances = np.tile(std**2 * np.eye(3), (n_corners, 1, 1))
    return _draw("cube", np.random.default_rng(seed), [n_per_corner] * n_corners, means, covariances)


def make_random(
    n_components: int = 3, n_features: int = 2, n_per_component: int = 1000, lim: float = 10.0, seed: int = 0
) -> Synthetic:
    """Clusters of random place and shape, which may overlap.

        μ_k ~ U[-lim, lim]^D,    Σ_k = A_k A_kᵀ,    A_k ~ U[0, 1]^(D × (D + 10))

    Args:
        n_components: K.
        n_features: D.
        n_per_component: samples of each component.
        lim: half the edge of the box of means, in data units.
    Returns: Synthetic with N = K · n_per_component.
    Source: `gen_data` of mr-easy/GMM-EM-Python.
    Example:
        >>> make_random(n_components=5, n_features=3, n_per_component=20).x.shape
        (100, 3)
    """
    rng = np.random.default_rng(seed)
    means = rng.uniform(-lim, lim, (n_components, n_features))
    a = rng.uniform(size=(n_components, n_features, n_features + 10))
    return _draw("random", rng, [n_per_component] * n_components, means, a @ a.transpose(0, 2, 1))


def make_blobs(
    n_samples: int = 2000,
    n_components: int = 4,
    n_features: int = 2,
    std: float = 0.9,
    seed: int = 2,
    box: float = 10.0,
) -> Synthetic:
    """Round clusters of one size at random places.

        μ_k ~ U[-box, box]^D,    Σ_k = std² I,    N split evenly, the first components taking the remainder

    Args:
        n_samples: N.
        n_components: K.
        n_features: D.
        std: standard deviation of a cluster, in data units.
        seed: gives other numbers than the same seed of scikit-learn.
        box: half the edge of the box of means, in data units.
    Returns: Synthetic with N rows.
    Source: the data of reutregev/gmm-em, after scikit-learn's `make_blobs`.
    Example:
        >>> np.bincount(make_blobs(n_samples=10).labels).tolist()
        [3, 3, 2, 2]
    """
    rng = np.random.default_rng(seed)
    sizes = [n_samples // n_components + (k < n_samples % n_components) for k in range(n_components)]
    means = rng.uniform(-box, box, (n_components, n_features))
    return _draw("blobs", rng, sizes, means, np.tile(std**2 * np.eye(n_features), (n_components, 1, 1)))


def make_1d_blobs(
    sizes: Sequence[int] = (30, 40, 20),
    means: Sequence[float] = (-2, 0, 2),
    stds: Sequence[float] = (1, 0.8, 1.5),
    seed: int = 0,
) -> Synthetic:
    """Clusters on a line, by default few samples that overlap.

        x | k ~ N(μ_k, s_k²),    π_k = n_k / N

    Args:
        sizes: (K) samples of each component.
        means: (K) in data units.
        stds: (K) standard deviations, in data units.
    Returns: Synthetic with N = sum of `sizes`, D = 1.
    Source: `make_dataset_1d` in Geoff Ruddock's notes on Gaussian mixtures.
    Example:
        >>> make_1d_blobs().x.shape
        (90, 1)
    """
    return _on_a_line("1d-blobs", sizes, means, np.square(stds), seed)


def make_ellipsoids(sizes: Sequence[int] = (350, 250), n_features: int = 2, seed: int = 0) -> Synthetic:
    """Round clusters put through one random linear map, which makes them long and oblique.

        x = (c_k + z) A,    z ~ N(0, I),    c_k ~ U[-10, 10]^D,    μ_k = c_k A,    Σ_k = Aᵀ A

    A is standard normal, drawn again while its condition number is above 100: a map that is all but flat
    leaves covariances that no fit can recover.

    Args:
        sizes: (K) samples of each component.
        n_features: D.
    Returns: Synthetic with N = sum of `sizes`.
    Source: `make_blobs_gmm` in Geoff Ruddock's notes on Gaussian mixtures.
    Example:
        >>> make_ellipsoids(n_features=3).covariances.shape
        (2, 3, 3)
    """
    rng = np.random.default_rng(seed)
    centres = rng.uniform(-10.0, 10.0, (len(sizes), n_features))
    a = rng.standard_normal((n_features, n_features))
    while np.linalg.cond(a) > 100:
        a = rng.standard_normal((n_features, n_features))
    return _draw("ellipsoids", rng, sizes, centres @ a, np.tile(a.T @ a, (len(sizes), 1, 1)))


def make_bimodal(seed: int = 0) -> Synthetic:
    """Two well separated clusters on a line: 1000 samples of N(0, 1), 1000 of N(5, 1); N = 2000, D = 1.

    Source: Ransaka/GMM-from-scratch.
    Example:
        >>> make_bimodal().means.tolist()
        [[0.0], [5.0]]
    """
    return _on_a_line("bimodal", (1000, 1000), (0.0, 5.0), (1.0, 1.0), seed)


def make_two_gaussians(seed: int = 0) -> Synthetic:
    """Two oblique, overlapping clusters in the plane, 1000 samples each; N = 2000, D = 2.

        μ = (0, 0), (2, 0),    Σ = [[1, 0.7], [0.7, 1]], [[0.5, 0.4], [0.4, 0.5]]

    Source: Ransaka/GMM-from-scratch.
    Example:
        >>> make_two_gaussians().x.shape
        (2000, 2)
    """
    covariances = [[[1.0, 0.7], [0.7, 1.0]], [[0.5, 0.4], [0.4, 0.5]]]
    rng = np.random.default_rng(seed)
    return _draw("two-gaussians", rng, (1000, 1000), [[0.0, 0.0], [2.0, 0.0]], covariances)


def make_three_1d(seed: int = 0) -> Synthetic:
    """Three clusters on a line, 100 samples each: means -5, 5, 0, variances 1.2, 1.8, 1.6; N = 300, D = 1.

    Source: Ransaka/GMM-from-scratch.
    Example:
        >>> make_three_1d().covariances.ravel().tolist()
        [1.2, 1.8, 1.6]
    """
    return _on_a_line("three-1d", (100, 100, 100), (-5.0, 5.0, 0.0), (1.2, 1.8, 1.6), seed)


def _on_a_line(name: str, sizes: ArrayLike, means: ArrayLike, variances: ArrayLike, seed: int) -> Synthetic:
    mu, var = np.reshape(means, (-1, 1)), np.reshape(variances, (-1, 1, 1))
    return _draw(name, np.random.default_rng(seed), sizes, mu, var)


def _draw(name: str, rng: np.random.Generator, sizes: ArrayLike, means: ArrayLike, covariances: ArrayLike) -> Synthetic:
    n, mu, sigma = np.asarray(sizes), np.asarray(means, np.float64), np.asarray(covariances, np.float64)
    shape = (len(n), mu.shape[1] if mu.ndim == 2 else 0)
    if mu.shape != shape or sigma.shape != (*shape, shape[1]) or n.min(initial=0) < 0 or n.sum() == 0:
        shapes = f"{n.shape}, {mu.shape}, {sigma.shape}"
        raise UsageError(
            "E149", f"sizes, means, covariances have the shapes {shapes}", "give K, K x D, K x D x D with K, D, N >= 1"
        )
    try:
        factors = np.linalg.cholesky(sigma)
    except np.linalg.LinAlgError:
        raise UsageError("E149", "a covariance is not positive definite", "its eigenvalues must be above 0") from None
    if not np.allclose(sigma, sigma.swapaxes(1, 2)):
        raise UsageError("E149", "a covariance is not symmetric", "use (C + C.T) / 2")
    labels = np.repeat(np.arange(len(n)), n)[rng.permutation(n.sum())]
    noise = rng.standard_normal((len(labels), shape[1]))
    x = np.empty_like(noise)
    for k, factor in enumerate(factors):
        x[labels == k] = mu[k] + noise[labels == k] @ factor.T
    return Synthetic(x, labels, n / n.sum(), mu, sigma, name)


GENERATORS: dict[str, Callable[..., Synthetic]] = {
    "cube": make_cube,
    "random": make_random,
    "blobs": make_blobs,
    "1d-blobs": make_1d_blobs,
    "ellipsoids": make_ellipsoids,
    "bimodal": make_bimodal,
    "two-gaussians": make_two_gaussians,
    "three-1d": make_three_1d,
}
