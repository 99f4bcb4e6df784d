"""What `fit` takes besides arrays: by name, with weights beside it, to predict, and as it changes under the fit."""

import os

import numpy as np
import pytest

import jaxgmm
from jaxgmm import fit, scan_table
from jaxgmm.data.batches import Indexed
from jaxgmm.model import Model
from jaxgmm.scale import choose, stream as streams
from tests.helpers import D, K, N, start
from tests.streams import difference, refused

OPTIONS = {"init": start("full"), "max_iter": 3}


class Again:
    """Arrays that can be gone through again and again, and that another set may take the place of."""

    def __init__(self, *arrays):
        self.arrays = arrays

    def __iter__(self):
        return iter(self.arrays)


@pytest.fixture
def parts(small, tmp_path):
    """A folder of three parts."""
    for i, part in enumerate(np.array_split(small.x, 3)):
        np.save(tmp_path / f"part-{i}.npy", part)
    return tmp_path


# By name


def test_files_are_taken_by_their_names(small, parts):
    here = fit(small.x, K, **OPTIONS)
    for x in (parts, str(parts), str(parts / "part-*.npy")):
        for more in ({}, {"batch_size": 64}):
            assert difference(fit(x, K, **OPTIONS, **more), here) < 1e-9
    np.save(parts / "x.npy", small.x)
    assert fit(parts / "x.npy", K, **OPTIONS).n_samples == N
    np.testing.assert_array_equal(
        jaxgmm.predict(here.params, str(parts / "x.npy")), jaxgmm.predict(here.params, small.x)
    )
    assert "absent.npy" in refused("E401", lambda: fit("absent.npy", K, key=0))


def test_numbers_of_numpy_are_whole_numbers_too(small, tmp_path):
    there = fit(small.x, np.int64(K), batch_size=np.int64(100), **OPTIONS, checkpoint=tmp_path)
    assert difference(there, fit(small.x, K, **OPTIONS)) < 1e-9
    again = fit(small.x, K, batch_size=np.array(100), **OPTIONS, checkpoint=tmp_path, resume="auto")
    assert difference(there, again) == 0
    refused("E108", lambda: fit(small.x, K, key=0, batch_size=1.5))


# Weights beside it


@pytest.mark.parametrize("more", [{}, {"batch_size": 64}])
def test_weights_beside_a_source(small, parts, more):
    weight = small.counts.astype(float)
    here = fit(small.x, K, sample_weight=weight, **OPTIONS)
    for x in ([small.x[:70], small.x[70:]], Again(small.x[:70], small.x[70:]), scan_table(parts), Indexed(small.x)):
        there = fit(x, K, sample_weight=weight, **OPTIONS, **more)
        assert difference(there, here) < 1e-9
        assert there.weight_sum == weight.sum()
    for n_weights in (N - 1, N + 1):
        for x in ([small.x[:70], small.x[70:]], scan_table(parts)):
            found = refused("E220", lambda x=x, n=n_weights: fit(x, K, key=0, sample_weight=np.ones(n), **more))
            assert f"({n_weights},)" in found
            assert f"{N} rows" in found
    refused("E221", lambda: fit([small.x], K, key=0, sample_weight=np.full(N, -1.0), **more))


def test_weights_beside_a_data_set_of_hdf5(small, tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "x.h5", "w") as file:
        x = file.create_dataset("x", data=small.x)
        there = fit(x, K, sample_weight=small.counts, batch_size=64, **OPTIONS)
    assert difference(there, fit(small.x, K, sample_weight=small.counts, **OPTIONS)) < 1e-9


# To predict


def test_predictions_go_over_a_source(small, parts, monkeypatch):
    monkeypatch.setattr(streams, "BATCH_BYTES", 64 * D * 8)
    params, sources = start("full"), (scan_table(parts), [small.x[:70], small.x[70:]], Again(small.x))
    model = Model(params=params, shift=[1.0, 0.0, -3.0], scale=[2.0, 1.0, 0.5])
    for name in ("log_prob", "responsibilities", "predict", "uncertainty"):
        for source in sources:
            one, other = getattr(jaxgmm, name)(params, source), getattr(jaxgmm, name)(params, small.x)
            np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-14)
            one, other = getattr(model, name)(source), getattr(model, name)(small.x)
            np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-14)
    for weight in (None, small.counts):
        assert model.score(sources[0], weight) == pytest.approx(model.score(small.x, weight), rel=1e-13)
        assert jaxgmm.score(params, sources[1], weight) == pytest.approx(
            jaxgmm.score(params, small.x, weight), rel=1e-13
        )
    own = Indexed(small.x, weight=small.counts.astype(float))
    assert model.score(own) == pytest.approx(model.score(small.x, small.counts), rel=1e-13)


