"""The two kernels give the same E-step, `lost_digits` says how nearly, and the lane engine chooses by it."""

from functools import cache, partial, reduce
from itertools import pairwise
from operator import add

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgmm import GMMParams, Status
from jaxgmm._checks import precision_context
from jaxgmm._numerics import max_lost_digits
from jaxgmm._options import em_options
from jaxgmm._status import UsageError
from jaxgmm.em import burst as bursts, lanes as engine
from jaxgmm.kernels import KERNELS, check_kernel, lost_digits
from jaxgmm.params import factorize
from jaxgmm.stats import collect
from jaxgmm.steps import m_step
from tests.helpers import as_family, assert_params_close, cast, full_covariances, params_of, parts_of, permuted

N, D, K = 1024, 3, 3
# Constants of the bounds, in eps times lost digits: a row's log-density, the mean one, and the covariances (by the
# size of a number in bytes). Seen over the long grid: 0.63, 0.41, and 16 and 45 in one dimension, 1.2 and 12 above.
ROW, MEAN, COVARIANCE = 1.0, 0.6, {4: 20.0, 8: 60.0}
# What both kernels lose anyway, in eps.
FLOOR = 200


# Mixtures about the pivot 0, and rows of them


@cache
def problem(
    family: str, separation: float, *, n_features: int = D, correlation: float = 0.0, narrow: float = 1.0, seed: int = 0
) -> tuple[GMMParams, np.ndarray]:
    """A mixture with centres `separation` from 0, the first `narrow` times as wide as the others; and N rows of it.

    correlation: of all pairs of features, where the family has any. Numbers are float32 ones.
    """
    rng = np.random.default_rng(seed)
    direction = rng.normal(size=(K, n_features))
    means = separation * direction / np.linalg.norm(direction, axis=1, keepdims=True) * np.sqrt(n_features)
    deviation = rng.uniform(0.5, 1.5, size=(K, n_features)) * np.array([narrow, 1.0, 1.0])[:, None]
    shape = np.full((n_features, n_features), correlation) + (1 - correlation) * np.eye(n_features)
    matrices = deviation[:, :, None] * shape * deviation[:, None, :]
    covariances = as_family(matrices, deviation**2, family)
    params = cast(params_of((np.array([0.5, 0.3, 0.2]), means, covariances), family), np.float32)
    labels = rng.choice(K, size=N, p=[0.5, 0.3, 0.2])
    lower = np.linalg.cholesky(full_covariances(params))
    x = params.means[labels] + np.einsum("nij,nj->ni", lower[labels], rng.normal(size=(N, n_features)))
    return cast(params, np.float64), x.astype(np.float32).astype(np.float64)


@partial(jax.jit, static_argnames=("kernel", "block_size"))
def _statistics(params, x, weight, kernel, block_size=None):
    return collect(factorize(params), x, weight, block_size, kernel=kernel)


@partial(jax.jit, static_argnames="kernel")
def _rows(params, x, kernel):
    how = KERNELS[kernel]
    prepared = how.prepare(factorize(params))
    joint, common = how.joint(prepared, how.view(prepared, x))
    return joint + jnp.broadcast_to(common, joint.shape[1:])[None, :]


@jax.jit
def _loss(params):
    return lost_digits(params, factorize(params))


def on_host(fn, params, x, *args, dtype=np.float64, **options):
    """A compiled function of (params, x, …) in a precision, its answers as float64 NumPy arrays."""
    with precision_context(np.dtype(dtype)):
        arrays = [np.asarray(a, dtype) for a in (x, *args)]
        return jax.tree.map(lambda a: np.asarray(a, np.float64), fn(cast_all(params, dtype), *arrays, **options))


def cast_all(params: GMMParams, dtype) -> GMMParams:
    """`cast` that also takes parameters with lane axes."""
    return jax.tree.map(lambda a: np.asarray(a, dtype), params)


def statistics(params, x, weight=None, *, kernel, dtype=np.float64, block_size=None):
    weight = np.ones(len(x)) if weight is None else weight
    return on_host(_statistics, params, x, weight, dtype=dtype, kernel=kernel, block_size=block_size)


def loss_of(params, dtype=np.float64) -> float:
    with precision_context(np.dtype(dtype)):
        return float(_loss(cast_all(params, dtype)))


def updated(params: GMMParams, stats) -> GMMParams:
    """The M-step in float64."""
    with jax.enable_x64(True):
        return jax.tree.map(np.asarray, m_step(params, stats, 0.0))


