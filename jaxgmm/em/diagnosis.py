"""Which components of a fit have degenerated, on which rows and along which columns: for the reader, on the host.

A component is at the floor when, along some direction, hardly anything but reg_covar is left of its variance: it
rests on too few distinct rows, or a column does not vary in it. Its share of the likelihood means nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import Array

from jaxgmm._compile import hot_jit
from jaxgmm._numerics import AT_FLOOR, singular_floor
from jaxgmm._options import EMOptions
from jaxgmm.data.rows import Rows
from jaxgmm.density import predict
from jaxgmm.params import GMMParams, smallest_variance
from jaxgmm.steps import em_step

# A column is named when its part in a direction is at least this share of the largest one.
_NAMED = 0.3
# Rows among which distinct ones are counted.
_MAX_COUNTED = 20_000


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """What is wrong with one component.

    component: k; None for a covariance that all components share. kind: "empty" (it lost all its rows), "floor"
    (its covariance is what reg_covar adds) or "singular" (it would have become singular in the next iteration).
    weight: w_k, or 1 where they share one. eigenvalue: the smallest of its covariance, data units squared. columns:
    that the degenerate directions are made of. n_rows, n_distinct: rows that most probably belong to it, None where
    not counted. since: the iteration in which it came about, None where not known.
    """

    component: int | None
    kind: str
    weight: float
    eigenvalue: float = 0.0
    columns: tuple[int, ...] = ()
    n_rows: int | None = None
    n_distinct: int | None = None
    since: int | None = None

    def text(self, names: Sequence[str] | None = None) -> str:
        """One sentence; names: of the columns."""
        who = "the shared covariance" if self.component is None else f"component {self.component}"
        if self.kind == "empty":
            return f"{who} has lost all its rows"
        listed = ", ".join(names[i] if names else str(i) for i in self.columns)
        where = f"column{'s' * (len(self.columns) != 1)} {listed}"
        ground = (
            "" if self.n_rows is None or self.component is None else f" rests on {_rows(self.n_rows, self.n_distinct)}"
        )
        since = "" if self.since is None else f" since iteration {self.since}"
        share = "" if self.component is None else f"weight {self.weight:.3g}, "
        size = f"{share}smallest eigenvalue {self.eigenvalue:.3g}"
        if self.kind == "floor":
            link = " and" if ground else ""
            return f"{who} ({size}){ground}{link} is at the floor that reg_covar holds along {where}{since}"
        link = " and" if ground else ""
        return f"{who} ({size}){ground}{link} becomes singular along {where}"

    def as_dict(self, names: Sequence[str] | None = None) -> dict[str, Any]:
        """Plain values, for JSON and model files, with the sentence as "text"."""
        plain = {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self).items()}
        return plain | {"text": self.text(names)}


def _rows(n_rows: int, n_distinct: int | None) -> str:
    counted = f"{n_rows} row{'s' * (n_rows != 1)}"
    if n_distinct is None or n_distinct == n_rows:
        return counted
    return f"{counted}, {n_distinct} of them distinct"


_labels = hot_jit(predict)
_next = hot_jit(em_step)


def diagnose(
    params: GMMParams, rows: Rows, options: EMOptions, *, since: np.ndarray | None = None, singular: bool = False
) -> tuple[Diagnosis, ...]:
    """What is wrong with the components of a mixture of the centred, scaled rows; empty when all is well.

    options: in the units of the rows. since (K): when a component reached the floor, -1 if not known. singular: the
    next iteration failed for a covariance, which is looked for too.
    """
    weights = np.asarray(params.weights, np.float64)
    found = [
        Diagnosis(component=int(k), kind="empty", weight=0.0, n_rows=0, n_distinct=0)
        for k in np.flatnonzero(weights == 0)
    ]
    thin = _thin(params, rows, options, singular=singular)
    chosen = np.flatnonzero(thin.found)
    if not len(chosen):
        return tuple(found)
    # Rows are told by this mixture: the one in which it shows may have no densities.
    known = smallest_variance(params) > 0 and not rows.sampled
    labels = np.asarray(_labels(params, rows.x))[: rows.n_samples] if known else None
    used = np.asarray(rows.weight[: rows.n_samples]) > 0
    for k in chosen if params.family.per_component else chosen[:1]:
        mine = np.flatnonzero((labels == k) & used) if labels is not None else np.empty(0, int)
        counted = labels is not None and len(mine) <= _MAX_COUNTED
        value, columns = _thin_directions(thin.shown, int(k), thin.floor[k])
        found.append(
            Diagnosis(
                component=int(k) if params.family.per_component else None,
                kind=thin.kind,
                weight=float(weights[k] if params.family.per_component else np.sum(weights)),
                eigenvalue=value * rows.scale * rows.scale,
                columns=columns,
                n_rows=len(mine) if labels is not None else None,
                n_distinct=len(np.unique(np.asarray(rows.x[mine]), axis=0)) if counted else None,
                since=int(since[k]) if since is not None and since[k] >= 0 else None,
            )
        )
    return tuple(sorted(found, key=lambda d: -1 if d.component is None else d.component))


def thin_components(params: GMMParams, rows: Rows, options: EMOptions, *, singular: bool) -> np.ndarray:
    """(K) bool: the components that `diagnose` calls "floor" or "singular"."""
    return _thin(params, rows, options, singular=singular).found


def thin_where_rows_vary(params: GMMParams, rows: Rows, options: EMOptions, *, singular: bool) -> np.ndarray:
    """(K) bool: those of `thin_components` that are thin along a direction in which the rows as a whole vary."""
    thin = _thin(params, rows, options, singular=singular)
    if not thin.found.any():
        return thin.found
    covariances, of_all = full_covariances(thin.shown), rows.covariance
    bad = np.zeros_like(thin.found)
    for k in np.flatnonzero(thin.found):
        unit = 1.0 / np.sqrt(np.where(thin.floor[k] > 0, thin.floor[k], 1.0))
        units = unit[:, None] * unit[None, :]
        values, directions = np.linalg.eigh(of_all * units)
        varying = directions[:, values > 1.0]
        inner = varying.T @ (covariances[k] * units) @ varying
        bad[k] = inner.size > 0 and np.linalg.eigvalsh(inner)[0] <= 1.0
    return bad


class _Thin(NamedTuple):
    """Which components are thin (K), the mixture in which that shows, of which kind, and below what (K, D)."""

    found: np.ndarray
    shown: GMMParams
    kind: str
    floor: np.ndarray


def _thin(params: GMMParams, rows: Rows, options: EMOptions, *, singular: bool) -> _Thin:
    """The components that become singular, or else those that are at the floor."""
    used = np.asarray(params.weights) > 0
    if singular:
        reg_covar = np.asarray(options.reg_covar, rows.dtype)
        after, _ = _next(params, rows.x, rows.weight, reg_covar=reg_covar, prior=options.prior)
        shown = after if np.isfinite(np.asarray(after.covariances)).all() else params
        # By the size of the moments that they come from, as `is_sound` does.
        moments = np.einsum("kii->ki", full_covariances(shown)) + np.asarray(shown.means, np.float64) ** 2
        floor = np.maximum(singular_floor(rows.n_features, rows.dtype) * moments, np.finfo(np.float64).tiny)
        broken = at_floor(full_covariances(shown), floor) & used
        if broken.any():
            return _Thin(broken, shown, "singular", floor)
    floor = np.broadcast_to(AT_FLOOR * np.asarray(options.watched, np.float64), np.shape(params.means))
    return _Thin(at_floor(full_covariances(params), floor) & used, params, "floor", floor)


@jax.jit
def _full(params: GMMParams) -> Array:
    return params.family.to_full(params.covariances, params.n_components, params.n_features)


def full_covariances(params: GMMParams) -> np.ndarray:
    """(K, D, D) in float64, on the host."""
    return np.asarray(_full(params), np.float64)


def at_floor(covariances: np.ndarray, floor: np.ndarray) -> np.ndarray:
    """(K): whose covariance (K, D, D), in units of `floor` (K, D), has an eigenvalue of at most 1; of 0: none."""
    unit = 1.0 / np.sqrt(np.where(floor > 0, floor, 1.0))
    with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is left out below
        scaled = covariances * unit[:, :, None] * unit[:, None, :]
    finite = np.all(np.isfinite(scaled), axis=(1, 2), keepdims=True)
    smallest = np.linalg.eigvalsh(np.where(finite, scaled, 0.0))[:, 0]
    return np.logical_and(smallest <= 1.0, np.any(floor > 0, axis=1))


def _thin_directions(params: GMMParams, k: int, floor: np.ndarray) -> tuple[float, tuple[int, ...]]:
    """The smallest eigenvalue of Σ_k; the columns that do not vary, and those of the directions in which others do not.

    A direction is a sum Σ_j a_j x_j; a column is part of it by |a_j| times its own spread.
    """
    covariance = full_covariances(params)[k]
    if not np.isfinite(covariance).all():
        return 0.0, tuple(range(len(covariance)))
    named = np.diag(covariance) <= floor
    moving = np.flatnonzero(~named)
    if len(moving):
        unit = 1.0 / np.sqrt(floor[moving])
        rest = covariance[np.ix_(moving, moving)]
        values, vectors = np.linalg.eigh(rest * unit[:, None] * unit[None, :])
        thin = vectors[:, : max(int(np.sum(values <= 1.0)), int(not named.any()))]
        part = np.abs(thin) * (unit * np.sqrt(np.diag(rest)))[:, None]
        named[moving] = np.any(part >= _NAMED * np.max(part, axis=0, keepdims=True), axis=1)
    return _smallest_eigenvalue(covariance), tuple(np.flatnonzero(named).tolist())


def _smallest_eigenvalue(covariance: np.ndarray) -> float:
    """By way of the inverse of the Cholesky factor: beside much larger columns the eigenvalue itself would cancel."""
    try:
        with np.errstate(all="ignore"):
            inverse = np.linalg.inv(np.linalg.cholesky(covariance))
            return float(np.linalg.norm(inverse, 2) ** -2.0)
    except np.linalg.LinAlgError:
        return float(max(np.linalg.eigvalsh(covariance)[0], 0.0))
