"""Text for people: complete, right-aligned, never wider than 80 columns, whatever the model looks like."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from jaxgmm import GMMParams, Status
from jaxgmm.em.result import FitResult, SweepResult
from jaxgmm.model import Model
from jaxgmm.report import MAX_COMPONENTS, MAX_FEATURES, summary_dict, summary_text, sweep_text


def params(n_components: int, n_features: int, scale: float = 1.0) -> GMMParams:
    rng = np.random.default_rng(n_components + 100 * n_features)
    return GMMParams(
        weights=rng.dirichlet(np.full(n_components, 5.0)),
        means=rng.normal(size=(n_components, n_features)) * scale,
        covariances=rng.uniform(0.5, 2.0, size=(n_components, n_features)) * scale**2,
        covariance_type="diag",
    )


def fit(
    n_components: int = 3, n_features: int = 2, *, status: Status = Status.CONVERGED, n_restarts: int = 4, **change
) -> FitResult:
    """A result as EM would return it, without running it: restart 1 is the best and alone in it."""
    likelihoods = np.full(n_restarts, -260.0)
    likelihoods[1 % n_restarts] = -250.0
    values = {
        "params": params(n_components, n_features),
        "log_likelihood": -250.0,
        "classification_log_likelihood": -255.0,
        "n_samples": 100,
        "weight_sum": 100.0,
        "restart_log_likelihoods": likelihoods,
        "restart_status": np.full(n_restarts, status),
        "restart_n_iter": np.full(n_restarts, 12),
        "restart_history": np.tile(np.linspace(-300.0, -250.0, 13), (n_restarts, 1)),
        "best_restart": 1 % n_restarts,
        "kernel": "whitening",
        "init": "kmeans",
        "options": {"tol": 1e-8, "max_iter": 50},
    }
    return FitResult(**(values | change))


def sweep(*fits: FitResult | None, criterion: str = "bic", values=None) -> SweepResult:
    cells = tuple(("diag", k + 1) for k in range(len(fits)))
    if values is None:
        values = [np.nan if f is None else getattr(f, criterion) for f in fits]
    failures = tuple(Status.SINGULAR if f is None else None for f in fits)
    return SweepResult(cells=cells, fits=fits, failures=failures, values=np.array(values), criterion=criterion)


def width(text: str) -> int:
    return max(map(len, text.splitlines()))


def test_summary_says_everything_that_is_known():
    model = Model.from_fit(fit(), columns=["length", "width"], seed=17)
    text = summary_text(model, "m.npz")
    facts = dict(re.findall(r"(\S[^\n]*?) {2,}(\S[^\n]*?)(?= {3,}|\n)", text))
    assert facts["rows"] == "100"
    assert facts["features"] == "2"
    assert facts["components"] == "3"
    assert facts["covariance type"] == "diag"
    assert facts["iterations"] == "12"
    assert facts["best optimum"] == "1 of 4 starts"
    assert facts["seed"] == "17"
    assert facts["log-likelihood"] == "-250.0000"
    assert facts["mean per row"] == "-2.5000"
    assert facts["df (free parameters)"] == "14"
    for name in ("bic", "aic", "icl"):
        assert facts[f"{name.upper()} (lower is better)"] == f"{model.meta[name]:.4f}"
    assert "status: converged" in text
    for command in ("predict m.npz", "score m.npz", "sample m.npz"):
        assert f"  jaxgmm {command}" in text


def test_components_are_shown_with_weight_size_mean_and_deviation():
    model = Model.from_fit(fit(), columns=["length", "width"])
    lines = summary_text(model).splitlines()
    first = lines.index("weights, sizes and means")
    assert lines[first + 1].split() == ["k", "weight", "size", "length", "width"]
    second = lines.index("standard deviations along the axes")
    for k in range(3):
        index, weight, size, *mean = lines[first + 2 + k].split()
        assert int(index) == k
        assert float(weight) == pytest.approx(model.params.weights[k], abs=1e-4)
        assert float(size) == pytest.approx(100 * model.params.weights[k], abs=0.05)
        np.testing.assert_allclose(np.array(mean, float), model.data_means[k], rtol=1e-4)
        np.testing.assert_allclose(np.array(lines[second + 2 + k].split()[1:], float), model.data_std[k], rtol=1e-4)
    ends = {len(line) for line in lines[first + 1 : first + 5]}
    assert ends == {len(lines[first + 1])}  # right-aligned under their heads


def test_units_of_the_data_whatever_the_fit_was_standardized_by():
    plain = Model.from_fit(fit())
    scaled = Model.from_fit(fit(), shift=[10.0, 20.0], scale=[2.0, 3.0])
    text = summary_text(scaled)
    assert "fitted on standardized columns" in text
    assert "standardized" not in summary_text(plain)
    assert summary_dict(scaled)["standardized"] is True
    np.testing.assert_allclose(summary_dict(scaled)["components"][0]["std"], plain.data_std[0] * [2.0, 3.0])
    assert f"{scaled.data_means[0, 1]:#.5g}" in text


@pytest.mark.parametrize("n_components", [1, 20, 120])
@pytest.mark.parametrize("n_features", [1, 6, 40])
@pytest.mark.parametrize("scale", [1e-150, 1.0, 1e150])
def test_summary_fits_80_columns(n_components, n_features, scale):
    names = [f"a very long column name, number {d}" for d in range(n_features)]
    result = fit(
        n_components,
        n_features,
        params=params(n_components, n_features, scale),
        n_samples=10**12,
        weight_sum=1e12,
        log_likelihood=-1e17,
        classification_log_likelihood=-1e17 - 1,
    )
    text = summary_text(Model.from_fit(result, columns=names, seed=2**32 - 1))
    assert width(text) <= 80
    shown = text.split("standard deviations")[0].split("means\n")[1].splitlines()[1:]
    assert len([line for line in shown if line.strip()]) == min(n_components, MAX_COMPONENTS)
    assert (f"{n_components - MAX_COMPONENTS} lighter components" in text) == (n_components > MAX_COMPONENTS)
    assert (f"{n_features - MAX_FEATURES} columns more" in text) == (n_features > MAX_FEATURES)
    assert all(line == line.rstrip() for line in text.splitlines())


def test_the_heaviest_components_are_the_ones_shown():
    model = Model.from_fit(fit(30))
    lines = summary_text(model).splitlines()
    first = lines.index("weights, sizes and means") + 2
    shown = [int(line.split()[0]) for line in lines[first : first + MAX_COMPONENTS]]
    heaviest = np.argsort(model.params.weights)[-MAX_COMPONENTS:]
    assert shown == sorted(heaviest.tolist())


def test_odd_column_names_cannot_break_the_lines():
    text = summary_text(Model.from_fit(fit(), columns=["line\nbreak", "\x1b[31mred"]))
    assert "line?br.." in text
    assert "\x1b" not in text


def test_what_to_run_next_depends_on_how_the_fit_ended():
    stopped = summary_text(Model.from_fit(fit(status=Status.MAX_ITER)), "m.npz")
    assert "status: not converged" in stopped
    assert "jaxgmm fit DATA --init-from m.npz --max-iter 500" in stopped
    alone = summary_text(Model.from_fit(fit()))
    assert "--n-restarts 16" in alone
    agreed = summary_text(Model.from_fit(fit(restart_log_likelihoods=np.full(4, -250.0))))
    assert "--n-restarts" not in agreed
    assert "4 of 4 starts" in agreed
    assert "next:" not in summary_text(Model.from_fit(fit()), None)


def test_a_model_of_given_parameters_shows_what_it_has():
    model = Model.from_params(params(2, 3))
    text = summary_text(model)
    assert "\nrows" not in text
    assert "BIC" not in text
    assert "x2" in text  # columns without names
    assert summary_dict(model)["n_samples"] is None
    assert summary_dict(model)["components"][1]["size"] is None


def test_summary_dict_is_json_and_complete():
    model = Model.from_fit(fit(30, 9, restart_log_likelihoods=np.array([-np.inf, -250.0, np.nan, -260.0])), seed=3)
    found = json.loads(json.dumps(summary_dict(model), allow_nan=False))
    assert len(found["components"]) == 30
    assert len(found["components"][29]["mean"]) == len(found["columns"]) == 9
    assert found["restart_log_likelihoods"] == [None, -250.0, None, -260.0]
    assert found["seed"] == 3
    assert found["score"] == -2.5
    assert found["converged"] is True


def test_sweep_marks_the_winner_and_gives_every_cell_its_stop_code():
    result = sweep(fit(1, log_likelihood=-400.0), fit(2), fit(3, status=Status.MAX_ITER, log_likelihood=-249.0), None)
    lines = sweep_text(result).splitlines()
    rows = lines[3:7]
    assert [row[0] for row in rows] == [" ", "*", " ", " "]
    assert [row.split()[-1] for row in rows] == ["converged", "converged", "max_iter", "singular"]
    assert lines[1].split() == ["covariance", "K", "log-likelihood", "df", "bic", "iter", "best/4", "stop"]
    assert rows[1].split()[1:] == ["diag", "2", "-250.0000", "9", f"{result.values[1]:.2f}", "12", "1", "converged"]
    assert rows[3].split() == ["diag", "4", "-", "-", "-", "-", "-", "singular"]
    starts = [row.index(row.split()[-1]) for row in rows]
    assert len(set(starts)) == 1
    assert "* the best: 2 components, diag (bic: lower is better)" in lines
    assert width("\n".join(lines)) <= 80


def test_sweep_by_silhouette_prefers_the_larger_value():
    text = sweep_text(sweep(fit(1), fit(2), fit(3), criterion="silhouette", values=[np.nan, 0.71, 0.52]))
    assert [line[0] for line in text.splitlines()[3:6]] == [" ", "*", " "]
    assert "0.7100" in text
    assert "larger is better" in text


def test_sweep_fits_80_columns():
    big = fit(2, log_likelihood=-1.5e15, n_restarts=1024, restart_n_iter=np.full(1024, 100_000))
    cells = (("tied_spherical", 128), ("tied_spherical", 256))
    result = SweepResult(
        cells=cells,
        fits=(big, None),
        failures=(None, Status.NONFINITE),
        values=np.array([3e15, np.nan]),
        criterion="icl",
    )
    assert width(sweep_text(result)) <= 80