def kernel_errors(params, x, dtype) -> dict[str, float]:
    """Errors of `features` in units of eps × lost digits: of a row, the mean log-density and the update.

    The truth is `whitening` in float64 on the same numbers; the rows are those within 3 widths of their component.
    """
    unit = np.finfo(dtype).eps * loss_of(params)
    wanted = on_host(_rows, params, x, kernel="whitening")
    found = on_host(_rows, params, x, kernel="features", dtype=dtype)
    nearest = np.argmax(wanted, axis=0)
    place = np.arange(len(x))
    exact = statistics(params, x, kernel="whitening")
    stats = statistics(params, x, kernel="features", dtype=dtype)
    covariance, truth = full_covariances(updated(params, stats)), full_covariances(updated(params, exact))
    deviation = np.sqrt(np.einsum("kii->ki", truth))
    floor = FLOOR * np.finfo(dtype).eps

    mean = exact.log_likelihood / len(x)

    def beyond(error, size):
        return float(np.max(np.maximum(error - floor * size, 0.0))) / unit

    return {
        "row": beyond(np.abs(found - wanted)[nearest, place], 1 + np.abs(wanted[nearest, place])),
        "mean": beyond(abs(stats.log_likelihood / len(x) - mean), 1 + abs(mean)),
        "covariance": beyond(np.abs(covariance - truth) / (deviation[:, :, None] * deviation[:, None, :]), 1.0),
        "mass": beyond(np.abs(stats.resp_sum / exact.resp_sum - 1), 1.0),
    }


CASES = (
    {"separation": 0.5},
    {"separation": 5.0},
    {"separation": 300.0},
    {"separation": 5.0, "narrow": 0.01},
    {"separation": 3.0, "correlation": 0.999},
    {"separation": 100.0, "correlation": 0.9, "narrow": 0.1},
)


def assert_bounded(family, dtype, case):
    params, x = problem(family, **case)
    if np.finfo(dtype).eps * loss_of(params) > 0.1:
        return  # no digit is left, and no bound holds
    found = kernel_errors(params, x, dtype)
    assert found["row"] <= ROW, found
    assert found["mean"] <= MEAN, found
    assert found["covariance"] <= COVARIANCE[np.dtype(dtype).itemsize], found
    assert found["mass"] <= ROW, found


def test_lost_digits_bound_the_error_of_features(family, dtype):
    for case in CASES:
        assert_bounded(family, dtype, case)


@pytest.mark.slow
@pytest.mark.parametrize("n_features", [1, 2, 8, 16, 32])
def test_lost_digits_bound_the_error_on_a_long_grid(family, dtype, n_features):
    for case in CASES:
        for seed in range(4):
            assert_bounded(family, dtype, {**case, "n_features": n_features, "seed": seed})


# What lost_digits does not depend on


def test_lost_digits_do_not_depend_on_units_or_order(family):
    for case in CASES:
        params, _ = problem(family, **case)
        weights, means, covariances, _ = parts_of(params)
        loss = loss_of(params)
        order = np.array([2, 0, 1])
        assert loss_of(permuted(params, order)) == pytest.approx(loss, rel=1e-13)
        unit = np.full(D, 2.0**-20) if "spherical" in family else np.array([2.0**10, 2.0**-20, 1.0])
        factor = {"full": np.outer(unit, unit), "tied": np.outer(unit, unit), "spherical": unit[0] ** 2}
        factor["tied_spherical"] = factor["spherical"]
        scaled = covariances * factor.get(family, unit**2)
        assert loss_of(params_of((weights, means * unit, scaled), family)) == pytest.approx(loss, rel=1e-12)


def test_lost_digits_grow_with_distance_narrowness_and_correlation(family):
    plain = loss_of(problem(family, 5.0)[0])
    assert loss_of(problem(family, 500.0)[0]) > 1e3 * plain
    assert loss_of(problem(family, 5.0, narrow=0.01)[0]) > 1e2 * plain
    if family in ("full", "tied"):
        assert loss_of(problem(family, 5.0, correlation=0.999)[0]) > 1e2 * plain
    # At the pivot nothing is lost but the condition number.
    assert loss_of(problem("tied_spherical", 0.0)[0]) == pytest.approx(D)


def inactivate(params: GMMParams, rubbish: float) -> GMMParams:
    """The mixture with component 1 inactive, and its own parameters rubbish."""
    weights, means, covariances, covariance_type = (np.array(a) for a in parts_of(params))
    weights[1] = 0.0
    if params.family.per_component:
        covariances[1] = rubbish
        means[1] = rubbish
    return params_of((weights / weights.sum(), means, covariances), str(covariance_type))


@pytest.mark.parametrize("rubbish", [np.nan, 0.0, 1e300])
def test_inactive_components_count_for_nothing(family, rubbish):
    params, x = problem(family, 5.0)
    weights, means, covariances, _ = parts_of(inactivate(params, rubbish))
    own = params.family.per_component
    rest = params_of((weights[[0, 2]], means[[0, 2]], covariances[[0, 2]] if own else covariances), family)
    with_rubbish = params_of((weights, means, covariances), family)
    assert loss_of(with_rubbish) == pytest.approx(loss_of(rest), rel=1e-13)
    for kernel in KERNELS:
        joint = on_host(_rows, with_rubbish, x, kernel=kernel)
        assert (joint[1] == -np.inf).all()
        assert np.isfinite(joint[[0, 2]]).all()
        stats = statistics(with_rubbish, x, kernel=kernel)
        wanted = statistics(rest, x, kernel=kernel)
        assert stats.resp_sum[1] == 0.0
        np.testing.assert_allclose(stats.resp_sum[[0, 2]], wanted.resp_sum, rtol=1e-12)
        np.testing.assert_allclose(stats.log_likelihood, wanted.log_likelihood, rtol=1e-12)
        assert_params_close(updated(rest, wanted), without(updated(with_rubbish, stats)), 1e-9)


