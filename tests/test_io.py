"""A model file is complete or refused: what was saved comes back bit for bit, anything else is one clear sentence."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import zipfile
from io import BytesIO
from types import SimpleNamespace

import numpy as np
import pytest

from jaxgmm import io
from jaxgmm._pytree import replace
from jaxgmm._status import DataError, UsageError
from jaxgmm.api import fit
from jaxgmm.covariance import COVARIANCE_TYPES
from jaxgmm.io import load, save
from jaxgmm.model import Model
from jaxgmm.params import GMMParams
from tests.helpers import random_params, refusal, rewrite

RNG = np.random.default_rng(3)
LABELS = np.arange(200) % 3
X = RNG.normal(size=(200, 3)) + 5.0 * LABELS[:, None]
ARRAYS = ("weights", "means", "covariances")


@pytest.fixture(scope="module")
def model():
    meta = {"seed": 3, "note": "Σ µ 测", "lost": float("nan"), "restart_log_likelihoods": [-1.5, -np.inf]}
    columns = ("x", "y y", "ζ")
    return Model(
        params=random_params("full"), shift=[0.1, 0.2, 1e8], scale=[1.0, 1 / 3, 1e-7], columns=columns, meta=meta
    )


@pytest.fixture(scope="module")
def result():
    return fit(X, 3, key=0, n_restarts=2)


@pytest.fixture
def path(tmp_path, model):
    return save(tmp_path / "model.npz", model)


def assert_same_bytes(loaded, params):
    assert loaded.covariance_type == params.covariance_type
    for name in ARRAYS:
        ours, theirs = getattr(loaded.params, name), np.asarray(getattr(params, name))
        assert (ours.dtype, ours.shape, ours.tobytes()) == (theirs.dtype, theirs.shape, theirs.tobytes())


# ------------------------------------------------------------------------------------------------ round trips


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_every_family_and_dtype_comes_back_bit_for_bit(tmp_path, covariance_type, dtype):
    params = random_params(covariance_type, dtype=dtype)
    loaded = load(save(tmp_path / "model.npz", params))
    assert_same_bytes(loaded, params)
    assert loaded.params.dtype == dtype


def test_everything_in_a_model_comes_back(path, model):
    loaded = load(path)
    assert_same_bytes(loaded, model.params)
    assert loaded.shift.tobytes() == model.shift.tobytes()
    assert loaded.scale.tobytes() == model.scale.tobytes()
    assert loaded.columns == model.columns == ("x", "y y", "ζ")
    assert loaded.meta == model.meta
    assert loaded.meta["lost"] is None
    assert loaded.meta["restart_log_likelihoods"] == [-1.5, None]
    x = X * model.scale + model.shift
    np.testing.assert_array_equal(loaded.log_prob(x), model.log_prob(x))


def test_the_file_needs_nothing_but_numpy_and_json(path):
    with np.load(path, allow_pickle=False) as archive:
        assert set(archive.files) == {"header", *ARRAYS, "shift", "scale"}
        header = json.loads(archive["header"].tobytes(), parse_constant=pytest.fail)
    assert header["schema"] == io.SCHEMA_VERSION
    assert header["covariance_type"] == "full"


def test_a_fit_brings_its_history(tmp_path, result):
    loaded = load(save(tmp_path / "m", result))
    assert_same_bytes(loaded, result.params)
    assert loaded.meta["log_likelihood"] == result.log_likelihood
    assert loaded.meta["bic"] == result.bic
    assert loaded.meta["status"] == "CONVERGED"


def test_estimators_are_saved_by_what_they_have(tmp_path):
    params = random_params("tied", dtype=np.float32)
    fitted = SimpleNamespace(
        weights_=params.weights,
        means_=params.means,
        covariances_=params.covariances,
        covariance_type="tied",
        converged_=np.True_,
        n_iter_=7,
        lower_bound_=-np.inf,
        random_state=11,
        feature_names_in_=np.array(["a", "b", "c"], dtype=object),
    )
    loaded = load(save(tmp_path / "m", fitted))
    assert_same_bytes(loaded, params)
    assert loaded.columns == ("a", "b", "c")
    assert {"seed": 11, "converged": True, "n_iter": 7, "lower_bound": None}.items() <= loaded.meta.items()


def test_an_estimator_with_a_fit_result_brings_all_of_it(tmp_path, result):
    loaded = load(save(tmp_path / "m", SimpleNamespace(covariance_type="full", result_=result, random_state=None)))
    assert loaded.meta["log_likelihood"] == result.log_likelihood
    assert loaded.meta["seed"] is None


def test_scikit_learn_estimators_are_saved(tmp_path):
    mixture = pytest.importorskip("sklearn.mixture")
    own = mixture.GaussianMixture(3, random_state=0).fit(X)
    np.testing.assert_allclose(load(save(tmp_path / "m", own)).log_prob(X), own.score_samples(X), rtol=1e-12)
    with pytest.raises(UsageError, match="not fitted"):
        save(tmp_path / "n", mixture.GaussianMixture(3))


# ---------------------------------------------------------------------------------------------------- writing


def test_a_path_without_suffix_gets_npz(tmp_path, model):
    assert save(tmp_path / "best", model) == tmp_path / "best.npz"
    assert save(str(tmp_path / "v.model"), model) == tmp_path / "v.model"
    assert sorted(os.listdir(tmp_path)) == ["best.npz", "v.model"]
    assert load(tmp_path / "best").columns == load(tmp_path / "v.model").columns


def test_an_existing_file_is_kept_unless_forced(path, model):
    before = path.read_bytes()
    with pytest.raises(UsageError, match=r"--force .*force=True"):
        save(path, random_params("diag"))
    with pytest.raises(UsageError, match="exists"):
        save(path.with_suffix(""), model)
    assert path.read_bytes() == before
    save(path, random_params("diag"), force=True)
    assert load(path).covariance_type == "diag"
    assert os.listdir(path.parent) == ["model.npz"]


@pytest.mark.parametrize("place", ["_write_archive", "os.fsync", "os.replace"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failure_leaves_the_old_file_and_no_litter(path, model, monkeypatch, place, error):
    before = path.read_bytes()

    def fail(handle, *_):
        if place == "_write_archive":
            handle.write(b"PK half a file")
        raise error

    owner, name = (io.os, place[3:]) if place.startswith("os.") else (io, place)
    monkeypatch.setattr(owner, name, fail)
    expected = DataError if isinstance(error, OSError) else KeyboardInterrupt
    with pytest.raises(expected, match=r"No space left|^$"):
        save(path, random_params("diag"), force=True)
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == ["model.npz"]


KILLED = """
import os, signal, sys
from jaxgmm._files import replacing
with replacing(sys.argv[1]) as handle:
    handle.write(b"PK half a file")
    handle.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_process_leaves_the_old_file_and_no_litter(path):
    before = path.read_bytes()
    try:
        os.close(os.open(path.parent, os.O_TMPFILE | os.O_RDWR))
    except (AttributeError, OSError):
        pytest.skip("no files without a name here")
    done = subprocess.run([sys.executable, "-c", KILLED, str(path)])
    assert done.returncode == -signal.SIGKILL
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == ["model.npz"]


