"""The benchmark itself: fair runs, honest records, verdicts, plots. No test looks at how long anything took."""

from __future__ import annotations

import json
import math
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from benchmarks import contestants, machine, measure, memory, numpy_baseline, process, report, run, scoring
from benchmarks.cases import CASES, Case, select
from benchmarks.config import Settings, load
from benchmarks.contestants import LIBRARIES, Contestant, Outcome, Prepared, parse
from benchmarks.problems import Start, make_problem
from benchmarks.timing import SLICE_SECONDS, interleave, per_iteration, spread
from benchmarks.verdicts import judge, latest

CONFIGS = Path(__file__).parent.parent / "configs"
TINY = Case("tiny", 200, 3, 2, n_iter=(2, 4), targets={"scikit-learn": 2.0, "cheat": 3.0})


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


@pytest.fixture(autouse=True)
def _tiny(monkeypatch):
    monkeypatch.setitem(CASES, "tiny", TINY)
    monkeypatch.setattr("benchmarks.timing.SLICE_SECONDS", 0.0)


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


def test_first_call_apart_and_the_rest_in_turn(monkeypatch):
    monkeypatch.setattr("benchmarks.timing.SLICE_SECONDS", SLICE_SECONDS)
    clock = Clock()
    runs = {"a": [clock.work(9, 1, 5, 2)], "b": [clock.work(4, 1, 1, 1), clock.work(5, 3, 4, 5)]}
    found = interleave(runs, 3, clock=clock)
    (a,), (few, more) = found["a"], found["b"]
    assert (a.first, a.seconds, a.result) == (9, [1, 5, 2], 3)
    assert spread(a.seconds) == {"median": 2, "min": 1, "max": 5}
    assert spread(per_iteration(few.seconds, more.seconds, (2, 4)))["median"] == 1.5


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


# -------------------------------------------------------------------------------------------- verdicts, reports


def made(contestant, ms, dtype="float64", **rest):
    """A record as `timed` makes them."""
    figures = {"median": ms, "min": ms / 2, "max": 2 * ms}
    more = {
        "ms_per_iteration": figures,
        "seconds": {key: value / 100 for key, value in figures.items()},
        "compile_seconds": 1.0,
        "value": -5.0,
        "deviation": 0.0,
        "agrees": True,
        "equal_iterations": True,
        "iterations_done": [2, 4],
        "times_roofline": 4.0,
        "roofline_ms": ms / 4,
        "gflops_measured": 100.0,
        "machine": machine.describe(),
    }
    return measure.blank(rest.pop("case", TINY), contestant, dtype) | more | rest


@pytest.mark.parametrize(
    ("records", "verdict", "ratio"),
    [
        ([made("jaxgmm", 1.0), made("scikit-learn", 2.0)], "pass", "2.0 x"),
        ([made("jaxgmm", 1.0), made("scikit-learn", 1.9)], "**MISS**", "1.9 x"),
        ([made("jaxgmm", 1.0), made("scikit-learn", 9.0), made("scikit-learn", 1.5, "float32")], "**MISS**", "1.5 x"),
        ([made("jaxgmm", 1.0), made("jaxgmm", 0.1, "float32"), made("scikit-learn", 1.9)], "**MISS**", "1.9 x"),
        ([made("jaxgmm", 1.0), made("scikit-learn", 1.9), made("scikit-learn", 4.0)], "pass", "4.0 x"),
        ([made("jaxgmm", 1.0)], "scikit-learn not run", "-"),
        ([made("scikit-learn", 1.0)], "jaxgmm not run", "-"),
        ([made("jaxgmm", -1.0), made("scikit-learn", 1.9)], "jaxgmm's figure is lost in noise", "-"),
        (
            [made("jaxgmm", 1.0, agrees=False, deviation=2e-3), made("scikit-learn", 9.0)],
            "jaxgmm's value is off by 2.0e-03",
            "-",
        ),
        (
            [made("jaxgmm", 1.0), made("scikit-learn", 9.0, agrees=False, deviation=2e-3)],
            "pass (scikit-learn's value is off by 2.0e-03)",
            "9.0 x",
        ),
        (
            [made("jaxgmm", 1.0, equal_iterations=False, iterations_done=[2, 3]), made("scikit-learn", 9.0)],
            "jaxgmm did [2, 3] iterations",
            "-",
        ),
        (
            [made("jaxgmm", 1.0), measure.blank(TINY, "scikit-learn") | {"failed": "MemoryError: much"}],
            "scikit-learn failed: MemoryError: much",
            "-",
        ),
        ([measure.blank(TINY) | {"skipped": "the budget was used up"}], "jaxgmm not run; scikit-learn not run", "-"),
    ],
)
def test_verdicts(records, verdict, ratio):
    found = judge(latest(records)["tiny"])
    assert [v.against.split()[0] for v in found] == ["scikit-learn", "cheat"]
    assert (found[0].verdict, found[0].ratio) == (verdict, ratio)
    assert found[0].target == "2 x"


def test_a_later_run_of_a_skipped_case_counts():
    skip = measure.blank(TINY) | {"skipped": "the budget was used up"}
    assert latest([made("jaxgmm", 1.0), skip])["tiny"][0]["contestant"] == "jaxgmm"
    assert latest([skip])["tiny"] == [skip]


