"""Bold proposals: where the EM map is heading, guessed from its last steps on unconstrained parameters.

With g the EM map and f(θ) = g(θ) − θ, a fixed point has f = 0. `squarem` takes every second step along
θ − 2α f + α² v, v the change of f, α = −|f| / |v| (Varadhan and Roland 2008, scheme S3). `anderson` begins so as well;
while that goes well it takes the combination of the last points whose combined f is smallest (Walker and Ni 2011,
restarted as in Henderson and Varadhan 2019). `lbfgs` asks the gradient of the objective, which the statistics of an
E-step give as well, and takes quasi-Newton steps of limited length (Jamshidian and Jennrich 1997); where the objective
is not concave, f many times. The loop takes a proposal only if it does not lower the objective, and otherwise g(θ).
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
from jaxgmm.em.quasi_newton import Curvature, know_nothing, newton_step
from jaxgmm.params import GMMParams
from jaxgmm.unconstrained import FreeParams, constrain, dot, metric, unconstrain, weighed

# Earlier points that are remembered.
MEMORY = {"squarem": 1, "anderson": 5, "lbfgs": 1}
# Gain per row (nats) of a plain step above which no bold one follows: while EM still moves fast it chooses between
# optima, and a leap may land at a worse one. The steps of lbfgs are the longest.
CALM_GAIN = {"squarem": 1e-4, "anderson": 1e-4, "lbfgs": 1e-5}
# Below this gain EM chooses no more. Above it residuals must shrink, too: where they grow EM leaves a saddle.
_SETTLED_GAIN = 1e-5
# Limit of squarem's α, and of how many times longer than f a step of lbfgs is, at first. It grows by a factor with
# every step that it limits and that is taken, and falls to a quarter with one that is not.
FIRST_REACH = 4.0
_GROWTH = {"squarem": 2.0, "anderson": 2.0, "lbfgs": 4.0}
# Added to the normal equations of `anderson`, relative to their diagonal, by the size of a number in bytes.
_RIDGE = {4: 1e-6, 8: 1e-12}


def check_acceleration(name: str | None) -> str | None:
    """A key of `MEMORY`, or None; `UsageError` names the nearest known."""
    return None if name is None else check_choice(name, "accelerate", tuple(MEMORY))


@pytree
class Memory:
    """Earlier points of one lane and their residuals, the latest first (leading axis M of every leaf).

    count: how many are known. plain: the next step must be g(θ) itself. reach: the largest |α| of `squarem`, or length
    of a step of `lbfgs`. rate: the largest by which residuals have shrunk from step to step, NaN if not known.
    curvature: of `lbfgs`, else None. method: a key of `MEMORY`, static.
    """

    points: FreeParams
    residuals: FreeParams
    count: Array
    plain: Array
    reach: Array
    rate: Array
    curvature: Curvature | None
    method: str = static_field()


def empty_memory(params: GMMParams, dtype: Any, method: str) -> Memory:
    """What a fresh lane remembers."""
    free = FreeParams(
        logits=params.weights, means=params.means, shapes=params.covariances, covariance_type=params.covariance_type
    )
    zeros = jax.tree.map(lambda a: jnp.zeros((MEMORY[method], *a.shape), dtype), free)
    ones = jax.tree.map(lambda a: jnp.ones(a.shape, dtype), free)
    return Memory(
        points=zeros,
        residuals=zeros,
        count=jnp.zeros((), jnp.int32),
        plain=jnp.asarray(False),
        reach=jnp.full((), FIRST_REACH, dtype),
        rate=jnp.full((), jnp.nan, dtype),
        curvature=know_nothing(ones) if method == "lbfgs" else None,
        method=method,
    )


def propose_boldly(
    memory: Memory, params: GMMParams, update: GMMParams, gain: Array, uphill: FreeParams | None = None
) -> tuple[GMMParams, Memory, Array]:
    """The next parameters, what is remembered if they are taken, and whether they are bold (or just `update`).

    gain: per row, in the last step; NaN if that was a bold one. uphill: the gradient at `params`, for `lbfgs`.
    """
    active = update.active & params.active
    point, target = _masked(unconstrain(params), active), _masked(unconstrain(update), active)
    residual = jax.tree.map(jnp.subtract, target, point)
    scale, alone = metric(params), memory.count == 1
    calm = ~(gain > CALM_GAIN[memory.method])
    if memory.method != "lbfgs":
        calm &= _shrinks(memory, residual, scale) | (gain <= _SETTLED_GAIN)
    step = _step_length(memory, point, residual, scale)
    curvature, limited = memory.curvature, alone
    if curvature is not None and uphill is not None:
        known = jax.tree.map(partial(jnp.where, memory.count > 0), curvature, know_nothing(scale))
        guess, limited, curvature = _newton(memory.reach, known, point, residual, uphill)
    else:
        guess = _squarem(memory, residual, jnp.clip(step, 1.0, memory.reach))
    if memory.method == "anderson":
        # Two points tell a rate, which squarem makes more of.
        several = _anderson(memory, point, residual, scale)
        guess = jax.tree.map(partial(jnp.where, alone), guess, several)
    finite = jax.tree.reduce(jnp.logical_and, jax.tree.map(lambda a: jnp.all(jnp.isfinite(a)), guess))
    bold = finite & (memory.count > 0) & ~memory.plain & calm
    proposed = constrain(replace(guess, logits=jnp.where(active, guess.logits, -jnp.inf)))
    count = jnp.minimum(memory.count + 1, MEMORY[memory.method])
    # What squarem extrapolates along is a plain step, so a bold one leaves nothing to remember. What gradients have
    # told of other parts of the parameter space means little to lbfgs.
    useless = {"squarem": bold, "lbfgs": ~(calm & finite)}.get(memory.method, False)
    after = replace(
        memory,
        points=jax.tree.map(_pushed, memory.points, point),
        residuals=jax.tree.map(_pushed, memory.residuals, residual),
        count=jnp.where(useless, 0, count),
        plain=jnp.asarray(False),
        reach=jnp.where(bold & limited, _GROWTH[memory.method] * memory.reach, memory.reach),
        # After a leap what moves fast comes first, so the slowest rate that was seen counts.
        rate=jnp.where(alone, jnp.fmax(memory.rate, 1.0 - 1.0 / step), memory.rate),
        curvature=curvature,
    )
    return jax.tree.map(partial(jnp.where, bold), proposed, update), after, bold


def forget(memory: Memory) -> Memory:
    """The memory after a proposal that was not taken: g(θ) comes next, and of the past only gradients still count."""
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


def _step_length(memory: Memory, point: FreeParams, residual: FreeParams, scale: FreeParams) -> Array:
    """|θ − θ₀| / |f − f₀|, which is 1 / (1 − λ) where residuals shrink by λ, and |α| after a plain step."""
    way = jax.tree.map(lambda now, before: now - before[0], point, memory.points)
    bend = jax.tree.map(lambda now, before: now - before[0], residual, memory.residuals)
    return _ratio(way, bend, scale)


def _shrinks(memory: Memory, residual: FreeParams, scale: FreeParams) -> Array:
    """Whether the residual is shorter than the one before."""
    return _ratio(residual, jax.tree.map(lambda a: a[0], memory.residuals), scale) < 1.0


def _ratio(way: FreeParams, other: FreeParams, scale: FreeParams) -> Array:
    """|way| / |other| in a metric."""
    long, short = weighed(scale, way), weighed(scale, other)
    return jnp.sqrt(dot(long, long) / dot(short, short))


def _newton(
    reach: Array, curvature: Curvature, point: FreeParams, residual: FreeParams, uphill: FreeParams
) -> tuple[FreeParams, Array, Curvature]:
    """θ plus a quasi-Newton step, at most `reach` times as long as f; where there is none, `reach` times f.

    Returns also whether `reach` decided, and what is known of the curvature.
    """
    way, concave, curvature = newton_step(curvature, point, uphill)
    longer = _ratio(way, residual, curvature.metric)
    share = jnp.minimum(1.0, reach / longer)
    guess = jax.tree.map(lambda at, a, f: at + jnp.where(concave, share * a, reach * f), point, way, residual)
    return guess, ~concave | (longer > reach), curvature


def _squarem(memory: Memory, residual: FreeParams, step: Array) -> FreeParams:
    """θ₀ + 2 |α| f₀ + α² (f − f₀) from the point θ₀ before, of which the present one is the image."""
    return jax.tree.map(
        lambda at, first, now: at[0] + 2.0 * step * first[0] + step * step * (now - first[0]),
        memory.points,
        memory.residuals,
        residual,
    )


def _anderson(memory: Memory, point: FreeParams, residual: FreeParams, scale: FreeParams) -> FreeParams:
    """θ + f − Σ_i γ_i (θ − θ_i + f − f_i), γ the least-squares solution of f = Σ_i γ_i (f − f_i)."""
    moved = jax.tree.map(lambda new, old: new[None] - old, point, memory.points)
    turned = jax.tree.map(lambda new, old: new[None] - old, residual, memory.residuals)
    columns, wanted = jax.vmap(partial(weighed, scale))(turned), weighed(scale, residual)
    size = jnp.sqrt(jax.vmap(dot)(columns, columns))
    known = (jnp.arange(len(size)) < memory.count) & (size > 0)
    unit = jnp.where(known, 1.0 / jnp.where(known, size, 1.0), 0.0)
    gram = jax.vmap(lambda a: jax.vmap(lambda b: dot(a, b))(columns))(columns) * unit[:, None] * unit[None, :]
    target = jax.vmap(lambda a: dot(a, wanted))(columns) * unit
    factor = linalg.precision_factor(gram + jnp.diag(jnp.where(known, _RIDGE[size.dtype.itemsize], 1.0)))
    gamma = jnp.matmul(factor, jnp.matmul(factor.T, target, precision=PRECISION), precision=PRECISION) * unit

    def combine(at: Array, step: Array, ways: Array, turns: Array) -> Array:
        return at + step - jnp.tensordot(gamma, ways + turns, axes=1, precision=PRECISION)

    return jax.tree.map(combine, point, residual, moved, turned)
