"""Many data sets: read from what is given, checked, and packed in chunks, each centred and scaled as `Rows` are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from jaxgmm._checks import check_data, check_finite, check_weights
from jaxgmm._numerics import eps, row_bucket
from jaxgmm._status import DataError, UsageError
from jaxgmm.data.rows import Rows, power_of_two


@dataclass(frozen=True)
class Sets:
    """S data sets of D features: tables[i] (n_i, D) and, where rows are weighted, weights[i] (n_i).

    dtype: the type to compute in. offset (S, D): their weighted means, float64. n_samples, n_used (rows of positive
    weight), weight_sum (S).
    """

    tables: Sequence[np.ndarray]
    weights: Sequence[np.ndarray] | None
    dtype: Any
    offset: np.ndarray
    n_samples: np.ndarray
    n_used: np.ndarray
    weight_sum: np.ndarray

    @property
    def n_features(self) -> int:
        """D."""
        return int(self.offset.shape[1])

    @property
    def row_weight(self) -> np.ndarray:
        """(S) the mean weight of a row that counts."""
        return np.asarray(self.weight_sum / np.maximum(self.n_used, 1))


def prepare_sets(tables: Sequence[np.ndarray], weights: Sequence[np.ndarray] | None, dtype: Any) -> Sets:
    """Count and average. An offset that is not finite tells of a table that is not."""
    n_samples = np.array([len(x) for x in tables])
    with np.errstate(over="ignore", invalid="ignore"):
        if weights is None:
            n_used, weight_sum = n_samples, n_samples.astype(np.float64)
            total = np.array([np.add.reduce(x, axis=0, dtype=np.float64) for x in tables])
        else:
            n_used = np.array([np.count_nonzero(w) for w in weights])
            weight_sum = np.array([np.add.reduce(w, dtype=np.float64) for w in weights])
            total = np.array([w.astype(np.float64) @ x for x, w in zip(tables, weights, strict=True)])
        offset = total / np.where(weight_sum > 0, weight_sum, 1.0)[:, None]
    _keep_constants(tables, weights, n_used, offset)
    return Sets(tables, weights, dtype, offset, n_samples, n_used, weight_sum)


@np.errstate(invalid="ignore")  # what is not finite is refused elsewhere
def _keep_constants(
    tables: Sequence[np.ndarray], weights: Sequence[np.ndarray] | None, n_used: np.ndarray, offset: np.ndarray
) -> None:
    """Put the value of a constant column in the place of its mean, which rounding may have moved."""
    some = np.flatnonzero(n_used > 0)
    if not len(some):
        return
    row = [0 if weights is None else int(np.argmax(weights[i] > 0)) for i in some.tolist()]
    first = np.array([tables[i][r] for i, r in zip(some.tolist(), row, strict=True)], np.float64)
    # So near that only rounding may lie between: a look at every column would take longer.
    limits, mean = np.finfo(np.float64), offset[some]
    maybe = (first != mean) & (np.abs(first - mean) <= 8.0 * limits.eps * np.abs(mean) + limits.tiny)
    for place, column in np.argwhere(maybe).tolist():
        i = int(some[place])
        values = tables[i][:, column]
        if np.all(values == first[place, column], where=True if weights is None else weights[i] > 0):
            offset[i, column] = first[place, column]


def n_orthants(sets: Sets, i: int) -> int:
    """How many orthants about its mean the rows of set i occupy."""
    above = sets.tables[i] > sets.offset[i]
    return len(np.unique(above if sets.weights is None else above[sets.weights[i] > 0], axis=0))


def set_rows(sets: Sets, i: int) -> Rows:
    """Set i by itself, as it is packed."""
    packed = pack(sets, np.array([i]), 1, row_bucket(int(sets.n_samples[i])))
    return Rows(
        x=packed.x[0],
        weight=packed.weight[0],
        offset=sets.offset[i],
        scale=float(packed.scale[0]),
        reach=float(packed.reach[0]),
        variances=packed_variances(packed)[0],
        resolution=eps(sets.dtype) * np.abs(sets.offset[i]) / packed.scale[0],
        n_samples=int(sets.n_samples[i]),
        n_used=int(sets.n_used[i]),
        weight_sum=float(sets.weight_sum[i]),
    )


class Packed(NamedTuple):
    """C sets padded to the same number of rows: x (C, N', D) and weight (C, N'); scale and reach (C) as of `Rows`."""

    x: np.ndarray
    weight: np.ndarray
    scale: np.ndarray
    reach: np.ndarray


@np.errstate(over="ignore")  # infinite variances stop EM as such
def packed_variances(packed: Packed) -> np.ndarray:
    """(C, D) of packed sets, float64."""
    total = packed.weight.sum(axis=1, keepdims=True)
    share = packed.weight / np.where(total > 0, total, 1.0)
    return np.einsum("cn,cnd->cd", share, packed.x.astype(np.float64) ** 2)


def buckets(n_samples: np.ndarray) -> dict[int, np.ndarray]:
    """Padded number of rows -> the sets that are padded to it, the longest first."""
    sizes = np.array([row_bucket(n) for n in n_samples.tolist()], np.int64)
    return {int(size): np.flatnonzero(sizes == size) for size in np.unique(sizes)[::-1]}


@np.errstate(over="ignore", invalid="ignore")  # what overflows is infinite, and stops EM as such
def pack(sets: Sets, members: np.ndarray, n_sets: int, n_rows: int) -> Packed:
    """The `members`, padded with rows and sets of weight 0; the means are subtracted in float64."""
    x = np.zeros((n_sets, n_rows, sets.n_features), sets.dtype)
    weight = np.zeros((n_sets, n_rows), sets.dtype)
    # Set by set: slices are written far faster than an index array.
    for place, i in enumerate(members.tolist()):
        table = sets.tables[i]
        x[place, : len(table)] = table - sets.offset[i]
        weight[place, : len(table)] = 1.0 if sets.weights is None else sets.weights[i]
        if sets.weights is not None:
            # They may be of any size, and decide nothing.
            x[place, : len(table)][sets.weights[i] == 0] = 0.0
    reach = np.max(np.abs(x), axis=(1, 2)).astype(np.float64)
    scale = power_of_two(reach, sets.dtype)
    # By a power of two, so nothing is rounded.
    x *= (1.0 / scale[:, None, None]).astype(sets.dtype)
    return Packed(x, weight, scale, reach)


def sets_of(datasets: Any, groups: Any, sample_weight: Any) -> tuple[tuple[Any, ...], Sets]:
    """The label of each set, and the sets, checked."""
    if groups is not None:
        return _from_groups(datasets, groups, sample_weight)
    if isinstance(datasets, np.ndarray) and datasets.ndim == 2:
        raise UsageError(
            "E148", "datasets is one table", "say which rows belong together with groups, or give a list of tables"
        )
    if not isinstance(datasets, Iterable):
        raise UsageError("E148", f"datasets is {datasets!r}", "give a list of tables, or one table and groups")
    tables = [_as_table(x, f"datasets[{i}]") for i, x in enumerate(datasets)]
    if not tables:
        raise UsageError("E140", "there are no data sets", "give at least one")
    n_features = tables[0].shape[1]
    for i, table in enumerate(tables):
        if table.shape[1] != n_features:
            raise DataError(
                "E210",
                f"datasets[{i}] has {table.shape[1]} columns, but datasets[0] has {n_features}",
                "give every set the same columns",
            )
    keys, dtype = tuple(range(len(tables))), np.result_type(*{table.dtype for table in tables})
    if sample_weight is not None and not isinstance(sample_weight, Iterable):
        raise DataError("E220", f"sample_weight is {sample_weight!r}", "give one array per set")
    weights = None if sample_weight is None else _weights(list(sample_weight), tables, dtype)
    sets = prepare_sets(tables, weights, dtype)
    for i in np.flatnonzero(~np.isfinite(sets.offset).all(axis=1)).tolist():
        check_finite(tables[i], f"datasets[{i}]")
    return keys, sets


def _weights(parts: list[Any], tables: Sequence[np.ndarray], dtype: Any) -> list[np.ndarray]:
    if len(parts) != len(tables):
        raise DataError(
            "E220", f"sample_weight has {len(parts)} parts for {len(tables)} data sets", "give one array per set"
        )
    for i, (part, table) in enumerate(zip(parts, tables, strict=True)):
        if np.shape(part) != (len(table),):
            raise DataError(
                "E220", f"sample_weight[{i}] has shape {np.shape(part)} for {len(table)} rows", "give one weight a row"
            )
    ends = np.cumsum([len(table) for table in tables])
    return np.split(check_weights(np.concatenate(parts), int(ends[-1]), dtype), ends[:-1])


def _as_table(x: Any, name: str) -> np.ndarray:
    """(n, D), not yet known to be finite; an array that is as it should be costs next to nothing."""
    if type(x) is np.ndarray and x.ndim == 2 and x.shape[1] and x.dtype.char in "fd" and x.dtype.isnative:
        return x
    return check_data(x, name=name, min_rows=0)


def _from_groups(x: Any, groups: Any, sample_weight: Any) -> tuple[tuple[Any, ...], Sets]:
    table = check_data(x, name="datasets")
    labels = np.asarray(groups)
    if labels.shape != (len(table),):
        raise DataError(
            "E230", f"groups has shape {labels.shape}, but datasets has {len(table)} rows", "give one label a row"
        )
    if labels.dtype.kind in "fc" and np.isnan(labels).any():
        row = int(np.argmax(np.isnan(labels)))
        raise DataError(
            "E232", f"groups contains NaN at row {row} (counted from 0)", "drop such rows or give them a label"
        )
    try:
        names, member, n_samples = np.unique(labels, return_inverse=True, return_counts=True)
    except TypeError as error:
        raise DataError("E231", f"groups cannot be sorted ({error})", "give labels of one kind, such as text") from None
    if not len(names):
        raise UsageError("E140", "there are no data sets", "give at least one row")
    order, ends = np.argsort(member, kind="stable"), np.cumsum(n_samples)[:-1]
    tables = np.split(table[order], ends)
    if sample_weight is None:
        return tuple(names.tolist()), prepare_sets(tables, None, table.dtype)
    weight = check_weights(sample_weight, len(table), table.dtype)
    return tuple(names.tolist()), prepare_sets(tables, np.split(weight[order], ends), table.dtype)
