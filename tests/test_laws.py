"""Laws that hold for every family in every precision: what an EM for Gaussian mixtures must do, whatever the data.

Rounding is the only excuse, so every tolerance is a number of ulps of the dtype (`tolerance`). Runs that are
compared iteration by iteration stop after `STEPS` iterations, before EM's own dynamics magnify rounding.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm
from jaxgmm import GMMParams, Status
from jaxgmm._blocks import sum_over_blocks
from jaxgmm._options import EMOptions, em_options
from jaxgmm._pytree import take
from jaxgmm.data.rows import prepare_rows
from jaxgmm.em import lanes
from jaxgmm.em.restarts import given_starts, in_data_units
from jaxgmm.params import select_components
from tests.helpers import (
    D,
    K,
    N,
    assert_params_close,
    cast,
    full_covariances,
    make_small,
    params_of,
    parts_of,
    permuted,
    random_params,
    relative,
    start,
    tolerance,
)

STEPS = 6
# Multiples of eps: for one pass over the rows, and for a run of STEPS iterations, which magnifies rounding.
PASS_ULPS = 100
RUN_ULPS = 1000


def run(x, family, init=None, *, reg_covar=0.0, sample_weight=None, max_iter=STEPS):
    """Exactly `max_iter` iterations (tol 0) from a given start."""
    result = jaxgmm.fit(
        x, K, covariance_type=family, init=init or start(family), tol=0.0, reg_covar=reg_covar, max_iter=max_iter,
        sample_weight=sample_weight,
    )  # fmt: skip
    assert result.n_iter == len(result.history) - 1
    return result


def assert_same_run(a, b, dtype, params_b: GMMParams | None = None, shift: float = 0.0):
    """Two results went through the same iterations; `b`'s log-likelihoods are `shift` higher.

    `params_b`: b's parameters, mapped to where a's should be.
    """
    assert (a.status, a.n_iter) == (b.status, b.n_iter) == (Status.MAX_ITER, STEPS)
    assert a.log_likelihood == a.history[-1]
    history = a.history.astype(np.float64) + shift
    np.testing.assert_allclose(history, b.history, rtol=0, atol=tolerance(dtype, RUN_ULPS) * np.abs(history).max())
    assert_params_close(params_b or b.params, a.params, tolerance(dtype, RUN_ULPS))


def assert_same_stats(a, b, dtype, ulps=PASS_ULPS):
    """Two sets of statistics agree relative to the size of each field."""
    for name, left in vars(a).items():
        right = np.asarray(getattr(b, name), np.float64)
        scale = np.abs(right).max() + 1.0
        np.testing.assert_allclose(
            np.asarray(left, np.float64) / scale, right / scale, rtol=0, atol=tolerance(dtype, ulps), err_msg=name
        )


# The objective


def test_log_likelihood_never_falls(small, family, dtype):
    result = run(small.x.astype(dtype), family, max_iter=400, sample_weight=small.counts)
    rounding = tolerance(dtype, 16) * (1 + abs(result.log_likelihood))
    assert len(result.history) > 2 * STEPS
    assert np.diff(result.history.astype(np.float64)).min() >= -rounding
    assert result.history[-1] - result.history[0] > 10
    assert result.converged


def test_reported_log_likelihood_belongs_to_the_parameters(small, family, dtype):
    x = small.x.astype(dtype)
    result = run(x, family, reg_covar=1e-3)
    again = jaxgmm.e_step(result.params, x)
    assert relative(result.log_likelihood, float(again.log_likelihood)) < tolerance(dtype, PASS_ULPS)
    classified = float(again.classification_log_likelihood)
    assert relative(result.classification_log_likelihood, classified) < tolerance(dtype, PASS_ULPS)


def test_a_converged_fit_is_a_fixed_point(small, family, dtype):
    x = small.x.astype(dtype)
    result = run(x, family, max_iter=2000)
    assert result.converged
    update, _ = jaxgmm.em_step(result.params, x, reg_covar=0.0)
    # Near a maximum the objective is flat: parameters are fixed to the square root of its rounding.
    assert_params_close(update, result.params, 10 * tolerance(dtype, 1) ** 0.5)


# Symmetries


def test_order_of_the_rows_does_not_matter(small, family, dtype):
    x = small.x.astype(dtype)
    order = np.random.default_rng(1).permutation(N)
    a = run(x, family, sample_weight=small.counts)
    b = run(x[order], family, sample_weight=small.counts[order])
    assert_same_run(a, b, dtype)


def test_order_of_the_components_does_not_matter(small, family, dtype):
    x = small.x.astype(dtype)
    order = np.array([2, 0, 1])
    a = run(x, family)
    b = run(x, family, permuted(start(family), order))
    assert_same_run(a, b, dtype, permuted(b.params, np.argsort(order)))


@pytest.mark.parametrize("offset", [100.0, 4096.0])
def test_a_shift_of_the_data_shifts_the_means(small, family, dtype, offset):
    # The data and the offsets are such that x + b is exact, so float32 has no excuse but its own means.
    b = np.array([offset, -2 * offset, offset / 4])
    weights, means, covariances, _ = parts_of(start(family))
    plain = run(small.x.astype(dtype), family)
    moved = run((small.x + b).astype(dtype), family, params_of((weights, means + b, covariances), family))
    weights, means, covariances, _ = parts_of(moved.params)
    # Means near the offset are rounded to its last place; weights and covariances carry no offset and lose nothing.
    lost = np.abs(b).max() * tolerance(dtype, 1)
    wanted = parts_of(plain.params)[1]
    np.testing.assert_allclose(means - b, wanted, rtol=0, atol=lost + 10 * tolerance(dtype, RUN_ULPS))
    assert_same_run(plain, moved, dtype, params_of((weights, wanted, covariances), family))


@pytest.mark.parametrize("scale", [1e-3, 37.0])
def test_a_change_of_units_scales_means_and_covariances(small, family, dtype, scale):
    weights, means, covariances, _ = parts_of(start(family))
    init = params_of((weights, means * scale, covariances * scale**2), family)
    plain = run(small.x.astype(dtype), family, reg_covar=1e-2, sample_weight=small.counts)
    scaled = run((small.x * scale).astype(dtype), family, init, reg_covar=1e-2, sample_weight=small.counts)
    weights, means, covariances, _ = parts_of(scaled.params)
    back = params_of((weights, means / scale, covariances / scale**2), family)
    assert_same_run(plain, scaled, dtype, back, shift=-small.counts.sum() * D * np.log(scale))


@pytest.mark.parametrize("family", ["full", "tied"])
def test_a_rotation_of_the_data_rotates_the_model(small, family, dtype):
    rotation = np.linalg.qr(np.random.default_rng(3).normal(size=(D, D)))[0]
    weights, means, covariances, _ = parts_of(start(family))
    init = params_of((weights, means @ rotation.T, rotation @ covariances @ rotation.T), family)
    plain = run(small.x.astype(dtype), family)
    turned = run((small.x @ rotation.T).astype(dtype), family, init)
    weights, means, covariances, _ = parts_of(turned.params)
    back = params_of((weights, means @ rotation, rotation.T @ covariances @ rotation), family)
    assert_same_run(plain, turned, dtype, back)


# Weights


def test_a_whole_number_weight_is_a_repeated_row(small, family, dtype):
    x = small.x.astype(dtype)
    repeated = np.repeat(x, small.counts, axis=0)
    params = cast(start(family), dtype)
    weighted_stats = jaxgmm.e_step(params, x, small.counts)
    repeated_stats = jaxgmm.e_step(params, repeated)
    assert_same_stats(weighted_stats, repeated_stats, dtype)
    assert_params_close(
        jaxgmm.m_step(params, weighted_stats, 1e-3), jaxgmm.m_step(params, repeated_stats, 1e-3),
        tolerance(dtype, PASS_ULPS),
    )  # fmt: skip
    a = run(x, family, sample_weight=small.counts)
    b = run(repeated, family)
    assert_same_run(a, b, dtype)
    assert a.weight_sum == b.weight_sum == small.counts.sum()
    for criterion in ("aic", "bic", "icl", "score"):
        assert relative(getattr(a, criterion), getattr(b, criterion)) < tolerance(dtype, RUN_ULPS)


def test_rows_of_weight_zero_are_as_if_absent(small, family, dtype):
    x = small.x.astype(dtype)
    weight = small.counts.astype(dtype)
    far = np.where(weight[:, None] > 0, x, x + 1000)
    kept = weight > 0
    params = cast(start(family), dtype)
    assert_same_stats(jaxgmm.e_step(params, far, weight), jaxgmm.e_step(params, x[kept], weight[kept]), dtype)
    a = run(far, family, sample_weight=weight)
    b = run(x[kept], family, sample_weight=weight[kept])
    assert_same_run(a, b, dtype)
    assert a.bic == pytest.approx(b.bic, rel=tolerance(dtype, RUN_ULPS))


def test_only_the_ratios_of_the_weights_move_the_model(small, family, dtype):
    x = small.x.astype(dtype)
    a = run(x, family, reg_covar=1e-3, sample_weight=small.counts)
    b = run(x, family, reg_covar=1e-3, sample_weight=small.counts * 1e-3)
    assert_params_close(a.params, b.params, tolerance(dtype, RUN_ULPS))
    assert relative(a.log_likelihood, 1e3 * b.log_likelihood) < tolerance(dtype, RUN_ULPS)


# Statistics


def test_statistics_add_up(small, family, dtype):
    x = small.x.astype(dtype)
    params = cast(start(family), dtype)
    parts = jaxgmm.e_step(params, x[:77], small.counts[:77]) + jaxgmm.e_step(params, x[77:], small.counts[77:])
    assert_same_stats(parts, jaxgmm.e_step(params, x, small.counts), dtype)
    assert parts.weight_sum == small.counts.sum()


def test_statistics_are_what_the_responsibilities_say(small, family, dtype):
    x = small.x.astype(dtype)
    params = random_params(family, dtype=dtype)
    stats = jaxgmm.e_step(params, x, small.counts)
    resp = jaxgmm.responsibilities(params, x) * small.counts[:, None]
    delta = x[:, None] - params.means
    np.testing.assert_allclose(stats.resp_sum, resp.sum(axis=0), rtol=tolerance(dtype, PASS_ULPS))
    expected = np.einsum("nk,nki->ki", resp, delta)
    assert np.abs(stats.x_sum - expected).max() < tolerance(dtype, PASS_ULPS) * np.abs(delta).sum()
    assert float(stats.resp_sum.sum()) == pytest.approx(small.counts.sum(), rel=tolerance(dtype, PASS_ULPS))
    log_likelihood = small.counts @ jaxgmm.log_prob(params, x)
    assert relative(float(stats.log_likelihood), log_likelihood) < tolerance(dtype, PASS_ULPS)


def _in_blocks(dtype):
    """1100 rows, more than the largest block and no multiple of any, with weights."""
    small = make_small()
    return np.tile(small.x, (6, 1))[:1100].astype(dtype), np.tile(small.counts, 6)[:1100].astype(dtype)


def test_block_sizes_agree(family, dtype):
    x, weight = _in_blocks(dtype)
    params = random_params(family, dtype=dtype)

    # How rows are cut into blocks does not depend on the dtype: one precision tries all the sizes.
    sizes = (len(x), 7) if dtype == np.float32 else (len(x), 1, 7, 1000)

    @jax.jit
    def collect(params, x, weight):
        return [jaxgmm.e_step(params, x, weight, block_size=size) for size in sizes]

    with jax.enable_x64(dtype == np.float64):
        whole, *others = jax.tree.map(np.asarray, collect(params, x, weight))
    for stats in others:
        assert_same_stats(stats, whole, dtype)


@pytest.mark.parametrize("in_spans", [False, True])
def test_single_precision_sums_do_not_drift_with_the_number_of_blocks(in_spans):
    x = np.random.default_rng(0).uniform(1.0, 2.0, size=1 << 16).astype(np.float32)
    span = (jnp.int32(0), jnp.int32(len(x) // 16)) if in_spans else None
    total = jax.jit(lambda rows: sum_over_blocks(jnp.sum, (rows,), 16, span))(x)
    # 4,096 blocks added up one by one are wrong by 50 eps; those of 16 rows may be by 2.
    assert relative(float(total), np.sum(x, dtype=np.float64)) < 2 * np.finfo(np.float32).eps


@pytest.mark.parametrize("name", ["log_prob", "responsibilities"])
def test_rows_are_scored_the_same_in_any_block_size(name):
    x, _ = _in_blocks(np.float64)
    params, score = random_params("full"), getattr(jaxgmm, name)
    whole = score(params, x, block_size=len(x))
    for size in (1, 7, 1000):
        close = tolerance(np.float64, PASS_ULPS)
        np.testing.assert_allclose(score(params, x, block_size=size), whole, rtol=close, atol=close)


# Densities


def test_responsibilities_sum_to_one(small, family, dtype):
    params = random_params(family, dtype=dtype)
    far = np.concatenate([small.x, small.x * 1e3, small.x - 1e6]).astype(dtype)[: N + 50]
    resp = jaxgmm.responsibilities(params, far)
    assert (resp >= 0).all()
    np.testing.assert_allclose(resp.sum(axis=1), 1.0, rtol=0, atol=tolerance(dtype, 4))
    log_resp = jaxgmm.log_responsibilities(params, far)
    np.testing.assert_allclose(np.exp(log_resp), resp, rtol=0, atol=tolerance(dtype, PASS_ULPS))
    np.testing.assert_array_equal(jaxgmm.predict(params, far), resp.argmax(axis=1))
    np.testing.assert_array_equal(jaxgmm.uncertainty(params, far), 1 - resp.max(axis=1))


def test_a_special_family_is_the_full_family_with_its_covariances(small, family, dtype):
    x = small.x.astype(dtype)
    special = random_params(family, dtype=dtype)
    weights, means, _, _ = parts_of(special)
    general = params_of((weights, means, full_covariances(special)), "full", dtype)
    np.testing.assert_allclose(
        jaxgmm.component_log_prob(special, x), jaxgmm.component_log_prob(general, x), rtol=tolerance(dtype, PASS_ULPS)
    )
    np.testing.assert_allclose(
        jaxgmm.log_prob(special, x), jaxgmm.log_prob(general, x), rtol=tolerance(dtype, PASS_ULPS)
    )


def test_samples_have_the_moments_of_the_mixture(family, dtype):
    params = random_params(family, seed=5, dtype=dtype)
    n_samples = 1 << 15
    x, labels = jaxgmm.sample(params, 7, n_samples)
    assert x.dtype == dtype
    assert x.shape == (n_samples, D)
    matrices = full_covariances(params)
    for k in range(K):
        rows = x[labels == k].astype(np.float64)
        share = params.weights[k]
        # Five standard errors: of a proportion, of whitened means, and of whitened second moments.
        assert abs(len(rows) / n_samples - share) < 5 * np.sqrt(share * (1 - share) / n_samples)
        white = np.linalg.solve(np.linalg.cholesky(matrices[k]), (rows - params.means[k]).T)
        assert np.abs(white.mean(axis=1)).max() < 5 / np.sqrt(len(rows))
        assert np.abs(np.cov(white) - np.eye(D)).max() < 5 * np.sqrt(2 / len(rows))
    assert (np.bincount(labels, minlength=K) > 0).all()


# Lanes


def _lanes(x, starts, n_components, weight=None, max_iter=STEPS, reg_covar=0.0):
    """EM from several starts as lanes padded to `n_components`."""
    dtype = x.dtype
    with jax.enable_x64(dtype == np.float64):
        rows = prepare_rows(x, np.ones(len(x), dtype) if weight is None else weight.astype(dtype))
        options = em_options(dtype, tol=0.0, reg_covar=reg_covar, max_iter=max_iter)
        prepared = given_starts(starts, rows, n_components)
        return lanes.run_lanes(prepared, rows.x, rows.weight, rows.options(options)), rows


def _mixed_starts(family):
    """Lanes of 2, 3, 4 and 5 components, of different lengths."""
    return [start(family, n) for n in (3, 2, 5, 4)]


def test_a_masked_lane_in_a_batch_is_the_exact_run_alone(small, family, dtype):
    x = small.x.astype(dtype)
    batch, rows = _lanes(x, _mixed_starts(family), 5)
    alone = run(x, family)
    lane = take(batch, 0)
    assert lane.status == alone.status
    assert lane.n_iter == alone.n_iter
    np.testing.assert_allclose(lane.history, alone.history, rtol=tolerance(dtype, RUN_ULPS))
    # The padding components never wake up.
    np.testing.assert_array_equal(lane.params.weights[K:], 0)
    unmasked = in_data_units(select_components(lane.params, np.arange(K)), rows)
    assert_params_close(unmasked, alone.params, tolerance(dtype, RUN_ULPS))


@pytest.mark.parametrize(("family", "dtype"), [("full", np.float64), ("tied_diag", np.float32)])
def test_lanes_that_finish_at_different_times_are_the_runs_alone(small, family, dtype, monkeypatch):
    # Finished lanes leave the batch as soon as half of it is idle.
    monkeypatch.setattr(lanes, "REPACK_FLOPS", 0.0)
    x = small.x.astype(dtype)
    starts = [start(family, K, seed) for seed in range(9)]
    batch, _ = _lanes(x, starts, K, max_iter=500, reg_covar=1e-3)
    assert len(set(batch.n_iter.tolist())) > 2
    for i, one in enumerate(starts):
        alone, _ = _lanes(x, [one], K, max_iter=500, reg_covar=1e-3)
        assert batch.status[i] == alone.status[0] == Status.CONVERGED
        assert relative(batch.log_likelihood[i], alone.log_likelihood[0]) < tolerance(dtype, RUN_ULPS)
        history = batch.history[i]
        np.testing.assert_array_equal(np.isnan(history), np.arange(len(history)) > batch.n_iter[i])
        np.testing.assert_allclose(history[:STEPS], alone.history[0][:STEPS], rtol=tolerance(dtype, RUN_ULPS))


@pytest.mark.parametrize(("family", "dtype"), [("full", np.float32), ("tied_diag", np.float64)])
def test_a_vmapped_restart_is_the_restart_alone(small, family, dtype):
    x = small.x.astype(dtype)
    starts = [start(family, K, seed) for seed in range(3)]
    with jax.enable_x64(dtype == np.float64):
        options = EMOptions(tol=0.0, reg_covar=0.0, max_iter=STEPS)
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(cast(one, dtype) for one in starts))
        together = jax.jit(jax.vmap(jaxgmm.run_em, in_axes=(0, None, None, None)))(stacked, x, None, options)
        together = jax.tree.map(np.asarray, together)
    for i, one in enumerate(starts):
        alone = run(x, family, cast(one, dtype))
        lane = take(together, i)
        assert lane.status == alone.status
        assert lane.n_iter == alone.n_iter
        assert relative(lane.best_log_likelihood, alone.log_likelihood) < tolerance(dtype, RUN_ULPS)
        assert_params_close(lane.best_params, alone.params, 3 * tolerance(dtype, RUN_ULPS))
