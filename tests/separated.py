"""Mixtures about the origin whose centres lie at a given distance from it, rows of them, and starts near them."""

from functools import cache

import jax
import numpy as np

from jaxgmm import GMMParams
from jaxgmm._checks import precision_context
from jaxgmm.kernels import lost_digits
from jaxgmm.params import factorize
from tests.helpers import as_family, cast, full_covariances, params_of, parts_of

N, D, K = 1024, 3, 3


@cache
def problem(
    family: str, separation: float, *, n_features: int = D, correlation: float = 0.0, narrow: float = 1.0, seed: int = 0
) -> tuple[GMMParams, np.ndarray]:
    """A mixture with centres `separation` from 0, the first `narrow` times as wide as the others; and N rows of it.

    correlation: of all pairs of features, where the family has any. Numbers are float32 ones.
    """
    rng = np.random.default_rng(seed)
    direction = rng.normal(size=(K, n_features))
    means = separation * direction / np.linalg.norm(direction, axis=1, keepdims=True) * np.sqrt(n_features)
    deviation = rng.uniform(0.5, 1.5, size=(K, n_features)) * np.array([narrow, 1.0, 1.0])[:, None]
    shape = np.full((n_features, n_features), correlation) + (1 - correlation) * np.eye(n_features)
    matrices = deviation[:, :, None] * shape * deviation[:, None, :]
    covariances = as_family(matrices, deviation**2, family)
    params = cast(params_of((np.array([0.5, 0.3, 0.2]), means, covariances), family), np.float32)
    labels = rng.choice(K, size=N, p=[0.5, 0.3, 0.2])
    lower = np.linalg.cholesky(full_covariances(params))
    x = params.means[labels] + np.einsum("nij,nj->ni", lower[labels], rng.normal(size=(N, n_features)))
    return cast(params, np.float64), x.astype(np.float32).astype(np.float64)


@jax.jit
def _loss(params):
    return lost_digits(params, factorize(params))


def loss_of(params, dtype=np.float64) -> float:
    with precision_context(np.dtype(dtype)):
        return float(_loss(cast(params, dtype)))


def lanes_of(*params: GMMParams) -> GMMParams:
    """Mixtures of one family and size as lanes."""
    return jax.tree.map(lambda *leaves: np.stack(leaves), *params)


def disturbed(params: GMMParams, seed: int, by: float = 0.3) -> GMMParams:
    """A start near the mixture: means moved, weights equal."""
    rng = np.random.default_rng(seed)
    _, means, covariances, family = parts_of(params)
    return params_of((np.full(K, 1 / K), means + by * rng.normal(size=means.shape), covariances * 1.5), family)
