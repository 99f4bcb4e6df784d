"""Every injury of a model or an array file is seen: it is refused, or what is read is what was written."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import zipfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest

from jaxgmm.__main__ import main
from jaxgmm.data import read_table
from jaxgmm.io import load, save
from jaxgmm.model import Model
from tests.helpers import random_params, refusal

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits of the process as Linux has them")


@pytest.fixture(scope="module")
def model():
    return Model(params=random_params("full", 2, 2), shift=[0.1, 1e8], columns=("x", "y"), meta={"seed": 3})


@pytest.fixture
def path(tmp_path, model):
    return save(tmp_path / "model.npz", model)


# --------------------------------------------------------------------------------------- prefixes and flipped bytes


def test_every_prefix_of_a_model_file_is_refused(path):
    content = path.read_bytes()
    for n in range(len(content)):
        path.write_bytes(content[:n])
        refusal(load, path)


@pytest.mark.parametrize("dtype", ["<f8", ">f4", "<i4"])
def test_every_prefix_of_an_npy_file_is_refused(tmp_path, dtype):
    path = tmp_path / "x.npy"
    np.save(path, np.arange(6, dtype=dtype).reshape(3, 2))
    content = path.read_bytes()
    for n in range(len(content)):
        path.write_bytes(content[:n])
        refusal(read_table, path)


def test_every_prefix_of_an_npz_file_is_refused(tmp_path):
    path = tmp_path / "x.npz"
    for write in (np.savez, np.savez_compressed):
        write(path, x=np.arange(6.0).reshape(3, 2))
        content = path.read_bytes()
        for n in range(len(content)):
            path.write_bytes(content[:n])
            refusal(read_table, path)


def test_two_thousand_flipped_bytes_are_seen(path):
    content, rng = path.read_bytes(), np.random.default_rng(7)
    for place, change in zip(rng.integers(len(content), size=2000), rng.integers(1, 256, size=2000), strict=True):
        damaged = bytearray(content)
        damaged[place] ^= int(change)
        path.write_bytes(damaged)
        refusal(load, path)


def test_what_is_added_to_a_model_file_is_seen(path):
    content = path.read_bytes()
    path.write_bytes(content + b"\n")
    refusal(load, path)
    path.write_bytes(content)
    load(path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("more.npy", npy(np.ones(1)))
    assert "not as it was written" in refusal(load, path)


def test_many_flipped_bits_at_once_are_seen_too(path, model):
    content, rng = path.read_bytes(), np.random.default_rng(8)
    for _ in range(200):
        damaged = np.frombuffer(content, np.uint8).copy()
        at = rng.integers(len(content), size=20)
        damaged[at] ^= rng.integers(1, 256, size=20).astype(np.uint8)
        path.write_bytes(damaged.tobytes())
        refusal(load, path)


# ---------------------------------------------------------------------------------- files made to do harm, by hand


def rewrite(path: Path, compression=zipfile.ZIP_STORED, **members: bytes) -> Path:
    """The archive with some members replaced, as raw bytes."""
    with zipfile.ZipFile(path) as archive:
        kept = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in {**kept, **{f"{name}.npy": content for name, content in members.items()}}.items():
            archive.writestr(name, content)
    return path


def npy(array, **options) -> bytes:
    handle = BytesIO()
    np.save(handle, array, **options)
    return handle.getvalue()


def npy_head(shape, descr="<f8") -> bytes:
    handle = BytesIO()
    np.lib.format.write_array_header_1_0(handle, {"descr": descr, "fortran_order": False, "shape": shape})
    return handle.getvalue()


def header_of(path: Path) -> dict:
    with np.load(path) as archive:
        return json.loads(archive["header"].tobytes())


class Evil:
    """Unpickling this writes a file."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_nothing_that_is_pickled_is_executed(tmp_path, path):
    done = tmp_path / "executed"
    evil = Evil(done)
    objects = npy(np.array([evil], object), allow_pickle=True)
    refusal(load, rewrite(path, weights=objects))
    for name in ("model.npz", "x.npy", "x.npz", "x.csv", "x.mat"):
        (tmp_path / name).write_bytes(pickle.dumps(evil))
        refusal(load, tmp_path / name)
        refusal(read_table, tmp_path / name)
    (tmp_path / "x.npy").write_bytes(objects)
    assert "pickle" in refusal(read_table, tmp_path / "x.npy")
    np.savez(tmp_path / "x.npz", x=np.array([evil], object), allow_pickle=True)
    assert "pickle" in refusal(read_table, tmp_path / "x.npz")
    assert not done.exists()
    pickle.loads(pickle.dumps(evil))
    assert done.is_dir()  # the trap is a trap


HEADER = {"schema": 1, "covariance_type": "full", "columns": None, "meta": {}, "digest": "1"}


