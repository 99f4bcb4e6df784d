"""Where the top of the objective is, guessed from gradients: L-BFGS on unconstrained parameters."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxgmm._numerics import PRECISION
from jaxgmm._pytree import pytree
from jaxgmm.unconstrained import FreeParams

# Pairs of a step and the change of the gradient over it that are remembered.
N_PAIRS = 10


@pytree
class Curvature:
    """What gradients have told of one lane: optax's state, in units of the `metric` it was begun with."""

    metric: FreeParams
    pairs: Any


def _optax() -> Any:
    import optax

    return optax.scale_by_lbfgs(memory_size=N_PAIRS)


def begin(metric: FreeParams) -> Curvature:
    """Nothing known yet."""
    dtype = metric.means.dtype
    pairs = jax.tree.map(lambda a: a.astype(dtype) if jnp.issubdtype(a.dtype, jnp.floating) else a, _optax().init(metric))
    return Curvature(metric=metric, pairs=pairs)


def newton_step(curvature: Curvature, point: FreeParams, uphill: FreeParams) -> tuple[FreeParams, Curvature]:
    """The way from `point` to where the gradient vanishes, and what is known with the gradient `uphill` there."""
    metric = curvature.metric
    place = jax.tree.map(jnp.multiply, point, metric)
    gradient = jax.tree.map(lambda a, m: -a / m, uphill, metric)
    known = curvature.pairs
    bend = _dot(jax.tree.map(jnp.subtract, place, known.params), jax.tree.map(jnp.subtract, gradient, known.updates))
    way, pairs = _optax().update(gradient, known, place)
    return jax.tree.map(lambda a, m: -a / m, way, metric), Curvature(metric=metric, pairs=pairs), bend


def _dot(a: FreeParams, b: FreeParams) -> Array:
    return jax.tree.reduce(jnp.add, jax.tree.map(lambda x, y: jnp.vdot(x, y, precision=PRECISION), a, b))