def test_without_nameless_files_one_is_written_beside(path, model, monkeypatch):
    monkeypatch.delattr(os, "O_TMPFILE", raising=False)
    save(path, random_params("diag"), force=True)
    assert load(path).covariance_type == "diag"
    assert os.listdir(path.parent) == ["model.npz"]


def test_a_link_keeps_pointing_at_the_file(tmp_path, path):
    link = tmp_path / "latest.npz"
    link.symlink_to(path)
    save(link, random_params("diag"), force=True)
    assert link.is_symlink()
    assert load(path).covariance_type == "diag"


def test_new_files_obey_the_umask(path):
    mask = os.umask(0o022)
    os.umask(mask)
    assert path.stat().st_mode & 0o777 == 0o666 & ~mask


def test_places_that_cannot_be_written(tmp_path, model):
    with pytest.raises(DataError, match="create its directory first"):
        save(tmp_path / "no" / "model.npz", model)
    (tmp_path / "folder.npz").mkdir()
    with pytest.raises(UsageError, match="is a directory"):
        save(tmp_path / "folder.npz", model, force=True)
    with pytest.raises(UsageError, match="no file name"):
        save("", model)


def test_what_is_no_sound_mixture_is_not_saved(tmp_path):
    with pytest.raises(UsageError, match="cannot save a dict"):
        save(tmp_path / "m", {})
    with pytest.raises(DataError, match="means contain NaN"):
        save(tmp_path / "m", replace(random_params("full"), means=np.full((3, 3), np.nan)))
    assert os.listdir(tmp_path) == []


