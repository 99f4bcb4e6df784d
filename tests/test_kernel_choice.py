"""The lane engine chooses a kernel for each lane by `lost_digits`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm
from jaxgmm import GMMParams, Status
from jaxgmm._checks import precision_context
from jaxgmm._numerics import max_lost_digits
from jaxgmm._options import em_options
from jaxgmm._status import UsageError
from jaxgmm.em import lanes as engine
from jaxgmm.kernels import check_kernel
from tests.helpers import assert_params_close, cast, params_of, parts_of
from tests.separated import D, N, disturbed, lanes_of, loss_of, problem


def run(starts, x, kernel="auto", dtype=np.float64, **options):
    """The lane engine on rows about their mean."""
    with precision_context(np.dtype(dtype)):
        return engine.run_lanes(
            cast(starts, dtype),
            jnp.asarray(x, dtype),
            jnp.ones(len(x), dtype),
            em_options(np.dtype(dtype), **{"reg_covar": 0.0, "max_iter": 300, **options}),
            kernel,
        )


def watch(monkeypatch) -> list[str]:
    """The kernels of the bursts that run from now on."""
    used = []
    for way in ("in_slots", "in_spans"):
        real = getattr(engine, way)
        monkeypatch.setattr(engine, way, lambda *args, real=real: used.append(args[5]) or real(*args))
    return used


def assert_whole_history(lanes) -> None:
    """One log-likelihood for the start and one for each iteration, and nothing else."""
    for i, n_iter in enumerate(lanes.n_iter):
        failed = lanes.status[i] in (Status.SINGULAR, Status.NONFINITE)
        length = n_iter + 1 - failed
        assert np.isfinite(lanes.history[i, :length]).all()
        assert np.isnan(lanes.history[i, length:]).all()


def collapsing() -> tuple[GMMParams, np.ndarray]:
    """A start that `features` can do and rows with a tight triple far away, onto which a component narrows down."""
    rng = np.random.default_rng(4)
    x = rng.normal(size=(256, 2))
    x[:3] = np.array([40.0, -40.0]) + 1e-5 * np.array([[0.0, 0.0], [1.0, 0.2], [0.3, 1.0]])
    x -= x.mean(axis=0)
    means = np.array([[0.5, 0.0], [-0.5, 0.0], [20.0, -20.0]])
    covariances = np.array([1.0, 1.0, 400.0])[:, None, None] * np.eye(2)
    return params_of((np.array([0.45, 0.45, 0.1]), means, covariances), "full"), x


@pytest.mark.parametrize("reg_covar", [0.0, 1e-12])
def test_a_lane_that_collapses_goes_on_with_whitening(monkeypatch, reg_covar):
    start, x = collapsing()
    assert loss_of(start) < max_lost_digits(np.float64, 2)
    used = watch(monkeypatch)
    auto = run(lanes_of(start), x, reg_covar=reg_covar, tol=1e-6)
    assert used[0] == "features"
    assert used[-1] == "whitening"
    assert list(auto.kernel) == ["whitening"]
    end = jax.tree.map(lambda a: a[0], auto.params)
    assert loss_of(end) > max_lost_digits(np.float64, 2)
    assert_whole_history(auto)
    forced = run(lanes_of(start), x, "whitening", reg_covar=reg_covar, tol=1e-6)
    assert list(forced.kernel) == ["whitening"]
    assert list(auto.status) == list(forced.status) == [Status.CONVERGED]
    assert list(auto.n_iter) == list(forced.n_iter)
    # A gap or a repeated entry would move all that follow.
    np.testing.assert_allclose(auto.history, forced.history, rtol=1e-9)
    np.testing.assert_allclose(auto.log_likelihood, forced.log_likelihood, rtol=1e-9)
    assert_params_close(end, jax.tree.map(lambda a: a[0], forced.params), 1e-6)


def test_a_forced_kernel_is_kept(monkeypatch):
    start, x = collapsing()
    used = watch(monkeypatch)
    features = run(lanes_of(start), x, "features", max_iter=30)
    assert set(used) == {"features"}
    assert list(features.kernel) == ["features"]
    assert features.status[0] != Status.IMPRECISE
    used.clear()
    safe, rows = problem("full", 0.5)
    assert loss_of(safe) < max_lost_digits(np.float64, D)
    whitening = run(lanes_of(safe), rows, "whitening", max_iter=5)
    assert set(used) == {"whitening"}
    assert list(whitening.kernel) == ["whitening"]


def test_a_forced_kernel_gives_way_where_no_digit_would_be_left():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 2)) * [1e-9, 1.0]
    x[:3] += 1e5
    options = {"key": 0, "covariance_type": "tied", "reg_covar": 0.0}
    forced, safe = (jaxgmm.fit(x, 2, kernel=name, **options) for name in ("features", "whitening"))
    assert forced.kernel == "whitening"
    assert forced.log_likelihood == pytest.approx(safe.log_likelihood, rel=1e-9)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_an_unsafe_start_goes_to_whitening_at_once(monkeypatch, dtype):
    """In double precision after one look with `features`, which counts for nothing."""
    monkeypatch.setattr(engine, "FEATURES_MIN_ROWS", 0)
    start, x = collapsing()
    _, means, covariances, _ = parts_of(start)
    means[2] = x[0]
    covariances[2] = 1e-6 * np.eye(2)
    unsafe = params_of((start.weights, means, covariances), "full")
    assert loss_of(unsafe) > max_lost_digits(np.float64, 2)
    used = watch(monkeypatch)
    lanes = run(lanes_of(unsafe), x, dtype=dtype, reg_covar=1e-6)
    assert set(used[1:]) <= {"whitening"}
    assert used[0] == ("features" if dtype == np.float64 else "whitening")
    assert list(lanes.kernel) == ["whitening"]
    assert_whole_history(lanes)
    forced = run(lanes_of(unsafe), x, "whitening", dtype=dtype, reg_covar=1e-6)
    np.testing.assert_array_equal(lanes.history, forced.history)


def test_the_choice_is_the_lanes_own():
    start, x = collapsing()
    unsafe = params_of((start.weights, start.means, start.covariances * 1e-9), "full")
    one = params_of((np.array([1.0, 0.0, 0.0]), start.means, start.covariances), "full")
    starts = (one, start, unsafe)
    together = run(lanes_of(*starts), x)
    assert_whole_history(together)
    for i, row in enumerate(run(lanes_of(*starts), x, "whitening").history):
        np.testing.assert_allclose(together.history[i, : len(row)], row, rtol=1e-7)
    assert list(together.kernel) == ["features", "whitening", "whitening"]
    for i, alone in enumerate(starts):
        lane = run(lanes_of(alone), x)
        assert lane.kernel[0] == together.kernel[i]
        assert lane.status[0] == together.status[i]
        assert lane.n_iter[0] == together.n_iter[i]
        np.testing.assert_allclose(lane.log_likelihood[0], together.log_likelihood[i], rtol=1e-9)


def test_a_stop_at_the_limit_counts_a_change_of_kernel_as_nothing():
    start, x = collapsing()
    whole = run(lanes_of(start), x, "whitening", max_iter=8)
    for max_iter in range(8):
        lanes = run(lanes_of(start), x, max_iter=max_iter)
        assert list(lanes.status) == [Status.MAX_ITER]
        assert list(lanes.n_iter) == [max_iter]
        assert_whole_history(lanes)
        np.testing.assert_allclose(lanes.history[0], whole.history[0, : max_iter + 1], rtol=1e-9)
        assert lanes.log_likelihood[0] == lanes.history[0, -1]


def test_single_precision_wants_many_rows_and_a_small_loss(monkeypatch):
    near, _ = problem("full", 0.5)
    far, _ = problem("full", 5.0)
    assert loss_of(near) < max_lost_digits(np.float32, D) < loss_of(far) < max_lost_digits(np.float64, D)

    def features_first(dtype):
        with precision_context(np.dtype(dtype)):
            options = engine.replace(em_options(np.dtype(dtype)), max_loss=np.asarray(max_lost_digits(dtype, D), dtype))
            starts = cast(lanes_of(near, far), dtype)
            table = engine.Table(jnp.zeros((N, D), dtype), None, N, None)
            return list(engine._features_first(starts, table, options))

    assert features_first(np.float32) == [False, False]
    # float64 has digits to give, however few the rows.
    assert features_first(np.float64) == [True, True]
    monkeypatch.setattr(engine, "FEATURES_MIN_ROWS", N)
    assert features_first(np.float32) == [True, False]


def test_many_rows_of_single_precision_use_features():
    near, x = problem("full", 0.5)
    x = np.tile(x, (engine.FEATURES_MIN_ROWS // N, 1))
    assert list(run(lanes_of(near), x[1:], dtype=np.float32, max_iter=0).kernel) == ["whitening"]
    assert list(run(lanes_of(near), x, dtype=np.float32, max_iter=0).kernel) == ["features"]
    assert list(run(lanes_of(near), x, "whitening", dtype=np.float32, max_iter=0).kernel) == ["whitening"]


@pytest.mark.parametrize("n_features", [2, *(pytest.param(d, marks=pytest.mark.slow) for d in (8, 16))])
def test_converged_fits_have_the_same_log_likelihood(n_features):
    params, x = problem("full", 1.0, n_features=n_features)
    x = x - x.mean(axis=0)
    starts = lanes_of(disturbed(params, 1, by=0.1))
    a, b = (run(starts, x, kernel, tol=1e-10, max_iter=5000, reg_covar=1e-6) for kernel in ("auto", "whitening"))
    assert list(a.kernel) == ["features"]
    assert list(a.status) == list(b.status) == [Status.CONVERGED]
    np.testing.assert_allclose(a.log_likelihood, b.log_likelihood, rtol=1e-9)


def test_an_unknown_kernel_names_the_nearest():
    assert [check_kernel(name) for name in ("auto", "features", "whitening")] == ["auto", "features", "whitening"]
    with pytest.raises(UsageError, match="did you mean 'features'"):
        check_kernel("feature")
