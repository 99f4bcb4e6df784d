"""Ten thousand degenerate data sets through `fit_many`: no exception, no NaN, and a status that the data bear out.

What is wrong with a set is worked out here from its rows alone, in exact terms where there are any.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

import jaxgmm
from jaxgmm import ManyResult, Status
from tests.test_properties import confirm_log_likelihood

D, K = 3, 4
N_SETS = 2500
MAX_ITER = 60
# The log-likelihood of one fit in so many is computed again.
LOOK_AGAIN = 20
FAMILIES = ("full", "tied", "diag", "spherical")
KINDS = (
    *("duplicate rows", "constant column", "repeated column", "collinear rows", "few rows", "few distinct rows"),
    *("all equal", "two points", "outlier", "zero weights"),
)


def make_set(kind: str, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Rows (n, 3) that suffer from one kind of degeneracy, and their weights (n).

    Numbers are short binary fractions, so that equal rows, columns and lines are exactly so.
    """
    n = int(rng.integers(2, 9)) if kind == "few rows" else int(rng.integers(8, 60))
    x = np.round(rng.normal(size=(n, D)) * 64) / 64 + 4.0 * rng.integers(0, 3, (n, 1))
    weight = np.ones(n)
    if kind == "few rows":
        x = x[: int(rng.integers(1, D + 1))]
        weight = np.ones(len(x))
    elif kind == "duplicate rows":
        x[: n // 2] = x[0]
    elif kind == "constant column":
        x[:, rng.integers(D)] = 7.0
    elif kind == "repeated column":
        x[:, 2] = x[:, 0]
    elif kind == "collinear rows":
        x = x[:, :1] * rng.integers(1, 5, D)
    elif kind == "few distinct rows":
        x = x[rng.integers(0, int(rng.integers(1, K)), n)]
    elif kind == "all equal":
        x[:] = x[0]
    elif kind == "two points":
        x = np.where(np.arange(n)[:, None] % 2 == 0, x[0], x[1])
    elif kind == "outlier":
        x[int(rng.integers(n))] += 2.0**22
    elif kind == "zero weights":
        weight = np.where(np.arange(n) < rng.integers(0, 2 * K), rng.integers(1, 4, n), 0).astype(float)
    return x, weight


@dataclass(frozen=True)
class Degeneracy:
    """What the rows of a set that count say about it.

    n_used: rows of positive weight. n_distinct: different ones among them. rank: of their deviations from one of
    them. constant: columns in which all of them agree. outlier: one row lies further from the median than ten
    thousand times the typical distance.
    """

    n_used: int
    n_distinct: int
    rank: int
    constant: tuple[int, ...]
    outlier: bool

    def singular(self, family: str) -> bool:
        """Whether the covariance of all rows together, and so of every part of them, has no inverse."""
        if family in ("full", "tied"):
            return self.rank < D
        return bool(self.constant) if family == "diag" else self.rank == 0


def diagnose(x: np.ndarray, weight: np.ndarray) -> Degeneracy:
    """The degeneracy of a set, from its rows (n, 3) and weights (n) alone."""
    rows = x[weight > 0]
    if not len(rows):
        return Degeneracy(0, 0, 0, (), False)
    # A power of two brings the entries to whole numbers, whose rank an integer determinant tells exactly.
    whole = ((rows - rows[0]) * 64).astype(np.int64)
    distance = np.abs(rows - np.median(rows, axis=0)).max(axis=1)
    return Degeneracy(
        n_used=len(rows),
        n_distinct=len(np.unique(rows, axis=0)),
        rank=exact_rank(whole),
        constant=tuple(np.flatnonzero((rows == rows[0]).all(axis=0)).tolist()),
        outlier=bool(distance.max() > 1e4 * max(np.median(distance), 1e-300)),
    )


def exact_rank(whole: np.ndarray) -> int:
    """The rank of a matrix of whole numbers, by elimination without fractions."""
    rows, rank = np.unique(whole, axis=0).astype(object), 0
    for column in range(rows.shape[1]):
        pivots = [i for i in range(rank, len(rows)) if rows[i, column] != 0]
        if not pivots:
            continue
        rows[[rank, pivots[0]]] = rows[[pivots[0], rank]]
        for i in range(rank + 1, len(rows)):
            rows[i] = rows[i] * rows[rank, column] - rows[rank] * rows[i, column]
        rank += 1
    return rank


# What each kind of set must be found to be: the diagnosis is judged by how the set was made.
EXPECTED = {
    "duplicate rows": lambda d: d.n_distinct < d.n_used,
    "constant column": lambda d: len(d.constant) == 1,
    "repeated column": lambda d: d.rank < D,
    "collinear rows": lambda d: d.rank == 1,
    "few rows": lambda d: d.n_used <= D and d.rank < D,
    "few distinct rows": lambda d: d.n_distinct < K,
    "all equal": lambda d: d.n_distinct == 1 and d.rank == 0 and len(d.constant) == D,
    "two points": lambda d: d.n_distinct == 2,
    "outlier": lambda d: d.outlier,
    "zero weights": lambda d: d.n_used < 2 * K,
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_diagnosis_sees_what_was_planted(kind):
    rng = np.random.default_rng(0)
    found = [diagnose(*make_set(kind, rng)) for _ in range(30)]
    assert all(map(EXPECTED[kind], found))


def make_sets(n_sets: int, seed: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    rng = np.random.default_rng(seed)
    sets = [make_set(KINDS[i % len(KINDS)], rng) for i in range(n_sets)]
    return [x for x, _ in sets], [w for _, w in sets]


def assert_sound(result: ManyResult, i: int, x: np.ndarray, weight: np.ndarray) -> None:
    """A set that was fitted has numbers everywhere, of the size that its rows allow."""
    fit = result.fits[i]
    params, rows = fit.params, x[weight > 0]
    assert np.isfinite(params.means).all()
    assert np.isfinite(params.covariances).all()
    assert abs(params.weights.sum() - 1) < 1e-12
    assert params.weights.min() >= 0
    active = params.weights > 0
    slack = 1e-9 * (1 + np.abs(rows).max())
    assert (params.means[active] >= rows.min(axis=0) - slack).all()
    assert (params.means[active] <= rows.max(axis=0) + slack).all()
    assert np.isfinite([fit.log_likelihood, fit.aic, fit.bic, fit.icl]).all()
    assert fit.status in (Status.CONVERGED, Status.MAX_ITER, Status.SINGULAR, Status.DECREASED)
    assert fit.converged == (fit.status == Status.CONVERGED) == result.converged[i]
    assert fit.n_iter == MAX_ITER or fit.status != Status.MAX_ITER


def assert_true(result: ManyResult, i: int, found: Degeneracy, family: str, reg_covar: float) -> None:
    """What is said of a set is what its rows say."""
    if found.n_used < K:
        assert not result.fitted[i]
        assert f"{found.n_used} row" in str(result.failures[i])
    elif reg_covar > 0:
        assert result.fitted[i]
        assert result.failures[i] is None
        # More components than places for them: the others are empty, not copies.
        assert np.count_nonzero(result.fits[i].params.weights) <= found.n_distinct or found.rank > 0
    elif not result.fitted[i]:
        # Not only that it cannot be done, but which component, and along which columns.
        told = [d for d in result.diagnoses(i) if d.kind == "singular"]
        assert told
        assert all(set(found.constant) <= set(d.columns) for d in told)
        assert all(d.text() in str(result.failures[i]) for d in told)
    else:
        assert not found.singular(family)
    if result.fitted[i] and reg_covar > 0 and found.singular(family):
        assert result.degenerate[i]


def assert_diagnosed(result: ManyResult, i: int, x: np.ndarray, weight: np.ndarray, found: Degeneracy) -> None:
    """What is said of each component is what its rows say."""
    fit, rows = result.fits[i], x[weight > 0]
    assert fit.degenerate == result.degenerate[i] == bool(fit.diagnoses)
    assert fit.diagnoses or fit.status != Status.SINGULAR
    labels = jaxgmm.predict(fit.params, rows)
    empty = {d.component for d in fit.diagnoses if d.kind == "empty"}
    assert empty == set(fit.empty_components)
    for d in fit.diagnoses:
        if d.kind != "floor":
            continue
        assert set(found.constant) <= set(d.columns)
        assert d.n_rows is not None
        if d.component is not None:
            mine = rows[labels == d.component]
            assert (d.n_rows, d.n_distinct) == (len(mine), len(np.unique(mine, axis=0)))
            spread = np.linalg.eigvalsh(np.atleast_2d(np.cov(mine.T, bias=True)))[0] if len(mine) else 0.0
            assert spread <= 1e-3 * rows.var(axis=0).max() + 1e-9


def assert_bears_scrutiny(n_sets: int, family: str, reg_covar: float) -> None:
    sets, weights = make_sets(n_sets, seed=FAMILIES.index(family))
    result = jaxgmm.fit_many(
        sets, K, covariance_type=family, key=0, sample_weight=weights, reg_covar=reg_covar, max_iter=MAX_ITER
    )
    assert len(result.fits) == n_sets
    for i, (x, weight) in enumerate(zip(sets, weights, strict=True)):
        assert_true(result, i, diagnose(x, weight), family, reg_covar)
        if result.fitted[i]:
            assert_sound(result, i, x, weight)
            if i % (LOOK_AGAIN - 1) == 0:
                assert_diagnosed(result, i, x, weight, diagnose(x, weight))
            continue
        assert np.isnan(result.log_likelihood[i])
        assert not result.converged[i]
    assert [row["status"] == "FAILED" for row in result.table()] == (~result.fitted).tolist()
    # Neither all nor none: the sets put both outcomes to the test.
    assert 0 < result.fitted.sum() < n_sets
    for i in np.flatnonzero(result.fitted)[::LOOK_AGAIN].tolist():
        confirm_log_likelihood(result.fits[i], sets[i], weights[i])


@pytest.mark.parametrize("family", FAMILIES)
def test_degenerate_sets(family):
    """Half of them with regularisation, half without."""
    assert_bears_scrutiny(N_SETS // 2, family, 1e-6)
    assert_bears_scrutiny(N_SETS // 2, family, 0.0)
