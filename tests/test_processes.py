"""Several processes as one run: they agree with one, they say when one of them is lost, and others can go on."""

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import jaxgmm
from jaxgmm import UsageError, _interrupt
from jaxgmm.data.batches import Indexed, Part, batches
from jaxgmm.data.survey import survey
from jaxgmm.scale import processes
from jaxgmm.scale.processes import Group
from tests.children import surroundings

# Seconds after which a run counts as hung.
WATCHDOG = 120
WORDS = ["-n", "3", "--seed", "0", "--n-restarts", "2", "--max-iter", "20", "--batch-size", "30"]


def run(*words, timeout=WATCHDOG):
    command = [sys.executable, "-m", "jaxgmm", *map(str, words)]
    return subprocess.run(command, env=surroundings(), capture_output=True, text=True, timeout=timeout, check=False)


@pytest.mark.parametrize("count", [2, 3, 7])
def test_shares_are_all_rows_once(small, count):
    parts = []
    for i in range(count):
        first, end = Group(count, i).share(len(small.x))
        part = Part(Indexed(small.x), first, end)
        parts += [batch.x for batch in batches(part, 13)]
        assert part.place(0) == f"x, row {first}"
    np.testing.assert_array_equal(np.concatenate(parts), small.x)


@pytest.mark.parametrize("weighted", [False, True])
def test_a_survey_in_parts_is_that_of_all_rows(small, weighted, monkeypatch):
    from jaxgmm.data import survey as surveys

    monkeypatch.setattr(surveys, "SAMPLE_ROWS", 40)
    weight = small.counts.astype(float) if weighted else None
    whole = Indexed(small.x + 1e6, weight=weight)
    alone = survey(whole, 3)
    sent = []

    def mine(arrays):
        sent[-1].append(list(arrays))
        return [list(arrays)]

    # Each process sends one message; then all of them get all.
    one = int(np.flatnonzero(small.counts)[40])
    edges = [0, one, one + 1, len(small.x)]
    for first, end in itertools.pairwise(edges):
        sent.append([])
        survey(Part(whole, first, end), 3, first, mine)
    received = iter(zip(*sent, strict=True))
    together = survey(Part(whole, 0, one), 3, 0, lambda _: list(next(received)))
    np.testing.assert_array_equal(together.sample, alone.sample)
    np.testing.assert_allclose(together.sample_weight, alone.sample_weight, rtol=1e-14)
    np.testing.assert_allclose(together.mean, alone.mean, rtol=1e-15)
    np.testing.assert_allclose(together.covariance, alone.covariance, rtol=1e-12, atol=1e-12)
    assert together.digest == alone.digest
    assert (together.n_samples, together.n_used) == (alone.n_samples, alone.n_used)


def test_one_process_alone_gathers_its_own():
    arrays = [np.arange(3.0), np.ones((2, 2), np.float32)]
    (mine,) = processes.gather(arrays)
    for one, other in zip(mine, arrays, strict=True):
        np.testing.assert_array_equal(one, other)


def test_arrays_of_different_lengths_arrive_whole(monkeypatch):
    everyone = [[np.arange(3.0), np.array([1, 2])], [np.arange(1.0), np.array([3, 4])]]
    messages = []

    def all_bytes(mine):
        messages.append(mine)
        if len(messages) == 1:
            return [np.array([len(a) for a in arrays], np.int64).view(np.uint8) for arrays in everyone]
        padded = [np.concatenate([arrays[0], np.zeros(3 - len(arrays[0]))]) for arrays in everyone]
        rows = zip(padded, everyone, strict=True)
        return [np.concatenate([p.view(np.uint8), arrays[1].view(np.uint8)]) for p, arrays in rows]

    monkeypatch.setattr(processes, "_all_bytes", all_bytes)
    found = processes.gather(everyone[1], Group(2, 1))
    for theirs, sent in zip(found, everyone, strict=True):
        for one, other in zip(theirs, sent, strict=True):
            np.testing.assert_array_equal(one, other)


def test_a_run_of_its_own_is_asked_who_it_is(monkeypatch):
    with pytest.raises(UsageError) as error:
        processes.join("127.0.0.1:1", environment={})
    assert error.value.code == "E106"

    def nobody(**_):
        raise ValueError("coordinator_address should be defined.")

    monkeypatch.setattr(processes.jax.distributed, "initialize", nobody)
    with pytest.raises(UsageError) as error:
        processes.join(environment={})
    assert error.value.code == "E127"


def test_processes_stop_together(monkeypatch):
    monkeypatch.setattr(_interrupt, "_agreed", None)
    monkeypatch.setattr(_interrupt, "_current", _interrupt.Wish())
    _interrupt.agree(0)
    _interrupt._current.exit_code = 130
    assert not _interrupt.asked()
    _interrupt.check()
    assert _interrupt.wanted() == 130
    _interrupt.agree(143)
    assert _interrupt.asked()
    with pytest.raises(_interrupt.Interrupted) as stop:
        _interrupt.check()
    assert stop.value.exit_code == 130


