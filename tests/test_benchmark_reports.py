"""The benchmark: verdicts, reports, plots, configurations and the command line."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from benchmarks import contestants, machine, measure, memory, report, run
from benchmarks.cases import CASES, select
from benchmarks.config import Settings, load
from benchmarks.contestants import Contestant
from benchmarks.verdicts import judge, latest
from tests.tiny import TINY, register

CONFIGS = Path(__file__).parent.parent / "configs"


@pytest.fixture(autouse=True)
def _tiny(monkeypatch):
    register(monkeypatch)


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
