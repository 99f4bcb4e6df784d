"""Data, starts, tolerances and comparisons shared by the tests.

Nothing here calls the code under test, except for the classes that hold parameters and errors.
"""

from __future__ import annotations

import json
import re
import warnings
from dataclasses import dataclass
from functools import cache

import jax
import numpy as np
import pytest

from jaxgmm import DataError, GMMParams
from tests.oracles import numpy_gmm as oracle

N, D, K = 200, 3, 3


def tolerance(dtype: np.dtype, ulps: float) -> float:
    """`ulps` times the distance from 1 to the next number of `dtype`: the same multiple for every precision."""
    return ulps * float(np.finfo(dtype).eps)


@dataclass(frozen=True)
class Small:
    """x (200, 3) float64 and the labels it was drawn with; counts (200) whole-number row weights, some 0."""

    x: np.ndarray
    labels: np.ndarray
    counts: np.ndarray


def make_small() -> Small:
    """Three overlapping, tilted clouds away from the origin, so that EM has a long way to go.

    Numbers are multiples of 1/256 below 64: exact in float32, also after a shift by a whole number.
    """
    rng = np.random.default_rng(20)
    mixing = np.array([[1.5, 0.4, 0.0], [0.0, 0.8, -0.3], [0.2, 0.0, 0.5]])
    labels = rng.choice(K, size=N, p=[0.5, 0.3, 0.2])
    noise = rng.normal(size=(N, D))
    turned = np.stack([noise @ mixing, noise @ mixing.T * 0.7, noise @ np.diag([0.5, 1.0, 1.5])])
    centres = np.array([[5.0, -3.0, 2.0], [6.5, -1.5, 1.0], [4.0, -2.0, 4.0]])
    x = turned[labels, np.arange(N)] + centres[labels]
    counts = rng.choice(4, size=N, p=[0.25, 0.4, 0.25, 0.1])
    small = Small(np.round(x * 256) / 256, labels, counts)
    for array in (small.x, small.labels, small.counts):
        array.flags.writeable = False
    return small


@cache
def start(covariance_type: str, n_components: int = K, seed: int = 0) -> GMMParams:
    """Deliberately poor float64 parameters for the small data: one M-step from noisy responsibilities.

    Means are multiples of 1/256, like the data."""
    small = make_small()
    rng = np.random.default_rng(seed)
    resp = rng.dirichlet(np.ones(n_components), size=N)
    resp[np.arange(N), small.labels % n_components] += 0.4
    resp /= resp.sum(axis=1, keepdims=True)
    weights, means, covariances = oracle.m_step(small.x, resp, covariance_type)
    # Short means, so that a shift of them by a whole number is exact.
    return params_of((weights, np.round(means * 256) / 256, covariances), covariance_type)


def params_of(parts: tuple[np.ndarray, ...], covariance_type: str, dtype=np.float64) -> GMMParams:
    """(weights, means, covariances) as the package's parameters."""
    weights, means, covariances = (np.asarray(p, dtype) for p in parts)
    return GMMParams(weights=weights, means=means, covariances=covariances, covariance_type=covariance_type)


def parts_of(params: GMMParams) -> tuple[np.ndarray, np.ndarray, np.ndarray, str]:
    """The parameters as the oracle takes them, float64."""
    weights, means, covariances = (
        np.asarray(a, np.float64) for a in (params.weights, params.means, params.covariances)
    )
    return weights, means, covariances, params.covariance_type


def cast(params: GMMParams, dtype) -> GMMParams:
    """The parameters, or lanes of them, in another precision."""
    return jax.tree.map(lambda leaf: np.asarray(leaf, dtype), params)


def full_covariances(params: GMMParams) -> np.ndarray:
    """Covariance matrices (K, D, D), float64, whatever the family."""
    _, means, covariances, covariance_type = parts_of(params)
    return oracle.to_full(covariances, covariance_type, *means.shape)


