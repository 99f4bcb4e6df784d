"""The lane engine: how lanes are batched and re-packed must not show in what they return."""

import time

import jax
import numpy as np
import pytest

from jaxgmm import _parallel, _slots
from jaxgmm._checks import precision_context
from jaxgmm._options import em_options
from jaxgmm._status import Status
from jaxgmm.data import make_cube
from jaxgmm.data.rows import prepare_rows
from jaxgmm.em import burst as bursts, lanes as engine
from jaxgmm.em.loop import run_em
from jaxgmm.em.restarts import random_starts
from jaxgmm.kernels import KERNELS
from tests.helpers import K, cast, start


@pytest.fixture(scope="module")
def problem(small):
    """Six starts of very different length over the small rows, float32 so that no mode is needed."""
    params = [cast(start("full", seed=seed), np.float32) for seed in (0, 1, 2, 7, 8, 10)]
    starts = jax.tree.map(lambda *leaves: np.stack(leaves), *params)
    x = (small.x - small.x.mean(axis=0)).astype(np.float32)
    starts = engine.replace(starts, means=starts.means - small.x.mean(axis=0).astype(np.float32))
    return starts, jax.numpy.asarray(x), jax.numpy.ones(len(x), np.float32)


SPANS = {"SPAN_FLOPS": 1.0, "MAX_SPANS": 4}
TWO_SLOTS = {"n_slots": lambda *_: 2}


def run(problem, monkeypatch, **constants):
    """All six lanes with changed constants of the engine."""
    for name, value in constants.items():
        monkeypatch.setattr(engine if hasattr(engine, name) else bursts, name, value)
    starts, x, weight, *n_rows = problem
    return engine.run_lanes(starts, x, weight, em_options(np.float32, tol=1e-6, max_iter=300), "auto", *n_rows)


def same(a, b):
    """Equal lanes up to float32 rounding along the way."""
    np.testing.assert_array_equal(a.status, b.status)
    assert (a.status == Status.CONVERGED).all()
    np.testing.assert_allclose(a.log_likelihood, b.log_likelihood, rtol=1e-5)
    np.testing.assert_allclose(a.params.means, b.params.means, atol=2e-2)
    for i, n in enumerate(b.n_iter):
        assert np.isfinite(b.history[i, : n + 1]).all()
        assert np.isnan(b.history[i, n + 1 :]).all()
        np.testing.assert_allclose(np.nanmax(b.history[i]), b.log_likelihood[i], rtol=1e-6)


def identical(a, b):
    """Equal to the last bit, histories included."""
    jax.tree.map(np.testing.assert_array_equal, a, b)


def watch(monkeypatch, name):
    """The leading axes of the states that the bursts of that name get from now on."""
    widths, real = [], getattr(engine, name)
    monkeypatch.setattr(engine, name, lambda state, *rest: widths.append(len(state.status)) or real(state, *rest))
    return widths


def test_lanes_stop_at_different_times(problem, monkeypatch):
    lanes = run(problem, monkeypatch)
    assert lanes.n_iter.min() < lanes.n_iter.max(), lanes.n_iter


def test_rows_shared_out_among_cores_are_lanes_shared_out(problem, monkeypatch):
    by_lanes, by_rows = watch(monkeypatch, "in_slots"), watch(monkeypatch, "in_spans")
    lanes = run(problem, monkeypatch)
    assert by_lanes
    assert not by_rows
    same(lanes, run(problem, monkeypatch, **SPANS))
    assert by_rows


def test_re_packing_changes_nothing(problem, monkeypatch):
    whole = run(problem, monkeypatch, REPACK_FLOPS=np.inf, **SPANS)
    widths = watch(monkeypatch, "in_spans")
    packed = run(problem, monkeypatch, REPACK_FLOPS=0.0)
    assert widths[0] == 6
    assert min(widths) < 4  # lanes did move into smaller buckets
    assert all(width & (width - 1) == 0 for width in widths if width != 6)
    same(whole, packed)


def test_the_number_of_slots_changes_nothing(problem, monkeypatch):
    assert bursts.n_slots(160, 10) == 2
    assert bursts.n_slots(160, 4) == 8
    assert bursts.n_slots(6, 3) == 1
    alone = run(problem, monkeypatch)
    for slots in (2, 8):
        same(alone, run(problem, monkeypatch, n_slots=lambda *_, slots=slots: slots))


