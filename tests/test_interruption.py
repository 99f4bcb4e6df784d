"""Stopping in the middle: what is kept is what the fit had come to, soon, and nothing is half-written."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time

import jax
import numpy as np
import pytest

import jaxgmm
from jaxgmm import _interrupt
from jaxgmm.__main__ import main
from jaxgmm._options import em_options
from jaxgmm._status import FitError, Status
from jaxgmm.cli import app
from jaxgmm.em import burst as bursts, chunks, lanes as engine, many
from jaxgmm.io import load
from tests.helpers import start

ROWS, SLOTS = "in_spans", "in_slots"
BY_ROWS = {"SPAN_FLOPS": 1.0, "MAX_SPANS": 4}


class AfterSome(_interrupt.Wish):
    """Somebody who asks to stop when the engine has looked so often."""

    def __init__(self, looks: int) -> None:
        self.looks = looks

    @property
    def exit_code(self) -> int:
        self.looks -= 1
        return 130 if self.looks < 0 else 0


@pytest.fixture
def constants(monkeypatch):
    """Set constants of the engine for one test."""

    def put(**values):
        for name, value in values.items():
            monkeypatch.setattr(engine if hasattr(engine, name) else bursts, name, value)

    return put


@pytest.fixture(scope="module")
def problem(small):
    """Four starts of different length over the small rows, float32."""
    starts = jax.tree.map(lambda *a: np.stack(a).astype(np.float32), *(start("full", seed=s) for s in (0, 1, 2, 7)))
    x = jax.numpy.asarray((small.x - small.x.mean(axis=0)).astype(np.float32))
    starts = engine.replace(starts, means=starts.means - small.x.mean(axis=0).astype(np.float32))
    return starts, x, jax.numpy.ones(len(x), np.float32)


def run(problem, max_iter=300):
    return engine.run_lanes(*problem, em_options(np.float32, tol=1e-6, max_iter=max_iter))


def identical(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


# ------------------------------------------------------------------------------------------------ the lane engine


@pytest.mark.parametrize("seconds", [1e-9, 1e-4, 10.0])
def test_where_bursts_are_cut_changes_no_bit(problem, constants, seconds):
    whole = run(problem)
    constants(CALL_SECONDS=seconds, MIN_LANES=2)
    identical(whole, run(problem))


@pytest.mark.parametrize("way", [{}, BY_ROWS], ids=["slots", "rows"])
@pytest.mark.parametrize("looks", [1, 2, 9, 40])
def test_an_interrupted_lane_is_one_with_fewer_iterations(problem, constants, monkeypatch, way, looks):
    constants(CALL_SECONDS=1e-9, MIN_LANES=2, **way)
    with monkeypatch.context() as patch:
        patch.setattr(_interrupt, "_current", AfterSome(looks))
        cut = run(problem)
    stopped = cut.status == Status.INTERRUPTED
    assert stopped.any()
    # What a call has done is not lost when it is cut.
    assert looks < (9 if way else 40) or cut.n_iter.max() > 1
    for i in range(len(stopped)):
        if not np.isfinite(cut.log_likelihood[i]):
            assert cut.n_iter[i] == 0
            assert np.isnan(cut.history[i]).all()
            continue
        done = int(cut.n_iter[i])
        # A lane that had converged already has done so with the same last iteration.
        limited = run(problem, max_iter=done)
        for a, b in zip(jax.tree.leaves(cut.params), jax.tree.leaves(limited.params), strict=True):
            np.testing.assert_array_equal(a[i], b[i])
        assert cut.log_likelihood[i] == limited.log_likelihood[i]
        assert limited.n_iter[i] == done
        assert np.isfinite(cut.history[i, : done + 1]).all()
        assert np.isnan(cut.history[i, done + 1 :]).all()


def test_the_best_of_what_there_is_becomes_the_result(small, constants, monkeypatch):
    constants(CALL_SECONDS=1e-9, MIN_LANES=2)
    with monkeypatch.context() as patch:
        patch.setattr(_interrupt, "_current", AfterSome(9))
        result = jaxgmm.fit(small.x, 3, init=start("full"), tol=0)
    assert result.status == Status.INTERRUPTED
    assert not result.converged
    assert "interrupted" in result.message
    total = float(jaxgmm.log_prob(result.params, small.x).sum())
    assert result.log_likelihood == pytest.approx(total, rel=1e-12)
    assert result.log_likelihood > float(jaxgmm.log_prob(start("full"), small.x).sum())


def sweep_or_error(*args, **options):
    try:
        return jaxgmm.sweep(*args, **options)
    except FitError as error:
        return error


@pytest.mark.parametrize("looks", range(0, 24, 3))
def test_whenever_it_is_interrupted_there_is_a_model_or_a_sentence(small, constants, monkeypatch, looks):
    constants(CALL_SECONDS=1e-9, MIN_LANES=2)
    monkeypatch.setattr(_interrupt, "_current", AfterSome(looks))
    found = sweep_or_error(small.x, [2, 3], key=0, n_restarts=4, tol=0, keep_restarts=2, criterion="silhouette")
    if isinstance(found, FitError):
        assert found.status == Status.INTERRUPTED
        assert "before there was a model" in str(found)
        return
    assert np.isfinite(found.best.log_likelihood)
    assert found.criterion == "bic"  # for a silhouette there was no time
    assert all(
        fit is not None or why == Status.INTERRUPTED for fit, why in zip(found.fits, found.failures, strict=True)
    )


@pytest.mark.parametrize("turn", [1.0, 1e9])
def test_turns_of_many_sets_change_no_bit(small, monkeypatch, turn):
    # The last take longest, so that the places of those that go on change.
    sets = [small.x[i : i + 100] for i in range(80, -1, -20)]
    monkeypatch.setattr(many, "TURN_FLOPS", np.inf)
    whole = jaxgmm.fit_many(sets, 3, key=0)
    monkeypatch.setattr(many, "TURN_FLOPS", turn)
    identical(whole.outcome, jaxgmm.fit_many(sets, 3, key=0).outcome)


def test_many_sets_keep_what_had_begun(small, monkeypatch):
    sets = [small.x[i : i + 100] for i in range(0, 100, 20)]
    monkeypatch.setattr(many, "TURN_FLOPS", 1.0)
    monkeypatch.setattr(chunks, "CHUNK_TASKS", 2)
    monkeypatch.setattr("jaxgmm._parallel.n_workers", lambda: 1)
    with monkeypatch.context() as patch:
        # Two looks for each chunk of two sets that takes two turns.
        patch.setattr(_interrupt, "_current", AfterSome(4))
        cut = jaxgmm.fit_many(sets, 3, key=0, tol=0)
    rows = cut.table()
    assert cut.fitted.any()
    assert not cut.fitted.all()
    for row, failure in zip(rows, cut.failures, strict=True):
        assert row["status"] in ("INTERRUPTED", "CONVERGED", "FAILED")
        assert failure is None or "when the run was interrupted" in str(failure)
    i = int(np.argmax(cut.fitted))
    fit = cut.fits[i]
    assert fit.log_likelihood == pytest.approx(float(jaxgmm.log_prob(fit.params, sets[i]).sum()), rel=1e-9)
    monkeypatch.setattr(_interrupt, "_current", AfterSome(0))
    with pytest.raises(_interrupt.Interrupted):
        jaxgmm.fit_many(sets, 3, key=0)


# ---------------------------------------------------------------------------------------------------- the signals


# A shell starts background jobs with the signal ignored, and all that such a test run starts inherits that.
HEED = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
# A call that only its end, or that of the process, can stop.
DEAF = """
from jaxgmm import _interrupt
import hashlib, sys
print("ready", flush=True)
with _interrupt.heeding_signals(lambda error: print(error.code, flush=True)) as wish:
    if "holding" in sys.argv:
        _interrupt.hold()
    hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)
