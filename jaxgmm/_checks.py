"""The door: host-side validation and conversion of data, weights, keys and counts, once per public call.

What comes out is a native-order, finite, 2-D float32 or float64 NumPy array; what cannot be used raises
`DataError` or `UsageError` with what was found and one cure.
"""

from __future__ import annotations

import operator
from contextlib import AbstractContextManager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxgmm._fork import check_threads
from jaxgmm._status import DataError, UsageError

MAX_COUNT = 2**31 - 1
# The largest weight must be so many times the smallest normal number: responsibilities are parts of weights.
_SMALLEST_WEIGHT = 2.0**24
# By which a symmetric matrix may differ from its transpose, relative to its diagonal.
_ASYMMETRY = 1e-5


def is_traced(*trees: Any) -> bool:
    """Whether the call happens inside the caller's own jit, vmap or grad.

    Either an argument is a tracer, or a jit is being traced around arguments that are constants to it: then
    even a fresh array is a tracer.
    """
    check_threads()
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(trees)):
        return True
    return isinstance(jnp.zeros(()), jax.core.Tracer)


def precision_context(dtype: Any) -> AbstractContextManager[Any]:
    """JAX's 64-bit mode exactly when `dtype` needs it; the process-wide switch stays as it was."""
    check_threads()
    return jax.enable_x64(np.dtype(dtype) == np.float64)


def _as_float(array: np.ndarray, name: str) -> np.ndarray:
    """Native-order float32 or float64; integers and booleans become float64, half precision float32."""
    if "float" in array.dtype.name and array.dtype.kind == "V":  # bfloat16 and its like
        array = array.astype(np.float32)
    kind = array.dtype.kind
    if kind == "c":
        raise DataError("E202", f"{name} is complex", "use its real part, or real and imaginary part as two columns")
    if kind in "OSUVMm":
        try:
            if kind in "SUVMm":
                raise TypeError
            converted = array.astype(np.float64)
        except (TypeError, ValueError, OverflowError):
            values = array.ravel().tolist()
            found = next((repr(v) for v in values if not reads_as_number(v)), repr(values[0]) if values else "nothing")
            raise DataError(
                "E201", f"{name} must hold numbers, but contains {found[:60]}", "drop or encode such columns first"
            ) from None
        return converted
    if kind in "iub":
        return array.astype(np.float64)
    target = np.float32 if array.dtype.itemsize <= 4 else np.float64
    with np.errstate(over="ignore"):  # what double precision cannot hold becomes infinity, which is refused
        return array.astype(np.dtype(target).newbyteorder("="), copy=False)


def reads_as_number(value: Any) -> bool:
    """Whether `value` is a number that double precision holds, or text that spells one."""
    try:
        float(value)
    except (TypeError, ValueError, OverflowError):
        return False
    return True


def as_float_array(value: Any, name: str) -> np.ndarray:
    """A native float32 or float64 array of any shape from anything numeric; `DataError` names what is not."""
    return _as_float(_to_array(value, name), name)


def _to_array(x: Any, name: str) -> np.ndarray:
    if hasattr(x, "toarray") and hasattr(x, "nnz"):
        raise DataError("E204", f"{name} is a sparse matrix", f"mixtures need dense data: pass {name}.toarray()")
    if isinstance(x, np.ma.MaskedArray) and np.ma.is_masked(x):
        raise DataError(
            "E205", f"{name} has {int(np.ma.count_masked(x))} masked values", "fill or drop those rows first"
        )
    try:
        array = np.asarray(x)
    except ValueError as error:
        raise DataError(
            "E206", f"{name} is not a rectangular table ({error})", "give every row the same length"
        ) from None
    return array


def check_data(
    x: Any, *, name: str = "x", n_features: int | None = None, min_rows: int = 1, needed_for: str = "a mixture"
) -> np.ndarray:
    """A finite 2-D float array from anything array-like, or a `DataError` that names row and column.

    n_features: the number of columns a model expects. min_rows: at least so many rows.
    """
    array = _to_array(x, name)
    if array.ndim != 2:
        cure = f"pass {name}.reshape(-1, 1) for one feature" if array.ndim == 1 else "pass one row per sample"
        raise DataError("E207", f"{name} must be 2-D (rows, columns), got shape {array.shape}", cure)
    if array.shape[1] == 0:
        raise DataError("E208", f"{name} has no columns (shape {array.shape})", "give at least one feature")
    if array.shape[0] < min_rows:
        raise DataError(
            "E209",
            (
                f"{name} has {array.shape[0]} row{'s' * (array.shape[0] != 1)}, but {needed_for} needs at "
                f"least {min_rows}"
            ),
            "add rows or ask for fewer components",
        )
    if n_features is not None and array.shape[1] != n_features:
        raise DataError(
            "E210",
            f"{name} has {array.shape[1]} columns, but the model was fitted on {n_features}",
            "give the same columns in the same order",
        )
    array = _as_float(array, name)
    check_finite(array, name)
    return array


