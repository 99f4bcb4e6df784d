"""Plots of fits, sweeps, checks and benchmarks: the numbers in what is drawn."""

import json
from pathlib import Path
from types import SimpleNamespace

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from scipy import stats

import jaxgmm
from jaxgmm import DataError, FitResult, Model, Status, SweepResult, UsageError, make_params, plot
from jaxgmm._pytree import replace
from jaxgmm.data import synthetic
from jaxgmm.plot._checks import distribution, quantiles
from jaxgmm.plot._mixture import marginal
from tests.helpers import random_params

matplotlib.use("Agg")

LINE = make_params([0.3, 0.7], [[-2.0], [3.0]], [[1.0], [4.0]], "diag")
RESULTS = Path(jaxgmm.__file__).parents[1] / "benchmarks" / "results"


@pytest.fixture
def ax():
    return Figure().subplots()


def a_fit(params, history=((-5.0, -4.0),), best=0, log_likelihood=-4.0) -> FitResult:
    """A result as `fit` returns it, made by hand, which takes no time."""
    history = np.array(history)
    return FitResult(
        params=params,
        log_likelihood=log_likelihood,
        classification_log_likelihood=log_likelihood - 1.0,
        n_samples=200,
        weight_sum=200.0,
        restart_log_likelihoods=np.nanmax(history, axis=1),
        restart_status=np.full(len(history), Status.CONVERGED),
        restart_n_iter=np.sum(~np.isnan(history), axis=1) - 1,
        restart_history=history,
        best_restart=best,
        kernel="whiten",
        init="kmeans",
    )


@pytest.fixture
def fit():
    nan = np.nan
    curves = [[-9.0, -8.0, nan, nan], [-9.5, -7.0, -6.5, nan], [-11.0, -7.0, -6.0, -5.5], [-np.inf, nan, nan, nan]]
    return a_fit(random_params("full", 2, 3), curves, 2, -5.5)


@pytest.fixture
def sweep():
    cells = tuple((family, n) for family in ("full", "spherical") for n in (1, 2, 3))
    fits = tuple(
        a_fit(random_params(family, n, 3), log_likelihood=value)
        for (family, n), value in zip(cells, (-900.0, -700.0, -690.0, -950.0, -800.0, -750.0), strict=True)
    )
    return SweepResult(
        cells=cells, fits=fits, failures=(None,) * 6, values=np.array([fit.bic for fit in fits]), criterion="bic"
    )


def test_anything_that_holds_a_mixture(fit):
    estimator = jaxgmm.GaussianMixture(2)
    with pytest.raises(UsageError) as caught:
        plot.ellipses(estimator)
    assert caught.value.code == "E146"
    estimator.result_ = fit
    for mixture in (fit, fit.params, Model.from_fit(fit), estimator, jaxgmm.to_sklearn(fit.params)):
        ax = plot.ellipses(mixture, ax=Figure().subplots())
        np.testing.assert_allclose([patch.get_center() for patch in ax.patches], fit.params.means[:, :2])
    with pytest.raises(UsageError, match="a dict is no mixture") as caught:
        plot.ellipses({})
    assert caught.value.code == "E145"


# ---- history and criteria --------------------------------------------------------------------------------------------


