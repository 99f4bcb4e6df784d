"""Plots of mixtures and data: the numbers in what is drawn, and that nothing else is touched."""

import subprocess
import sys
import time
from itertools import pairwise

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

import jaxgmm
from jaxgmm import DataError, GMMParams, Model, UsageError, make_params, plot
from jaxgmm.data.synthetic import make_mixture
from jaxgmm.plot._canvas import LINES, MARKERS, PALETTE, look
from jaxgmm.plot._mixture import marginal
from tests.helpers import full_covariances, random_params

matplotlib.use("Agg")
import matplotlib.pyplot as plt

TWO = make_params([0.6, 0.4], [[0.0, 0.0], [4.0, 1.0]], [[[2.0, 0.8], [0.8, 1.0]], [[1.0, 0.0], [0.0, 0.25]]], "full")
LINE = make_params([0.3, 0.7], [[-2.0], [3.0]], [[1.0], [4.0]], "diag")


@pytest.fixture
def ax():
    return Figure().subplots()


@pytest.fixture(autouse=True)
def _everything_as_it_was():
    """No figure stays open, and no setting, random state or backend changes."""
    before = dict(matplotlib.rcParams), np.random.get_state()[1].copy(), matplotlib.get_backend()
    yield
    plt.close("all")
    assert dict(matplotlib.rcParams) == before[0]
    assert (np.random.get_state()[1] == before[1]).all()
    assert matplotlib.get_backend() == before[2]


def rows_of(params: GMMParams, n: int = 200, seed: int = 0) -> np.ndarray:
    """n rows of the mixture, drawn by NumPy, which nobody may write to."""
    x = make_mixture(n, np.asarray(params.weights, np.float64), params.means, full_covariances(params), seed).x
    x.flags.writeable = False
    return x


def area(y: np.ndarray, x: np.ndarray) -> float:
    return float(np.trapezoid(y, x))


def draws(mixture, x, d):
    """One call of every function of a mixture that can show d columns, without axes."""
    yield lambda: plot.density_1d(mixture, x)
    yield lambda: plot.density_1d(mixture)
    yield lambda: plot.scatter(x, mixture)
    yield lambda: plot.scatter(x)
    yield lambda: plot.uncertainty(mixture, x)
    yield lambda: plot.qq(mixture, x)
    yield lambda: plot.cdf(mixture, x)
    yield lambda: plot.truth(mixture, mixture, x)
    yield lambda: plot.pairs(mixture, x)[0, 0]
    yield lambda: plot.pairs(mixture)[0, 0]
    if d > 1:
        yield lambda: plot.ellipses(mixture)
        yield lambda: plot.contours(mixture, x)
        yield lambda: plot.contours(mixture)


def draw_all(mixture, x):
    """Draw and paint everything; each call makes one figure of pyplot, except for the overview."""
    for draw in draws(mixture, x, x.shape[1]):
        plt.close("all")
        figure = draw().figure
        assert plt.get_fignums() == [figure.number]
        figure.canvas.draw()
    plt.close("all")
    for figure in (plot.overview(mixture, x), plot.overview(mixture)):
        figure.canvas.print_figure("/dev/null", format="png")
    assert not plt.get_fignums()


# ---- the mixture -----------------------------------------------------------------------------------------------------


def test_a_marginal_has_the_entries_of_the_whole_in_data_units(family):
    params = random_params(family, 3, 4, seed=1)
    shift, scale = np.array([1.0, -2.0, 0.0, 5.0]), np.array([2.0, 1e3, 0.5, 1.0])
    found = marginal(Model(params=params, shift=shift, scale=scale), [2, 0])
    pick = np.ix_(range(3), [2, 0], [2, 0])
    np.testing.assert_allclose(found.weights, params.weights)
    np.testing.assert_allclose(found.means, (params.means * scale + shift)[:, [2, 0]])
    wanted = (full_covariances(params) * scale[:, None] * scale)[pick]
    np.testing.assert_allclose(found.covariances, wanted, rtol=1e-12, atol=1e-14)
    x = np.random.default_rng(0).normal(size=(50, 2)) * 3
    if family == "full":
        own = make_params(params.weights, found.means, found.covariances, family)
        np.testing.assert_allclose(found.log_density(x), jaxgmm.log_prob(own, x), rtol=1e-10)


