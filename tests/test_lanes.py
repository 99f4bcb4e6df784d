"""The lane engine: how lanes are batched and re-packed must not show in what they return."""

import jax
import numpy as np
import pytest

from jaxgmm._options import em_options
from jaxgmm._status import Status
from jaxgmm.em import lanes as engine
from tests.helpers import K, cast, start


@pytest.fixture(scope="module")
def problem(small):
    """Six starts of very different length over the small rows, float32 so that no mode is needed."""
    params = [cast(start("full", seed=seed), np.float32) for seed in (0, 1, 2, 7, 8, 10)]
    starts = jax.tree.map(lambda *leaves: np.stack(leaves), *params)
    x = (small.x - small.x.mean(axis=0)).astype(np.float32)
    starts = engine.replace(starts, means=starts.means - small.x.mean(axis=0).astype(np.float32))
    return starts, jax.numpy.asarray(x), jax.numpy.ones(len(x), np.float32)


def run(problem, monkeypatch, **constants):
    """All six lanes with changed constants of the engine."""
    for name, value in constants.items():
        monkeypatch.setattr(engine, name, value)
    return engine.run_lanes(*problem, em_options(np.float32, tol=1e-6, max_iter=300))


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


def test_lanes_stop_at_different_times(problem, monkeypatch):
    lanes = run(problem, monkeypatch)
    assert lanes.n_iter.min() < lanes.n_iter.max(), lanes.n_iter


def test_re_packing_changes_nothing(problem, monkeypatch):
    whole = run(problem, monkeypatch, REPACK_FLOPS=np.inf)
    sizes = []
    pack = engine._pack
    monkeypatch.setattr(engine, "_pack", lambda state, index: sizes.append(len(index)) or pack(state, index))
    packed = run(problem, monkeypatch, REPACK_FLOPS=0.0)
    assert sizes  # lanes did move into smaller buckets
    assert all(size & (size - 1) == 0 for size in sizes)
    same(whole, packed)


def test_batches_change_nothing(problem, monkeypatch):
    whole = run(problem, monkeypatch)
    per_lane = K * 3 * engine.MIN_BLOCK * 4
    parts = run(problem, monkeypatch, LANE_BYTES=4 * per_lane)  # 4 lanes, then 2 more
    same(whole, parts)
    assert parts.history.shape[0] == 6