def test_the_history_is_that_of_the_result(ax, fit):
    plot.history(fit, ax=ax)
    winner = ax.lines[-1]
    np.testing.assert_array_equal(winner.get_ydata(), fit.history)
    np.testing.assert_array_equal(winner.get_xdata(), np.arange(len(fit.history)))
    others = ax.collections[0].get_segments()
    assert [path.tolist() for path in others] == [[[0, -9], [1, -8]], [[0, -9.5], [1, -7], [2, -6.5]]]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["3 other restarts", "restart 2, the best"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("iteration", "log-likelihood")


def test_histories_of_other_holders(ax, fit):
    estimator = jaxgmm.GaussianMixture(2)
    estimator.result_ = fit
    plot.history(estimator, ax=ax)
    np.testing.assert_array_equal(ax.lines[-1].get_ydata(), fit.history)
    kept = SimpleNamespace(history=SimpleNamespace(log_likelihood=fit.restart_history, best=1, params=None))
    model = plot.history(kept, ax=Figure().subplots())
    row = fit.restart_history[1]
    np.testing.assert_array_equal(model.lines[-1].get_ydata(), row[~np.isnan(row)])
    failed = np.array([[-np.inf, np.nan], [-3.0, -2.0]])
    kept.history.log_likelihood = failed
    assert not plot.history(kept, ax=Figure().subplots()).collections
    for nothing in (fit.params, Model.from_params(fit.params), SimpleNamespace(), None):
        with pytest.raises(UsageError, match="this model keeps no history") as caught:
            plot.history(nothing, ax=ax)
        assert caught.value.code == "E158"


def test_criteria_are_those_of_the_table(ax, sweep):
    plot.criteria(sweep, ax=ax)
    lines = {line.get_label(): line for line in ax.lines[:2]}
    assert list(lines) == ["full", "spherical"]
    for row in sweep.table():
        line = lines[row["covariance_type"]]
        at = list(line.get_xdata()).index(row["n_components"])
        assert line.get_ydata()[at] == row["bic"]
    star = ax.lines[-1]
    assert star.get_xdata()[0] == sweep.best.n_components
    assert star.get_ydata()[0] == sweep.best.bic
    assert ax.texts[0].get_text() == f"{sweep.best.covariance_type}, {sweep.best.n_components}"
    styles = {(line.get_marker(), line.get_linestyle(), line.get_color()) for line in lines.values()}
    assert len({style[0] for style in styles}) == len({style[1] for style in styles}) == 2


def test_criteria_of_a_model_and_of_failures(ax, sweep):
    table = sweep.table()
    table[0] = {"covariance_type": "full", "n_components": 1, "status": "SINGULAR"}
    model = replace(Model.from_fit(sweep.best), meta={"sweep": {"criterion": "bic", "table": table}})
    plot.criteria(model, criterion="log_likelihood", ax=ax)
    assert list(ax.lines[0].get_xdata()) == [2, 3]
    assert ax.lines[-1].get_ydata()[0] == max(row["log_likelihood"] for row in table[1:])
    assert ax.get_ylabel() == "log-likelihood"
    plot.criteria(model.meta, ax=Figure().subplots())
    with pytest.raises(UsageError, match="no criterion 'bicc'; did you mean 'bic'") as caught:
        plot.criteria(sweep, criterion="bicc", ax=ax)
    assert caught.value.code == "E109"
    for nothing in (sweep.best, Model.from_fit(sweep.best), {}, {"sweep": {"table": []}}):
        with pytest.raises(UsageError) as caught:
            plot.criteria(nothing, ax=ax)
        assert caught.value.code == "E158"
    table = [{**row, "bic": None} for row in table]
    with pytest.raises(UsageError, match="no candidate of this sweep has a bic"):
        plot.criteria({"criterion": "bic", "table": table}, ax=ax)


# ---- checks ----------------------------------------------------------------------------------------------------------


def test_the_distribution_function_and_its_inverse():
    line = marginal(Model.from_params(LINE), [0])
    points = np.linspace(-8, 12, 41)
    wanted = 0.3 * stats.norm.cdf(points, -2, 1) + 0.7 * stats.norm.cdf(points, 3, 2)
    np.testing.assert_allclose(distribution(line, points), wanted, atol=1e-15)
    shares = np.array([1e-12, 1e-3, 0.3, 0.5, 0.999])
    np.testing.assert_allclose(distribution(line, quantiles(line, shares)), shares, rtol=1e-9)


def test_quantiles_against_quantiles(ax):
    x = np.random.default_rng(0).normal(size=(300, 2))
    normal = make_params([1.0], [[0.0, 5.0]], [[1.0, 4.0]], "diag")
    plot.qq(normal, x, feature=1, ax=ax)
    points = ax.lines[-1]
    np.testing.assert_array_equal(points.get_ydata(), np.sort(x[:, 1]))
    shares = (np.arange(300) + 0.5) / 300
    np.testing.assert_allclose(points.get_xdata(), stats.norm.ppf(shares, 5, 2), rtol=1e-9)
    ends = ax.lines[0]
    np.testing.assert_array_equal(ends.get_xdata(), ends.get_ydata())
    band = ax.collections[0].get_paths()[0].vertices
    wanted = stats.norm.ppf(stats.beta.ppf([0.025, 0.975], 1, 300), 5, 2)  # of the smallest
    at = np.isclose(band[:, 0], points.get_xdata()[0])
    assert band[at, 1].min() == pytest.approx(wanted[0], rel=1e-9)
    assert band[at, 1].max() == pytest.approx(wanted[1], rel=1e-9)
    assert ax.get_xlabel().startswith("x1")


def test_the_distance_of_kolmogorov_and_smirnov(ax):
    x = np.random.default_rng(0).normal(size=(250, 1)).round(1)  # with ties
    plot.cdf(make_params([1.0], [[0.1]], [[1.2]], "diag"), x, ax=ax)
    wanted = stats.ks_1samp(x[:, 0], stats.norm(0.1, np.sqrt(1.2)).cdf).statistic
    assert ax.texts[0].get_text() == f"D = {wanted:.3g}"
    marked = ax.lines[-1].get_ydata()
    assert abs(marked[1] - marked[0]) == pytest.approx(wanted)
    steps = ax.lines[0]
    assert steps.get_ydata()[0] == 0.0
    assert steps.get_ydata()[-1] == 1.0


def test_checks_of_many_rows(ax):
    x = np.random.default_rng(0).normal(size=(5000, 1))
    plot.qq(LINE, x, ax=ax)
    assert len(ax.lines[-1].get_xdata()) == 1000
    assert ax.get_title(loc="right") == "1,000 of 5,000 rows"
    for draw in (plot.qq, plot.cdf):
        with pytest.raises(DataError) as caught:
            draw(LINE, np.zeros((3, 2)), ax=ax)
        assert caught.value.code == "E210"


# ---- truth -----------------------------------------------------------------------------------------------------------


def test_truth_has_partners_of_one_colour_and_a_table(ax):
    true = synthetic.make_random(3, 2, 50, seed=3)
    order = [2, 0, 1]
    fitted = make_params(true.weights[order], true.means[order] + 0.1, true.covariances[order], "full")
    plot.truth(fitted, true, true.x, ax=ax)
    ours, theirs = ax.patches[:3], ax.patches[3:]
    for k, patch in enumerate(theirs):
        partner = ours[order.index(k)]
        assert patch.get_edgecolor() == partner.get_edgecolor()
        assert (patch.get_linestyle(), partner.get_linestyle()) == ("--", "-")
        np.testing.assert_allclose(np.add(patch.get_center(), 0.1), partner.get_center())
    table = ax.figure.axes[1].tables[0]
    texts = [[table[r, c].get_text().get_text() for c in range(6)] for r in range(4)]
    assert texts[0] == ["true / fit", "weight", "mean x0", "sd x0", "mean x1", "sd x1"]
    assert [row[0] for row in texts[1:]] == ["0 / 1", "1 / 2", "2 / 0"]
    mean = true.means[0, 0]
    assert texts[1][1:3] == ["0.333 / 0.333", f"{mean:.3g} / {mean + 0.1:.3g}"]


def test_truth_of_one_column_and_of_other_counts(ax):
    true = make_params([0.2, 0.3, 0.5], [[0.0], [5.0], [9.0]], [[1.0]] * 3, "diag")
    plot.truth(LINE, true, np.zeros((4, 1)), ax=ax)
    solid, dashed = ([line for line in ax.lines if line.get_linestyle() == s] for s in ("-", "--"))
    assert (len(solid), len(dashed)) == (3, 4)
    for lines in (solid, dashed):
        np.testing.assert_allclose(lines[-1].get_ydata(), sum(line.get_ydata() for line in lines[:-1]))
    table = ax.figure.axes[1].tables[0]
    names = [table[r, 0].get_text().get_text() for r in range(1, 4)]
    assert sorted(name.split(" / ")[1] for name in names) == ["0", "1", "–"]
    assert len({line.get_color() for line in dashed}) == 4
    more = plot.truth(true, LINE, ax=Figure().subplots())
    assert more.figure.axes[1].tables[0][3, 0].get_text().get_text().startswith("– / ")
    many = make_params(np.full(20, 0.05), np.arange(20.0)[:, None], np.ones((20, 1)), "diag")
    last = plot.truth(many, many, ax=Figure().subplots()).figure.axes[1].tables[0][13, 0]
    assert last.get_text().get_text() == "8 more"
    with pytest.raises(DataError, match="the true mixture has 2 columns and the fitted one 1"):
        plot.truth(LINE, make_params([1.0], [[0.0, 0.0]], [[1.0, 1.0]], "diag"), ax=ax)


# ---- overview --------------------------------------------------------------------------------------------------------


def test_an_overview_has_what_is_known(small, fit, sweep):
    model = Model.from_fit(fit, columns=["a", "b", "c"])
    model = replace(model, meta=model.meta | {"sweep": {"criterion": "bic", "table": sweep.table()}})
    np.testing.assert_array_equal(model.history.log_likelihood, fit.restart_history)
    figure = plot.overview(model, small.x)
    assert len(figure.axes) == 9 + 2
    labels = [ax.get_ylabel() for ax in figure.axes]
    assert labels[-2:] == ["log-likelihood", "BIC"]
    np.testing.assert_array_equal(figure.axes[-2].lines[-1].get_ydata(), fit.history)
    assert {"a", "b", "c"} <= {ax.get_xlabel() for ax in figure.axes}
    assert figure.get_suptitle() == "2 components, full covariance, 3 features"
    assert len(plot.overview(fit, small.x).axes) == 9 + 1
    own = Figure(layout="constrained")
    assert plot.overview(fit.params, figure=own) is own
    assert len(own.axes) == 9


# ---- benchmarks ------------------------------------------------------------------------------------------------------


def record(contestant="jaxgmm", n=1000, median=1.0, **more):
    base = {"case": f"{contestant}-{n}", "contestant": contestant, "dtype": "float64", "case_dtype": "float64"}
    base |= {"figure": "seconds", "n_samples": n, "n_features": 8, "n_components": 4, "n_restarts": 1}
    return base | {"seconds": {"median": median, "min": 0.5 * median, "max": 2 * median}} | more


def test_benchmark_lines(ax):
    records = [record(n=n, median=n / 100) for n in (10_000, 1000)]
    records += [record("numpy", n=n, median=n / 10) for n in (1000, 10_000)]
    records += [record("numpy", 100_000, failed="killed"), record("numpy", 7, seconds={"median": -1.0})]
    records += [record("numpy", n=1000, median=200.0), record("gmmx", 1000, equal_iterations=False)]
    records += [record("torch", 1000, figure="megabytes", megabytes={"median": 3.0})]
    plot.benchmark(records, ax=ax)
    lines = {line.get_label(): line for line in ax.lines}
    assert list(lines) == ["jaxgmm", "numpy"]
    assert list(lines["jaxgmm"].get_xdata()) == [1000, 10_000]
    assert list(lines["jaxgmm"].get_ydata()) == [10.0, 100.0]
    assert list(lines["numpy"].get_ydata()) == [200.0, 1000.0]  # the last record of a case wins
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    assert ax.get_title() == "D 8, K 4, restarts 1, float64"
    assert len({line.get_marker() for line in ax.lines}) == len({line.get_linestyle() for line in ax.lines}) == 2


def test_lines_differ_by_what_varies(ax):
    records = [record(n=n, case=f"{n}{k}", n_components=k) for n in (1000, 2000) for k in (2, 4)]
    plot.benchmark([*records, record(dtype="float32", n_components=2)], ax=ax)
    assert sorted(line.get_label() for line in ax.lines) == ["jaxgmm, K 2", "jaxgmm, K 4", "jaxgmm, float32, K 2"]
    with_series = [*records, record(n=5, case="s", series="n_samples")]
    assert len(plot.benchmark(with_series, ax=Figure().subplots()).lines) == 1


@pytest.mark.parametrize("against", ["N", "D", "K", "restarts"])
def test_kept_results(ax, against):
    text = (RESULTS / "cpu-2026-11-23.jsonl").read_text()
    plot.benchmark([json.loads(line) for line in text.splitlines()], against=against, ax=ax)
    assert ax.lines[0].get_label() == "jaxgmm"
    assert min(len(line.get_xdata()) for line in ax.lines) > 3


@pytest.mark.parametrize(
    ("records", "against", "code"),
    [([record()], "M", "E109"), ([], "N", "E140"), ([record(n=0)], "N", "E140"), (["text"], "N", "E145")],
)
def test_records_that_cannot_be_drawn(ax, records, against, code):
    with pytest.raises(UsageError) as caught:
        plot.benchmark(records, against=against, ax=ax)
    assert caught.value.code == code
