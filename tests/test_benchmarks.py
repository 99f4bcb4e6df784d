"""The benchmark: fair runs, honest records. No test looks at how long anything took."""

from __future__ import annotations

import json
import math
import sys
import types

import numpy as np
import pytest

from benchmarks import measure, memory, numpy_baseline, process, scoring
from benchmarks.cases import CASES, Case
from benchmarks.contestants import LIBRARIES, Contestant, Outcome, Prepared, parse
from benchmarks.problems import Start, make_problem
from benchmarks.timing import PAUSE_SECONDS, SLICE_SECONDS, interleave, per_iteration, spread
from benchmarks.verdicts import judge, latest
from tests.tiny import TINY, register


@pytest.fixture(autouse=True)
def _tiny(monkeypatch):
    register(monkeypatch)


@pytest.fixture
def add(monkeypatch):
    """Register a made-up library with some tasks, or with an error in place of its module."""

    def add(name, **tasks):
        module = types.ModuleType(f"benchmarks.contestants.{name}")
        vars(module).update(tasks)
        monkeypatch.setitem(sys.modules, module.__name__, module)
        monkeypatch.setitem(LIBRARIES, name, name)
        return Contestant(name)

    return add


def timed(case, *who, **rest):
    rest = {"repeats": 1, "max_seconds": 1.0, "rates": {"float64": 1e9, "float32": 2e9}} | rest
    return measure.timed(case, [parse(w) if isinstance(w, str) else w for w in who], **rest)


def baseline(problem, done=lambda n: n, said=lambda n: n):
    """The NumPy EM with `done(n)` iterations for n, of which it says that they were `said(n)`."""

    def go(n_iter):
        start = problem.start
        arrays = (start.weights, start.means, start.covariances)
        end = numpy_baseline.fit(problem.x, *arrays, problem.case.covariance_type, done(n_iter), reg_covar=0.0)
        fitted = Start(end.weights, end.means, end.covariances)
        return Outcome(lambda: scoring.log_likelihood(problem, fitted), said(n_iter))

    return Prepared(go)


# ------------------------------------------------------------------------------------------------------ timing


class Clock:
    """A clock that only moves when told to."""

    now = 0.0

    def __call__(self):
        return self.now

    def work(self, *seconds):
        """A run whose calls take so long, one after the other; it returns the number of the call."""
        left = list(seconds)
        calls = iter(range(len(left)))

        def go():
            self.now += left.pop(0)
            return next(calls)

        return go


@pytest.fixture(autouse=True)
def pauses(monkeypatch):
    """The lengths of the pauses, which are not made."""
    made = []
    monkeypatch.setattr("benchmarks.timing.time.sleep", made.append)
    return made


def test_first_call_apart_and_the_rest_in_turn(monkeypatch, pauses):
    monkeypatch.setattr("benchmarks.timing.SLICE_SECONDS", SLICE_SECONDS)
    clock = Clock()
    runs = {"a": [clock.work(9, 1, 5, 2)], "b": [clock.work(4, 1, 1, 1), clock.work(5, 3, 4, 5)]}
    found = interleave(runs, 3, clock=clock)
    (a,), (few, more) = found["a"], found["b"]
    assert (a.first, a.seconds, a.result) == (9, [1, 5, 2], 3)
    assert spread(a.seconds) == {"median": 2, "min": 1, "max": 5}
    assert spread(per_iteration(few.seconds, more.seconds, (2, 4)))["median"] == 1.5
    # One before each turn of each, so that nobody's idle threads run into another's time.
    assert pauses == [PAUSE_SECONDS] * 8


def test_short_calls_are_repeated_until_their_slice_is_used_up(monkeypatch):
    monkeypatch.setattr("benchmarks.timing.SLICE_SECONDS", 1.0)
    clock = Clock()
    found = interleave({"short": [clock.work(*[0.5] * 5)], "long": [clock.work(2, 2, 2)]}, 2, clock=clock)
    assert [len(found[key][0].seconds) for key in ("short", "long")] == [4, 2]


def test_a_slow_run_is_repeated_once_at_least_and_a_broken_one_not_at_all():
    clock = Clock()

    def broken():
        raise ZeroDivisionError("no")

    runs = {"slow": [clock.work(9, 9, 9)], "broken": [broken], "quick": [clock.work(1, 1, 1)]}
    found = interleave(runs, 2, max_seconds=5, clock=clock)
    assert found["slow"][0].seconds == [9]
    assert isinstance(found["broken"], ZeroDivisionError)
    assert found["quick"][0].seconds == [1, 1]