def text_of(**changes) -> bytes:
    return json.dumps(HEADER | changes).encode()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "damaged"),
        (b"{", "damaged"),
        (b"\xff\xfe", "damaged"),
        (b"[]", "names no schema"),
        (b"null", "names no schema"),
        (b'{"schema": true}', "names no schema"),
        (b'{"schema": 1e999}', "names no schema"),
        (b'{"schema": 99, "jaxgmm": "9.9"}', "needs jaxgmm 9.9"),
        (b'{"schema": 1}', "damaged header"),
        (b"[" * 100_000, "damaged"),
        (text_of(), "its digest is another"),
        (text_of(digest=None), "its digest is another"),
        (text_of(more=float("nan")), "damaged header"),
        (text_of(more="\ud800"), "damaged header"),
        (text_of(meta={"a": 0}).replace(b"0", b"[" * 700 + b"]" * 700), "damaged header"),
        (text_of(covariance_type={}), "unknown covariance_type"),
    ],
)
def test_headers_nobody_wrote(path, text, words):
    rewrite(path, header=npy(np.frombuffer(text, np.uint8)))
    assert words in refusal(load, path)


def test_a_newer_schema_is_refused_whatever_else_it_holds(path):
    header = header_of(path) | {"schema": 99, "jaxgmm": "3.0"}
    rewrite(path, header=npy(np.frombuffer(json.dumps(header).encode(), np.uint8)), weights=b"something new")
    assert "it needs jaxgmm 3.0 or newer" in refusal(load, path)


SOUND = {"n_samples": 9, "weight_sum": 9.0, "log_likelihood": -1.0, "status": "CONVERGED", "message": "converged"}
SOUND |= {"best_share": 0.5, "restart_log_likelihoods": [-1.0, None], "options": {"max_iter": 3}, "bic": 1.0}


@pytest.mark.parametrize(
    "odd",
    [
        {"diagnoses": "x"},
        {"diagnoses": [{"kind": "floor"}, 3]},
        {"diagnoses": {"text": "a"}},
        {"restart_log_likelihoods": 3},
        {"best_share": 1e308},
        {"best_share": "all"},
        {"status": "MAX_ITER", "options": [3]},
        {"status": "MAX_ITER", "options": {"max_iter": "many"}},
        {"status": ["MAX_ITER"]},
        {"weight_sum": "9"},
        {"weight_sum": [9.0]},
        {"log_likelihood": 10**400},
        {"bic": {"a": 1}},
        {"message": 3},
    ],
    ids=" ".join,
)
def test_a_summary_leaves_out_what_no_fit_writes(path, model, capsys, odd):
    save(path, Model(params=model.params, meta=SOUND | odd), force=True)
    assert main(["summary", str(path)]) == 0
    out, err = capsys.readouterr()
    assert "Gaussian mixture: 2 components" in out
    assert not err
    assert main(["summary", str(path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    name = list(odd)[-1]
    assert found[name] is None
    assert found["n_samples"] == 9


MEAGRE = """
import resource, sys, warnings
from jaxgmm.data import read_table
from jaxgmm.io import load
from jaxgmm import DataError
import numpy
import scipy.io
# Room for 200 MB beyond what the process has now.
now = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (now + 200_000_000,) * 2)
for path in sys.argv[1:]:
    for read in (load, read_table):
        try:
            read(path)
            print("read", path)
        except DataError as error:
            print("refused", error)
"""


@linux
def test_claims_of_size_allocate_nothing(tmp_path, model):
    """A few bytes that promise 1e18 rows, in every format; and archives that would fill the memory."""
    huge = npy_head((10**18, 3)) + bytes(72)
    long = npy_head((10**9, 3)) + bytes(72)
    names = []
    for i, content in enumerate((huge, long)):
        names += [tmp_path / f"{i}.npy", tmp_path / f"{i}.npz", tmp_path / f"packed{i}.npz", tmp_path / f"m{i}.npz"]
        names[-4].write_bytes(content)
        for name, how in zip(names[-3:-1], (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED), strict=True):
            with zipfile.ZipFile(name, "w", how) as archive:
                archive.writestr("x.npy", content)
        rewrite(save(names[-1], model), means=content)
    # A thousand times what it takes on the disk.
    bomb, zeros = tmp_path / "bomb.npz", bytes(1 << 24)
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("x.npy", "w") as handle:
        handle.write(npy_head((1 << 25,)))
        for _ in range(16):
            handle.write(zeros)
    names.append(bomb)
    # The sizes in the archive's directory are claims as well.
    false = save(tmp_path / "false.npz", model)
    content = bytearray(false.read_bytes())
    place = content.index(b"PK\x01\x02")
    content[place + 20 : place + 28] = (0xFFFFFFF0).to_bytes(4, "little") * 2
    false.write_bytes(content)
    names.append(false)
    command = [sys.executable, "-c", MEAGRE, *map(str, names)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    lines = done.stdout.splitlines()
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(lines) == 2 * len(names)
    assert all(line.startswith("refused") for line in lines), done.stdout
    assert "would unpack to 2.68e+08 bytes" in lines[-3]
    assert "claims more than the whole file holds" in lines[-2]
    assert not done.stderr


def test_an_array_that_packs_well_is_no_bomb(tmp_path):
    path = tmp_path / "x.npz"
    np.savez_compressed(path, x=np.zeros((100_000, 5)))
    assert read_table(path).x.shape == (100_000, 5)
