"""The use cases run small, and each number is held to a bound or a computation that does not come from the script."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from scipy.stats import betabinom, multivariate_normal
from threadpoolctl import threadpool_limits

import jaxgmm

FOLDER = Path(jaxgmm.__file__).parents[1] / "configs" / "use_cases"
SCRIPTS = sorted(path.stem for path in FOLDER.glob("[!_]*.py"))


@pytest.fixture(scope="module")
def load():
    """Import a script by its name, as Python itself would see it beside its neighbours."""
    before = set(sys.modules)
    sys.path.insert(0, str(FOLDER))
    yield importlib.import_module
    sys.path.remove(str(FOLDER))
    for name in set(sys.modules) - before:
        if name == "_common" or name in SCRIPTS:
            del sys.modules[name]


@pytest.fixture
def run(load, tmp_path, capsys):
    """Run a script with small sizes and check its figure; returns what it found and what it printed."""

    def run(name, **sizes):
        figure = tmp_path / f"{name}.png"
        found = load(name).main(str(figure), **sizes)
        assert figure.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
        assert figure.stat().st_size > 5000
        return found, capsys.readouterr().out

    return run


def test_the_pipeline_equals_that_of_scikit_learn(run):
    with threadpool_limits(1):  # threads that wait for one another take most of the time of such small fits
        found, said = run("sklearn_pipeline", candidates=(1, 3), n_init=1)
    assert 0 < found["difference"] < 1e-9
    assert f"{found['difference']:.1e}" in said
    assert found["chosen"] == found["chosen_by_sklearn"] == 3
    # One component has no start to differ in.
    assert found["scores"][0] == pytest.approx(found["scores_of_sklearn"][0], rel=1e-9)
    np.testing.assert_allclose(found["scores"], found["scores_of_sklearn"], atol=0.2)
    assert found["rand_index"] > 0.8


def test_a_component_for_the_tail_frees_the_rare_population(run):
    found, said = run("flow_gating", n_events=12_000, seed=0)
    assert found["with"]["f1"] > 0.93 > 0.5 > found["without"]["f1"]
    assert found["with"]["recall"] > 0.93
    assert found["tail_share"] == pytest.approx(0.05, abs=0.01)
    assert found["bic"][1] < found["bic"][0] - 100
    assert f"{found['with']['f1']:.2f} with" in said


def test_the_quality_of_a_gate_is_that_of_the_definition(load):
    found, rare = np.array([1, 1, 1, 0, 0], bool), np.array([1, 1, 0, 1, 1], bool)
    quality = load("flow_gating").quality(found, rare)
    assert quality == {"precision": pytest.approx(2 / 3), "recall": 0.5, "f1": pytest.approx(4 / 7)}


def test_the_background_is_the_same_streamed_and_the_ratio_to_it_verifies(run):
    found, said = run("speaker_background", n_speakers=10, n_components=16, n_frames=1000)
    streamed, in_memory = found["streamed"], found["in_memory"]
    assert streamed.log_likelihood == pytest.approx(in_memory.log_likelihood, rel=1e-12)
    np.testing.assert_allclose(streamed.params.means, in_memory.params.means, rtol=0, atol=1e-8)
    assert found["equal_error_rate"] < 0.15 < 0.25 < found["without_background"]
    # At the threshold that the rate claims, both errors are near it, counted one by one.
    own, others = found["ratios"][found["genuine"]], found["ratios"][~found["genuine"]]
    at = np.quantile(own, found["equal_error_rate"])
    assert np.mean(others >= at) == pytest.approx(found["equal_error_rate"], abs=0.03)
    assert f"{100 * found['equal_error_rate']:.1f} %" in said


def test_adapted_means_are_those_of_the_textbook(load):
    script = load("speaker_background")
    background = jaxgmm.make_params([0.3, 0.7], [[0.0], [4.0]], [[1.0], [2.0]], "diag")
    x = np.random.default_rng(0).normal(3.0, 2.0, (50, 1))
    joint = np.array([[0.3, 0.7]]) * np.exp(-0.5 * (x - [0.0, 4.0]) ** 2 / [1.0, 2.0]) / np.sqrt([1.0, 2.0])
    shares = joint / joint.sum(axis=1, keepdims=True)
    frames = shares.sum(axis=0)
    wanted = (shares.T @ x[:, 0] + 16.0 * np.array([0.0, 4.0])) / (frames + 16.0)
    np.testing.assert_allclose(script.adapt(background, x).means[:, 0], wanted, rtol=1e-10)


def test_the_alarm_rings_as_rarely_as_was_asked_for(run):
    found, said = run("anomaly_alarm", n_fit=300, n_held=2000, n_fresh=20_000, candidates=(3, 4))
    # 20 of 2,000 held-out rows lie at or below the threshold, which makes the count of alarms beta-binomial.
    low, high = betabinom.interval(0.999, 20_000, 20, 1981)
    assert low <= found["false_alarms"] * 20_000 <= high
    assert found["false_alarms_of_fit_rows"] * 20_000 > high
    assert found["detected"] > 0.7
    assert f"{100 * found['false_alarms']:.2f} % of 20,000" in said


def test_the_threshold_keeps_its_promise_over_many_draws(load):
    rng = np.random.default_rng(0)
    samples = np.sort(rng.uniform(size=(4000, 150)), axis=1)
    below = np.array([load("anomaly_alarm").threshold(own, 0.05) for own in samples])
    # Of uniform scores the threshold is the chance of an alarm: 7 / 151 on average over calibrations.
    assert below.mean() == pytest.approx(7 / 151, abs=4 * below.std() / np.sqrt(4000))
    assert load("anomaly_alarm").threshold(samples[0, :10], 0.05) == -np.inf


def test_the_mixture_is_a_differentiable_prior(run, load):
    found, said = run("prior_in_jax", n_train=1000, n_test=20, n_components=4)
    assert found["mixture"] < 0.85 * found["wiener"] < 0.85 * found["ridge"]
    assert f"{found['mixture']:.3f} with the mixture" in said
    prior, a, y = (jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), found[name]) for name in ("prior", "a", "y"))

    def energy(x, y):
        parts = zip(prior.weights, prior.means, prior.covariances, strict=True)
        density = sum(w * multivariate_normal(m, c).pdf(x) for w, m, c in parts)
        return np.sum((y - a @ x) ** 2) / (2.0 * 0.05**2) - np.log(density)

    script = load("prior_in_jax")
    gradient = jax.jit(jax.grad(script.energy))
    for i in range(3):
        # Beside the optimum, where the gradient is not zero, against differences of SciPy's density.
        x = found["restored"][i].astype(np.float64) + 0.01 * np.cos(np.arange(16))
        with jax.enable_x64(True):
            slope = np.asarray(gradient(x, y[i], a, prior))
        steps = 1e-5 * np.eye(16)
        wanted = [(energy(x + step, y[i]) - energy(x - step, y[i])) / 2e-5 for step in steps]
        np.testing.assert_allclose(slope, wanted, rtol=1e-4, atol=1e-4 * np.abs(wanted).max())
        assert energy(found["restored"][i], y[i]) < energy(x, y[i])


def test_every_small_set_gets_its_own_number_of_components(run):
    with threadpool_limits(1):
        found, said = run("many_small_fits", n_sets=40, n_compared=8, sizes=(100, 128))
    assert found["right"] >= 0.95
    assert f"right in {100 * found['right']:.1f} %" in said
    chosen = found["result"].n_components
    assert found["right"] == pytest.approx(np.mean(chosen == found["counts"]))
    # scikit-learn has no prior, and so may err now and then.
    assert np.mean(found["by_sklearn"] == chosen[:8]) >= 0.75
    for i in range(4):
        fit, x = found["result"].fits[i], found["tables"][i]
        assert fit.bic == pytest.approx(jaxgmm.to_sklearn(fit).bic(x), rel=1e-9)


@pytest.mark.parametrize("name", SCRIPTS)
def test_nothing_is_overwritten(load, tmp_path, name):
    common, script = load("_common"), load(name)
    figure = tmp_path / "figure.png"
    figure.write_text("precious")
    with pytest.raises(SystemExit, match=r"figure\.png exists; give --force") as refused:
        common.command_line(script.main, script.__file__, ["-o", str(figure)])
    assert "\n" not in str(refused.value)
    assert figure.read_text() == "precious"
    for wrong, why in ((tmp_path / "none" / "a.png", "there is no folder"), (tmp_path / "a.txt", "must end in")):
        with pytest.raises(SystemExit, match=why):
            common.command_line(script.main, script.__file__, ["-o", str(wrong)])


def test_force_writes_over_and_the_default_name_is_the_scripts(load, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    common = load("_common")
    Path("some_case.png").write_text("old")

    def main(figure, *, force):
        common.check_figure(figure, force)
        drawing, _ = common.axes()
        common.save(drawing, figure)
        return {}

    common.command_line(main, "elsewhere/some_case.py", ["--force"])
    assert Path("some_case.png").read_bytes().startswith(b"\x89PNG")
    assert "figure: some_case.png" in capsys.readouterr().out


def test_every_use_case_is_listed_and_tested():
    listed, here = (FOLDER / "README.md").read_text(), Path(__file__).read_text()
    assert len(SCRIPTS) == 6
    for name in SCRIPTS:
        assert f"`{name}.py`" in listed
        assert f'run("{name}"' in here