"""


def python(code, *words, cwd=None):
    """A new process, this package in its path, that runs `code`."""
    command = [sys.executable, "-c", HEED + textwrap.dedent(code), *map(str, words)]
    return subprocess.Popen(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(stream, word):
    lines = []
    while word not in (lines[-1] if lines else ""):
        line = stream.readline()
        assert line, "".join(lines)
        lines.append(line)


@pytest.mark.parametrize(
    ("signals", "code"),
    [
        ((signal.SIGINT, signal.SIGINT), 130),
        ((signal.SIGTERM, signal.SIGTERM), 143),
        ((signal.SIGINT, signal.SIGTERM), 143),
    ],
)
def test_the_second_signal_ends_at_once_whatever_is_under_way(signals, code):
    process = python(DEAF, "holding")
    wait_for(process.stdout, "ready")
    time.sleep(0.2)
    process.send_signal(signals[0])
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(_interrupt.PATIENCE + 0.3)
    sent = time.monotonic()
    process.send_signal(signals[1])
    process.communicate(timeout=60)
    assert time.monotonic() - sent < 2
    assert process.returncode == code


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_one_signal_is_enough_where_there_is_nothing_to_keep(number, code):
    process = python(DEAF)
    wait_for(process.stdout, "ready")
    time.sleep(0.2)
    sent = time.monotonic()
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert time.monotonic() - sent < 2
    assert (process.returncode, out, err) == (code, "E903\n", "")


def test_an_ignored_signal_stays_ignored():
    code = """
    import os, signal
    from jaxgmm import _interrupt
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    before = signal.getsignal(signal.SIGINT)
    with _interrupt.heeding_signals(print) as wish:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        print(wish.exit_code, _interrupt.asked())
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    assert signal.getsignal(signal.SIGINT) is before
    assert signal.set_wakeup_fd(-1) == -1
    """
    out, err = python(code).communicate(timeout=60)
    assert (out, err) == ("0 False\n", "")


def test_outside_the_main_thread_signals_are_left_alone():
    code = """
    import signal, threading
    from jaxgmm import _interrupt
    def work():
        with _interrupt.heeding_signals(print) as wish:
            print(signal.getsignal(signal.SIGINT) is signal.default_int_handler, wish.exit_code)
    thread = threading.Thread(target=work); thread.start(); thread.join()
    """
    out, err = python(code).communicate(timeout=60)
    assert (out, err) == ("True 0\n", "")


# ------------------------------------------------------------------------------------------------------ the shell


TELLING = """
import importlib, sys
import jax
where, name = sys.argv.pop(1), sys.argv.pop(1)
module = importlib.import_module(where)
real = getattr(module, name)
def telling(*args, **kwargs):
    # It may be under way still.
    result = jax.block_until_ready(real(*args, **kwargs))
    print("burst", file=sys.stderr, flush=True)
    return result