# ---------------------------------------------------------------------------------------------------- reading


def test_a_file_cut_short_anywhere_is_refused(path):
    content = path.read_bytes()
    cuts = {
        0,
        1,
        3,
        4,
        10,
        29,
        30,
        len(content) - 1,
        len(content) - 22,
        *np.linspace(0, len(content) - 1, 40, dtype=int),
    }
    for cut in cuts:
        path.write_bytes(content[:cut])
        text, known = refusal(load, path), ("cut short", "is empty", "is no model file", "is not as it was written")
        assert any(words in text for words in known), (cut, text)


def test_a_changed_byte_is_noticed(path):
    content = path.read_bytes()
    for place in range(0, len(content), max(1, len(content) // 150)):
        damaged = bytearray(content)
        damaged[place] ^= 0x55
        path.write_bytes(damaged)
        refusal(load, path)


def test_other_files_are_told_apart(tmp_path):
    plain = tmp_path / "data.npz"
    np.savez(plain, x=X, y=LABELS)
    assert "it has no header (it holds x, y)" in refusal(load, plain)
    np.savez(plain, header=np.frombuffer(b"{}", np.uint8))
    assert "names no schema" in refusal(load, plain)
    np.savez(plain, header=X)
    assert "damaged" in refusal(load, plain)
    np.save(tmp_path / "data.npy", X)
    assert "is no model file (.npz)" in refusal(load, tmp_path / "data.npy")
    (tmp_path / "m.pkl").write_bytes(pickle.dumps({"weights": 1}))
    assert "is no model file (.npz)" in refusal(load, tmp_path / "m.pkl")
    assert "is a directory" in refusal(load, tmp_path)


def test_a_missing_file_names_the_nearest(path):
    assert "did you mean 'model.npz'?" in refusal(load, path.with_name("modle.npz"))
    assert "correct the path" in refusal(load, path.with_name("q.json"))
    assert "nor does its directory" in refusal(load, path.parent / "no" / "model.npz")


def test_an_unreadable_file_is_refused(path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)
    assert "check its permissions" in refusal(load, path)


def test_a_newer_schema_names_the_version_it_needs(path):
    rewrite(path, {"schema": io.SCHEMA_VERSION + 1, "jaxgmm": "3.1.4"})
    assert "it needs jaxgmm 3.1.4 or newer" in refusal(load, path)


@pytest.mark.parametrize("name", ["weights", "means", "covariances", "shift", "scale"])
def test_a_missing_or_unusable_array_is_named(path, name):
    with np.load(path) as archive:
        array = archive[name]
    assert f"lacks the array {name!r}" in refusal(load, rewrite(path, drop=(name,)))
    assert "shape" in refusal(load, rewrite(path, **{name: array[:-1]}))
    broken = array.copy()
    broken.flat[0] = np.inf
    assert name in refusal(load, rewrite(path, **{name: broken}))
    assert "not floating-point numbers" in refusal(load, rewrite(path, **{name: array.astype(int)}))
    objects = np.empty(array.shape, object)
    objects[...] = 1.0
    assert f"Python objects (a pickle) in {name!r}" in refusal(load, rewrite(path, **{name: objects}))


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ({"covariance_type": "fll"}, "did you mean 'full'?"),
        ({"covariance_type": "diag"}, "diag covariances must have shape (3, 3)"),
        ({"covariance_type": ["full"]}, "unknown covariance_type"),
        ({"covariance_type": None}, "unknown covariance_type"),
        ({"columns": ["a"]}, "1 column names"),
        ({"columns": [1, 2, 3]}, "not names"),
        ({"columns": 3}, "damaged header"),
        ({"meta": None}, "damaged header"),
        ({"meta": [1]}, "damaged header"),
        ({"meta": [["seed", 1]]}, "damaged header"),
        ({"columns": "abc"}, "damaged header"),
        ({"schema": "1"}, "names no schema"),
        ({"schema": 0}, "names no schema"),
    ],
)
def test_an_edited_header_is_refused(path, header, words):
    assert words in refusal(load, rewrite(path, header))


