"""The one way to declare a pytree here: a frozen, keyword-only dataclass registered with JAX."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, TypeVar, dataclass_transform

import jax
import numpy as np

T = TypeVar("T")


def static_field(**kwargs: Any) -> Any:
    """A field that is part of the tree's structure (hashable, compared at trace time), not a leaf."""
    return dataclasses.field(metadata={"static": True}, **kwargs)


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(static_field, dataclasses.field))
def pytree(cls: type[T]) -> type[T]:
    """Make `cls` an immutable dataclass whose fields are leaves, except those made by `static_field`."""
    data_class = dataclasses.dataclass(frozen=True, kw_only=True, eq=False)(cls)
    return jax.tree_util.register_dataclass(data_class)


def replace(tree: T, **changes: Any) -> T:
    """A copy of `tree` with the given fields changed."""
    return dataclasses.replace(tree, **changes)  # type: ignore[type-var]


def take(tree: T, index: Any) -> T:
    """Select along the leading axis of every leaf: one lane (int) or several (index array)."""
    return jax.tree.map(lambda leaf: leaf[index], tree)


def stack(trees: Sequence[T]) -> T:
    """Trees of one structure as one tree of host arrays with a leading axis; the inverse of `take`."""
    return jax.tree.map(lambda *leaves: np.stack([np.asarray(a) for a in leaves]), *trees)


def put(tree: T, index: Any, part: T) -> None:
    """Write `part` over the places `index` of every leaf, host arrays, of `tree`: a copy would double the memory."""
    jax.tree.map(lambda whole, rows: whole.__setitem__(index, np.asarray(rows)), tree, part)