setattr(module, name, telling)
from jaxgmm.__main__ import main
sys.exit(main())
"""
ENDLESS = ["--tol", "0", "--max-iter", "10000000", "--seed", "0", "--init", "random_from_data"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A directory with rows in which EM goes on for ever, and a place for compiled programs."""
    path = tmp_path_factory.mktemp("long")
    x = np.random.default_rng(0).normal(size=(4000, 3))
    np.save(path / "x.npy", x)
    np.savetxt(
        path / "groups.csv", np.column_stack([x, np.arange(4000) % 8]), delimiter=",", header="a,b,c,g", comments=""
    )
    return path


@pytest.fixture
def interrupt(folder):
    """Start a command, wait for a burst, send signals; what it printed, its exit code, and the seconds it took."""

    def go(*words, signals=(signal.SIGINT,), module="jaxgmm.em.lanes", name="in_slots"):
        process = python(TELLING, module, name, *words, cwd=folder)
        wait_for(process.stderr, "burst")
        sent = time.monotonic()
        for number in signals:
            process.send_signal(number)
        out, err = process.communicate(timeout=120)
        return out, err.replace("burst\n", ""), process.returncode, time.monotonic() - sent

    return go


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_fit_keeps_its_model_and_says_how_to_go_on(interrupt, folder, number, code):
    out, err, found, seconds = interrupt("fit", "x.npy", "-n", 6, *ENDLESS, "--force", signals=[number])
    assert found == code, err
    assert seconds < 4  # two on a machine that has nothing else to do
    assert "jaxgmm fit x.npy --init-from model.npz -o better.npz" in err
    assert "Traceback" not in err
    assert "interrupted before it converged" in " ".join(out.split())
    model = load(folder / "model.npz")
    assert model.meta["status"] == "INTERRUPTED"
    x = np.load(folder / "x.npy")
    assert model.meta["log_likelihood"] == pytest.approx(float(model.log_prob(x).sum()), rel=1e-12)
    again = jaxgmm.fit(x, 6, init=model.params, max_iter=5, tol=0)
    assert again.log_likelihood >= model.meta["log_likelihood"] - 1e-8
    assert not [name for name in os.listdir(folder) if name.startswith(".jaxgmm")]