def test_a_sound_model_that_was_not_saved_like_this_is_refused(path, model):
    other = np.array(model.params.means)
    other[0, 0] += 1e-12
    assert "its digest is another" in refusal(load, rewrite(path, means=other))


def test_a_digest_that_is_missing_or_of_another_header(path):
    assert "its digest is another" in refusal(load, rewrite(path, {"digest": "0" * 64}))
    assert "its digest is another" in refusal(load, rewrite(path, {"meta": {"seed": 4}}))
    with np.load(path) as archive:
        found = {name: archive[name] for name in archive.files}
    header = json.loads(found["header"].tobytes())
    del header["digest"]
    np.savez(path, **{**found, "header": np.frombuffer(json.dumps(header).encode(), np.uint8)})
    assert "damaged header" in refusal(load, path)


def test_claims_about_sizes_are_checked_before_anything_is_allocated(path):
    """A few bytes that promise 8e18, and ten megabytes in ten kilobytes."""
    head = _npy_header((10**18, 3))
    with zipfile.ZipFile(path) as archive:
        kept = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in {**kept, "means.npy": head + bytes(72)}.items():
            archive.writestr(name, content)
    assert "not of the size it claims" in refusal(load, path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in {**kept, "means.npy": _npy_header((400_000, 3)) + bytes(9_600_000)}.items():
            archive.writestr(name, content)
    assert "is compressed" in refusal(load, path)


def _npy_header(shape) -> bytes:
    handle = BytesIO()
    np.lib.format.write_array_header_1_0(handle, {"descr": "<f8", "fortran_order": False, "shape": shape})
    return handle.getvalue()


def test_other_numbers_are_noticed_in_files_of_older_schemas(tmp_path, model, monkeypatch):
    monkeypatch.setattr(io, "SCHEMA_VERSION", 2)
    path = save(tmp_path / "model.npz", model)
    rewrite(path, means=model.params.means)
    load(path)
    rewrite(path, means=model.params.means + 1e-3)
    assert "not as it was written" in refusal(load, path)


def test_big_endian_and_fortran_arrays_are_read_as_numbers(tmp_path, model, monkeypatch):
    """From before the bytes of a file had a digest of their own."""
    monkeypatch.setattr(io, "SCHEMA_VERSION", 2)
    path = save(tmp_path / "model.npz", model)
    with np.load(path) as archive:
        covariances = np.asfortranarray(archive["covariances"]).astype(">f8")
    loaded = load(rewrite(path, covariances=covariances))
    assert isinstance(loaded.params, GMMParams)
    np.testing.assert_array_equal(loaded.params.covariances, model.params.covariances)
