"""What can be used is computed in its own precision, whatever its layout and type, by every public function."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm
from tests.doors import LABELS, PARAMS, fit
from tests.helpers import (
    D,
    N,
    cast,
    params_of,
    parts_of,
    random_params,
    tolerance,
)


def _assert_same(found, wanted):
    np.testing.assert_array_equal(np.asarray(found), np.asarray(wanted))
    assert np.asarray(found).dtype == np.asarray(wanted).dtype


ALIKE = {
    "big-endian": lambda x: x.astype(x.dtype.newbyteorder(">")),
    "Fortran order": np.asfortranarray,
    "a view of every second row": lambda x: np.repeat(x, 2, axis=0)[::2],
    "a view of a wider table": lambda x: np.hstack([x, x])[:, : x.shape[1]],
    "a reversed view": lambda x: np.ascontiguousarray(x[::-1])[::-1],
    "read-only": lambda x: np.frombuffer(x.tobytes(), x.dtype).reshape(x.shape),
    "masked, nothing missing": np.ma.masked_array,
    "a matrix": lambda x: x.view(np.matrix),
}


@pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")
@pytest.mark.parametrize("case", ALIKE)
def test_memory_layout_does_not_matter(small, dtype, door, case):
    x = small.x.astype(dtype)
    # Native first, so that the compiled function is warm when the other layout comes.
    wanted = door(x)
    _assert_same(door(ALIKE[case](x)), wanted)


def test_memory_maps(small, door, tmp_path):
    np.save(tmp_path / "x.npy", small.x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    assert isinstance(mapped, np.memmap)
    _assert_same(door(mapped), door(small.x))


def test_big_endian_parameters_and_weights(small):
    weights, means, covariances, _ = parts_of(PARAMS)
    swapped = jaxgmm.GMMParams(
        weights=weights.astype(">f8"),
        means=means.astype(">f8"),
        covariances=covariances.astype(">f8"),
        covariance_type="full",
    )
    _assert_same(jaxgmm.log_prob(swapped, small.x), jaxgmm.log_prob(PARAMS, small.x))
    counts = small.counts.astype(">i4")
    assert (
        fit(small.x, init=swapped, sample_weight=counts).log_likelihood
        == fit(small.x, sample_weight=small.counts).log_likelihood
    )
    made = jaxgmm.make_params(weights.astype(">f8"), means.astype(">f4"), covariances.astype(">f8"))
    assert made.means.dtype.isnative


@pytest.mark.parametrize("integer", [np.int8, np.int64, ">i2"])
def test_integers_score_exactly_as_floats(small, door, integer):
    x = np.round(small.x)
    _assert_same(door(x.astype(integer)), door(x))


def test_lists_truth_values_and_narrow_or_wide_floats(small):
    x = small.x
    _assert_same(jaxgmm.log_prob(PARAMS, x.tolist()), jaxgmm.log_prob(PARAMS, x))
    _assert_same(jaxgmm.log_prob(PARAMS, x > 0), jaxgmm.log_prob(PARAMS, (x > 0) * 1.0))
    _assert_same(jaxgmm.log_prob(PARAMS, x.astype(object)), jaxgmm.log_prob(PARAMS, x))
    _assert_same(jaxgmm.log_prob(PARAMS, x.astype(np.longdouble)), jaxgmm.log_prob(PARAMS, x))
    half = x.astype(np.float16)
    assert fit(half).params.dtype == np.float32
    _assert_same(fit(half).history, fit(half.astype(np.float32)).history)
    _assert_same(jaxgmm.log_prob(PARAMS, jnp.asarray(x)), jaxgmm.log_prob(PARAMS, x.astype(np.float32)))


def test_input_is_left_alone(small, door):
    x = small.x.copy()
    door(x)
    np.testing.assert_array_equal(x, small.x)


@pytest.mark.parametrize("switch", [False, True], ids=["x64 off", "x64 on"])
def test_precision_follows_the_data_not_the_switch(small, dtype, switch):
    x, params = small.x.astype(dtype), cast(PARAMS, dtype)
    calls = {
        "log_prob": lambda: jaxgmm.log_prob(params, x),
        "responsibilities": lambda: jaxgmm.responsibilities(params, x),
        "uncertainty": lambda: jaxgmm.uncertainty(params, x),
        "x_sum": lambda: jaxgmm.e_step(params, x).x_sum,
        "means": lambda: jaxgmm.em_step(params, x)[0].means,
        "history": lambda: fit(x).history,
        "fitted": lambda: fit(x).params.covariances,
        "drawn": lambda: jaxgmm.sample(params, 3, 10)[0],
        "start": lambda: jaxgmm.params_from_labels(x, LABELS).means,
    }
    for name, call in calls.items():
        outside = call()
        with jax.enable_x64(switch):
            inside = call()
        assert outside.dtype == dtype, name
        assert isinstance(outside, np.ndarray), name
        _assert_same(inside, outside)
    assert jaxgmm.predict(params, x).dtype == np.int32


def test_the_wider_of_model_and_data(small):
    wanted = jaxgmm.log_prob(PARAMS, small.x)
    found = jaxgmm.log_prob(PARAMS, small.x.astype(np.float32))
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, wanted)  # the data are exact in float32
    # A fit follows its data alone.
    assert fit(small.x.astype(np.float32), init=PARAMS).params.dtype == np.float32
    assert fit(small.x, init=cast(PARAMS, np.float32)).params.dtype == np.float64


def test_float64_is_really_computed_in_float64(small):
    """An offset of 2^26 leaves float32 nothing, and float64 everything."""
    weights, means, covariances, _ = parts_of(PARAMS)
    offset = float(2**26)
    moved = params_of((weights, means + offset, covariances), "full")
    np.testing.assert_allclose(
        jaxgmm.log_prob(moved, small.x + offset), jaxgmm.log_prob(PARAMS, small.x), rtol=tolerance(np.float64, 100)
    )


def test_results_can_be_written_to(small):
    """What a caller gets is the caller's own."""
    labels = jaxgmm.predict(PARAMS, small.x)
    labels[labels == 2] = 0
    assert jaxgmm.responsibilities(PARAMS, small.x).flags.writeable
    assert jaxgmm.sample(PARAMS, 0, 10)[0].flags.writeable


def test_rows_far_from_everything(small, family, dtype):
    params = random_params(family, dtype=dtype)
    large = np.finfo(dtype).max ** 0.8
    far = np.resize(np.array([[large, 0, 0], [-large, large, large], [1e4, 1e4, -1e4]], dtype), (N, D))
    for values in (jaxgmm.log_prob(params, far), jaxgmm.component_log_prob(params, far)):
        assert np.isfinite(values).all()
        assert (values < -1e3).all()
    np.testing.assert_allclose(jaxgmm.responsibilities(params, far).sum(axis=1), 1, rtol=1e-6)
