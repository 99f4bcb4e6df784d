"""Small dense linear algebra on covariance matrices: Cholesky factors and triangular solves, never an inverse."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxgmm._numerics import PRECISION

# Rows eliminated one by one before the rest is brought up to date by one product: fewer leave the products
# thin, more leave too much work outside them.
_PANEL = 64


def _by_identity(rows: Array) -> Array:
    identity = jnp.eye(rows.shape[1], dtype=rows.dtype)
    return jax.lax.dot_general(identity, rows, (((1,), (1,)), ((), ())), precision=PRECISION)


def columns(rows: Array) -> Array:
    """Rows (B, D) of finite numbers as columns (D, B).

    On a CPU XLA would repeat a transpose, number by number, in everything that reads it. A product with the
    identity, just as exact, it computes once; EM is up to twice as fast.
    """
    return jax.lax.platform_dependent(rows, cpu=_by_identity, default=jnp.transpose)


def weighted_sums(weights: Array, vectors: Array) -> Array:
    """Σ_b w_kb v_kib for weights (K, B) and vectors (K, D, B), shape (K, D).

    In single precision as products: as a sum it takes up to five times as long on a CPU. In double precision, where
    those products are slow for large D, as a sum.
    """
    if vectors.dtype.itemsize == 4:
        return jnp.einsum("kb,kib->ki", weights, vectors, precision=PRECISION)
    return jnp.sum(weights[:, None, :] * vectors, axis=2)


def cholesky(covariances: Array) -> Array:
    """Lower L with Σ = L Lᵀ, shape (..., D, D); NaN where Σ is not positive definite."""
    return _factors(symmetrise(covariances))[0]


def precision_factor(covariances: Array) -> Array:
    """Upper U with Σ⁻¹ = U Uᵀ, shape (..., D, D): U = L⁻ᵀ for the Cholesky factor L of Σ; NaN if singular."""
    return jnp.swapaxes(_factors(symmetrise(covariances))[1], -1, -2)


def log_cholesky(covariances: Array) -> Array:
    """The Cholesky factor with the logarithm of its diagonal, shape (..., D, D), zero above it; NaN if singular."""
    lower = cholesky(covariances)
    return _with_diagonal(lower, jnp.log(jnp.diagonal(lower, axis1=-2, axis2=-1)))


def from_log_cholesky(values: Array) -> Array:
    """L Lᵀ for what `log_cholesky` gives; what is above the diagonal is not looked at."""
    lower = _with_diagonal(jnp.tril(values), jnp.exp(jnp.diagonal(values, axis1=-2, axis2=-1)))
    return _product(lower, jnp.swapaxes(lower, -1, -2))


def _with_diagonal(matrices: Array, diagonal: Array) -> Array:
    identity = jnp.broadcast_to(jnp.eye(matrices.shape[-1], dtype=bool), matrices.shape)
    return jnp.where(identity, diagonal[..., None, :], matrices)


def conditional_variances(factor: Array) -> Array:
    """Variance of feature j given those before it, 1/U_jj², for Σ⁻¹ = U Uᵀ; shape (..., D)."""
    return jnp.diagonal(factor, axis1=-2, axis2=-1) ** -2.0


def precision_diagonals(factor: Array) -> Array:
    """One over the variance of feature j given all others, (Σ⁻¹)_jj = Σ_i U_ji², for Σ⁻¹ = U Uᵀ; shape (..., D)."""
    return jnp.sum(factor * factor, axis=-1)


def symmetrise(matrices: Array) -> Array:
    """½ (M + Mᵀ): a product of blocks is symmetric only up to rounding."""
    return 0.5 * (matrices + jnp.swapaxes(matrices, -1, -2))


def half_log_det(factor: Array) -> Array:
    """½ log det(U Uᵀ) = Σ_j log U_jj for a triangular factor, shape (...)."""
    return jnp.sum(jnp.log(jnp.diagonal(factor, axis1=-2, axis2=-1)), axis=-1)


def invert(matrices: Array) -> Array:
    """Σ = (U Uᵀ)⁻¹ of a positive definite matrix through its Cholesky factor; NaN where there is none."""
    factor = precision_factor(matrices)
    return jnp.matmul(factor, jnp.swapaxes(factor, -1, -2), precision=PRECISION)


def outer(vectors: Array) -> Array:
    """v vᵀ for vectors on the last axis, shape (..., D, D)."""
    return vectors[..., :, None] * vectors[..., None, :]


def add_diagonal(matrices: Array, value: Array) -> Array:
    """M + diag(value) on the last two axes; one value for all, or one for each place of the diagonal (D)."""
    size = matrices.shape[-1]
    values = jnp.broadcast_to(jnp.asarray(value, matrices.dtype), (size,))
    return matrices + jnp.broadcast_to(jnp.diag(values), matrices.shape)


@jax.custom_jvp
@jax.jit
def _factors(matrices: Array) -> tuple[Array, Array]:
    """(L, L⁻¹) of symmetric matrices."""
    # Not LAPACK on the CPU: two threads that ran its batched calls at once were seen to stall on two cores.
    return lax.platform_dependent(matrices, cpu=_eliminate, default=_vendor)


@_factors.defjvp
def _factors_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """dL = L Φ and dL⁻¹ = −Φ L⁻¹, where Φ + Φᵀ = L⁻¹ dΣ L⁻ᵀ: products only."""
    lower, inverse = _factors(*primals)
    inner = _product(_product(inverse, tangents[0]), jnp.swapaxes(inverse, -1, -2))
    phi = 0.5 * (jnp.tril(inner) + jnp.tril(inner, -1))
    return (lower, inverse), (_product(lower, phi), -_product(phi, inverse))


def _product(a: Array, b: Array) -> Array:
    return jnp.matmul(a, b, precision=PRECISION)


def _vendor(matrices: Array) -> tuple[Array, Array]:
    """(L, L⁻¹) by the routines of the platform."""
    lower = lax.linalg.cholesky(matrices, symmetrize_input=False)
    identity = jnp.broadcast_to(jnp.eye(lower.shape[-1], dtype=lower.dtype), lower.shape)
    return lower, lax.linalg.triangular_solve(lower, identity, left_side=True, lower=True)


def _eliminate(matrices: Array) -> tuple[Array, Array]:
    """(L, L⁻¹) by elimination: the row operations that turn Σ into Lᵀ turn I into L⁻¹, so [Σ | I] into [Lᵀ | L⁻¹].

    Rows are taken in panels of equal height, the last of them filled up with rows of the identity.
    """
    size = matrices.shape[-1]
    n_panels = -(-size // _PANEL)
    height = -(-size // n_panels)
    padded = n_panels * height
    rows = _eliminate_panels(_beside_identity(matrices, padded), n_panels, height)
    upper, inverse = rows[..., :size, :size], rows[..., :size, padded : padded + size]
    lower = jnp.tril(jnp.swapaxes(upper, -1, -2))
    # A row that failed is NaN and so are all below it: the last entry tells.
    failed = jnp.isnan(inverse[..., -1:, -1:])
    return jnp.where(failed, jnp.nan, lower), jnp.where(failed, jnp.nan, inverse)


def _beside_identity(matrices: Array, padded: int) -> Array:
    """[Σ | I] of `padded` rows, Σ continued by ones on the diagonal."""
    *lead, size, _ = matrices.shape
    identity = jnp.broadcast_to(jnp.eye(padded, dtype=matrices.dtype), (*lead, padded, padded))
    filled = matrices if padded == size else identity.at[..., :size, :size].set(matrices)
    return jnp.concatenate([filled, identity], axis=-1)


def _eliminate_panels(rows: Array, n_panels: int, height: int) -> Array:
    """Eliminate all rows: each panel is first freed of the panels above by one product, then of its own rows."""
    if n_panels == 1:
        return _eliminate_rows(rows, 0)

    def step(k: Array, rows: Array) -> Array:
        first = k * height
        panel = _freed(lax.dynamic_slice_in_dim(rows, first, height, axis=-2), rows, first, first)
        return lax.dynamic_update_slice_in_dim(rows, _eliminate_rows(panel, first), first, axis=-2)

    return lax.fori_loop(0, n_panels, step, rows)


def _eliminate_rows(panel: Array, first: int | Array) -> Array:
    """Eliminate the rows of a panel among themselves, from the top; row j has its pivot in column `first` + j."""

    def step(j: Array, panel: Array) -> Array:
        row = _freed(lax.dynamic_slice_in_dim(panel, j, 1, axis=-2), panel, j, first + j)
        pivot = lax.dynamic_slice_in_dim(row, first + j, 1, axis=-1)
        row = row * jnp.where((pivot > 0) & (pivot < jnp.inf), lax.rsqrt(pivot), jnp.nan)
        return lax.dynamic_update_slice_in_dim(panel, row, j, axis=-2)

    return lax.fori_loop(0, panel.shape[-2], step, panel)


def _freed(block: Array, rows: Array, n_done: Array, pivot: Array) -> Array:
    """`block`, whose pivots start in column `pivot`, less its parts along the first `n_done` of `rows`."""
    columns = lax.dynamic_slice_in_dim(rows, pivot, block.shape[-2], axis=-1)
    index = lax.broadcasted_iota(jnp.int32, columns.shape, columns.ndim - 2)
    parts = jnp.where(index < n_done, columns, 0)
    return block - _product(jnp.swapaxes(parts, -1, -2), rows)
