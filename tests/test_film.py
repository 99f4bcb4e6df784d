"""The film of a fit: its frames show the mixture of every iteration, and nothing else moves."""

from __future__ import annotations

import itertools
import time

import numpy as np
import pytest
from PIL import Image, ImageSequence

import jaxgmm
from jaxgmm import DataError, UsageError
from jaxgmm.model import Model
from jaxgmm.plot import _film, film, frames
from tests.helpers import D, K


@pytest.fixture(scope="module")
def flat():
    """A fit in two columns that takes more iterations than a film has frames, and its rows."""
    x = jaxgmm.data.make_random(seed=3, n_components=4, n_per_component=100).x
    return jaxgmm.fit(x, 4, key=1, init="random_from_data", history="params", tol=1e-12), x


def opened(path) -> list[np.ndarray]:
    with Image.open(path) as gif:
        return [np.asarray(frame.convert("RGB"), int) for frame in ImageSequence.Iterator(gif)]


def test_a_film_has_a_frame_an_iteration_and_moves(flat, tmp_path):
    _, x = flat
    few = jaxgmm.fit(x, 4, key=1, history="params", max_iter=5, tol=0)
    pictures = opened(film(few, tmp_path / "em.gif", x))
    assert len(pictures) == len(few.history) == 6
    # EM moves less and less.
    moved = [np.abs(b - a).mean() for a, b in itertools.pairwise(pictures)]
    assert min(moved) > 0
    assert moved[0] > moved[-1]
    # The labels at the left edge stay where they are.
    assert all((picture[:, :40] == pictures[0][:, :40]).all() for picture in pictures)


def test_a_long_fit_is_sixty_frames_within_ten_seconds(flat, tmp_path):
    result, x = flat
    assert len(result.history) > 60
    begun = time.monotonic()
    path = film(Model.from_fit(result), tmp_path / "em.gif", x)
    assert time.monotonic() - begun < 10
    with Image.open(path) as gif:
        assert gif.n_frames <= 60
        assert gif.info["loop"] == 0


@pytest.mark.parametrize(("n_steps", "max_frames"), [(1, 60), (60, 60), (61, 60), (1000, 60), (5, 2), (300, 7)])
def test_the_first_and_the_last_iteration_are_shown_and_early_ones_closer(n_steps, max_frames):
    shown = _film._shown(n_steps, max_frames)
    assert shown[0] == 0
    assert shown[-1] == n_steps - 1
    assert len(shown) <= max_frames
    assert (np.diff(shown) > 0).all()
    if n_steps <= max_frames:
        assert shown == list(range(n_steps))
    elif max_frames > 2:
        assert shown[1] - shown[0] <= shown[-1] - shown[-2]


def test_what_is_drawn_is_the_mixture_of_the_iteration(flat, monkeypatch):
    result, x = flat
    seen = []
    draw = _film.draw_ellipses
    monkeypatch.setattr(
        _film, "draw_ellipses", lambda ax, plane, **how: (seen.append(plane), draw(ax, plane, **how))[1]
    )
    shown = _film._shown(len(result.history), 5)
    assert len(list(frames(result, x, max_frames=5))) == len(shown)
    for plane, step in zip(seen, shown, strict=True):
        np.testing.assert_allclose(plane.means, result.params_history.means[step])
        np.testing.assert_allclose(plane.covariances, result.params_history.covariances[step], rtol=1e-9)


def test_one_column_many_columns_and_no_rows(small, tmp_path):
    line = jaxgmm.data.make_three_1d(seed=0).x
    for rows, features in ((line, None), (None, None)):
        result = jaxgmm.fit(line, 3, key=0, history="params", max_iter=3)
        assert len(opened(film(result, tmp_path / "a.gif", rows, features=features, force=True))) == len(result.history)
    result = jaxgmm.fit(small.x, K, key=0, history="params", max_iter=3, covariance_type="tied_spherical")
    for rows, features in ((small.x, (1, 2)), (None, (0, 2)), (small.x, (1,))):
        assert len(opened(film(result, tmp_path / "b.gif", rows, features=features, force=True))) == len(result.history)


def test_a_standardized_model_is_shown_in_data_units(small, monkeypatch):
    scale, shift = np.full(D, 10.0), np.full(D, 5.0)
    result = jaxgmm.fit((small.x - shift) / scale, K, key=0, history="params", max_iter=2)
    seen = []
    monkeypatch.setattr(_film, "draw_ellipses", lambda ax, plane, **how: seen.append(plane.means))
    assert list(frames(Model.from_fit(result, shift=shift, scale=scale), small.x))
    np.testing.assert_allclose(seen[-1], result.params_history.means[-1][:, :2] * 10 + 5)


def test_what_cannot_be_filmed_is_said(small, flat, tmp_path):
    plain = jaxgmm.fit(small.x, K, key=0, max_iter=2)
    with pytest.raises(UsageError, match="does not know the parameters") as error:
        film(plain, tmp_path / "em.gif")
    assert error.value.code == "E158"
    assert "history" in error.value.help
    result, x = flat
    with pytest.raises(UsageError, match=r"must end in \.gif"):
        film(result, tmp_path / "em.mp4", x)
    (tmp_path / "em.gif").write_text("mine")
    with pytest.raises(UsageError, match="exists"):
        film(result, tmp_path / "em.gif", x)
    assert (tmp_path / "em.gif").read_text() == "mine"
    with pytest.raises(DataError, match="2"):
        film(result, tmp_path / "new.gif", small.x)
    three = jaxgmm.fit(small.x, K, key=0, max_iter=2, history="params")
    with pytest.raises(UsageError, match="1 or 2 columns") as error:
        film(three, tmp_path / "new.gif", small.x, features=(0, 1, 2))
    assert error.value.code == "E157"
    assert not (tmp_path / "new.gif").exists()
