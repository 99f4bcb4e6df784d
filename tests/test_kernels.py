"""The two kernels give the same E-step, and `lost_digits` says how nearly."""

from functools import partial, reduce
from itertools import pairwise
from operator import add

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgmm import GMMParams, Status
from jaxgmm._checks import precision_context
from jaxgmm._options import em_options
from jaxgmm.em import burst as bursts, lanes as engine
from jaxgmm.kernels import KERNELS
from jaxgmm.params import factorize
from jaxgmm.stats import collect
from jaxgmm.steps import m_step
from tests.helpers import assert_params_close, cast, full_covariances, params_of, parts_of, permuted
from tests.separated import D, N, disturbed, lanes_of, loss_of, problem

# Constants of the bounds, in eps times lost digits: a row's log-density, the mean one, and the covariances (by the
# size of a number in bytes). Seen over the long grid: 0.63, 0.41, and 16 and 45 in one dimension, 1.2 and 12 above.
ROW, MEAN, COVARIANCE = 1.0, 0.6, {4: 20.0, 8: 60.0}
# What both kernels lose anyway, in eps.
FLOOR = 200


@partial(jax.jit, static_argnames=("kernel", "block_size"))
def _statistics(params, x, weight, kernel, block_size=None):
    return collect(factorize(params), x, weight, block_size, kernel=kernel)


@partial(jax.jit, static_argnames="kernel")
def _rows(params, x, kernel):
    how = KERNELS[kernel]
    prepared = how.prepare(factorize(params))
    joint, common = how.joint(prepared, how.view(prepared, x))
    return joint + jnp.broadcast_to(common, joint.shape[1:])[None, :]


def on_host(fn, params, x, *args, dtype=np.float64, **options):
    """A compiled function of (params, x, …) in a precision, its answers as float64 NumPy arrays."""
    with precision_context(np.dtype(dtype)):
        arrays = [np.asarray(a, dtype) for a in (x, *args)]
        return jax.tree.map(lambda a: np.asarray(a, np.float64), fn(cast(params, dtype), *arrays, **options))


def statistics(params, x, weight=None, *, kernel, dtype=np.float64, block_size=None):
    weight = np.ones(len(x)) if weight is None else weight
    return on_host(_statistics, params, x, weight, dtype=dtype, kernel=kernel, block_size=block_size)


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
