"""`fit_many`: thousands of small data sets of different sizes in one call, each as if it were fitted alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, TypeVar

import jax
import numpy as np

from jaxgmm import criteria
from jaxgmm._checks import check_count, check_key, precision_context, too_few_orthants, too_few_rows
from jaxgmm._options import check_choice, default_reg_covar, em_options, firmer
from jaxgmm._pytree import put, replace, take
from jaxgmm._status import FitError, JaxgmmError, Status, UsageError
from jaxgmm.covariance import CovarianceFamily, get_family
from jaxgmm.data.sets import Sets, n_orthants, set_rows, sets_of
from jaxgmm.em.accelerate import check_acceleration
from jaxgmm.em.diagnosis import Diagnosis, diagnose, thin_components
from jaxgmm.em.many import Outcome, Units, beyond, fit_sets
from jaxgmm.em.restarts import (
    DEGENERATE,
    Method,
    beyond_precision,
    in_data_units,
    no_model,
    preference,
    refused,
    row_prior,
    too_small,
)
from jaxgmm.em.result import FitResult
from jaxgmm.functional import check_orthant_features
from jaxgmm.init import get_start
from jaxgmm.params import GMMParams, select_components
from jaxgmm.prior import Prior, change_of_units, prior_for

T = TypeVar("T")

_CHOICES = ("bic", "aic", "icl")


class PerSet(Sequence[T]):
    """Something of each set of a `ManyResult`, made when it is asked for."""

    def __init__(self, n_sets: int, make: Callable[[int], T]) -> None:
        self._n_sets, self._make = n_sets, make

    def __len__(self) -> int:
        return self._n_sets

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return tuple(self[i] for i in range(*index.indices(len(self))))
        if not -len(self) <= index < len(self):
            raise IndexError(f"there are {len(self)} data sets, no number {index}")
        return self._make(int(index) % len(self))

    def __iter__(self) -> Iterator[T]:
        return (self[i] for i in range(len(self)))


@dataclass(frozen=True, kw_only=True, eq=False)
class ManyResult:
    """The fits of many data sets.

    keys: the label of each set (its position where no groups were given). candidates: the component counts tried.
    n_samples, weight_sum (S): rows and sum of weights of each set. units: of the rows as they were computed with.
    choice (S): the place of the chosen count among the candidates, -1 for a set that could not be fitted. criterion:
    what chose. outcome: every (set, count, restart) of such rows, with leading axes (S, J, R); `restart` (S, J) is the
    best of each. whitened (S, J, R): which ended with that kernel. reg_covar (S, J): as used, see `FitResult.options`.
    init, options, how: as used. sets: the tables and weights, of which the diagnoses of a fit are made.
    """

    keys: tuple[Any, ...]
    candidates: tuple[int, ...]
    n_samples: np.ndarray
    weight_sum: np.ndarray
    units: Units
    choice: np.ndarray
    criterion: str
    outcome: Outcome
    restart: np.ndarray
    whitened: np.ndarray
    reg_covar: np.ndarray
    init: str
    options: dict[str, Any]
    how: Method
    sets: Sets

    @property
    def fits(self) -> Sequence[FitResult | None]:
        """One `FitResult` per set, or None for a set that has no fit; made when it is asked for."""
        return PerSet(len(self.keys), self._fit)

    @property
    def failures(self) -> Sequence[JaxgmmError | None]:
        """For a set that has no fit why, None for the others; made when it is asked for."""
        return PerSet(len(self.keys), lambda i: None if self.fitted[i] else self._failure(i))

    @cached_property
    def fitted(self) -> np.ndarray:
        """(S) bool: which sets have a fit."""
        usable = self.choice >= 0
        return usable & ~self._bad if self.how.degenerate == "raise" else usable

    @cached_property
    def n_components(self) -> np.ndarray:
        """(S) components of each fit, 0 for a set that could not be fitted."""
        return np.where(self.fitted, self._kept.sum(axis=1), 0)

    @cached_property
    def _place(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(set, count, restart) of the fit of each set."""
        sets, count = np.arange(len(self.keys)), np.maximum(self.choice, 0)
        return sets, count, self.restart[sets, count]

    @cached_property
    def _status(self) -> np.ndarray:
        """(S) the stop code of each best state."""
        return self.outcome.status[self._place]

    @cached_property
    def _kept(self) -> np.ndarray:
        """(S, K) bool: the components of each fit."""
        weights = np.asarray(self.outcome.params.weights[self._place])
        meant = np.arange(weights.shape[1]) < np.take(self.candidates, self._place[1])[:, None]
        return meant & ((weights > 0) | (self.how.degenerate != "drop"))

    @property
    def log_likelihood(self) -> np.ndarray:
        """(S), NaN for a set without a fit."""
        return np.where(self.fitted, self.outcome.log_likelihood[self._place].astype(np.float64), np.nan)

    @cached_property
    def _empty(self) -> np.ndarray:
        """(S) how many components of each best state have weight exactly 0."""
        return np.sum(self._kept & (self.outcome.params.weights[self._place] == 0), axis=1)

    @cached_property
    def _bad(self) -> np.ndarray:
        """(S) bool: which sets have a usable state with a component to look at."""
        usable = self.choice >= 0
        bad = usable & (self._empty > 0)
        thin = (self._kept & (self.outcome.floored[self._place] >= 0)).any(axis=1)
        singular = self._status == Status.SINGULAR
        for i in np.flatnonzero(usable & ~bad & (thin | singular)):
            bad[i] = self._look(int(i), thin_components).any()
        return bad

    @property
    def degenerate(self) -> np.ndarray:
        """(S) bool: which sets have a fit with a component to look at; its ``diagnoses`` say what is the matter."""
        return self.fitted & self._bad

    @property
    def converged(self) -> np.ndarray:
        """(S) bool: which sets have a fit that met the stopping rule."""
        return self.fitted & (self._status == Status.CONVERGED)

    @property
    def empty_components(self) -> np.ndarray:
        """(S) how many components of each fit lost all their rows: weight exactly 0."""
        return np.where(self.fitted, self._empty, 0)

    def table(self, columns: Sequence[str] = ()) -> list[dict[str, Any]]:
        """One plain dictionary per set, in order, ready for printing or JSON; messages name the columns if given."""
        outcome, counts = self.outcome, np.maximum(self.n_components, 1)
        scores = [a[self._place] for a in (outcome.log_likelihood, outcome.classification_log_likelihood)]
        rest = (outcome.params.family, outcome.params.means, scores, counts, self.weight_sum)
        numbers = {"log_likelihood": scores[0], **{name: _criterion(name, *rest) for name in _CHOICES}}
        status = [Status(s).name for s in self._status.tolist()]
        n_iter = self.outcome.n_iter[self._place].tolist()
        rows: list[dict[str, Any]] = []
        for i, fitted in enumerate(self.fitted.tolist()):
            row = {"set": self.keys[i], "n_samples": int(self.n_samples[i])}
            if fitted:
                row |= {"n_components": int(self.n_components[i])}
                row |= {name: float(column[i]) for name, column in numbers.items()}
                row |= {"n_iter": n_iter[i], "status": status[i]}
            else:
                why = self._failure(i).named(columns)
                row |= {"status": "FAILED", "message": f"{why.found}; {why.help}"}
            rows.append(row)
        return rows

    def _fit(self, i: int) -> FitResult | None:
        if not self.fitted[i]:
            return None
        _, count, restart = (int(a[i]) for a in self._place)
        lanes, own, rows = take(self.outcome, (i, count)), self._own(i), set_rows(self.sets, i)
        # The rows have other units than the data, and so has the density of a covariance.
        prior = row_prior(self.how.prior, rows, self.candidates[count], own.family.name)
        density = 0.0 if prior is None else change_of_units(prior, own, rows.scale)
        return FitResult(
            params=in_data_units(own, rows),
            log_likelihood=float(lanes.log_likelihood[restart]),
            classification_log_likelihood=float(lanes.classification_log_likelihood[restart]),
            log_prior=float(lanes.penalty[restart]) + density,
            n_samples=int(self.n_samples[i]),
            weight_sum=float(self.weight_sum[i]),
            restart_log_likelihoods=lanes.log_likelihood.astype(np.float64),
            restart_status=lanes.status,
            restart_n_iter=lanes.n_iter,
            restart_history=np.empty((len(lanes.status), 0)),
            best_restart=restart,
            kernel="whitening" if self.whitened[i, count, restart] else "features",
            init=self.init,
            diagnoses=self.diagnoses(i),
            options=self._options(i),
        )

    def _failure(self, i: int) -> JaxgmmError:
        n_used, fewest = int(self.sets.n_used[i]), self.candidates[0]
        if n_used < fewest:
            return too_few_rows(n_used, fewest)
        if self.init == "orthant" and (occupied := n_orthants(self.sets, i)) < fewest:
            return too_few_orthants(occupied, fewest)
        status, found = Status(int(self._status[i])), self.diagnoses(i)
        if self.choice[i] >= 0:
            return refused(status, found)
        reach, dtype = float(self.units.reach[i]), self.sets.dtype
        small = too_small(reach, dtype, self.options["reg_kind"] == "relative")
        if small or np.isfinite(self.outcome.log_likelihood[tuple(a[i] for a in self._place)]):
            return beyond_precision(reach, dtype)
        if status == Status.INTERRUPTED:
            return FitError("E301", "not begun when the run was interrupted", "fit this set again", status)
        return no_model(fewest, status, found)

    def _options(self, i: int) -> dict[str, Any]:
        return self.options | {"reg_covar": float(self.reg_covar[i, self._place[1][i]])}

    def diagnoses(self, i: int) -> tuple[Diagnosis, ...]:
        """What is wrong with the components of the fit of set i, or of the state for which it has none."""
        if not self._bad[i] and self._status[i] != Status.SINGULAR:
            return ()
        lane = take(self.outcome, tuple(int(a[i]) for a in self._place))
        return self._look(i, partial(diagnose, since=lane.floored[self._kept[i]]))

    def _own(self, i: int) -> GMMParams:
        """The mixture of the centred, scaled rows of set i."""
        lane = take(self.outcome.params, tuple(int(a[i]) for a in self._place))
        return select_components(lane, np.flatnonzero(self._kept[i]))

    def _look(self, i: int, at: Callable[..., T]) -> T:
        """``at(params, rows, options, singular=)`` of the fit of set i, in the units of its rows."""
        with precision_context(self.sets.dtype):
            rows = set_rows(self.sets, i)
            options = em_options(rows.dtype, **{name: self._options(i)[name] for name in ("reg_covar", "reg_kind")})
            singular = bool(self._status[i] == Status.SINGULAR)
            params = self._own(i)
            n_asked = self.candidates[max(self.choice[i], 0)]
            prior = row_prior(self.how.prior, rows, n_asked, params.family.name)
            return at(params, rows, replace(rows.options(options), prior=prior), singular=singular)


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
    prior: Prior | str | None = None,
    max_iter: int = 1000,
    accelerate: str | None = None,
    sample_weight: Any = None,
    degenerate: str = "keep",
) -> ManyResult:
    """Fit a Gaussian mixture to each of many small data sets, thousands in one call.

    Set i gets what ``fit(datasets[i], n_components, key=jax.random.fold_in(key, i), ...)`` would find, to rounding.
    Sets of similar size share a compiled program, in which those that have converged make room for the next. A set
    that cannot be fitted does not disturb the others; input with NaN is refused.

    datasets: a sequence of (n_i, D) arrays, or one (N, D) array with `groups`. groups: (N) labels, one per row, which
    numpy.unique can sort; the sets are the rows of each label, labels ascending. n_components: K, or several counts
    such as range(1, 5), of which `criterion` ("bic", "aic" or "icl"; smaller is better) chooses for each set; counts
    above its number of rows, or of occupied orthants for that start, are left out. sample_weight: a sequence of (n_i)
    arrays, with `groups` one array (N). The other arguments are those of `fit`; all sets are computed in the widest of
    their types. prior: ``"default"`` is made of each set anew. degenerate ``"raise"``: a set with such a component has
    no fit, and its failure says why.

    Returns a `ManyResult`: ``fits``, ``failures``, ``table()``.

    >>> x = np.concatenate([np.linspace(-6, -4, 50), np.linspace(4, 6, 50)])[:, None]
    >>> result = fit_many([x, x[:50], x[20:90] + 3], range(1, 4), key=0)
    >>> result.n_components.tolist(), result.fits[2].params.means.ravel().round(3).tolist()
    ([2, 1, 2], [-1.592, 7.796])
    """
    counts = _check_counts(n_components)
    family = get_family(covariance_type)
    check_choice(criterion, "criterion", _CHOICES)
    method = get_start(init)
    n_restarts = check_count(n_restarts, "n_restarts") if method.random else 1
    keys, sets = sets_of(datasets, groups, sample_weight)
    # The most components that each set can be asked for.
    most = sets.n_used
    if method.name == "orthant":
        check_orthant_features(sets.n_features)
        most = np.minimum(most, [n_orthants(sets, i) for i in range(len(keys))])
    how = Method(
        accelerate=check_acceleration(accelerate),
        prior=prior_for(prior, family.name, sets.n_features),
        degenerate=check_choice(degenerate, "degenerate", DEGENERATE),
    )
    members = np.flatnonzero(most >= counts[0])
    active = np.arange(counts[-1]) < np.asarray(counts)[:, None]
    dtype = sets.dtype
    with precision_context(dtype):
        options = em_options(
            dtype,
            tol=tol,
            tol_kind=tol_kind,
            reg_covar=default_reg_covar(reg_covar, prior),
            reg_kind=reg_kind,
            max_iter=max_iter,
        )
        run = partial(
            fit_sets,
            sets,
            active=active,
            covariance_type=family.name,
            init=method.name,
            key=check_key(key if method.random else 0, f"init={init!r}"),
            n_restarts=n_restarts,
            how=how,
        )
        outcome, whitened, units = run(members, options=options)
        restart, best = _best(outcome)
        floors = np.full(restart.shape, options.reg_covar)
        firm, weak = firmer(options, sets.n_features, dtype), best.status == Status.SINGULAR
        if firm and weak.any():
            again, whitened_again, _ = run(np.flatnonzero(weak.any(axis=1)), options=firm)
            put(outcome, weak, take(again, weak))
            whitened[weak], floors[weak] = whitened_again[weak], firm.reg_covar
            restart, best = _best(outcome)
    asked = np.broadcast_to(counts, restart.shape)
    scores = (best.log_likelihood, best.classification_log_likelihood)
    kept = np.sum(best.params.weights > 0, axis=2) if how.degenerate == "drop" else asked
    values = _criterion(criterion, family, outcome.params.means, scores, kept, sets.weight_sum[:, None])
    usable = np.isfinite(best.log_likelihood) & (asked <= most[:, None]) & ~beyond(best.params, units, options.relative)
    choice = np.where(usable.any(axis=1), np.argmin(np.where(usable, values, np.inf), axis=1), -1)
    return ManyResult(
        keys=keys,
        candidates=tuple(counts),
        n_samples=sets.n_samples,
        weight_sum=sets.weight_sum,
        choice=choice,
        criterion=criterion,
        outcome=outcome,
        units=units,
        restart=restart,
        whitened=whitened,
        reg_covar=floors,
        init=method.name,
        options=options.as_dict(),
        how=how,
        sets=sets,
    )


def _best(outcome: Outcome) -> tuple[np.ndarray, Outcome]:
    """The best restart of every set and count (S, J): the healthiest, then the highest objective; and its outcome."""
    rank = np.array([preference(status) for status in sorted(Status)])[outcome.status]
    rank = np.where(np.isfinite(outcome.log_likelihood), rank, -1)
    objective = outcome.log_likelihood + outcome.penalty
    restart = np.argmax(np.where(rank == rank.max(axis=2, keepdims=True), objective, -np.inf), axis=2)
    return restart, jax.tree.map(lambda a: a[*np.indices(restart.shape), restart], outcome)


def _check_counts(n_components: Any) -> list[int]:
    if not isinstance(n_components, Iterable):
        return [check_count(n_components, "n_components")]
    counts = sorted({check_count(n, "each number of components") for n in n_components})
    if not counts:
        raise UsageError("E140", "n_components is empty", "give a count, or several such as range(1, 5)")
    return counts
