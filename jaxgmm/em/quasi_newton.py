"""L-BFGS on unconstrained parameters: where gradients, and how they have changed, say that the objective has its top.

optax keeps the pairs of steps and changes of the gradient. They are taken in units of a rough Fisher information, so
that neither the units of the features nor the sizes of the components matter (Liu and Nocedal 1989, Mathematical
Programming 45).
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxgmm._pytree import pytree, replace
from jaxgmm.unconstrained import FreeParams, dot, weighed

# Pairs that are remembered.
N_PAIRS = 10


@pytree
class Curvature:
    """What the gradients of one lane have told: optax's state, and the metric in whose units it is."""

    metric: FreeParams
    pairs: Any


def _lbfgs() -> Any:
    # Not at the top: most programs have no use for it. What a module computes when it is imported must not become
    # part of the program that is being traced.
    with jax.ensure_compile_time_eval():
        import optax
    return optax.scale_by_lbfgs(memory_size=N_PAIRS)


def know_nothing(metric: FreeParams) -> Curvature:
    """No pairs yet; metric: square roots of a Fisher information, all positive."""
    dtype = metric.means.dtype
    pairs = _lbfgs().init(metric)
    floats = jax.tree.map(lambda a: a.astype(dtype) if jnp.issubdtype(a.dtype, jnp.floating) else a, pairs)
    return Curvature(metric=metric, pairs=floats)


def newton_step(curvature: Curvature, point: FreeParams, uphill: FreeParams) -> tuple[FreeParams, Array, Curvature]:
    """The way from `point`, where the gradient is `uphill`, to where it vanishes.

    Returns also whether the objective was curved downward on the last way (otherwise the step means nothing), and what
    is known from now on: only such a way is worth remembering.
    """
    metric, before = curvature.metric, curvature.pairs
    place = weighed(metric, point)
    # optax goes downhill.
    downhill = jax.tree.map(lambda slope, unit: -slope / unit, uphill, metric)
    moved, turned = (jax.tree.map(jnp.subtract, *pair) for pair in ((place, before.params), (downhill, before.updates)))
    concave = dot(moved, turned) > 0
    step, after = _lbfgs().update(downhill, before, place)
    kept = jax.tree.map(partial(jnp.where, concave | (before.count == 0)), after, before)
    kept = kept._replace(params=after.params, updates=after.updates)
    way = jax.tree.map(lambda a, unit: -a / unit, step, metric)
    return way, concave, replace(curvature, pairs=kept)
