"""Fits of rows that stay where they are: the same as in memory, however the rows come, and nothing kept of them."""

import numpy as np
import pytest

import jaxgmm
from jaxgmm import UsageError, fit, sweep
from jaxgmm.data import batches as pieces, survey as surveys
from jaxgmm.data.batches import Indexed, Rescaled
from jaxgmm.scale import choose, stream as streams
from tests.helpers import D, K, N, start, tolerance
from tests.streams import difference, refused, rows_of

FAMILIES = ("full", "tied", "diag", "spherical")


# Equal to in memory


@pytest.mark.parametrize("batch_size", [1, 7, 1000, N])
def test_batches_of_any_size_give_the_fit_in_memory(small, batch_size):
    options = {"init": start("full"), "max_iter": 40}
    there, here = fit(small.x, K, batch_size=batch_size, **options), fit(small.x, K, **options)
    assert here.n_iter == there.n_iter > 10
    assert there.log_likelihood == pytest.approx(here.log_likelihood, rel=1e-12)
    np.testing.assert_allclose(there.restart_history, here.restart_history, rtol=1e-12)
    assert difference(there, here) < 1e-9
    assert (there.n_samples, there.weight_sum) == (N, N)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_and_kernel_streams(small, family):
    for kernel in ("features", "whitening"):
        options = {"init": start(family), "max_iter": 20, "covariance_type": family, "kernel": kernel}
        there, here = fit(small.x, K, batch_size=100, **options), fit(small.x, K, **options)
        assert there.kernel == here.kernel == kernel
        assert there.log_likelihood == pytest.approx(here.log_likelihood, rel=1e-12)
        assert difference(there, here) < 1e-9


def test_weights_count_in_a_stream(small):
    options = {"init": start("full"), "max_iter": 20, "sample_weight": small.counts}
    there, here = fit(small.x, K, batch_size=100, **options), fit(small.x, K, **options)
    assert there.log_likelihood == pytest.approx(here.log_likelihood, rel=1e-12)
    assert difference(there, here) < 1e-9
    assert there.weight_sum == small.counts.sum()


def test_random_starts_are_those_in_memory_where_all_rows_fit_into_the_sample(small):
    there, here = (fit(small.x, K, key=0, n_restarts=4, max_iter=30, **more) for more in ({"batch_size": 64}, {}))
    np.testing.assert_allclose(there.restart_log_likelihoods, here.restart_log_likelihoods, rtol=1e-10)


def test_a_sample_is_enough_to_start_from(small, monkeypatch):
    monkeypatch.setattr(surveys, "SAMPLE_ROWS", 50)
    found = fit(small.x, K, key=0, n_restarts=4, batch_size=64)
    assert found.converged
    assert found.log_likelihood >= fit(small.x, K, key=0, n_restarts=4).log_likelihood - 1e-3


def test_a_sweep_streams(small):
    there, here = (sweep(small.x, range(1, 4), key=0, n_restarts=2, **more) for more in ({"batch_size": 64}, {}))
    np.testing.assert_allclose(there.values, here.values, rtol=1e-9)
    with pytest.raises(UsageError, match="silhouette") as error:
        sweep(small.x, range(2, 4), key=0, criterion="silhouette", batch_size=64)
    assert error.value.code == "E111"


@pytest.mark.parametrize("accelerate", ["squarem", "lbfgs"])
def test_acceleration_and_repairs_work_in_a_stream(small, accelerate):
    there, here = (
        fit(small.x, K, init=start("full"), accelerate=accelerate, degenerate="revive", **more)
        for more in ({"batch_size": 64}, {})
    )
    assert there.converged
    assert there.log_likelihood == pytest.approx(here.log_likelihood, rel=1e-7)


