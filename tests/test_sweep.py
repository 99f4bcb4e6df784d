"""What `sweep` promises: every cell a fit, tables, criteria, failed cells, dropped restarts."""

import dataclasses
from functools import partial

import numpy as np
import pytest

import jaxgmm
from jaxgmm import FitError, Status, UsageError
from jaxgmm.em import restarts
from tests.helpers import D, K, assert_params_close, match, permuted
from tests.oracles import numpy_gmm as oracle


@pytest.mark.parametrize("init", ["kmeans", "random"])
def test_a_cell_of_a_sweep_is_the_fit_of_that_count(small, init):
    """Padding to a common K and sharing the random numbers change nothing but rounding."""
    options = {"init": init, "key": 4, "max_iter": 8, "tol": 0.0}
    sweep = jaxgmm.sweep(small.x, [2, K], covariance_types="diag", **options)
    for n_components, cell in zip((2, K), sweep.fits, strict=True):
        alone = jaxgmm.fit(small.x, n_components, covariance_type="diag", **options)
        assert cell.n_components == n_components
        assert cell.params.means.shape == (n_components, D)
        np.testing.assert_allclose(cell.history, alone.history, rtol=1e-10)
        assert_params_close(cell.params, alone.params, 1e-8)


def test_the_table_of_a_sweep(small):
    result = jaxgmm.sweep(
        small.x, [3, 1, 2, 2], covariance_types=["diag", "VII", "diag"], key=0, max_iter=30, criterion="aic"
    )
    assert result.cells == tuple((name, n) for name in ("diag", "spherical") for n in (1, 2, 3))
    assert result.candidates == (1, 2, 3)
    table = result.table()
    assert [(row["covariance_type"], row["n_components"]) for row in table] == list(result.cells)
    for row, cell, value in zip(table, result.fits, result.values, strict=True):
        assert row["status"] == cell.status.name
        for name in ("log_likelihood", "n_parameters", "aic", "bic", "icl", "n_iter", "best_share"):
            assert row[name] == getattr(cell, name)
        assert value == cell.aic
    assert result.best is result.fits[int(np.argmin(result.values))]
    assert not result.larger_is_better


def _far_apart(small):
    return np.concatenate([small.x[:100], small.x[100:] + 30])


@pytest.mark.parametrize("criterion", jaxgmm.CRITERIA)
def test_criteria_choose(small, criterion):
    x = _far_apart(small)
    result = jaxgmm.sweep(x, range(1, 5), covariance_types="diag", key=0, criterion=criterion, max_iter=50)
    usable = result.values[~np.isnan(result.values)]
    best = usable.max() if criterion == "silhouette" else usable.min()
    assert result.values[result.best_index] == best
    if criterion == "silhouette":
        assert result.larger_is_better
        assert np.isnan(result.values[0])  # one cluster has none
        assert result.best.n_components == 2
        labels = jaxgmm.predict(result.best.params, x)
        assert best == pytest.approx(oracle.silhouette(x, labels), rel=1e-10)
        assert result.table()[1]["silhouette"] == best
    else:
        assert result.values[2] == getattr(result.fits[2], criterion)


def test_the_edge_of_the_range_is_reported(small):
    whole = jaxgmm.sweep(
        _far_apart(small), range(1, 5), covariance_types="diag", key=0, criterion="silhouette", max_iter=50
    )
    assert whole.best.n_components == 2

    def among(*counts):
        places = [whole.candidates.index(n) for n in counts]
        return dataclasses.replace(
            whole,
            cells=tuple(whole.cells[i] for i in places),
            fits=tuple(whole.fits[i] for i in places),
            failures=tuple(whole.failures[i] for i in places),
            values=whole.values[places],
        )

    assert not whole.at_edge
    assert among(2, 3, 4).at_edge
    assert among(1, 2).at_edge
    assert not among(1, 2, 3).at_edge
    assert not among(2).at_edge  # no range
    lowest = dataclasses.replace(whole, values=np.array([4.0, 3, 2, 1]))
    assert lowest.best.n_components == 1
    assert not lowest.at_edge  # there is nothing below one component


def test_a_failed_cell_keeps_its_code_and_cannot_win(small):
    x = small.x.copy()
    x[:, 2] = 1.0  # singular for correlated families, not for a round one
    options = {"key": 0, "reg_covar": 0.0, "max_iter": 30}
    result = jaxgmm.sweep(x, [K], covariance_types=["full", "spherical"], **options)
    assert result.fits[0] is None
    assert result.failures == (Status.SINGULAR, None)
    assert np.isnan(result.values[0])
    assert result.best.covariance_type == "spherical"
    assert result.table()[0] == {"covariance_type": "full", "n_components": K, "status": "SINGULAR"}
    with pytest.raises(FitError, match="singular"):
        jaxgmm.sweep(x, [K], covariance_types="full", **options)


def test_weights_of_a_sweep(small):
    options = {"covariance_types": "diag", "max_iter": 10, "key": 0, "init": "orthant"}
    weighted = jaxgmm.sweep(small.x, [2, 3], sample_weight=small.counts, **options)
    repeated = jaxgmm.sweep(np.repeat(small.x, small.counts, axis=0), [2, 3], **options)
    np.testing.assert_allclose(weighted.values, repeated.values, rtol=1e-10)
    order = match(weighted.best.params.means, repeated.best.params.means)
    assert_params_close(permuted(weighted.best.params, order), repeated.best.params, 1e-9)


# Dropping restarts after a short run


def test_only_the_most_promising_restarts_go_on(small):
    fit = partial(jaxgmm.fit, small.x, K, key=3, n_restarts=8, init="random_from_data", max_iter=300)
    every, some = fit(), fit(keep_restarts=2)
    dropped = some.restart_status == Status.DROPPED
    slow = every.restart_n_iter > restarts.SHORT_RUN
    assert 0 < dropped.sum() == slow.sum() - np.sum(slow & ~dropped)
    # Those that were dropped did the short run and no more, and their history says so.
    assert (some.restart_n_iter[dropped] == restarts.SHORT_RUN).all()
    history = some.restart_history
    np.testing.assert_array_equal(np.sum(~np.isnan(history), axis=1), some.restart_n_iter + 1)
    # The others end where they would have ended, at the same iteration.
    kept = ~dropped
    np.testing.assert_array_equal(some.restart_n_iter[kept], every.restart_n_iter[kept])
    np.testing.assert_allclose(some.restart_log_likelihoods[kept], every.restart_log_likelihoods[kept], rtol=1e-12)
    # No lane that was dropped was ahead of one that went on.
    at_short = np.array([row[~np.isnan(row)][: restarts.SHORT_RUN + 1][-1] for row in history])
    assert at_short[dropped].max() <= at_short[kept & slow].min() + 1e-9
    assert some.best_restart in np.flatnonzero(kept)
    assert not some.converged or some.status == Status.CONVERGED


def test_a_sweep_drops_restarts_of_each_count(small):
    found = jaxgmm.sweep(small.x, (2, K), key=3, n_restarts=8, init="random_from_data", max_iter=300, keep_restarts=1)
    for fit in found.fits:
        assert np.sum((fit.restart_status != Status.DROPPED) & (fit.restart_n_iter > restarts.SHORT_RUN)) <= 1


def test_keeping_as_many_restarts_as_there_are_drops_none(small):
    result = jaxgmm.fit(small.x, K, key=3, n_restarts=2, max_iter=30, keep_restarts=2)
    assert Status.DROPPED not in result.restart_status
    with pytest.raises(UsageError, match="keep_restarts"):
        jaxgmm.fit(small.x, K, key=3, keep_restarts=0)
