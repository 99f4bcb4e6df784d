"""The course of a fit: the parameters of every iteration, beside their log-likelihoods, kept and stored."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import pytest

import jaxgmm
from jaxgmm import UsageError, io, model
from jaxgmm._pytree import take
from jaxgmm.em import lanes, recording
from jaxgmm.model import Model
from tests.helpers import D, K, refusal, rewrite, start


def recorded(x, **how):
    return jaxgmm.fit(x, K, key=0, n_restarts=3, history="params", max_iter=40, **how)


@pytest.mark.parametrize(("family", "dtype"), [("full", np.float32), ("full", np.float64), ("tied", np.float64)])
def test_every_step_has_the_log_likelihood_of_its_parameters(small, family, dtype):
    x = small.x.astype(dtype)
    result = recorded(x, covariance_type=family)
    path = result.params_history
    assert path.means.shape == (len(result.history), K, D)
    assert path.means.dtype == dtype
    close = 1e-11 if dtype == np.float64 else 1e-5
    for t, value in enumerate(result.history):
        assert jaxgmm.log_prob(take(path, t), x).sum(dtype=float) == pytest.approx(value, rel=close)


def test_recording_changes_nothing(small):
    plain, kept = jaxgmm.fit(small.x, K, key=0, n_restarts=3, max_iter=40), recorded(small.x)
    assert plain.params_history is None
    assert kept.best_restart == plain.best_restart
    np.testing.assert_allclose(kept.restart_history, plain.restart_history, rtol=1e-12)
    np.testing.assert_allclose(kept.params.means, plain.params.means, rtol=1e-9)
    best = int(np.argmax(kept.history))
    np.testing.assert_array_equal(kept.params_history.means[best], kept.params.means)


def test_one_em_step_leads_from_each_to_the_next(small):
    path = jaxgmm.fit(small.x, K, init=start("full"), reg_covar=0.0, history="params", max_iter=5).params_history
    np.testing.assert_allclose(path.means[0], start("full").means, rtol=1e-12)
    for t in range(len(path.means) - 1):
        after, _ = jaxgmm.em_step(take(path, t), small.x, reg_covar=0.0)
        np.testing.assert_allclose(path.means[t + 1], after.means, rtol=1e-8)
        np.testing.assert_allclose(path.covariances[t + 1], after.covariances, rtol=1e-7, atol=1e-9)


def test_streams_and_accelerated_fits_are_recorded_too(small):
    whole, streamed = recorded(small.x), recorded(small.x, batch_size=70)
    # The starts come from the rows in another order.
    assert len(streamed.history) == len(streamed.params_history.means)
    assert streamed.log_likelihood == pytest.approx(whole.log_likelihood, rel=1e-3)
    fast = recorded(small.x, accelerate="squarem")
    assert len(fast.history) == len(fast.params_history.means)
    last = take(fast.params_history, -1)
    assert jaxgmm.log_prob(last, small.x).sum() == pytest.approx(fast.history[-1], rel=1e-12)


def test_more_lanes_than_fit_into_one_batch(small, monkeypatch):
    whole = recorded(small.x)
    monkeypatch.setattr(lanes, "LANE_BYTES", 1)
    parts = recorded(small.x)
    np.testing.assert_allclose(parts.params_history.means, whole.params_history.means, rtol=1e-8)


def test_what_does_not_go_with_it_is_said(small, monkeypatch, tmp_path):
    for how in ({"keep_restarts": 1}, {"degenerate": "revive"}, {"checkpoint": tmp_path}):
        with pytest.raises(UsageError, match=f"does not go with {next(iter(how))}") as error:
            recorded(small.x, **how)
        assert error.value.code == "E107"
    monkeypatch.setattr(recording, "MAX_BYTES", 10_000)
    with pytest.raises(UsageError, match=r"may take [\d,]+ bytes") as error:
        recorded(small.x)
    assert error.value.code == "E156"
    # 3 restarts, 41 states: weights, means, covariances, as float64.
    assert f"{3 * 41 * K * (1 + D + D * D) * 8:,} bytes" in str(error.value)


def test_a_model_file_keeps_the_course_of_the_fit(small, tmp_path):
    result = recorded(small.x)
    loaded = jaxgmm.load(jaxgmm.save(tmp_path / "m", result))
    np.testing.assert_array_equal(loaded.history.log_likelihood, result.restart_history)
    assert loaded.history.best == result.best_restart
    jax.tree.map(np.testing.assert_array_equal, loaded.history.params, result.params_history)
    plain = Model.from_fit(dataclasses.replace(result, params_history=None))
    loaded = jaxgmm.load(jaxgmm.save(tmp_path / "plain", plain))
    assert loaded.history.params is None
    assert loaded.meta["restart_status"] == [jaxgmm.Status(int(s)).name for s in result.restart_status]
    # Likelihoods are those of x where the fit was to (x - 3) / 2.
    scaled = Model.from_fit(result, shift=np.full(D, 3.0), scale=np.full(D, 2.0))
    by = small.x.shape[0] * D * np.log(2.0)
    np.testing.assert_allclose(scaled.history.log_likelihood, result.restart_history - by)
    assert np.nanmax(scaled.history.log_likelihood) == pytest.approx(scaled.meta["log_likelihood"])


def test_models_without_a_history_and_those_of_the_first_schema_are_read(tmp_path, monkeypatch):
    path = jaxgmm.save(tmp_path / "m", start("full"))
    assert jaxgmm.load(path).history is None
    monkeypatch.setattr(io, "SCHEMA_VERSION", 1)
    jaxgmm.save(path, start("full"), force=True)
    monkeypatch.undo()
    assert jaxgmm.load(path).history is None


def test_a_damaged_history_is_refused(small, tmp_path):
    path = jaxgmm.save(tmp_path / "m", recorded(small.x))
    with np.load(path) as archive:
        curves, means = archive["history"], archive["history_means"]
    for name, array in (("history", curves[0]), ("history", curves + 1), ("history_means", means[1:])):
        other = jaxgmm.save(tmp_path / "other", jaxgmm.load(path), force=True)
        assert "other.npz" in refusal(jaxgmm.load, rewrite(other, **{name: array}))
    for best in (-1, 99, None, 1.5):
        other = jaxgmm.save(tmp_path / "other", jaxgmm.load(path), force=True)
        assert "other.npz" in refusal(jaxgmm.load, rewrite(other, {"best_restart": best}))


def test_of_very_many_restarts_the_winner_is_kept(small, monkeypatch):
    result = recorded(small.x)
    monkeypatch.setattr(model, "_MAX_HISTORY", 5)
    history = Model.from_fit(result).history
    assert history.best == 0
    np.testing.assert_array_equal(history.log_likelihood[0][: len(result.history)], result.history)


def test_a_sweep_leaves_its_table_with_the_winner(small):
    found = jaxgmm.sweep(small.x, range(1, 4), key=0, max_iter=20)
    meta = Model.from_fit(found.best, sweep=found).meta
    assert meta["sweep"]["criterion"] == "bic"
    assert [row["n_components"] for row in meta["sweep"]["table"]] == [1, 2, 3]
    assert min(row["bic"] for row in meta["sweep"]["table"]) == meta["bic"]