def test_the_report_has_the_verdicts_and_the_plots(tmp_path):
    pytest.importorskip("matplotlib")
    scale = [
        made(name, ms * case.n_samples, case=case)
        for case in select(["scale-n_samples-*"])
        for name, ms in (("jaxgmm", 1.0), ("scikit-learn", 9.0))
    ]
    records = [made("jaxgmm", 1.0), made("scikit-learn", 3.0), made("gmmx", 1.0, "float32", agrees=False), *scale]
    results, out = tmp_path / "r.jsonl", tmp_path / "report.md"
    results.write_text("".join(json.dumps(r) + "\n" for r in records))
    assert report.main([str(results), "-o", str(out)]) == 0
    text = out.read_text()
    assert "| 3.0 x | 2 x | pass | 4.0 x |" in text
    assert "| gmmx float32 | 1 ms |" in text
    assert "**differs: 0.0e+00**" in text
    assert "![report-n_samples-float64](report-n_samples-float64.png)" in text
    assert (tmp_path / "report-n_samples-float64.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (tmp_path / "report-n_samples-float64.svg").read_text()
    assert records[0]["machine"]["date"][:10] in text


def test_the_report_without_matplotlib_says_how_to_get_plots(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "benchmarks.plots", None)  # as if it could not be imported
    results, out = tmp_path / "r.jsonl", tmp_path / "report.md"
    results.write_text(json.dumps(made("jaxgmm", 1.0)) + "\n")
    assert report.main([str(results), "-o", str(out)]) == 0
    assert "jaxgmm[plot]" in capsys.readouterr().err
    assert "| jaxgmm |" in out.read_text()


# ------------------------------------------------------------------------------------------ settings, command line


def test_configurations_name_known_cases_and_contestants():
    for name in ("bench_cpu.toml", "bench_gpu.toml"):
        settings = load(CONFIGS / name)
        assert settings.selected()
        assert settings.competing()
        assert f"`{name}`" in (CONFIGS / "README.md").read_text()
    wanted = {case.name for case in CASES.values() if case.targets or case.limit} - {"tiny"}
    assert wanted <= {case.name for case in load(CONFIGS / "bench_cpu.toml").selected()}
    largest = load(CONFIGS / "bench_gpu.toml").selected()
    for size, most in (("n_samples", 10_000_000), ("n_features", 64), ("n_components", 256), ("n_restarts", 256)):
        assert max(getattr(case, size) for case in largest) == most
    assert {case.dtype for case in largest} == {"float32", "float64"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[benchmark]\ncases = ['nothing-like-it']\n", "no case is called 'nothing-like-it'"),
        ("[benchmark]\ncases = ['full-*']\ncontestants = ['numpi']\n", "no contestant is called 'numpi'"),
        ("[benchmark]\ncases = ['full-*']\ncontestants = ['numpy:float16']\n", "must be float32 or float64"),
        ("[benchmark]\ncases = ['full-*']\nrepeat = 3\n", "unknown repeat; the keys are"),
        ("[fit]\nn_components = 3\n", "the one table [benchmark], not fit"),
    ],
)
def test_a_wrong_configuration_is_refused(tmp_path, text, message, capsys):
    path = tmp_path / "c.toml"
    path.write_text(text)
    with pytest.raises(SystemExit):
        run.main(["--config", str(path)])
    assert message in capsys.readouterr().err


def test_run_writes_lines_and_resumes_and_keeps_to_a_budget(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(machine, "product_rate", lambda dtype: 1e9)
    output = tmp_path / "new" / "r.jsonl"
    common = ["--case", "tiny", "--contestant", "numpy", "--repeats", "1", "-o", str(output)]
    assert run.main([*common, "--budget", "0"]) == 0
    (skip,) = report.read([output])
    assert skip["contestant"] == "*"
    assert "budget of 0 s" in skip["skipped"]
    peak = {"bytes": 1_000_000, "device_bytes": 0}
    monkeypatch.setattr(memory, "_child", lambda *_: peak)
    assert run.main([*common, "--resume", "--memory"]) == 0
    assert run.main([*common, "--resume"]) == 0  # nothing is left
    records = report.read([output])
    assert [r["contestant"] for r in records] == ["*", "numpy"]
    assert records[1]["machine"]["packages"]["jax"]
    assert records[1]["settings"] == {"repeats": 1, "max_seconds": 60.0}
    assert records[1]["targets"] == TINY.targets
    assert records[1]["peak"]["megabytes"]["median"] == 0.0
    assert "numpy" in capsys.readouterr().out


def test_list_names_every_case_once(capsys):
    assert run.main(["--list"]) == 0
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert names == list(CASES)


def test_settings_are_checked_when_made():
    assert len(Settings(cases=("full-*", "full-100k-8-8")).selected()) == 4
    assert contestants.parse("gmmx:float32") == Contestant("gmmx", "float32")


def test_product_rate():
    assert machine.product_rate("float32", size=8, repeats=1) > 0
    assert machine.slug({"device": "NVIDIA H200", "cores": 16}) == "nvidia-h200-16-cores"
    assert machine.memory() > 0