@pytest.mark.distributed
def test_a_signal_to_a_launch_ends_all_with_the_best_state(small, tmp_path):
    np.save(tmp_path / "x.npy", np.repeat(small.x, 1000, axis=0))
    words = ["launch", "-n", "2", "--", "fit", tmp_path / "x.npy", "-n", "3", "--seed", "0", "--tol", "0"]
    words += ["--max-iter", "100000", "--batch-size", "4999", "--init", "random_from_data", "-o", tmp_path / "m.npz"]
    command = [sys.executable, "-m", "jaxgmm", *map(str, words)]
    pipes = {"stderr": subprocess.PIPE, "stdout": subprocess.PIPE, "env": surroundings()}
    # A job in the background ignores the signal, and so would all that it starts.
    heeding = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        launched = subprocess.Popen(command, text=True, **pipes)
    finally:
        signal.signal(signal.SIGINT, heeding)
    try:
        for line in launched.stderr:
            if "pass " in line:
                break
        launched.send_signal(signal.SIGINT)
        _, err = launched.communicate(timeout=WATCHDOG)
    finally:
        launched.kill()
    assert launched.returncode == 130, err
    assert "W309" in err
    assert jaxgmm.load(tmp_path / "m.npz").meta["status"] == "INTERRUPTED"


@pytest.mark.distributed
def test_two_and_four_processes_agree_with_one(small, tmp_path):
    np.save(tmp_path / "x.npy", small.x)
    # Every process compiles for itself, and k-means most of all.
    inits = {2: "kmeans", 4: "random_from_data"}

    def fitted(run_of):
        n, init = run_of
        words = ["fit", tmp_path / "x.npy", *WORDS, "--init", init, "-o", tmp_path / f"{init}-{n}.npz", "--json"]
        return run(*(["launch", "-n", n, "--", *words] if n > 1 else words))

    with ThreadPoolExecutor() as pool:
        ended = list(pool.map(fitted, [*inits.items(), *((1, init) for init in inits.values())]))
    for done in ended:
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["n_samples"] == len(small.x)
    for n, init in inits.items():
        one, found = (jaxgmm.load(tmp_path / f"{init}-{i}.npz") for i in (1, n))
        for name in ("weights", "means", "covariances"):
            theirs, ours = getattr(found.params, name), getattr(one.params, name)
            np.testing.assert_allclose(theirs, ours, rtol=1e-9, atol=1e-12)
        assert found.meta["log_likelihood"] == pytest.approx(one.meta["log_likelihood"], rel=1e-12)


@pytest.mark.distributed
def test_when_one_dies_the_others_save_and_others_go_on(tmp_path):
    """kill -9 of one process: the rest exit 75 within 30 seconds, and one process alone ends what two began."""
    rng = np.random.default_rng(0)
    np.save(tmp_path / "x.npy", rng.normal(size=(20_000, 4)) + rng.integers(0, 2, (20_000, 1)))
    plain = ["fit", tmp_path / "x.npy", "-n", "3", "--seed", "0", "--n-restarts", "1", "--tol", "0"]
    plain += ["--max-iter", "100"]
    words = [*plain, "--batch-size", "1999", "--checkpoint", tmp_path / "kept"]
    words += ["--checkpoint-every", "0.2", "-o", tmp_path / "m.npz"]
    command = [sys.executable, "-m", "jaxgmm", "launch", "-n", "2", "--", *map(str, words)]
    pipes = {"stderr": subprocess.PIPE, "stdout": subprocess.PIPE, "env": surroundings()}
    launched = subprocess.Popen(command, text=True, **pipes)
    try:
        begun = time.monotonic()
        while not list((tmp_path / "kept").glob("checkpoint-*.npz")):
            assert launched.poll() is None, launched.communicate()[1]
            assert time.monotonic() - begun < WATCHDOG
            time.sleep(0.02)
        children = subprocess.run(["pgrep", "-P", str(launched.pid)], capture_output=True, text=True, check=True)
        os.kill(int(children.stdout.split()[1]), signal.SIGKILL)
        died = time.monotonic()
        _, err = launched.communicate(timeout=60)
    finally:
        launched.kill()
    assert time.monotonic() - died < 30
    assert launched.returncode == 75, err
    assert "error[E905]" in err
    # From two processes to one, and one that nothing has happened to.
    ways = [[*words, "--resume", "auto"], [*plain, "-o", tmp_path / "alone.npz"]]
    with ThreadPoolExecutor() as pool:
        for done in pool.map(lambda way: run(*way), ways):
            assert done.returncode == 0, done.stderr
    found, alone = jaxgmm.load(tmp_path / "m.npz"), jaxgmm.load(tmp_path / "alone.npz")
    assert found.meta["n_iter"] == 100
    assert found.meta["log_likelihood"] == pytest.approx(alone.meta["log_likelihood"], rel=1e-9)
