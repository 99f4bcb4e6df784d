"""The user's own functions in a gradient ascent, a penalty and an optimiser: called, and held to what they promise."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxgmm._status import JaxgmmError, UsageError
from jaxgmm.params import GMMParams
from jaxgmm.unconstrained import FreeParams

Penalty = Callable[[GMMParams], Any]
_OTHER_OPTIMIZER = "give a gradient transformation for any tree of arrays, such as optax.adam(0.05)"


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:120]}"


@contextmanager
def _of_optimizer(where: str, excused: Sequence[Exception] = ()) -> Iterator[None]:
    """Whatever is raised is told as the optimiser's, but for our own errors and the `excused`, which others raised."""
    try:
        yield
    except JaxgmmError:
        raise
    except Exception as error:
        if excused:
            raise excused[0] from excused[0].__cause__
        raise UsageError("E154", f"the optimizer {where} raises {_said(error)}", _OTHER_OPTIMIZER) from error


def first_memory(optimizer: Any, place: FreeParams) -> Any:
    """What the optimiser remembers at the start."""
    with _of_optimizer("in its init"):
        return jax.tree.map(jnp.asarray, optimizer.init(place))


def stepped(
    optimizer: Any, place: FreeParams, memory: Any, loss_of: Callable[[FreeParams], Array], loss: Array, slope: Any
) -> tuple[FreeParams, Any]:
    """The place after one update, and what the optimiser remembers then."""
    import optax

    raised: list[Exception] = []

    def value(free: FreeParams) -> Array:
        # A line search calls the penalty too.
        try:
            return loss_of(free)
        except Exception as error:
            raised.append(error)
            raise

    with _of_optimizer("in its first update", raised):
        transform = optax.with_extra_args_support(optimizer)
        updates, kept = transform.update(slope, memory, place, value=loss, grad=slope, value_fn=value)
        updates, kept = jax.tree.map(jnp.asarray, (updates, kept))
    if any(jnp.iscomplexobj(leaf) for leaf in jax.tree.leaves(updates)):
        raise UsageError("E154", "the optimizer in its first update returns complex numbers", _OTHER_OPTIMIZER)
    # Numbers of another precision become those of the place.
    same = _shapes(updates) == _shapes(place)
    if not same or (_shapes(kept), _types(kept)) != (_shapes(memory), _types(memory)):
        what = "a state" if same else "updates"
        found = f"the optimizer in its first update returns {what} of another structure than it was given"
        raise UsageError("E154", found, _OTHER_OPTIMIZER)
    return optax.apply_updates(place, updates), kept


def _shapes(tree: Any) -> Any:
    return jax.tree.structure(tree), [leaf.shape for leaf in jax.tree.leaves(tree)]


def _types(tree: Any) -> list[Any]:
    return [leaf.dtype for leaf in jax.tree.leaves(tree)]


def found_by_search(memory: Any) -> tuple[Array, FreeParams] | None:
    """Loss and slope at the present place where a line search of optax has ended with them; otherwise None."""
    import optax

    # Only the last of a chain knows the place: what comes after a search moves it.
    while type(memory) is tuple and memory:
        memory = memory[-1]
    searches = (optax.ScaleByZoomLinesearchState, optax.ScaleByBacktrackingLinesearchState)
    if not isinstance(memory, searches) or memory.grad is None:
        return None
    return memory.value, memory.grad


def check_penalty(penalty: Any, params: GMMParams) -> None:
    """`UsageError` unless the penalty gives one finite number, with a finite gradient, at `params` in data units."""
    help = "give a function of GMMParams that returns one finite number, made of jax.numpy operations"
    if not callable(penalty):
        raise UsageError("E153", f"penalty is {penalty!r}", help)
    params = jax.tree.map(jnp.asarray, params)

    def value(params: GMMParams) -> Array:
        return jnp.asarray(penalty(params))

    try:
        shape = jax.eval_shape(value, params)
    except Exception as error:
        # Whatever the user's own function raises.
        raise UsageError("E153", f"the penalty raises {_said(error)}", help) from error
    if (
        shape.shape != ()
        or not jnp.issubdtype(shape.dtype, jnp.number)
        or jnp.issubdtype(shape.dtype, jnp.complexfloating)
    ):
        raise UsageError("E153", f"the penalty returns an array of shape {shape.shape} and type {shape.dtype}", help)
    try:
        found, slope = jax.value_and_grad(lambda p: value(p).astype(p.means.dtype))(params)
    except Exception as error:
        raise UsageError("E153", f"the penalty cannot be differentiated: {_said(error)}", help) from error
    if not np.isfinite(found):
        raise UsageError("E153", f"the penalty is {float(found):g} at the start", help)
    if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(slope)):
        raise UsageError("E153", "the gradient of the penalty at the start contains NaN or infinity", help)