@pytest.mark.parametrize(("n_components", "n_features"), [(1, 1), (3, 2), (3, 3), (1, 50)])
def test_every_number_of_columns(n_components, n_features):
    params = random_params("full", n_components, n_features)
    draw_all(params, rows_of(params, 60))


@pytest.mark.parametrize("size", [1e-150, 1e150, 1e-30])
@pytest.mark.parametrize("n_features", [1, 2])
def test_data_of_any_size(size, n_features):
    params = random_params("full", 2 * n_features - 1, n_features)  # as above, which saves time to compile
    draw_all(Model(params=params, scale=size), rows_of(params, 60) * size)


def test_columns_of_very_different_size(ax):
    scale = np.array([1e-150, 1e150])
    params = random_params("full", 3, 2)
    draw_all(Model(params=params, scale=scale), rows_of(params, 60) * scale)
    plot.ellipses(Model(params=TWO, scale=scale), ax=ax)
    low, high = ax.dataLim.min / scale, ax.dataLim.max / scale
    # The outermost points of an ellipse are s standard deviations from its centre, along either axis.
    np.testing.assert_allclose(low, [-2 * np.sqrt(2.0), -2.0], rtol=1e-9)
    np.testing.assert_allclose(high, [6.0, 2.0], rtol=1e-9)


def test_constant_data_and_one_row(ax):
    x = np.full((5, 1), 3.0)
    plot.density_1d(LINE, x, ax=ax)
    heights, edges, _ = ax.patches[0].get_data()
    assert np.sum(heights * np.diff(edges)) == pytest.approx(1.0)
    for draw in (plot.density_1d, plot.qq, plot.cdf):
        draw(LINE, x[:1], ax=Figure().subplots())


def test_components_of_weight_0_are_not_drawn():
    params = make_params([0.5, 0.0, 0.5], [[0.0, 0.0], [np.float64(1e9)] * 2, [3.0, 1.0]], np.ones((3, 2)), "diag")
    ax = plot.ellipses(params, ax=Figure().subplots())
    assert len(ax.patches) == 2
    assert [text.get_text() for text in ax.texts] == ["0", "2"]
    assert [to_rgb(patch.get_edgecolor()) for patch in ax.patches] == [to_rgb(PALETTE[0]), to_rgb(PALETTE[2])]
    assert ax.get_xlim()[1] < 10
    assert len(plot.density_1d(params, ax=Figure().subplots()).lines) == 3
    plot.contours(params, ax=Figure().subplots())


def test_more_components_than_colours():
    params = random_params("diag", 40, 2)
    panel = plot.overview(params).axes[0]
    assert len(panel.patches) == 2 * 40
    assert not panel.texts  # so many numbers would overlap
    assert plot.density_1d(params, ax=Figure().subplots()).get_legend() is None
    seen = [look(k) for k in range(40)]
    assert len({(style.colour, style.marker) for style in seen}) == 40
    assert len({(style.colour, style.line) for style in seen}) == len(PALETTE) * len(LINES)


def test_the_look_is_told_apart_in_grey():
    grey = [np.dot(to_rgb(colour), (0.299, 0.587, 0.114)) for colour in PALETTE]
    assert min(abs(a - b) for a, b in pairwise(grey)) > 0.15
    for a, b in pairwise(range(31)):
        assert look(a).line != look(b).line
        assert look(a).marker != look(b).marker
    assert len(set(MARKERS)) == len(MARKERS)


# ---- points ----------------------------------------------------------------------------------------------------------


def test_points_are_the_rows_and_have_the_colours_of_their_responsibilities(ax):
    x = rows_of(TWO)
    plot.scatter(x, TWO, ax=ax)
    shares = np.asarray(jaxgmm.responsibilities(TWO, x))
    wanted = shares @ np.array([to_rgb(colour) for colour in PALETTE[:2]])
    for k, points in enumerate(ax.collections):
        mine = shares.argmax(axis=1) == k
        np.testing.assert_array_equal(points.get_offsets(), x[mine])
        np.testing.assert_allclose(points.get_facecolor()[:, :3], wanted[mine], atol=1e-6)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["0", "1"]
    assert (ax.get_xlabel(), ax.get_ylabel(), ax.get_title(loc="right")) == ("x0", "x1", "")


