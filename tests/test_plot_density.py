"""Plots of densities: ellipses, lines, contours and panels hold the numbers of the mixture."""

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure

import jaxgmm
from jaxgmm import Model, make_params, plot
from jaxgmm._pytree import replace
from tests.helpers import full_covariances, random_params
from tests.test_plot import LINE, TWO, area, rows_of

matplotlib.use("Agg")
import matplotlib.pyplot as plt


@pytest.fixture
def ax():
    return Figure().subplots()


def test_axes_of_an_ellipse_are_roots_of_eigenvalues(ax):
    params = random_params("full", 3, 4, seed=2)
    plot.ellipses(params, features=(3, 1), n_std=[1.0, 2.5], ax=ax, facecolor="#00FF00", alpha=0.5)
    covariances = full_covariances(params)[np.ix_(range(3), [3, 1], [3, 1])]
    assert len(ax.patches) == 6
    for place, patch in enumerate(ax.patches):
        k, size = place // 2, (1.0, 2.5)[place % 2]
        values, vectors = np.linalg.eigh(covariances[k])
        np.testing.assert_allclose(patch.get_center(), params.means[k, [3, 1]])
        assert patch.get_width() == pytest.approx(2 * size * np.sqrt(values[1]))
        assert patch.get_height() == pytest.approx(2 * size * np.sqrt(values[0]))
        angle = np.radians(patch.get_angle())
        assert abs(np.dot(vectors[:, 1], (np.cos(angle), np.sin(angle)))) == pytest.approx(1.0)
        assert patch.get_facecolor() == pytest.approx((0, 1, 0, 0.5))
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("x3", "x1")
    assert [text.get_text() for text in ax.texts] == ["0", "1", "2"]


def test_the_terms_add_up_to_the_mixture_and_the_bars_to_1(ax):
    x = rows_of(LINE, 400)
    plot.density_1d(LINE, x, ax=ax)
    *terms, mixture = ax.lines
    grid = mixture.get_xdata()
    np.testing.assert_allclose(mixture.get_ydata(), sum(line.get_ydata() for line in terms), rtol=1e-12)
    np.testing.assert_allclose(mixture.get_ydata(), np.exp(jaxgmm.log_prob(LINE, grid[:, None])), rtol=1e-9)
    for line, weight in zip(terms, LINE.weights, strict=True):
        assert area(line.get_ydata(), grid) == pytest.approx(weight, abs=0.02)
    heights, edges, _ = ax.patches[0].get_data()
    assert np.sum(heights * np.diff(edges)) == pytest.approx(1.0)
    assert (edges[0], edges[-1]) == (x.min(), x.max())
    marks = ax.collections[0].get_segments()
    assert {segment[0][0] for segment in marks} == set(x[:, 0])
    assert len({line.get_linestyle() for line in terms}) == 2


def test_the_range_without_data_and_the_rug_of_many(ax):
    plot.density_1d(LINE, ax=ax)
    assert ax.get_xlim() == pytest.approx((-6.0, 11.0))
    assert not ax.patches
    x = rows_of(LINE, 2000)
    many = plot.density_1d(LINE, x, bins=7, ax=Figure().subplots())
    assert len(many.collections[0].get_segments()) == 500
    heights = many.patches[0].get_data()[0]
    np.testing.assert_allclose(heights, np.histogram(x, 7, density=True)[0])


def test_a_narrow_component_keeps_its_peak(ax):
    params = make_params([0.5, 0.5], [[0.0], [3.0]], [[1.0], [1e-10]], "diag")
    plot.density_1d(params, ax=ax)
    assert ax.lines[-1].get_ydata().max() == pytest.approx(0.5 / np.sqrt(2 * np.pi * 1e-10), rel=1e-3)


def test_contours_hold_their_share(ax):
    plot.contours(TWO, levels=[0.5, 0.9], ax=ax)
    levels = ax.collections[0].levels
    heights = np.asarray(jaxgmm.log_prob(TWO, rows_of(TWO, 20_000, seed=1)))
    np.testing.assert_allclose([(heights >= level).mean() for level in levels], [0.9, 0.5], atol=0.015)
    few = plot.contours(TWO, rows_of(TWO, 50), levels=4, ax=Figure().subplots())
    assert len(few.collections[1].levels) == 4
    np.testing.assert_array_equal(few.collections[0].get_offsets(), rows_of(TWO, 50))


def test_pairs_are_panels_of_marginals():
    params = random_params("full", 2, 4)
    x = rows_of(params, 40)
    panels = plot.pairs(params, x, axes=Figure().subplots(4, 4))
    assert panels.shape == (4, 4)
    for i, j in np.ndindex(4, 4):
        assert panels[i, j].axison == (j <= i)
    assert len(panels[2, 1].patches) == 2
    drawn = np.concatenate([points.get_offsets() for points in panels[2, 1].collections])
    np.testing.assert_allclose(drawn[np.argsort(drawn[:, 0])], x[np.argsort(x[:, 1])][:, [1, 2]])
    for i in range(4):
        assert len({panels[j, i].get_xlim() for j in range(i, 4)}) == 1
    assert [panels[3, j].get_xlabel() for j in range(4)] == ["x0", "x1", "x2", "x3"]
    assert [panels[i, 0].get_ylabel() for i in range(1, 4)] == ["x1", "x2", "x3"]
    some = plot.pairs(replace(Model.from_params(params), columns=tuple("abcd")), features=["d", 0])
    assert (some[1, 0].get_xlabel(), some[1, 0].get_ylabel()) == ("d", "a")
    assert some[0, 0].figure.get_suptitle() == "2 of 4 columns"
    assert plot.pairs(params, max_features=1).shape == (1, 1)
    plt.close("all")
