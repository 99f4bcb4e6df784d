"""`fit_many`: thousands of small data sets of different sizes in one call, each as if it were fitted alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from jaxgmm import criteria
from jaxgmm._checks import (
    check_count,
    check_data,
    check_finite,
    check_key,
    check_weights,
    precision_context,
)
from jaxgmm._options import default_reg_covar, em_options
from jaxgmm._pytree import take
from jaxgmm._status import DataError, Status, UsageError, cause, choose, cure
from jaxgmm.covariance import CovarianceFamily, get_family
from jaxgmm.data.rows import prepare_rows
from jaxgmm.data.sets import Sets, prepare_sets
from jaxgmm.em.accelerate import check_acceleration
from jaxgmm.em.diagnosis import Diagnosis, diagnose
from jaxgmm.em.many import Outcome, fit_sets
from jaxgmm.em.restarts import preference
from jaxgmm.em.result import FitResult
from jaxgmm.functional import check_orthant_features
from jaxgmm.init import get_start
from jaxgmm.params import GMMParams, as_dtype, rescale, select_components, translate

_CHOICES = ("bic", "aic", "icl")


class Fits(Sequence["FitResult | None"]):
    """The fits of a `ManyResult`, each made when it is asked for."""

    def __init__(self, result: ManyResult) -> None:
        self._result = result

    def __len__(self) -> int:
        return len(self._result.keys)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return tuple(self[i] for i in range(*index.indices(len(self))))
        if not -len(self) <= index < len(self):
            raise IndexError(f"there are {len(self)} data sets, no number {index}")
        return self._result._fit(int(index) % len(self))

    def __iter__(self) -> Iterator[FitResult | None]:
        return (self[i] for i in range(len(self)))


@dataclass(frozen=True, kw_only=True, eq=False)
class ManyResult:
    """The fits of many data sets.

    keys: the label of each set (its position where no groups were given). candidates: the component counts tried.
    n_samples, weight_sum (S): rows and sum of weights of each set. n_components (S): the count chosen, 0 for a set
    that could not be fitted. criterion: what chose. failures: for those sets why, None for the others.
    outcome: every (set, count, restart) with leading axes (S, J, R), parameters about `offset` (S, D); `restart`
    (S, J) is the best of each. whitened (S, J, R): which ended with that kernel. init, options: as used. sets: the
    tables and weights, of which the diagnoses of a fit are made.
    """

    keys: tuple[Any, ...]
    candidates: tuple[int, ...]
    n_samples: np.ndarray
    weight_sum: np.ndarray
    n_components: np.ndarray
    criterion: str
    failures: tuple[str | None, ...]
    outcome: Outcome
    offset: np.ndarray
    restart: np.ndarray
    whitened: np.ndarray
    init: str
    options: dict[str, Any]
    sets: Sets

    @property
    def fits(self) -> Fits:
        """A sequence of one `FitResult` per set, or None for a set that could not be fitted."""
        return Fits(self)

    @property
    def fitted(self) -> np.ndarray:
        """(S) bool: which sets have a fit."""
        return self.n_components > 0

    @cached_property
    def _place(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(set, count, restart) of the fit of each set."""
        sets = np.arange(len(self.keys))
        count = np.searchsorted(self.candidates, np.maximum(self.n_components, self.candidates[0]))
        return sets, count, self.restart[sets, count]

    @property
    def log_likelihood(self) -> np.ndarray:
        """(S), NaN for a set without a fit."""
        return np.where(self.fitted, self.outcome.log_likelihood[self._place].astype(np.float64), np.nan)

    @cached_property
    def degenerate(self) -> np.ndarray:
        """(S) bool: which sets have a fit with a component to look at; its ``diagnoses`` say what is the matter."""
        outcome = self.outcome
        used = np.arange(self.candidates[-1]) < self.n_components[:, None]
        bad = (outcome.floored[self._place] >= 0) | (outcome.params.weights[self._place] == 0)
        singular = outcome.status[self._place] == Status.SINGULAR
        return self.fitted & ((bad & used).any(axis=1) | singular)

    @property
    def converged(self) -> np.ndarray:
        """(S) bool: which sets have a fit that met the stopping rule."""
        return self.fitted & (self.outcome.status[self._place] == Status.CONVERGED)

    @property
    def empty_components(self) -> np.ndarray:
        """(S) how many components of each fit lost all their rows: weight exactly 0."""
        weights = np.asarray(self.outcome.params.weights[self._place])
        active = np.arange(weights.shape[1]) < self.n_components[:, None]
        return np.sum(active & (weights == 0), axis=1)

    def table(self) -> list[dict[str, Any]]:
        """One plain dictionary per set, in order, ready for printing or JSON."""
        outcome, counts = self.outcome, np.maximum(self.n_components, 1)
        scores = [a[self._place] for a in (outcome.log_likelihood, outcome.classification_log_likelihood)]
        rest = (outcome.params.family, outcome.params.means, scores, counts, self.weight_sum)
        columns = {"log_likelihood": scores[0], **{name: _criterion(name, *rest) for name in _CHOICES}}
        status = [Status(s).name for s in self.outcome.status[self._place].tolist()]
        n_iter = self.outcome.n_iter[self._place].tolist()
        rows: list[dict[str, Any]] = []
        for i, fitted in enumerate(self.fitted.tolist()):
            row = {"set": self.keys[i], "n_samples": int(self.n_samples[i])}
            if fitted:
                row |= {"n_components": int(self.n_components[i])}
                row |= {name: float(column[i]) for name, column in columns.items()}
                row |= {"n_iter": n_iter[i], "status": status[i]}
            else:
                row |= {"status": "FAILED", "message": self.failures[i]}
            rows.append(row)
        return rows

    def _fit(self, i: int) -> FitResult | None:
        if self.n_components[i] == 0:
            return None
        _, count, restart = (int(a[i]) for a in self._place)
        lanes = take(self.outcome, (i, count))
        centred = select_components(take(lanes.params, restart), np.arange(self.n_components[i]))
        return FitResult(
            params=as_dtype(translate(as_dtype(centred, np.float64), self.offset[i]), centred.dtype),
            log_likelihood=float(lanes.log_likelihood[restart]),
            classification_log_likelihood=float(lanes.classification_log_likelihood[restart]),
            n_samples=int(self.n_samples[i]),
            weight_sum=float(self.weight_sum[i]),
            restart_log_likelihoods=lanes.log_likelihood.astype(np.float64),
            restart_status=lanes.status,
            restart_n_iter=lanes.n_iter,
            restart_history=np.empty((len(lanes.status), 0)),
            best_restart=restart,
            kernel="whitening" if self.whitened[i, count, restart] else "features",
            init=self.init,
            diagnoses=self._diagnoses(i, centred, take(lanes, restart)) if self.degenerate[i] else (),
            options=self.options,
        )

    def _diagnoses(self, i: int, params: GMMParams, lane: Outcome) -> tuple[Diagnosis, ...]:
        """What is wrong with the mixture of the rows of set i about their mean."""
        table = self.sets.tables[i].astype(self.sets.dtype)
        weight = np.ones(len(table), table.dtype) if self.sets.weights is None else self.sets.weights[i]
        kinds = {name: self.options[name] for name in ("reg_covar", "reg_kind")}
        with precision_context(table.dtype):
            rows = prepare_rows(table, weight)
            floor = rows.options(em_options(table.dtype, **kinds)).reg_covar.astype(np.float64)
            own = as_dtype(rescale(as_dtype(params, np.float64), 1.0 / rows.scale), table.dtype)
            singular = lane.status == Status.SINGULAR
            return diagnose(own, rows, floor, since=lane.floored[: len(own.weights)], singular=singular)