# ------------------------------------------------------------------------------------------------- fair records


def test_contestants_that_are_here_agree_from_an_equal_start():
    records = timed(TINY, "numpy", "scikit-learn", "jaxgmm", "jaxgmm:float32", "gmmx:float32")
    by_name = {(r["contestant"], r["dtype"]): r for r in records}
    for name in ("numpy", "scikit-learn", "jaxgmm"):
        record = by_name[name, "float64"]
        assert record["iterations_done"] == [2, 4]
        assert record["agrees"]
        assert abs(record["deviation"]) < 1e-9
        assert record["reference"] == "numpy"
        assert record["repeats"] >= 1
    rounded = by_name["jaxgmm", "float32"]
    assert rounded["agrees"]
    assert 0 < abs(rounded["deviation"]) < 1e-3
    assert rounded["roofline_ms"] == 1e3 * 2 * 200 * 2 * 3 * 4 / 2e9
    assert json.loads(json.dumps(records)) == records


@pytest.mark.parametrize("family", ["full", "tied", "diag", "spherical"])
def test_the_scorer_is_scikit_learns(family):
    mixture = pytest.importorskip("sklearn.mixture")
    problem = make_problem(Case("x", 100, 3, 2, family, reg_covar=1e-6))
    prepared = Contestant("scikit-learn").prepare(problem, task="em")
    assert prepared.run(3).n_iter == 3
    model = mixture.GaussianMixture(2, covariance_type=family, random_state=0).fit(problem.x)
    end = Start(model.weights_, model.means_, model.covariances_)
    assert scoring.log_likelihood(problem, end) == pytest.approx(model.score_samples(problem.x).sum(), rel=1e-12)


def test_who_skips_an_iteration_is_caught(add):
    honest = add("honest", em=baseline)
    lazy = add("lazy", em=lambda problem: baseline(problem, done=lambda n: n - 1, said=lambda n: n - 1))
    cheat = add("cheat", em=lambda problem: baseline(problem, done=lambda n: n - 1))
    records = {r["contestant"]: r for r in timed(TINY, "numpy", honest, lazy, cheat)}
    assert records["honest"]["agrees"]
    assert not records["lazy"]["equal_iterations"]
    # It says that it did all iterations; its parameters do not.
    assert records["cheat"]["equal_iterations"]
    assert not records["cheat"]["agrees"]


def test_who_starts_elsewhere_is_left_out_of_the_ratio(add):
    def other(problem):
        return Prepared(baseline(problem).run, equal_start=False)

    records = timed(TINY, "jaxgmm:float64", "jaxgmm", add("cheat", em=other))
    assert len(records) == 2  # the same contestant by two names is one
    assert "cheat's start differs" in judge(records)[1].verdict
    assert records[0]["reference"] == "jaxgmm"