def test_points_with_labels_and_without(ax):
    x = rows_of(TWO, 6)
    plot.scatter(x, labels=list("bababa"), columns=["length", "width"], features="width", ax=ax)
    first, second = ax.collections
    np.testing.assert_array_equal(np.sort(first.get_offsets()[:, 0]), np.sort(x[1::2, 1]))
    assert (first.get_label(), second.get_label(), ax.get_xlabel()) == ("a", "b", "width")
    assert len(ax.get_yticks()) == 0
    plain = plot.scatter(x, ax=Figure().subplots())
    assert len(plain.collections) == 1
    assert plain.get_legend() is None


def test_many_rows_are_thinned_and_that_is_said(ax):
    x = rows_of(TWO, 500)
    plot.scatter(x, TWO, max_points=50, ax=ax)
    shown = np.concatenate([points.get_offsets() for points in ax.collections])
    assert len(shown) == 50
    assert {tuple(row) for row in shown} <= {tuple(row) for row in x}
    assert ax.get_title(loc="right") == "50 of 500 rows"
    again = plot.scatter(x, TWO, max_points=50, ax=Figure().subplots())
    np.testing.assert_array_equal(shown, np.concatenate([points.get_offsets() for points in again.collections]))


def test_three_dimensions():
    params = random_params("full", 2, 3)
    x = rows_of(params, 30)
    ax = plot.scatter(x, params)
    assert ax.name == "3d"
    assert ax.get_zlabel() == "x2"
    drawn = np.concatenate([np.stack(points._offsets3d, axis=1) for points in ax.collections])
    np.testing.assert_allclose(drawn[np.lexsort(drawn.T)], x[np.lexsort(x.T)])
    flat = Figure().subplots()
    plot.scatter(x, params, ax=flat)
    assert (flat.get_xlabel(), flat.get_ylabel()) == ("x0", "x1")
    wide = random_params("diag", 2, 5)
    solid = Figure().add_subplot(projection="3d")
    plot.scatter(rows_of(wide, 30), wide, ax=solid)
    assert solid.get_zlabel() == "x2"
    assert plot.scatter(rows_of(wide, 30), wide).name == "rectilinear"


def test_uncertain_rows_are_larger_and_darker(ax):
    x = rows_of(TWO)
    plot.uncertainty(TWO, x, ax=ax)
    points = ax.collections[0]
    values = np.sort(np.asarray(jaxgmm.uncertainty(TWO, x), np.float64))
    np.testing.assert_allclose(points.get_array(), values, atol=1e-12)
    assert (np.diff(points.get_sizes()) >= 0).all()
    assert points.get_clim() == (0.0, 0.5)
    grey = points.cmap(np.linspace(0, 1, 64))[:, :3] @ (0.299, 0.587, 0.114)
    assert (np.diff(grey) < 0).all()
    assert len(ax.figure.axes) == 2  # the bar


def test_a_million_rows_take_seconds():
    x = np.random.default_rng(0).normal(size=(1_000_000, 2))
    for draw in (
        lambda ax: plot.scatter(x, TWO, ax=ax),
        lambda ax: plot.density_1d(TWO, x, ax=ax),
        lambda ax: plot.contours(TWO, x, ax=ax),
        lambda ax: plot.cdf(TWO, x, ax=ax),
    ):
        figure = Figure()
        began = time.perf_counter()
        draw(figure.subplots())
        figure.savefig("/dev/null", format="png")
        assert time.perf_counter() - began < 6


# ---- errors ----------------------------------------------------------------------------------------------------------

X3 = np.random.default_rng(3).normal(size=(20, 3))
WIDE = random_params("diag", 2, 5)
X5 = rows_of(WIDE, 20)


