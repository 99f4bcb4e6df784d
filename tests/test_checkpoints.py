"""Checkpoints: a streamed fit that is broken off anywhere goes on, and ends with the bytes of an unbroken one."""

import itertools
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import jaxgmm
from jaxgmm import DataError, UsageError, _interrupt, _progress, fit, sweep
from jaxgmm.em import lanes
from jaxgmm.scale import checkpoint as checkpoints, stream as streams
from tests.helpers import K, N, start

OPTIONS = {"init": start("full"), "batch_size": 50, "max_iter": 12}


class Killed(Exception):
    """The process is gone."""


@pytest.fixture
def killing(monkeypatch):
    """A function: from now on the n-th batch of rows kills the run, None for never."""
    prepare, count = streams.Stream._prepare, [0, None]

    def counting(self, batch):
        count[0] += 1
        if count[0] == count[1]:
            raise Killed
        return prepare(self, batch)

    def after(n):
        count[:] = [0, n]

    monkeypatch.setattr(streams.Stream, "_prepare", counting)
    return after


def same_bits(one, other):
    """Whether two fits agree in every bit that a user can see."""
    for name in ("weights", "means", "covariances"):
        np.testing.assert_array_equal(getattr(one.params, name), getattr(other.params, name))
    for name in ("log_likelihood", "classification_log_likelihood", "n_iter", "status", "kernel"):
        assert getattr(one, name) == getattr(other, name), name
    for name in ("restart_history", "restart_log_likelihoods", "restart_status", "restart_n_iter"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def ways(small):
    """Calls that take several batches of lanes, kernels or rounds."""
    return {
        "fit": lambda **more: fit(small.x, K, **OPTIONS, **more),
        "restarts": lambda **more: fit(
            small.x, K, key=0, n_restarts=5, max_iter=30, keep_restarts=2, batch_size=64, **more
        ),
        "squarem": lambda **more: fit(small.x, K, **OPTIONS, accelerate="squarem", **more),
        "both kernels": lambda **more: fit(
            np.r_[small.x, small.x + 1e6].astype(np.float32), K, key=1, n_restarts=2, max_iter=5, batch_size=99, **more
        ),
    }


@pytest.mark.parametrize("way", ["fit", "restarts", "squarem", "both kernels"])
def test_a_run_killed_anywhere_ends_with_the_same_bits(small, way, tmp_path, killing):
    run = ways(small)[way]
    unbroken = run()
    for n in (1, 3, 4, 5, 13, 22, 40):
        folder = tmp_path / str(n)
        killing(n)
        try:
            run(checkpoint=folder, checkpoint_every=0.0)
        except Killed:
            killing(None)
            assert len(list(folder.iterdir())) <= 2
            same_bits(run(checkpoint=folder, checkpoint_every=0.0, resume="auto"), unbroken)


def test_a_run_that_is_killed_again_and_again_gets_there(small, tmp_path, killing):
    """Every life of it does three batches of rows, less than a pass."""
    found, lives = None, 0
    while found is None:
        killing(4)
        lives += 1
        try:
            found = fit(small.x, K, **OPTIONS, checkpoint=tmp_path, checkpoint_every=0.0, resume="auto")
        except Killed:
            assert lives < 99
    killing(None)
    # 13 passes of 4 batches; the batch that is being read ahead dies with each.
    assert 13 * 4 / 3 <= lives <= 13 * 4 / 2 + 1
    same_bits(found, fit(small.x, K, **OPTIONS))


def test_a_sweep_goes_on(small, tmp_path, killing):
    def run(**more):
        return sweep(
            small.x, (1, 2), covariance_types=("full", "diag"), key=0, n_restarts=2, max_iter=6, batch_size=99, **more
        )

    unbroken = run()
    killing(20)
    with pytest.raises(Killed):
        run(checkpoint=tmp_path, checkpoint_every=0.0)
    killing(None)
    found = run(checkpoint=tmp_path, checkpoint_every=0.0, resume="auto")
    np.testing.assert_array_equal(found.values, unbroken.values)
    # What is done is not done again.
    killing(1)
    np.testing.assert_array_equal(run(checkpoint=tmp_path, resume="auto").values, unbroken.values)


def test_a_run_that_is_asked_to_stop_goes_on(small, tmp_path, monkeypatch):
    wish = _interrupt.Wish()
    monkeypatch.setattr(_interrupt, "_current", wish)
    prepare, count = streams.Stream._prepare, [0]

    def counting(self, batch):
        count[0] += 1
        if count[0] == 22:
            wish.exit_code = 130
        return prepare(self, batch)

    monkeypatch.setattr(streams.Stream, "_prepare", counting)
    found = fit(small.x, K, **OPTIONS, checkpoint=tmp_path)
    assert found.status.name == "INTERRUPTED"
    wish.exit_code = 0
    same_bits(fit(small.x, K, **OPTIONS, checkpoint=tmp_path, resume="auto"), fit(small.x, K, **OPTIONS))


@pytest.mark.parametrize("passes", [3, 6])
def test_lanes_of_two_kernels_and_of_two_chunks_go_on(tmp_path, monkeypatch, passes):
    """Asked to stop when some lanes are with the second kernel, or are yet to come: what is kept is where each was."""
    rng = np.random.default_rng(0)
    x = np.r_[rng.normal(size=(250, 2)), [3.0, 3.0] + 1e-7 * rng.normal(size=(50, 2))]
    rng.shuffle(x)
    options = {"key": 0, "n_restarts": 6, "batch_size": 100, "max_iter": 12, "tol": 1e-13, "init": "random_from_data"}
    per_lane = 3 * 2 * lanes.MIN_BLOCK * 8
    for at_once in (6, 4):
        monkeypatch.setattr(lanes, "LANE_BYTES", at_once * per_lane)
        wish = _interrupt.Wish()

        class Asking:
            done = 0

            def begin(self, *_): ...
            def batch(self, *_): ...
            def passed(self, *_, wish=wish):
                self.done += 1
                if self.done == passes:
                    wish.exit_code = 130

        folder, more = tmp_path / str(at_once), {"reg_covar": 1e-16}
        with monkeypatch.context() as patch, _progress.telling(Asking()):
            patch.setattr(_interrupt, "_current", wish)
            fit(x, 3, **options, **more, checkpoint=folder)
        same_bits(fit(x, 3, **options, **more, checkpoint=folder, resume="auto"), fit(x, 3, **options, **more))


# What is refused


def refused(code, call):
    with pytest.raises((DataError, UsageError)) as error:
        call()
    assert error.value.code == code
    return error.value.found


@pytest.fixture
def broken_off(small, tmp_path, killing):
    """A directory with the checkpoints of a run that was killed."""
    killing(15)
    with pytest.raises(Killed):
        fit(small.x, K, **OPTIONS, checkpoint=tmp_path, checkpoint_every=0.0)
    killing(None)
    return tmp_path


def test_another_run_is_refused_with_the_difference(small, broken_off):
    def going_on(x=small.x, n_components=K, **more):
        return lambda: fit(x, n_components, **OPTIONS | more, checkpoint=broken_off, resume="auto")

    assert "tol was 1e-08 and is 1e-06" in refused("E435", going_on(tol=1e-6))
    assert "covariance type was full and is diag" in refused(
        "E435", going_on(covariance_type="diag", init=start("diag"))
    )
    assert "batch size was 50 and is 40" in refused("E435", going_on(batch_size=40))
    assert "rows was 200 and is 199" in refused("E435", going_on(small.x[:-1]))
    assert "dtype was float64 and is float32" in refused("E435", going_on(small.x.astype(np.float32)))
    x = small.x.copy()
    x[150, 1] += 1e-9
    assert "digest of the data" in refused("E435", going_on(x))
    assert "init was sha256" in refused("E435", going_on(init=start("full", seed=1)))
    going_on()()


def test_checkpoints_that_are_there_are_not_overwritten(small, broken_off):
    assert str(broken_off) in refused("E126", lambda: fit(small.x, K, **OPTIONS, checkpoint=broken_off))


def test_the_last_but_one_serves_when_the_last_is_damaged(small, broken_off, caplog):
    newer = max(broken_off.iterdir())
    whole = newer.read_bytes()
    newer.write_bytes(whole[: len(whole) // 2])
    found = fit(small.x, K, **OPTIONS, checkpoint=broken_off, resume="auto")
    assert "damaged" in caplog.text
    same_bits(found, fit(small.x, K, **OPTIONS))


def test_nothing_goes_on_from_two_damaged_ones(small, broken_off):
    for path in broken_off.iterdir():
        path.write_bytes(path.read_bytes()[:-100])
    assert str(broken_off) in refused("E434", lambda: fit(small.x, K, **OPTIONS, checkpoint=broken_off, resume="auto"))


def alter(path, change):
    """A checkpoint as a whole archive, of which something is changed."""
    with np.load(path) as archive:
        arrays = dict(archive)
    header = json.loads(arrays["header"].tobytes())
    change(header, arrays)
    np.savez(path, **arrays | {"header": np.frombuffer(json.dumps(header).encode(), np.uint8)})


@pytest.mark.parametrize(
    "change",
    [
        lambda header, arrays: header.pop("facts"),
        lambda header, arrays: header.pop("course"),
        lambda header, arrays: header.update(facts=[]),
        lambda header, arrays: arrays.pop("state0"),
        lambda header, arrays: arrays.pop("history"),
        lambda header, arrays: arrays.update(state1=arrays["state1"][:, :1]),
        lambda header, arrays: arrays.update(used=arrays["used"][:0]),
    ],
)
def test_a_whole_archive_that_lacks_something_counts_as_damaged(small, broken_off, change):
    for path in broken_off.iterdir():
        alter(path, change)
    assert str(broken_off) in refused("E434", lambda: fit(small.x, K, **OPTIONS, checkpoint=broken_off, resume="auto"))


def test_a_full_disk_leaves_the_last_checkpoint_whole(small, broken_off, monkeypatch, caplog):
    before = {path.name: path.read_bytes() for path in broken_off.iterdir()}

    def full(path):
        raise DataError("E440", f"{path} cannot be written (No space left on device)", "free some space")

    monkeypatch.setattr(checkpoints, "replacing", full)
    found = fit(small.x, K, **OPTIONS, checkpoint=broken_off, checkpoint_every=0.0, resume="auto")
    assert found.n_iter == 12
    assert caplog.text.count("No space left") == 1
    assert {path.name: path.read_bytes() for path in broken_off.iterdir()} == before


def test_a_place_that_cannot_be_one_is_refused(small, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    assert "file" in refused("E440", lambda: fit(small.x, K, **OPTIONS, checkpoint=tmp_path / "file"))
    refused("E109", lambda: fit(small.x, K, **OPTIONS, checkpoint=tmp_path, resume="always"))
    refused("E108", lambda: fit(small.x, K, **OPTIONS, checkpoint=tmp_path, checkpoint_every="5"))
    refused("E108", lambda: fit(small.x, K, **OPTIONS, checkpoint=5))
    monkeypatch.chdir(tmp_path)
    assert "''" in refused("E108", lambda: fit(small.x, K, **OPTIONS, checkpoint=""))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_checkpoints_hold_no_objects(broken_off):
    for path in broken_off.iterdir():
        with np.load(path, allow_pickle=False) as archive:
            header = json.loads(archive["header"].tobytes())
            assert {archive[name].dtype.hasobject for name in archive.files} == {False}
    assert header["facts"]["rows"] == N


# From the shell, with real signals


def shell(*words, **more):
    environment = os.environ | {"JAXGMM_CACHE_DIR": "off"}
    command = [sys.executable, "-m", "jaxgmm", *map(str, words)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, **more)


@pytest.mark.slow
def test_a_hundred_kills_of_a_streaming_fit(tmp_path):
    """Every run that is gone on with after kill -9 at random moments ends with the bytes of an unbroken one."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60_000, 4)) + rng.integers(0, 2, (60_000, 1))
    np.save(tmp_path / "x.npy", x)
    words = ["fit", tmp_path / "x.npy", "-n", 3, "--seed", 0, "--n-restarts", 2, "--tol", 0, "--max-iter", 150]
    words += ["--batch-size", 2000, "-q", "--force", "--checkpoint-every", 0.05, "--resume", "auto"]

    def ended(process):
        _, err = process.communicate(timeout=300)
        assert process.returncode == 0, err

    for name in ("cold", "whole"):
        begun = time.monotonic()
        ended(shell(*words, "--checkpoint", tmp_path / name, "-o", tmp_path / f"{name}.npz"))
        took = time.monotonic() - begun
    expected = jaxgmm.load(tmp_path / "whole.npz").digest
    kills = 0
    for attempt in itertools.count():
        folder, out = tmp_path / f"c{attempt}", tmp_path / f"m{attempt}.npz"
        for run in range(5):
            process = shell(*words, "--checkpoint", folder, "-o", out)
            begun = time.monotonic()
            try:
                process.communicate(timeout=rng.uniform(0.3, 1.0) * took)
                if not run:
                    took = time.monotonic() - begun  # the machine has become faster
                break
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.communicate()
            kills += 1
        ended(shell(*words, "--checkpoint", folder, "-o", out))
        assert jaxgmm.load(out).digest == expected
        if kills >= 100:
            break