def test_absent_is_a_skip_and_broken_a_failure(add, monkeypatch):
    def breaks(problem):
        raise FloatingPointError("overflow")

    def later(problem):
        return Prepared(lambda n_iter: 1 // 0)

    def unscored(problem):
        return Prepared(lambda n_iter: Outcome(lambda: 1 / 0, n_iter))

    monkeypatch.setitem(LIBRARIES, "absent", "no_such_module")
    who = [add("breaks", em=breaks), add("later", em=later), add("unscored", em=unscored), Contestant("absent")]
    records = {r["contestant"]: r for r in timed(TINY, *who, "numpy", add("other", sweep=None))}
    assert set(records) == {"breaks", "later", "unscored", "absent", "numpy"}  # `other` does not do this task
    assert records["breaks"]["failed"] == "FloatingPointError: overflow"
    assert records["later"]["failed"].startswith("ZeroDivisionError")
    assert records["unscored"]["failed"].startswith("ZeroDivisionError")
    assert "no_such_module" in records["absent"]["skipped"]
    assert records["numpy"]["agrees"]


def test_a_value_that_is_not_a_number_agrees_with_nothing(add):
    bad = add("bad", em=lambda problem: Prepared(lambda n_iter: Outcome(lambda: math.nan, n_iter)))
    records = {r["contestant"]: r for r in timed(TINY, "numpy", bad)}
    assert records["bad"]["agrees"] is False


@pytest.mark.parametrize(
    "case",
    [
        # As large as the sweep, which then need not compile again.
        Case("r", 200, 3, 2, task="restarts", n_restarts=2, n_iter=(2,), reg_covar=1e-3),
        Case("s", 196, 3, 2, task="sweep", n_restarts=1, n_iter=(), reg_covar=1e-6),
        Case("m", 1, 2, 2, task="many", n_iter=(), reg_covar=1e-6),
        Case("p", 60, 2, 2, task="predict_proba", n_iter=()),
        Case("l", 60, 2, 2, task="score_samples", n_iter=()),
        Case("k", 60, 2, 2, task="kmeans", n_iter=()),
    ],
    ids=lambda case: case.task,
)
def test_every_other_task(case):
    pytest.importorskip("sklearn")
    theirs, ours = timed(case, "scikit-learn", "jaxgmm")
    assert (theirs["contestant"], ours["contestant"]) == ("scikit-learn", "jaxgmm")
    if "fit_many" in ours.get("skipped", ""):
        return
    assert theirs["deviation"] == 0
    # From starts of their own the small sets here have more than one answer.
    assert abs(ours["deviation"]) < (1e-12 if ours["equal_start"] else 0.1)
    assert ours["seconds"]["median"] > 0


def test_problems_are_the_same_every_time_and_keep_em_busy():
    case = Case("busy", 600, 12, 4)
    a, b = make_problem(case), make_problem(case)
    np.testing.assert_array_equal(a.x, b.x)
    np.testing.assert_array_equal(a.start.means, b.start.means)
    arrays = (a.start.weights, a.start.means, a.start.covariances)
    found = [numpy_baseline.fit(a.x, *arrays, "full", n, 0.0).log_likelihood for n in (12, 13, 14)]
    assert found[2] - found[1] > 1e-6 * abs(found[2])
    assert scoring.scored_rows(Case("large", 10_000_000, 64, 256)) < 1_000_000
    assert scoring.scored_rows(case) == 600


def test_inertia():
    x, centres = np.array([[0.0, 0.0], [0.0, 2.0], [9.0, 0.0]]), np.array([[0.0, 1.0], [9.0, 3.0]])
    assert scoring.inertia(x, centres) == 11.0


# ----------------------------------------------------------------------------------------- memory and processes


def test_memory_is_measured_in_processes_of_their_own(monkeypatch):
    sizes = {"load": {"bytes": 100_000_000, "device_bytes": 0}, "fit": {"bytes": 350_000_000, "device_bytes": 7}}
    asked, caches = [], set()

    def child(case, contestant, path, act, cache):
        asked.append((contestant.library, act))
        caches.add(cache)
        assert np.load(path)["x"].shape == (200, 3)
        return sizes[act] if contestant.library == "jaxgmm" else {"skipped": "ImportError: no"}

    monkeypatch.setattr(memory, "_child", child)
    who = [Contestant("jaxgmm"), Contestant("numpy"), Contestant("numpy", "float64")]
    cold, cached, other = memory.measure(TINY, who)
    assert asked == [(name, act) for name in ("jaxgmm", "jaxgmm", "numpy") for act in ("load", "fit")]
    assert len(caches) == 2  # the second of what compiles finds what the first stored
    assert (cold["variant"], cached["variant"]) == ("cold", "cached")
    assert cold["megabytes"]["median"] == 250.0
    assert other["skipped"] == "ImportError: no"
    assert "variant" not in other


def test_the_child_prints_its_peak(tmp_path, capsys):
    path = memory._save(make_problem(TINY), tmp_path)
    for act in ("load", "fit"):
        assert memory.main(["tiny", "numpy:float64", str(path), act]) == 0
        assert json.loads(capsys.readouterr().out)["bytes"] > 1e6


def test_processes_cold_and_cached():
    seen = []
    clock = Clock()

    def go(command, environment):
        seen.append(environment["JAX_COMPILATION_CACHE_DIR"])
        clock.now += len(seen)
        if len(seen) == 6:
            raise RuntimeError("ended with 1")

    cold, cached = process.measure(CASES["process-help"], 2, go, clock)
    assert len(set(seen[:3])) == 3  # always another, empty folder
    assert len(set(seen[3:])) == 1
    assert cold["seconds"] == {"median": 2.5, "min": 2, "max": 3}
    assert cached["failed"] == "ended with 1"
    # The limit holds with the programs stored.
    assert [v.verdict for v in judge(latest([cold, cached])["process-help"])] == ["jaxgmm failed: ended with 1"]
    del cached["failed"]
    cached["seconds"] = {"median": 0.2}
    assert judge([cold, cached])[0].verdict == "**MISS**"
    cached["seconds"]["median"] = 0.1
    assert judge([cold, cached])[0].verdict == "pass"


def test_the_help_is_a_process():
    records = process.measure(CASES["process-help"], 1)
    assert all(record["seconds"]["median"] > 0 for record in records)