def test_single_precision_does_not_drift_with_the_number_of_batches():
    """Where 4,000 partial sums in single precision would be off by many times its eps."""
    x = np.random.default_rng(0).normal(size=(4000, 1)).astype(np.float32) + np.float32(3.0)
    options = {"max_iter": 1, "init": start("diag", 1), "covariance_type": "diag"}
    options["init"] = jaxgmm.make_params([1.0], [[2.0]], [[1.0]], "diag")
    there, here = fit(x, 1, batch_size=1, **options), fit(x.astype(np.float64), 1, **options)
    assert there.params.dtype == np.float32
    assert there.log_likelihood == pytest.approx(here.log_likelihood, rel=tolerance(np.float32, 4))
    assert difference(there, here) < tolerance(np.float32, 8)


# However the rows come


def test_rules_about_weights_are_for_all_rows_together(small):
    x, weight = small.x.astype(np.float32), np.r_[np.full(150, 1e-35), np.ones(50)]
    there, here = (
        fit(x, K, init=start("full"), sample_weight=weight, max_iter=3, **more) for more in ({"batch_size": 64}, {})
    )
    assert there.log_likelihood == pytest.approx(here.log_likelihood, rel=1e-5)
    refused("E223", lambda: fit(Indexed(x, weight=np.full(N, 1e-40)), K, key=0, batch_size=64))
    refused("E222", lambda: fit(Indexed(x, weight=np.zeros(N)), K, key=0, batch_size=64))


def test_rows_that_do_not_fit_are_streamed_and_it_is_said(small, monkeypatch, caplog):
    opened = []
    real = streams.open_stream
    monkeypatch.setattr(jaxgmm.api, "open_stream", lambda *a, **more: opened.append(1) or real(*a, **more))
    monkeypatch.setattr(choose, "free_device_memory", lambda: 2 * small.x.nbytes - 2)
    fit(small.x, K, key=0, max_iter=1)
    assert opened == [1]
    assert "so they are streamed" in caplog.text
    monkeypatch.setattr(choose, "free_device_memory", lambda: 2 * small.x.nbytes)
    fit(small.x, K, key=0, max_iter=1)
    assert opened == [1]


def test_nothing_longer_than_a_batch_is_made(small, monkeypatch):
    longest = []
    real = pieces._joined
    monkeypatch.setattr(pieces, "_joined", lambda parts: longest.append(len(real(parts).x)) or real(parts))
    monkeypatch.setattr(surveys, "CHUNK", 16)
    monkeypatch.setattr(surveys, "_BYTES", 1)
    fit(Indexed(small.x), K, init=start("full"), batch_size=48, max_iter=2)
    # 200 rows in batches of equal length.
    assert max(longest) == 40


def test_a_rescaled_source_is_the_rescaled_rows(small):
    source = Rescaled(Indexed(small.x), np.dtype(np.float32), np.ones(D), np.full(D, 2.0))
    np.testing.assert_array_equal(rows_of(source, 64), ((small.x - 1.0) / 2.0).astype(np.float32))
    assert (source.n_samples, source.n_features, source.place(3)) == (N, D, "x, row 3")


def test_an_interrupted_stream_keeps_its_best_state(small, monkeypatch):
    from jaxgmm import _interrupt

    wish = _interrupt.Wish()
    monkeypatch.setattr(_interrupt, "_current", wish)
    collect, passes = streams.Stream.collect, []

    def passing(self, factors, *, kernel):
        passes.append(1)
        if len(passes) == 4:
            wish.exit_code = 130
        return collect(self, factors, kernel=kernel)

    monkeypatch.setattr(streams.Stream, "collect", passing)
    found = fit(small.x, K, init=start("full"), batch_size=50)
    assert found.status.name == "INTERRUPTED"
    assert found.n_iter == 2
    assert np.isfinite(found.log_likelihood)


def test_a_batch_may_have_no_weight(small):
    weight = np.r_[np.zeros(100), np.ones(N - 100)]
    there, here = (
        fit(small.x, K, init=start("full"), sample_weight=weight, max_iter=5, **m) for m in ({"batch_size": 50}, {})
    )
    assert there.log_likelihood == pytest.approx(here.log_likelihood, rel=1e-12)