@pytest.mark.parametrize("way", [{}, SPANS], ids=["slots", "spans"])
def test_the_number_of_cores_changes_no_bit(problem, monkeypatch, way):
    few = {**TWO_SLOTS, **way}
    monkeypatch.setattr(_slots, "n_workers", lambda: 1)
    monkeypatch.setattr(_parallel, "n_workers", lambda: 1)
    alone = run(problem, monkeypatch, **few)
    monkeypatch.setattr(_slots, "n_workers", lambda: 3)
    monkeypatch.setattr(_parallel, "n_workers", lambda: 3)
    identical(alone, run(problem, monkeypatch, **few))


def test_a_lane_longer_than_a_burst_goes_on(problem, monkeypatch):
    whole = run(problem, monkeypatch)
    widths = watch(monkeypatch, "in_slots")
    pieces = run(problem, monkeypatch, BURST=8, **TWO_SLOTS)
    assert len(widths) > 2
    same(whole, pieces)


def test_rows_beyond_the_last_that_counts_are_not_read(problem, monkeypatch):
    starts, x, weight = problem
    blank = jax.numpy.full_like(x, np.nan)
    longer = (starts, jax.numpy.concatenate([x, blank]), jax.numpy.concatenate([weight, 0 * weight]), len(x))
    for way in ({}, SPANS):
        same(run(problem, monkeypatch, **way), run(longer, monkeypatch))


def test_rows_that_are_no_whole_number_of_blocks(problem, monkeypatch):
    """The engine is handed padded rows, but must not count any row twice or never if it is not."""
    starts, x, weight = problem
    odd = (starts, x[:199], weight[:199])
    whole = run(odd, monkeypatch)
    for kernel in KERNELS.values():
        monkeypatch.setattr(kernel, "block_size", lambda *_: 64)
    for way in ({}, SPANS):
        same(whole, run(odd, monkeypatch, **way))


def test_batches_change_nothing(problem, monkeypatch):
    whole = run(problem, monkeypatch)
    per_lane = K * 3 * engine.MIN_BLOCK * 4
    parts = run(problem, monkeypatch, LANE_BYTES=4 * per_lane)  # 4 lanes, then 2 more
    same(whole, parts)
    assert parts.history.shape[0] == 6


@pytest.mark.slow
def test_a_third_of_the_time_of_mapping_the_loop():
    """Lanes whose lengths vary tenfold: a loop under `vmap` runs all of them as long as the longest."""
    x = np.asarray(make_cube(200).x, np.float64)
    with precision_context(x.dtype):
        rows = prepare_rows(x, np.ones(len(x)))
        active = np.arange(10) < np.arange(1, 11)[:, None]
        keys = jax.random.split(jax.random.key(0), 8)
        starts = random_starts(rows, keys, active, "random_from_data", "full", np.asarray(1e-6))
        options = rows.options(em_options(x.dtype, tol=1e-6))
        mapped = jax.jit(jax.vmap(run_em, in_axes=(0, None, None, None)))

        def timed(run):
            run()
            begun = time.perf_counter()
            found = run()
            return found, time.perf_counter() - begun

        lanes, ours = timed(lambda: engine.run_lanes(starts, rows.x, rows.weight, options, n_rows=rows.n_samples))
        states, theirs = timed(lambda: jax.tree.map(np.asarray, mapped(starts, rows.x, rows.weight, options)))
    assert lanes.n_iter.max() > 10 * np.quantile(lanes.n_iter, 0.25)
    # With an iteration more or less, the log-likelihood is that much nearer to the same optimum.
    np.testing.assert_allclose(lanes.log_likelihood, states.best_log_likelihood, rtol=1e-9)
    per_count = (10, 8)
    winners = (np.argmax(ll.reshape(per_count), axis=1) for ll in (lanes.log_likelihood, states.best_log_likelihood))
    np.testing.assert_array_equal(*winners)
    # Seen: a thirtieth.
    assert ours < theirs / 3, (ours, theirs)
