"""The contract that a covariance family fulfils; one object per family, no state."""

from __future__ import annotations

from typing import Protocol

import jax.numpy as jnp
from jax import Array


class CovarianceFamily(Protocol):
    """What the model layer needs to know of a covariance structure.

    Axis letters: K components, D features, B rows of a block. `delta` (K, D, B) are deviations of rows
    from a pivot per component, `resp` (K, B) are weighted responsibilities. `scatter` is the additive
    second moment, in the smallest shape the family needs.
    """

    name: str
    mclust_code: str
    correlated: bool
    """Whether a covariance is a matrix (else variances along the axes)."""
    per_component: bool
    """Whether `covariances` has a leading K axis."""

    def shape(self, n_components: int, n_features: int) -> tuple[int, ...]:
        """Shape of `covariances` (and of precisions and factors)."""
        ...

    def n_parameters(self, n_components: int, n_features: int) -> int:
        """Free parameters of the covariances alone."""
        ...

    def scatter(self, delta: Array, resp: Array) -> Array:
        """Σ_n r_kn δ_kn δ_knᵀ in the family's shape (summed over k, or its diagonal, or its trace)."""
        ...

    def estimate(self, scatter: Array, shift: Array, resp_sum: Array) -> Array:
        """Maximum-likelihood covariances from moments about a pivot.

        `shift` (K, D) is mean minus pivot, `resp_sum` (K) the mass of each component.
        """
        ...

    def add_to_diagonal(self, covariances: Array, value: Array) -> Array:
        """Covariances plus `value`, a scalar or one number for each feature (D), on their diagonals."""
        ...

    def factor(self, covariances: Array) -> Array:
        """U with Σ⁻¹ = U Uᵀ (or 1/σ), NaN where a covariance is singular."""
        ...

    def conditional_variances(self, factor: Array, n_components: int, n_features: int) -> Array:
        """Variance of each feature given those before it, shape (K, D); NaN where a covariance is singular."""
        ...

    def precision_diagonals(self, factor: Array, n_components: int, n_features: int) -> Array:
        """Diagonals of Σ⁻¹, one over the variance of each feature given all others, shape (K, D)."""
        ...

    def half_log_det(self, factor: Array, n_components: int, n_features: int) -> Array:
        """½ log det Σ_k⁻¹, shape (K)."""
        ...

    def squared_distance(self, delta: Array, factor: Array) -> Array:
        """|Uᵀδ|², the squared Mahalanobis distances, shape (K, B)."""
        ...

    def precisions(self, factor: Array) -> Array:
        """Σ⁻¹ in the family's shape."""
        ...

    def quadratic(self, rows: Array) -> Array:
        """The products of features that xᵀΣ⁻¹x is a linear function of, (Q, B) for rows (D, B)."""
        ...

    def quadratic_weights(self, precisions: Array) -> Array:
        """Coefficients of −½ xᵀΣ⁻¹x on `quadratic`: (K, Q), or (Q,) where all components share them."""
        ...

    def scatter_of(self, moments: Array) -> Array:
        """`scatter` about zero from moments of `quadratic`: (Q, K), or (Q,) of all rows where Σ is shared."""
        ...

    def apply(self, precisions: Array, vectors: Array) -> Array:
        """Σ_k⁻¹ v_k for vectors (K, D)."""
        ...

    def squared_change(self, precisions: Array, change: Array, n_components: int, n_features: int) -> Array:
        """tr (Σ_k⁻¹ ΔΣ_k)² for a change of the covariances in the family's shape, shape (K)."""
        ...

    def from_precisions(self, precisions: Array) -> Array:
        """Covariances from precisions given in the family's shape."""
        ...

    def free(self, covariances: Array) -> Array:
        """Unconstrained numbers in the family's shape: the Cholesky factor with the logarithm of its diagonal."""
        ...

    def of_free(self, free: Array) -> Array:
        """Covariances from what `free` gives."""
        ...

    def to_full(self, covariances: Array, n_components: int, n_features: int) -> Array:
        """Covariance matrices, shape (K, D, D)."""
        ...

    def from_full(self, covariances: Array, weights: Array) -> Array:
        """The family's closest covariances (the M-step's) for matrices (K, D, D) with weights (K)."""
        ...

    def scale(self, covariances: Array, n_components: int) -> Array:
        """Square roots for drawing: an array with leading axis K."""
        ...

    def colour(self, noise: Array, scale: Array) -> Array:
        """Standard normal rows (n, D) given the covariance whose `scale` (one component's) is given."""
        ...

    def variances(self, covariances: Array, n_components: int, n_features: int) -> Array:
        """Diagonals of the covariances, shape (K, D)."""
        ...


def mean_over_components(values: Array, weights: Array) -> Array:
    """Σ_k w_k v_k / Σ_k w_k over the leading axis."""
    return jnp.tensordot(weights, values, axes=1) / jnp.sum(weights)