def as_family(matrices: np.ndarray, variances: np.ndarray, covariance_type: str) -> np.ndarray:
    """Covariances (K, D, D) and their variances (K, D) in a family's shape; what is shared is the first's."""
    return {
        "full": matrices,
        "tied": matrices[0],
        "diag": variances,
        "spherical": variances[:, 0],
        "tied_diag": variances[0],
        "tied_spherical": variances[0, 0],
    }[covariance_type]


def random_params(
    covariance_type: str, n_components: int = K, n_features: int = D, seed: int = 0, dtype=np.float64
) -> GMMParams:
    """A sound mixture of the family: proportions above 0.1 / K, standard deviations between 0.3 and 3."""
    rng = np.random.default_rng(seed)
    weights = rng.dirichlet(np.full(n_components, 5.0)) * 0.9 + 0.1 / n_components
    means = rng.normal(size=(n_components, n_features)) * 2 + np.array([5.0, -2.0, 2.0] * n_features)[:n_features]
    rotation = np.linalg.qr(rng.normal(size=(n_components, n_features, n_features)))[0]
    deviation = rng.uniform(0.3, 3.0, size=(n_components, n_features))
    matrices = np.einsum("kij,kj,klj->kil", rotation, deviation**2, rotation)
    covariances = as_family(matrices, deviation**2, covariance_type)
    return params_of((weights, means, covariances), covariance_type, dtype)


def permuted(params: GMMParams, order) -> GMMParams:
    """The same mixture with its components renamed."""
    weights, means, covariances, covariance_type = parts_of(params)
    own = covariance_type in ("full", "diag", "spherical")
    return params_of((weights[order], means[order], covariances[order] if own else covariances), covariance_type)


def match(found: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Order that puts the rows of `found` next to the rows of `wanted`, nearest pairs first."""
    distance = np.linalg.norm(found[:, None] - wanted[None], axis=2)
    order = np.zeros(len(wanted), int)
    for _ in range(len(wanted)):
        i, j = np.unravel_index(np.argmin(distance), distance.shape)
        order[j] = i
        distance[i], distance[:, j] = np.inf, np.inf
    return order


def params_distance(a: GMMParams, b: GMMParams) -> float:
    """Largest difference of two mixtures, in units that do not depend on those of the data.

    Weights as they are, means in standard deviations, covariance entries in products of deviations.
    """
    (w_a, m_a, _, _), (w_b, m_b, _, _) = parts_of(a), parts_of(b)
    c_a, c_b = full_covariances(a), full_covariances(b)
    deviation = np.sqrt(np.einsum("kii->ki", c_b))
    return float(
        max(
            np.abs(w_a - w_b).max(),
            np.abs((m_a - m_b) / deviation).max(),
            np.abs((c_a - c_b) / (deviation[:, :, None] * deviation[:, None, :])).max(),
        )
    )


def assert_params_close(a: GMMParams, b: GMMParams, atol: float) -> None:
    """Two mixtures agree, component by component, to `atol` in the units of `params_distance`."""
    assert a.covariance_type == b.covariance_type
    distance = params_distance(a, b)
    assert distance <= atol, f"parameters differ by {distance:.3g}, allowed {atol:.3g}"


def relative(a: float, b: float) -> float:
    """|a - b| / (1 + |b|)."""
    return abs(a - b) / (1.0 + abs(b))


def messages(err: str) -> list[str]:
    """What the shell said on standard error: each note, warning or error with its help on one line again."""
    return re.sub(r"\n {2,}", " ", err).splitlines()


def refusal(read, path) -> str:
    """The sentence that refuses a file; it names the file, and there is no warning beside it."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(DataError) as caught:
            read(path)
    text = str(caught.value)
    assert str(path) in text
    assert "\n" not in text
    assert len(text) < 500
    return text


def rewrite(path, header=None, drop=(), **arrays):
    """The file at `path` with some of its arrays or header entries changed."""
    with np.load(path) as archive:
        found = {name: archive[name] for name in archive.files if name not in drop}
    if header is not None:
        text = {**json.loads(found["header"].tobytes()), **header}
        found["header"] = np.frombuffer(json.dumps(text).encode(), np.uint8)
    np.savez(path, **{**found, **arrays})
    return path