@pytest.mark.parametrize(
    ("call", "code"),
    [
        (lambda ax: plot.scatter(X5, features=(0, 1, 2, 3), ax=ax), "E157"),
        (lambda ax: plot.scatter(X5, features=(0, 1, 2), ax=ax), "E157"),
        (lambda ax: plot.scatter(X5, features=(), ax=ax), "E157"),
        (lambda ax: plot.scatter(X5, features=(0, 1), ax=ax.figure.add_subplot(projection="3d")), "E157"),
        (lambda ax: plot.scatter(X5, features=(0, 5), ax=ax), "E130"),
        (lambda ax: plot.scatter(X5, features=("x0", "y"), ax=ax), "E130"),
        (lambda ax: plot.scatter(X5, features=(0, 0), ax=ax), "E131"),
        (lambda ax: plot.scatter(X5, features=(0, 1.5), ax=ax), "E108"),
        (lambda ax: plot.scatter(X5, max_points=0, ax=ax), "E108"),
        (lambda ax: plot.scatter(X5, columns=["a"], ax=ax), "E240"),
        (lambda ax: plot.scatter(X5, WIDE, labels=np.zeros(20), ax=ax), "E107"),
        (lambda ax: plot.scatter(X5, labels=[0, 1], ax=ax), "E230"),
        (lambda ax: plot.scatter(X5, labels=[0] * 19 + ["a" * 3, None][:1], ax=Figure()), "E145"),
        (lambda ax: plot.scatter(X5, labels=[None, 1] * 10, ax=ax), "E231"),
        (lambda ax: plot.scatter(X3, WIDE, ax=ax), "E210"),
        (lambda ax: plot.scatter(np.full((2, 2), np.nan), ax=ax), "E203"),
        (lambda ax: plot.uncertainty(WIDE, X3, ax=ax), "E210"),
        (lambda ax: plot.ellipses(LINE, ax=ax), "E157"),
        (lambda ax: plot.ellipses(WIDE, features=(0, 1, 2), ax=ax), "E157"),
        (lambda ax: plot.ellipses(WIDE, n_std=0, ax=ax), "E108"),
        (lambda ax: plot.ellipses(WIDE, n_std="two", ax=ax), "E108"),
        (lambda ax: plot.contours(LINE, ax=ax), "E157"),
        (lambda ax: plot.contours(WIDE, levels=[2.0], ax=ax), "E108"),
        (lambda ax: plot.contours(WIDE, levels=0, ax=ax), "E108"),
        (lambda ax: plot.density_1d(WIDE, feature=(0, 1), ax=ax), "E157"),
        (lambda ax: plot.density_1d(WIDE, bins="many", ax=ax), "E108"),
        (lambda ax: plot.density_1d(WIDE, X3, ax=ax), "E210"),
        (lambda ax: plot.pairs(WIDE, axes=ax), "E157"),
        (lambda ax: plot.pairs(WIDE, features=(), axes=ax), "E157"),
        (lambda ax: plot.pairs(WIDE, X3), "E210"),
    ],
)
def test_what_cannot_be_drawn(ax, call, code):
    with pytest.raises((UsageError, DataError)) as caught:
        call(ax)
    assert caught.value.code == code
    assert not plt.get_fignums()


def test_without_matplotlib_or_a_display(monkeypatch):
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "matplotlib.figure", None)
        for call in (lambda: plot.ellipses(TWO), lambda: plot.overview(TWO), lambda: plot.pairs(TWO)):
            with pytest.raises(UsageError, match=r"plots need matplotlib; pip install 'jaxgmm\[plot\]'") as caught:
                call()
            assert caught.value.code == "E147"
    with monkeypatch.context() as patch:

        def refuse(*_, **__):
            raise ImportError("Cannot load backend 'TkAgg'.")

        patch.setattr(plt, "figure", refuse)
        with pytest.raises(UsageError, match="set MPLBACKEND=Agg or pass ax=") as caught:
            plot.ellipses(TWO)
        assert caught.value.code == "E147"
        assert plot.ellipses(TWO, ax=Figure().subplots())
        assert plot.overview(TWO)


def test_matplotlib_and_its_state_machine_are_loaded_late():
    script = (
        "import sys, jaxgmm, jaxgmm.plot as plot\n"
        "assert 'matplotlib' not in sys.modules\n"
        "mixture = jaxgmm.make_params([1.0], [[0.0, 0.0]], [[4.0, 1.0]], 'diag')\n"
        "plot.overview(mixture).savefig('/dev/null', format='png')\n"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