def check_finite(array: np.ndarray, name: str) -> None:
    """Refuse NaN and infinity, naming the first place."""
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(array.sum()):  # cheap: no temporary; an overflowing sum only costs the second look
            return
    bad = ~np.isfinite(array)
    if not bad.any():
        return
    place = tuple(int(i) for i in np.argwhere(bad)[0])
    where = f"row {place[0]}" + (f", column {place[1]}" if len(place) > 1 else "")
    value = "NaN" if np.isnan(array[place]) else "infinity"
    rows = int(bad.any(axis=tuple(range(1, array.ndim))).sum()) if array.ndim > 1 else int(bad.sum())
    raise DataError(
        "E203",
        f"{name} contains {value} at {where} (counted from 0; {rows} row{'s' * (rows != 1)} affected)",
        "drop or impute such rows",
    )


def check_weights(sample_weight: Any, n_samples: int, dtype: Any) -> np.ndarray:
    """(N) finite non-negative weights with a positive sum; None gives all ones."""
    if sample_weight is None:
        return np.ones(n_samples, dtype)
    weight = as_float_array(sample_weight, "sample_weight")
    if weight.ndim == 2 and weight.shape[1] == 1:
        weight = weight[:, 0]
    if weight.shape != (n_samples,):
        raise DataError(
            "E220", f"sample_weight has shape {weight.shape}, but x has {n_samples} rows", "give one weight a row"
        )
    check_finite(weight, "sample_weight")
    if (weight < 0).any():
        row = int(np.argmax(weight < 0))
        raise DataError(
            "E221",
            f"sample_weight is negative ({weight[row]:g}) at row {row}",
            "weights must be at least 0",
        )
    if not weight.any():
        raise DataError("E222", "sample_weight is zero for every row", "at least one row must count")
    with np.errstate(over="ignore", under="ignore"):
        converted = weight.astype(dtype, copy=False)
        total = converted.sum()
    if not (np.isfinite(total) and total > 0):
        raise DataError(
            "E223",
            f"sample_weight goes up to {weight.max():g}, which {np.dtype(dtype).name} cannot hold or sum up",
            "divide the weights by their mean",
        )
    if converted.max() < _SMALLEST_WEIGHT * np.finfo(dtype).tiny:
        raise DataError(
            "E223",
            f"sample_weight goes up to {converted.max():g} only, and parts of it are 0 in {np.dtype(dtype).name}",
            "divide the weights by their mean",
        )
    return converted


def is_symmetric(matrices: np.ndarray) -> bool:
    """Whether M_ij = M_ji for matrices (..., D, D), up to rounding beside √(M_ii M_jj)."""
    size = np.sqrt(np.abs(np.diagonal(matrices, axis1=-2, axis2=-1).astype(np.float64)))
    difference = np.abs(matrices.astype(np.float64) - np.swapaxes(matrices, -1, -2))
    return bool(np.all(difference <= _ASYMMETRY * size[..., :, None] * size[..., None, :]))


def check_count(value: Any, name: str, minimum: int = 1) -> int:
    """A whole number of at least `minimum`."""
    try:
        if isinstance(value, (bool, np.bool_)):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        raise UsageError(
            "E108", f"{name} must be a whole number, got {value!r}", f"for example {name}={max(minimum, 1)}"
        ) from None
    if number < minimum:
        raise UsageError(
            "E108", f"{name} must be at least {minimum}, got {number}", f"for example {name}={max(minimum, 1)}"
        )
    if number > MAX_COUNT:
        raise UsageError("E108", f"{name} must be at most {MAX_COUNT}, got {number}", f"for example {name}=1000")
    return number


def check_rows_for(n_components: int, weight: np.ndarray) -> None:
    """At least as many rows of positive weight as components."""
    rows = int(np.count_nonzero(weight))
    if rows < n_components:
        raise too_few_rows(rows, n_components)


def too_few_rows(rows: int, n_components: int) -> DataError:
    """The error of data with fewer rows of positive weight than components."""
    return DataError(
        "E211",
        f"x has {rows} row{'s' * (rows != 1)} (of positive weight), fewer than n_components={n_components}",
        f"ask for at most {rows} component{'s' * (rows != 1)}" if rows else "leave it out",
    )


def too_few_orthants(occupied: int, n_components: int) -> DataError:
    """The error of data that occupy fewer orthants about their mean than there are components to start there."""
    return DataError(
        "E212",
        f"the data occupy {occupied} orthants about their mean, fewer than the {n_components} components asked for",
        f"ask for at most {occupied}, or use init='kmeans'",
    )


def check_key(key: Any, why: str) -> jax.Array:
    """A JAX random key from a key, a legacy key array or an integer seed."""
    if key is None:
        raise UsageError("E141", f"{why} draws random numbers", "pass key=jax.random.key(0), or an integer seed")
    if isinstance(key, (int, np.integer)) and not isinstance(key, bool):
        return jax.random.key(int(key) % 2**32)
    if isinstance(key, jax.Array) and jax.dtypes.issubdtype(key.dtype, jax.dtypes.prng_key):
        if key.shape == ():
            return key
        raise UsageError("E142", f"key must be one random key, got an array of shape {key.shape}", "pass one of them")
    if getattr(key, "shape", None) == (2,) and np.dtype(key.dtype) == np.uint32:
        return jax.random.wrap_key_data(jnp.asarray(key))
    raise UsageError(
        "E142",
        f"key must be a JAX random key or an integer seed, got {type(key).__name__}",
        "for example key=jax.random.key(0), or key=0",
    )
