"""Bold proposals: where the EM map is heading, guessed from its last steps on unconstrained parameters.

With g the EM map and f(θ) = g(θ) − θ, a fixed point has f = 0. `squarem` takes every second step along
θ − 2α f + α² v, v the change of f, α = −|f| / |v| (Varadhan and Roland 2008, scheme S3). `anderson` begins so as well;
while that goes well it takes the combination of the last points whose combined f is smallest (Walker and Ni 2011,
restarted as in Henderson and Varadhan 2019). The loop takes a proposal only if it does not lower the objective, and
otherwise g(θ).
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxgmm import linalg
from jaxgmm._numerics import PRECISION
from jaxgmm._options import check_choice
from jaxgmm._pytree import pytree, replace, static_field
from jaxgmm.em.quasi_newton import Curvature, begin, newton_step
from jaxgmm.params import GMMParams
from jaxgmm.unconstrained import FreeParams, constrain, unconstrain

# Earlier points that are remembered.
MEMORY = {"squarem": 1, "anderson": 5, "lbfgs": 1}
# Gain per row (nats) of a plain step above which no bold one follows: while EM still moves fast it chooses between
# optima, and a leap may land at a worse one.
CALM_GAIN = 1e-4
# Limit of squarem's α at first; it doubles with every step that is taken and falls to a quarter with one that is not.
FIRST_REACH = 4.0
# Added to the normal equations of `anderson`, relative to their diagonal, by the size of a number in bytes.
_RIDGE = {4: 1e-6, 8: 1e-12}


def check_acceleration(name: str | None) -> str | None:
    """A key of `MEMORY`, or None; `UsageError` names the nearest known."""
    return None if name is None else check_choice(name, "accelerate", tuple(MEMORY))


@pytree
class Memory:
    """Earlier points of one lane and their residuals, the latest first (leading axis M of every leaf).

    count: how many are known. plain: the next step must be g(θ) itself. reach: the largest |α| of `squarem`. rate: the
    largest by which residuals have shrunk from step to step, NaN if not known. method: a key of `MEMORY`, static.
    """

    points: FreeParams
    residuals: FreeParams
    count: Array
    plain: Array
    reach: Array
    rate: Array
    curvature: Curvature | None = None
    method: str = static_field()


def empty_memory(params: GMMParams, dtype: Any, method: str) -> Memory:
    """What a fresh lane remembers."""
    free = FreeParams(
        logits=params.weights, means=params.means, shapes=params.covariances, covariance_type=params.covariance_type
    )
    zeros = jax.tree.map(lambda a: jnp.zeros((MEMORY[method], *a.shape), dtype), free)
    return Memory(
        points=zeros,
        residuals=zeros,
        count=jnp.zeros((), jnp.int32),
        plain=jnp.asarray(False),
        reach=jnp.full((), FIRST_REACH, dtype),
        rate=jnp.full((), jnp.nan, dtype),
        curvature=begin(jax.tree.map(lambda a: jnp.ones(a.shape, dtype), free)) if method == "lbfgs" else None,
        method=method,
    )


def propose_boldly(
    memory: Memory, params: GMMParams, update: GMMParams, gain: Array, uphill: FreeParams | None = None
) -> tuple[GMMParams, Memory, Array]:
    """The next parameters, what is remembered if they are taken, and whether they are bold (or just `update`).

    gain: per row, in the last step; NaN if that was a bold one.
    """
    active = update.active & params.active
    point, target = _masked(unconstrain(params), active), _masked(unconstrain(update), active)
    residual = jax.tree.map(jnp.subtract, target, point)
    metric, alone = _metric(params), memory.count == 1
    step = _step_length(memory, point, residual, metric)
    curvature = memory.curvature
    calm = ~(gain > CALM_GAIN)
    good = True
    if curvature is not None:
        metric = replace(metric, logits=jnp.where(active, metric.logits, 1.0))
        known = (memory.count > 0)
        fresh = begin(metric)
        curvature = jax.tree.map(partial(jnp.where, known), curvature, fresh)
        way, after, bend = newton_step(curvature, point, uphill)
        good = bend > 0
        # skip the pair, but remember the place
        pairs = jax.tree.map(partial(jnp.where, good | (curvature.pairs.count == 0)), after.pairs, curvature.pairs)
        pairs = pairs._replace(params=after.pairs.params, updates=after.pairs.updates)
        curvature = replace(curvature, pairs=pairs)
        w, f = _weighed(memory.curvature.metric, way), _weighed(memory.curvature.metric, residual)
        ratio = jnp.sqrt(_dot(w, w) / _dot(f, f))
        import os
        GROW=float(os.environ.get("GROW","2")); 
        limited = (ratio > memory.reach) | ~good
        scale = jnp.minimum(1.0, memory.reach / ratio)
        guess = jax.tree.map(lambda p, a, b: p + jnp.where(good, scale * a, memory.reach * b), point, way, residual)
        good = True
    else:
        guess = _squarem(memory, residual, jnp.clip(step, 1.0, memory.reach))
    if memory.method == "anderson":
        # Two points tell a rate, which squarem makes more of.
        several = _anderson(memory, point, residual, metric)
        guess = jax.tree.map(partial(jnp.where, alone), guess, several)
    finite = jax.tree.reduce(jnp.logical_and, jax.tree.map(lambda a: jnp.all(jnp.isfinite(a)), guess))
    bold = finite & good & (memory.count > 0) & ~memory.plain & calm
    proposed = constrain(replace(guess, logits=jnp.where(active, guess.logits, -jnp.inf)))
    count = jnp.minimum(memory.count + 1, MEMORY[memory.method])
    after = replace(
        memory,
        points=jax.tree.map(_pushed, memory.points, point),
        residuals=jax.tree.map(_pushed, memory.residuals, residual),
        # What squarem extrapolates along is a plain step, so a bold one leaves nothing to remember.
        count=jnp.where(bold, 0, count) if memory.method == "squarem" else jnp.where(calm, count, 0) if memory.method == "lbfgs" else count,
        plain=jnp.asarray(False),
        reach=jnp.where(bold & limited, GROW * memory.reach, memory.reach) if memory.method == "lbfgs" else jnp.where(bold & alone, 2.0 * memory.reach, memory.reach),
        # After a leap what moves fast comes first, so the slowest rate that was seen counts.
        curvature=curvature,
        rate=jnp.where(alone, jnp.fmax(memory.rate, 1.0 - 1.0 / step), memory.rate),
    )
    return jax.tree.map(partial(jnp.where, bold), proposed, update), after, bold


def forget(memory: Memory) -> Memory:
    """The memory after a proposal that was not taken: nothing, and g(θ) comes next."""
    return replace(
        memory,
        count=memory.count if memory.method == "lbfgs" else jnp.zeros_like(memory.count),
        plain=jnp.ones_like(memory.plain),
        reach=jnp.where(memory.count == 1, jnp.maximum(0.25 * memory.reach, 1.0), memory.reach),
    )


def _masked(free: FreeParams, active: Array) -> FreeParams:
    return replace(free, logits=jnp.where(active, free.logits, 0.0))


def _pushed(stack: Array, new: Array) -> Array:
    return jnp.concatenate([new[None], stack[:-1]])


def _metric(params: GMMParams) -> FreeParams:
    """Square roots of a rough Fisher information, by which lengths do not depend on the units of the features."""
    family, n_components, n_features = params.family, params.n_components, params.n_features
    share = jnp.sqrt(params.weights)
    deviation = jnp.sqrt(family.variances(params.covariances, n_components, n_features))
    shapes = jnp.ones_like(params.covariances)
    if family.correlated:
        # Row i of L has the units of feature i, but for the logarithm on the diagonal.
        unit = jnp.where(jnp.eye(n_features, dtype=bool)[None], 1.0, 1.0 / deviation[:, :, None])
        shapes = unit if family.per_component else unit[0]
    if family.per_component:
        shapes = shapes * jnp.broadcast_to(share.reshape(-1, *([1] * (shapes.ndim - 1))), shapes.shape)
    return FreeParams(
        logits=share, means=share[:, None] / deviation, shapes=shapes, covariance_type=params.covariance_type
    )


def _weighed(metric: FreeParams, free: FreeParams) -> FreeParams:
    return jax.tree.map(jnp.multiply, metric, free)


def _dot(a: FreeParams, b: FreeParams) -> Array:
    return jax.tree.reduce(jnp.add, jax.tree.map(lambda x, y: jnp.vdot(x, y, precision=PRECISION), a, b))


def _step_length(memory: Memory, point: FreeParams, residual: FreeParams, metric: FreeParams) -> Array:
    """|α| = |f₀| / |f − f₀|, which is 1 / (1 − λ) where residuals shrink by λ."""
    first = jax.tree.map(lambda a: a[0], memory.residuals)
    way = jax.tree.map(lambda now, at: now - at[0], point, memory.points)
    moved, bent = _weighed(metric, way), _weighed(metric, jax.tree.map(jnp.subtract, residual, first))
    return jnp.sqrt(_dot(moved, moved) / _dot(bent, bent))


def _squarem(memory: Memory, residual: FreeParams, step: Array) -> FreeParams:
    """θ₀ + 2 |α| f₀ + α² (f − f₀) from the point θ₀ before, of which the present one is the image."""
    return jax.tree.map(
        lambda at, first, now: at[0] + 2.0 * step * first[0] + step * step * (now - first[0]),
        memory.points,
        memory.residuals,
        residual,
    )


def _anderson(memory: Memory, point: FreeParams, residual: FreeParams, metric: FreeParams) -> FreeParams:
    """θ + f − Σ_i γ_i (θ − θ_i + f − f_i), γ the least-squares solution of f = Σ_i γ_i (f − f_i)."""
    moved = jax.tree.map(lambda new, old: new[None] - old, point, memory.points)
    turned = jax.tree.map(lambda new, old: new[None] - old, residual, memory.residuals)
    weighed, wanted = jax.vmap(partial(_weighed, metric))(turned), _weighed(metric, residual)
    size = jnp.sqrt(jax.vmap(_dot)(weighed, weighed))
    known = (jnp.arange(len(size)) < memory.count) & (size > 0)
    unit = jnp.where(known, 1.0 / jnp.where(known, size, 1.0), 0.0)
    gram = jax.vmap(lambda a: jax.vmap(lambda b: _dot(a, b))(weighed))(weighed) * unit[:, None] * unit[None, :]
    target = jax.vmap(lambda a: _dot(a, wanted))(weighed) * unit
    factor = linalg.precision_factor(gram + jnp.diag(jnp.where(known, _RIDGE[size.dtype.itemsize], 1.0)))
    gamma = jnp.matmul(factor, jnp.matmul(factor.T, target, precision=PRECISION), precision=PRECISION) * unit

    def combine(at: Array, step: Array, ways: Array, turns: Array) -> Array:
        return at + step - jnp.tensordot(gamma, ways + turns, axes=1, precision=PRECISION)

    return jax.tree.map(combine, point, residual, moved, turned)