def without(params: GMMParams) -> GMMParams:
    """The mixture less component 1."""
    weights, means, covariances, family = parts_of(params)
    own = params.family.per_component
    return params_of((weights[[0, 2]], means[[0, 2]], covariances[[0, 2]] if own else covariances), family)


# Rows that do not count


@pytest.mark.parametrize("kernel", list(KERNELS))
@pytest.mark.parametrize("value", [1e150, 1e300, np.inf, np.nan])
def test_rows_of_weight_zero_are_as_if_absent(family, kernel, value):
    params, x = problem(family, 5.0)
    weight = np.ones(N)
    weight[::10] = 0.0
    dirty = x.copy()
    dirty[::10] = value
    clean = x.copy()
    clean[::10] = 0.0
    found = statistics(params, dirty, weight, kernel=kernel)
    wanted = statistics(params, clean, weight, kernel=kernel)
    for name, array in vars(found).items():
        np.testing.assert_array_equal(array, getattr(wanted, name), err_msg=name)


# Spans of row blocks


@partial(jax.jit, static_argnames="kernel")
def _span(params, x, weight, first, end, kernel):
    return collect(factorize(params), x, weight, 64, kernel=kernel, span=(first, end))


@pytest.mark.parametrize("kernel", list(KERNELS))
@pytest.mark.parametrize("covariance_type", ["full", pytest.param("tied_diag", marks=pytest.mark.slow)])
def test_spans_add_up_to_the_whole(covariance_type, kernel):
    params, x = problem(covariance_type, 5.0)
    weight = np.linspace(0.0, 2.0, N)
    whole = statistics(params, x, weight, kernel=kernel, block_size=64)
    for edges in ([0, 16], [0, 1, 16], [0, 5, 9, 9, 16], list(range(17))):
        with jax.enable_x64(True):
            parts = [
                _span(params, x, weight, np.int32(first), np.int32(end), kernel=kernel)
                for first, end in pairwise(edges)
            ]
            total = jax.tree.map(np.asarray, reduce(add, parts))
        for name, array in vars(whole).items():
            scale = np.abs(array).max() + 1.0
            np.testing.assert_allclose(getattr(total, name) / scale, array / scale, rtol=0, atol=1e-14, err_msg=name)


def lanes_of(*params: GMMParams) -> GMMParams:
    """Mixtures of one family and size as lanes."""
    return jax.tree.map(lambda *leaves: np.stack(leaves), *params)


def disturbed(params: GMMParams, seed: int, by: float = 0.3) -> GMMParams:
    """A start near the mixture: means moved, weights equal."""
    rng = np.random.default_rng(seed)
    _, means, covariances, family = parts_of(params)
    return params_of((np.full(K, 1 / K), means + by * rng.normal(size=means.shape), covariances * 1.5), family)


@pytest.mark.parametrize("kernel", list(KERNELS))
def test_a_burst_that_shares_the_rows_is_one_that_shares_the_lanes(kernel, monkeypatch):
    params, x = problem("full", 2.0)
    starts = lanes_of(disturbed(params, 1), disturbed(params, 2))
    monkeypatch.setattr(bursts, "SPAN_FLOPS", 1.0)
    monkeypatch.setattr(bursts, "MAX_SPANS", 4)
    monkeypatch.setattr(KERNELS[kernel], "block_size", lambda *_: 64)
    with jax.enable_x64(True):
        options = jax.tree.map(np.asarray, em_options(np.float64, tol=1e-5, reg_covar=0.0, max_iter=200))
        state, rest = engine._start(starts), (jnp.asarray(x), jnp.ones(N), options, 40, kernel, N)
        by_rows, a = bursts.in_spans(state, *rest)
        by_lanes, b = bursts.in_slots(jax.tree.map(np.asarray, state), *rest, 2)
    assert (np.asarray(by_rows.status) == Status.CONVERGED).all()
    np.testing.assert_array_equal(by_lanes.status, np.asarray(by_rows.status))
    np.testing.assert_array_equal(by_lanes.n_iter, np.asarray(by_rows.n_iter))
    assert np.isnan(b[:, a.shape[1] :]).all()
    np.testing.assert_allclose(b[:, : a.shape[1]], a, rtol=1e-13)
    for lane in range(2):
        one, two = (jax.tree.map(lambda v, i=lane: np.asarray(v)[i], s.best_params) for s in (by_lanes, by_rows))
        assert_params_close(one, two, 1e-10)


# The choice of the kernel


def run(starts, x, kernel="auto", dtype=np.float64, **options):
    """The lane engine on rows about their mean."""
    with precision_context(np.dtype(dtype)):
        return engine.run_lanes(
            cast_all(starts, dtype),
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
            starts = cast_all(lanes_of(near, far), dtype)
            return list(engine._features_first(starts, jnp.zeros((N, D), dtype), options))

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