def test_an_interrupted_sweep_keeps_the_best_so_far(interrupt, folder):
    words = ["sweep", "x.npy", "--candidates", "2-9", *ENDLESS, "--json", "-o", "sweep.npz"]
    out, err, code, seconds = interrupt(*words)
    assert code == 130, err
    assert seconds < 4
    found = jaxgmm.io.json.loads(out)
    assert found["exit_code"] == 130
    assert len(found["table"]) == 8
    assert {row["status"] for row in found["table"]} <= {"INTERRUPTED", "CONVERGED"}
    assert load(folder / "sweep.npz").meta["log_likelihood"] == found["log_likelihood"]


def test_interrupted_groups_are_written_as_far_as_they_came(interrupt, folder):
    words = ["fit-many", "groups.csv", "--group", "g", "-n", 4, *ENDLESS, "-o", "many.csv"]
    _, err, code, seconds = interrupt(*words, module="jaxgmm.em.many", name="run_chunk")
    assert code == 130, err
    assert seconds < 4
    lines = (folder / "many.csv").read_text().splitlines()
    assert len(lines) == 9
    assert any(line.endswith("INTERRUPTED") for line in lines[1:])
    assert "interrupted" in err


def test_twice_in_a_row_leaves_the_old_file(interrupt, folder):
    (folder / "old.npz").write_bytes(b"old")
    words = ["fit", "x.npy", "-n", 6, *ENDLESS, "-o", "old.npz", "--force"]
    _, err, code, seconds = interrupt(*words, signals=[signal.SIGINT, signal.SIGTERM])
    assert code in (130, 143), err  # two that wait together come in any order
    assert seconds < 2
    assert (folder / "old.npz").read_bytes() == b"old"
    assert not [name for name in os.listdir(folder) if name.startswith(".jaxgmm")]


def test_before_the_first_burst_there_is_nothing_to_write(folder, monkeypatch):
    monkeypatch.setenv("JAXGMM_CACHE_DIR", "off")
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    process = python(
        "from jaxgmm.__main__ import main; main()", "fit", "x.npy", "-n", 6, *ENDLESS, "-o", "n.npz", cwd=folder
    )
    wait_for(process.stderr, "fitting")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out) == (130, "")
    assert " ".join(err.split()) == (
        "jaxgmm: error[E903]: interrupted before there was a model to keep; nothing is written help: run the same "
        "command again"
    )
    assert not (folder / "n.npz").exists()


# A signal where an exception would be lost, as it is in the callbacks of XLA: when a module is about to be imported.
AT_IMPORT = """
import signal, sys, weakref
name, number = sys.argv.pop(1), int(sys.argv.pop(1))
class Thing: pass
class Finder:
    def find_spec(self, found, *rest):
        if found == name:
            thing = Thing()
            told = weakref.ref(thing, lambda _: signal.raise_signal(number))
            del thing
sys.meta_path.insert(0, Finder())
from jaxgmm.__main__ import main
sys.exit(main())
"""


@pytest.mark.parametrize("module", ["jaxgmm.cli.app", "jax"])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_during_start_up_ends_the_process(folder, module, number, code):
    words = ["fit", "x.npy", "-n", 6, *ENDLESS, "-o", "n.npz", "--json"]
    process = python(AT_IMPORT, module, int(number), *words, cwd=folder)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (code, "jaxgmm: error[E903]: interrupted\n  help: run the same command again\n")
    assert jaxgmm.io.json.loads(out)["exit_code"] == code
    assert not (folder / "n.npz").exists()


@pytest.fixture
def seen(monkeypatch):
    """What answers SIGINT while a command runs."""
    found = []
    monkeypatch.setattr(app, "_function", lambda command: lambda *_: found.append(signal.getsignal(signal.SIGINT)))
    return found


def test_the_shell_answers_signals_until_it_returns(seen, monkeypatch):
    before = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(sys, "argv", ["jaxgmm", "doctor"])
    signal.signal(signal.SIGINT, signal.default_int_handler)  # it may be ignored, as in a background job
    try:
        assert main() == 0
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert seen[0] is not signal.default_int_handler


def test_a_program_that_calls_main_answers_its_own_signals(seen):
    before = signal.getsignal(signal.SIGINT)
    assert main(["doctor"]) == 0
    assert seen == [before]
