"""Two ways from a block of rows to log-densities and moments, and the bound that says which one is safe.

`whitening`: deviations from each component's own mean, then Uᵀ(x − μ). Nothing cancels.

`features`: with φ(x) = [1, x, x_i x_j], log w_k N(x | k) = θ_k · φ(x), so that all log-densities are one matrix
product and all moments one more, with half the arithmetic (x_i x_j = x_j x_i) and for all lanes at once, since φ
has none. Products about the common pivot 0 cancel when a component is narrow and far from it; `lost_digits`
bounds by how much.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax import Array

from jaxgmm import linalg
from jaxgmm._numerics import PRECISION, default_block_size, features_block_size
from jaxgmm._status import UsageError, choose
from jaxgmm.covariance import get_family
from jaxgmm.density import joint_log_density
from jaxgmm.params import Factors, GMMParams


class Moments(NamedTuple):
    """Zeroth, first and second moments of weighted rows about `pivot` (K, D), in the family's smallest shape."""

    resp_sum: Array
    x_sum: Array
    xx_sum: Array
    pivot: Array


class Kernel(Protocol):
    """What `stats.collect` asks of a kernel. Axis letters: K components, D features, B rows of a block."""

    name: str

    def prepare(self, factors: Factors) -> Any:
        """What a block needs of the mixture, computed once per pass."""
        ...

    def view(self, prepared: Any, rows: Array) -> Any:
        """Rows (B, D) as log-densities and moments want them."""
        ...

    def joint(self, prepared: Any, view: Any) -> tuple[Array, Array]:
        """(K, B) and (B) or scalar: log w_k N(x | k) is their sum, and the second holds what all k share."""
        ...

    def sums(self, prepared: Any, view: Any, resp: Array, weight: Array) -> Any:
        """Additive moments of a block from weighted responsibilities (K, B) and row weights (B)."""
        ...

    def moments(self, sums: Any, factors: Factors) -> Moments:
        """The moments that the sums over all blocks stand for."""
        ...

    def block_size(self, n_components: int, n_features: int, itemsize: int) -> int:
        """Rows per block that keep a block's work in cache."""
        ...


class Whitening:
    """Per-component deviations and triangular factors: as accurate as the data."""

    name = "whitening"

    def prepare(self, factors: Factors) -> Factors:
        return factors

    def view(self, prepared: Factors, rows: Array) -> Array:
        return linalg.columns(rows)[None, :, :] - prepared.means[:, :, None]

    def joint(self, prepared: Factors, view: Array) -> tuple[Array, Array]:
        return joint_log_density(prepared, view), jnp.zeros((), view.dtype)

    def sums(self, prepared: Factors, view: Array, resp: Array, weight: Array) -> tuple[Array, Array, Array]:
        scatter = get_family(prepared.covariance_type).scatter(view, resp)
        return jnp.sum(resp, axis=1), linalg.weighted_sums(resp, view), scatter

    def moments(self, sums: tuple[Array, Array, Array], factors: Factors) -> Moments:
        return Moments(*sums, pivot=factors.means)

    def block_size(self, n_components: int, n_features: int, itemsize: int) -> int:
        return default_block_size(n_components, n_features, itemsize)


class _Coefficients(NamedTuple):
    """θ of the features that each component weights for itself (K, F), and of those that all share (Q) or none."""

    own: Array
    shared: Array | None
    covariance_type: str


class Features:
    """One product for all log-densities, one for all moments, about the pivot 0."""

    name = "features"

    def prepare(self, factors: Factors) -> _Coefficients:
        family = get_family(factors.covariance_type)
        precisions = family.precisions(factors.factor)
        linear = family.apply(precisions, factors.means)
        active = factors.log_weights > -jnp.inf
        constant = factors.log_weights + factors.log_norm - 0.5 * jnp.sum(factors.means * linear, axis=-1)
        quadratic = family.quadratic_weights(precisions)
        own = jnp.concatenate([linear, quadratic] if family.per_component else [linear], axis=-1)
        constant = jnp.where(active, constant, -jnp.inf)
        own = jnp.concatenate([constant[:, None], jnp.where(active[:, None], own, 0.0)], axis=-1)
        return _Coefficients(own, None if family.per_component else quadratic, factors.covariance_type)

    def view(self, prepared: _Coefficients, rows: Array) -> tuple[Array, Array | None]:
        x = linalg.columns(rows)
        quadratic = get_family(prepared.covariance_type).quadratic(x)
        linear = [jnp.ones((1, x.shape[1]), x.dtype), x]
        if prepared.shared is None:
            return jnp.concatenate([*linear, quadratic]), None
        return jnp.concatenate(linear), quadratic

    def joint(self, prepared: _Coefficients, view: tuple[Array, Array | None]) -> tuple[Array, Array]:
        own, shared = view
        joint = jnp.matmul(prepared.own, own, precision=PRECISION)
        if prepared.shared is None or shared is None:
            return joint, jnp.zeros((), joint.dtype)
        return joint, jnp.matmul(prepared.shared, shared, precision=PRECISION)

    def sums(
        self, prepared: _Coefficients, view: tuple[Array, Array | None], resp: Array, weight: Array
    ) -> tuple[Array, Array | None]:
        own, shared = view
        # (F, B) by (K, B): the faster order where there are fewer components than features.
        total = jax.lax.dot_general(own, resp, (((1,), (1,)), ((), ())), precision=PRECISION)
        return total, None if shared is None else jnp.matmul(shared, weight, precision=PRECISION)

    def moments(self, sums: tuple[Array, Array | None], factors: Factors) -> Moments:
        family = get_family(factors.covariance_type)
        own, shared = sums
        n_features = factors.n_features
        second = own[1 + n_features :] if shared is None else shared
        return Moments(
            resp_sum=own[0],
            x_sum=own[1 : 1 + n_features].T,
            xx_sum=family.scatter_of(second),
            pivot=jnp.zeros_like(factors.means),
        )

    def block_size(self, n_components: int, n_features: int, itemsize: int) -> int:
        return features_block_size(n_components, n_features, itemsize)


KERNELS: dict[str, Kernel] = {kernel.name: kernel for kernel in (Whitening(), Features())}


def check_kernel(name: str) -> str:
    """A kernel's name or "auto"; `UsageError` names the nearest known."""
    choices = ("auto", *KERNELS)
    if name not in choices:
        raise UsageError("E109", f"unknown kernel {name!r}", choose(name, choices))
    return name


def lost_digits(params: GMMParams, factors: Factors) -> Array:
    """How much `features` magnifies rounding: D max_ki m_ki Σ_j |Σ_k⁻¹|_ij m_kj with m_k = |μ_k| + σ_k; scalar.

    Rows near component k are of the size m_k, so the sum over i, at most this much, is that of the magnitudes of
    the terms that add up to a log-density of order D; rounding is at most eps times as much, on average a small part
    of it. A D-th of it bounds (m_ki / σ_ki)², by which a variance is smaller than the second moment it comes from. At
    the pivot it is about the condition number, the loss that no kernel avoids. NaN for a singular covariance.
    """
    family = params.family
    magnitude = jnp.abs(factors.means) + jnp.sqrt(
        family.variances(jnp.asarray(params.covariances), params.n_components, params.n_features)
    )
    weighted = family.apply(jnp.abs(family.precisions(factors.factor)), magnitude)
    loss = params.n_features * jnp.max(magnitude * weighted, axis=-1)
    return jnp.max(jnp.where(factors.log_weights > -jnp.inf, loss, 0.0))
