"""Log-densities of a mixture in NumPy's widest type, each with a bound on what another precision may make of it.

Nothing is shared with the package under test. The bounds follow from the computing type's eps and the conditioning
of the covariances, entry by entry: they hold whatever the units of the columns.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tests.oracles import numpy_gmm

Wide = np.longdouble
# Rounding errors that one log-density may gather, in units of eps times the size of its terms.
ULPS = 32


@dataclass(frozen=True)
class Densities:
    """log w_k + log N(x_n | k) (N, K) and how far an honest computation may be from it (N, K).

    squared: the squared Mahalanobis distances (N, K).
    """

    joint: np.ndarray
    slack: np.ndarray
    squared: np.ndarray

    def log_prob(self) -> tuple[np.ndarray, np.ndarray]:
        """The lowest and the highest log p(x_n) (N) that rounding can lead to."""
        return log_sum_exp(self.joint - self.slack), log_sum_exp(self.joint + self.slack)


def log_sum_exp(values: np.ndarray) -> np.ndarray:
    """log Σ_k exp(v_nk), (N)."""
    peak = values.max(axis=1, keepdims=True)
    return (peak + np.log(np.exp(values - peak).sum(axis=1, keepdims=True)))[:, 0]


def cholesky(matrix: np.ndarray) -> np.ndarray:
    """Lower L with Σ = L Lᵀ; `LinAlgError` for a matrix that is not positive definite."""
    lower = np.zeros_like(matrix)
    for j in range(len(matrix)):
        pivot = matrix[j, j] - lower[j, :j] @ lower[j, :j]
        if not pivot > 0:
            raise np.linalg.LinAlgError(f"pivot {j} is {pivot}")
        lower[j, j] = np.sqrt(pivot)
        for i in range(j + 1, len(matrix)):
            lower[i, j] = (matrix[i, j] - lower[i, :j] @ lower[j, :j]) / lower[j, j]
    return lower


def lower_inverse(lower: np.ndarray) -> np.ndarray:
    """L⁻¹ by forward substitution."""
    inverse = np.zeros_like(lower)
    for j in range(len(lower)):
        for i in range(j, len(lower)):
            inverse[i, j] = ((i == j) - lower[i, j:i] @ inverse[j:i, j]) / lower[i, i]
    return inverse


def densities(
    x: np.ndarray,
    parts: tuple[np.ndarray, np.ndarray, np.ndarray],
    covariance_type: str,
    dtype: np.dtype,
    *,
    unsure: np.ndarray | float = 0.0,
    pivot: np.ndarray | None = None,
) -> Densities:
    """The log-densities of rows (N, D) under (weights, means, covariances) that were computed in `dtype`.

    unsure (D): by how much a deviation x − μ may be off. pivot (D): the common point about which products were taken,
    whose size then counts beside that of the deviations. Components of weight 0 get −inf.
    """
    info = np.finfo(dtype)
    eps, tiny = Wide(info.eps), Wide(info.tiny)
    weights, means, covariances = parts
    n_components, n_features = means.shape
    full = numpy_gmm.to_full(covariances, covariance_type, n_components, n_features).astype(Wide)
    x, means = x.astype(Wide), means.astype(Wide)
    shape = (len(x), n_components)
    joint, slack, squared = np.full(shape, -np.inf, Wide), np.zeros(shape, Wide), np.zeros(shape, Wide)
    for k in np.flatnonzero(weights > 0):
        lower = cholesky(full[k])
        inverse = lower_inverse(lower)
        precision = np.abs(inverse.T @ inverse)
        delta = x - means[k]
        size = np.abs(delta) + np.sqrt(np.diagonal(full[k]))
        if pivot is not None:
            size = size + np.abs(x - pivot) + np.abs(means[k] - pivot)
        squared[:, k] = ((delta @ inverse.T) ** 2).sum(axis=1)
        log_weight = np.log(Wide(weights[k]))
        constant = log_weight - np.log(np.diagonal(lower)).sum() - n_features * np.log(2 * Wide(np.pi)) / 2
        joint[:, k] = constant - squared[:, k] / 2
        # |Λ||Σ||Λ| bounds what rounding Σ does to Λ; numbers below the normal ones may be lost altogether.
        pulled = size @ precision
        entries = np.abs(full[k]) + tiny / eps
        rounding = np.einsum("ni,ij,nj->n", pulled, entries, pulled) + np.trace(precision @ entries)
        rounding += n_features + np.abs(log_weight) + np.abs(np.log(np.diagonal(lower))).sum()
        shift = np.broadcast_to(np.asarray(unsure, Wide), n_features) + tiny
        slack[:, k] = ULPS * eps * rounding + 2 * pulled @ shift + shift @ precision @ shift
    return Densities(joint, slack, squared)