def test_what_cannot_be_predicted_is_named(small):
    params, bad = start("full"), small.x.copy()
    bad[167, 1] = np.nan
    assert "row 167, column 1" in refused("E203", lambda: jaxgmm.predict(params, [bad[:100], bad[100:]]))
    assert "2 columns" in refused("E210", lambda: jaxgmm.score(params, [small.x[:, :2]]))
    assert "generator" in refused("E250", lambda: jaxgmm.log_prob(params, (part for part in [small.x])))
    refused("E222", lambda: jaxgmm.score(params, Indexed(small.x, weight=np.zeros(N))))


# As it changes


@pytest.fixture
def at_pass(monkeypatch):
    """A function: what is to happen before the third pass of the next fit. The looks that were taken, as a list."""
    collect, looks = streams.Stream.collect, []

    def arrange(change):
        passes = []

        def passing(self, factors, *, kernel):
            passes.append(1)
            if len(passes) == 3:
                change()
            look = self.look
            object.__setattr__(self, "look", lambda: looks.append(1) or look())
            try:
                return collect(self, factors, kernel=kernel)
            finally:
                object.__setattr__(self, "look", look)

        monkeypatch.setattr(streams.Stream, "collect", passing)
        return looks

    return arrange


@pytest.mark.parametrize("kernel", ["features", "whitening"])
@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_other_rows_of_the_same_number_are_noticed(small, dtype, offset, kernel, at_pass):
    x = (small.x + offset).astype(dtype)
    for name, other in (("row 7, column 1 contains NaN", np.nan), ("not those of the first pass", 3.0 + offset)):
        source, changed = Again(x[:70], x[70:]), x.copy()
        changed[7:, 1] = other
        at_pass(lambda source=source, changed=changed: setattr(source, "arrays", (changed[:70], changed[70:])))
        found = refused("E252", lambda source=source: fit(source, K, init=start("full"), batch_size=64, kernel=kernel))
        assert name in found


@pytest.mark.parametrize("kernel", ["features", "whitening"])
@pytest.mark.parametrize("offset", [0.0, 1e8])
def test_rows_that_stay_as_they_are_are_never_looked_at_again(small, dtype, offset, kernel, at_pass):
    weight = 10.0 ** (small.counts - 3.0)
    outlier = np.r_[small.x, [[1e6, 0.0, 0.0]]]
    constant = small.x * [1.0, 0.0, 1.0] + [0.0, 0.1, 0.0]
    tables = [small.x, constant, small.x * 1e-9]
    # In single precision the fast kernel has no digit left there, and its lanes fail.
    tables += [outlier] if kernel == "whitening" or dtype == np.float64 else []
    for x in tables:
        looks = at_pass(lambda: None)
        for more in ({}, {"sample_weight": np.resize(weight, len(x))}):
            fit(
                (x + offset).astype(dtype),
                K,
                key=0,
                init="random_from_data",
                batch_size=64,
                kernel=kernel,
                max_iter=5,
                **more,
            )
    assert not looks


def test_lanes_that_fail_are_no_change_of_the_data(at_pass):
    x = np.repeat(np.eye(3)[:2], 50, axis=0)
    looks = at_pass(lambda: None)
    refused_for = refused_to_fit(lambda: fit(x, 3, key=0, init="random_from_data", reg_covar=0.0, batch_size=20))
    assert refused_for == "E301"
    # Rows that are so far apart that nothing is finite: looked at, found as they were.
    far = np.r_[np.full((20, 1), -1e308), np.full((20, 1), 1e308)]
    assert refused_to_fit(lambda: fit(far, 2, key=0, init="random_from_data", batch_size=20)).startswith("E30")
    assert len(looks) <= 4


def refused_to_fit(call):
    """The code of the `FitError`."""
    with pytest.raises(jaxgmm.FitError) as error:
        call()
    return error.value.code


def test_a_memory_map_is_watched(small, tmp_path, at_pass):
    path = tmp_path / "x.npy"
    np.save(path, small.x)

    def fitted():
        return fit(np.load(path, mmap_mode="r"), K, init=start("full"), batch_size=64, max_iter=5)

    def written():
        # One number, of which no sum tells.
        with open(path, "r+b") as file:
            file.seek(-8, os.SEEK_END)
            file.write(np.float64(small.x[-1, -1]).tobytes())
        os.utime(path, ns=(0, 0))

    at_pass(written)
    assert "x.npy has changed" in refused("E252", fitted)
    # The map outlives the name of its file.
    at_pass(path.unlink)
    assert fitted().n_iter > 0


def test_only_maps_to_read_are_watched(small, tmp_path):
    np.save(tmp_path / "x.npy", small.x)
    states = [choose.Mapped.of(np.load(tmp_path / "x.npy", mmap_mode=mode)).state for mode in ("r", "r+", "c")]
    assert [state is None for state in states] == [False, True, True]
