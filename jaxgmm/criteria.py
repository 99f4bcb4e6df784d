"""Model choice: free parameters, AIC, BIC, ICL (smaller is better) and the silhouette (larger is better).

    AIC = −2 ℓ + 2 p      BIC = −2 ℓ + p log n      ICL = BIC − 2 Σ_n v_n log max_k r_nk

with ℓ the total log-likelihood, p the number of free parameters and n the number of rows (the sum of the
weights when rows are weighted). mclust prints BIC and ICL with the opposite sign.
Sources: Akaike 1974; Schwarz 1978; Biernacki, Celeux and Govaert 2000; Rousseeuw 1987.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jax import Array

from jaxgmm._blocks import map_over_blocks, sum_over_blocks
from jaxgmm._numerics import PRECISION, safe_divide
from jaxgmm.covariance import get_family


def n_parameters(covariance_type: str, n_components: int, n_features: int) -> int:
    """Free parameters of a mixture: K − 1 weights, K D means and the family's covariances.

    >>> n_parameters("full", 2, 3)
    19
    """
    covariances = get_family(covariance_type).n_parameters(n_components, n_features)
    return n_components - 1 + n_components * n_features + covariances


def aic(log_likelihood: float, n_params: int) -> float:
    """Akaike's criterion −2ℓ + 2p; smaller is better."""
    return -2.0 * log_likelihood + 2.0 * n_params


def bic(log_likelihood: float, n_params: int, n_samples: float) -> float:
    """Schwarz's criterion −2ℓ + p log n; smaller is better (mclust's has the opposite sign)."""
    return -2.0 * log_likelihood + n_params * math.log(n_samples)


def icl(classification_log_likelihood: float, n_params: int, n_samples: float) -> float:
    """Integrated completed likelihood; smaller is better.

    BIC − 2 Σ v_n log max_k r_nk equals −2 Σ v_n max_k log(w_k N(x_n | k)) + p log n, so it needs only the
    classification log-likelihood.
    """
    return bic(classification_log_likelihood, n_params, n_samples)


def silhouette(x: Array, labels: Array, n_clusters: int, weight: Array, block_size: int = 512) -> Array:
    """Mean silhouette Σ v_n s_n / Σ v_n with s = (b − a) / max(a, b), Euclidean distances.

    a: mean distance to the other members of a row's own cluster; b: the smallest mean distance to another
    non-empty cluster. A row alone in its cluster has s = 0. Distances are computed block against block:
    memory is O(block² + N), time O(N² D). x (N, D); labels int (N); weight (N), 0 for padding: a weight
    of 2 counts as the row twice.
    """
    sizes = jax.ops.segment_sum(weight, labels, num_segments=n_clusters)

    def score(rows: Array, own: Array) -> Array:
        def to_clusters(others: Array, theirs: Array, w: Array) -> Array:
            membership = jax.nn.one_hot(theirs, n_clusters, dtype=x.dtype) * w[:, None]
            difference = rows[:, None, :] - others[None, :, :]
            distance = jnp.sqrt(jnp.sum(difference * difference, axis=-1))
            return jnp.matmul(distance, membership, precision=PRECISION)

        total = sum_over_blocks(to_clusters, (x, labels, weight), block_size)
        is_own = jax.nn.one_hot(own, n_clusters, dtype=bool)
        own_size = sizes[own]
        within = safe_divide(jnp.sum(jnp.where(is_own, total, 0.0), axis=1), own_size - 1.0)
        outside = jnp.where(is_own | (sizes == 0)[None, :], jnp.inf, safe_divide(total, sizes[None, :]))
        nearest = jnp.min(outside, axis=1)
        value = safe_divide(nearest - within, jnp.maximum(within, nearest))
        return jnp.where((own_size > 1) & jnp.isfinite(nearest), value, 0.0)

    values = map_over_blocks(score, (x, labels), block_size)
    return jnp.sum(values * weight) / jnp.sum(weight)