def _criterion(
    name: str, family: CovarianceFamily, means: np.ndarray, scores: Sequence[np.ndarray], counts: Any, weight_sum: Any
) -> np.ndarray:
    """AIC, BIC or ICL of many fits at once: see `criteria`. scores: log-likelihoods, classification log-likelihoods."""
    n_features = means.shape[-1]
    free = [criteria.n_parameters(family.name, max(k, 1), n_features) for k in range(np.max(counts) + 1)]
    price = 2.0 if name == "aic" else np.log(np.where(weight_sum > 0, weight_sum, 1.0))
    return np.asarray(-2.0 * scores[name == "icl"].astype(np.float64) + price * np.take(free, counts))


def fit_many(
    datasets: Any,
    n_components: int | Iterable[int],
    *,
    groups: Any = None,
    covariance_type: str = "full",
    criterion: str = "bic",
    key: Any = None,
    n_restarts: int = 1,
    init: str = "kmeans",
    tol: float = 1e-8,
    tol_kind: str = "change",
    reg_covar: float | None = None,
    reg_kind: str = "relative",
    max_iter: int = 1000,
    accelerate: str | None = None,
    sample_weight: Any = None,
) -> ManyResult:
    """Fit a Gaussian mixture to each of many small data sets, thousands in one call.

    Set i gets what ``fit(datasets[i], n_components, key=jax.random.fold_in(key, i), ...)`` would find, to rounding.
    Sets of similar size share a compiled program, in which those that have converged make room for the next. A set
    that cannot be fitted does not disturb the others; input with NaN is refused.

    datasets: a sequence of (n_i, D) arrays, or one (N, D) array with `groups`. groups: (N) labels, one per row, which
    numpy.unique can sort; the sets are the rows of each label, labels ascending. n_components: K, or several counts
    such as range(1, 5), of which `criterion` ("bic", "aic" or "icl"; smaller is better) chooses for each set; counts
    above its number of rows are left out. sample_weight: a sequence of (n_i) arrays, with `groups` one array (N).
    The other arguments are those of `fit`; all sets are computed in the widest of their types.

    Returns a `ManyResult`: ``fits``, ``failures``, ``table()``.

    >>> x = np.concatenate([np.linspace(-6, -4, 50), np.linspace(4, 6, 50)])[:, None]
    >>> result = fit_many([x, x[:50], x[20:90] + 3], range(1, 4), key=0)
    >>> result.n_components.tolist(), result.fits[2].params.means.ravel().round(3).tolist()
    ([2, 1, 2], [-1.592, 7.796])
    """
    counts = _check_counts(n_components)
    family = get_family(covariance_type)
    if criterion not in _CHOICES:
        raise UsageError("E109", f"unknown criterion {criterion!r}", choose(criterion, _CHOICES))
    method = get_start(init)
    n_restarts = check_count(n_restarts, "n_restarts") if method.random else 1
    keys, sets = _sets_of(datasets, groups, sample_weight)
    if method.name == "orthant":
        check_orthant_features(sets.n_features)
    members = np.flatnonzero(sets.n_used >= counts[0])
    active = np.arange(counts[-1]) < np.asarray(counts)[:, None]
    dtype = sets.dtype
    with precision_context(dtype):
        options = em_options(
            dtype,
            tol=tol,
            tol_kind=tol_kind,
            reg_covar=default_reg_covar(reg_covar, None),
            reg_kind=reg_kind,
            max_iter=max_iter,
        )
        outcome, whitened = fit_sets(
            sets,
            members,
            active,
            covariance_type=family.name,
            init=method.name,
            key=check_key(key if method.random else 0, f"init={init!r}"),
            n_restarts=n_restarts,
            options=options,
            accelerate=check_acceleration(accelerate),
        )
    rank = np.array([preference(status) for status in sorted(Status)])[outcome.status]
    rank = np.where(np.isfinite(outcome.log_likelihood), rank, -1)
    restart = np.argmax(np.where(rank == rank.max(axis=2, keepdims=True), outcome.log_likelihood, -np.inf), axis=2)
    best, certain = (
        np.take_along_axis(a, restart[:, :, None], axis=2)[:, :, 0]
        for a in (outcome.log_likelihood, outcome.classification_log_likelihood)
    )
    values = _criterion(
        criterion, family, outcome.params.means, (best, certain), np.asarray(counts)[None, :], sets.weight_sum[:, None]
    )
    usable = np.isfinite(best) & (np.asarray(counts)[None, :] <= sets.n_used[:, None])
    choice = np.argmin(np.where(usable, values, np.inf), axis=1)
    chosen = np.where(usable.any(axis=1), np.asarray(counts)[choice], 0)
    status = np.take_along_axis(outcome.status[:, 0], restart[:, :1], axis=1)[:, 0]
    return ManyResult(
        keys=keys,
        candidates=tuple(counts),
        n_samples=sets.n_samples,
        weight_sum=sets.weight_sum,
        n_components=chosen,
        criterion=criterion,
        failures=tuple(
            None if k else _failure(counts[0], used, Status(code))
            for k, used, code in zip(chosen.tolist(), sets.n_used.tolist(), status.tolist(), strict=True)
        ),
        outcome=outcome,
        offset=sets.offset,
        restart=restart,
        whitened=whitened,
        init=method.name,
        options=options.as_dict(),
        sets=sets,
    )


def _failure(n_components: int, n_used: int, status: Status) -> str:
    if n_used < n_components:
        return (
            f"{n_used} row{'s' * (n_used != 1)} (of positive weight), fewer than n_components={n_components}; "
            "ask for fewer components or leave this set out"
        )
    if status == Status.INTERRUPTED:
        return "not begun when the run was interrupted; fit this set again"
    found = f"no start gave a usable model with {n_components} components: {cause(status)} at the very start"
    return f"{found}; {cure(status)}"


def _check_counts(n_components: Any) -> list[int]:
    if not isinstance(n_components, Iterable):
        return [check_count(n_components, "n_components")]
    counts = sorted({check_count(n, "each number of components") for n in n_components})
    if not counts:
        raise UsageError("E140", "n_components is empty", "give a count, or several such as range(1, 5)")
    return counts


def _sets_of(datasets: Any, groups: Any, sample_weight: Any) -> tuple[tuple[Any, ...], Sets]:
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
