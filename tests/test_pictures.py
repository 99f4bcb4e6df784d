"""The shell: plot, and the picture and film of a fit."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxgmm.cli import pictures
from jaxgmm.cli.options import PLOTS
from jaxgmm.io import load
from tests.blobs import COMMON, write_blobs


@pytest.fixture
def fitted(shell):
    """The shell with model.npz in its directory, fitted on columns a and b of blobs.csv, with all of its course."""
    write_blobs()
    words = ("fit", "blobs.csv", "-n", 3, "--drop", "kind", "--history", "params", *COMMON, "-q")
    shell(*words)
    return shell


def test_every_kind_of_plot_is_drawn(fitted):
    drawn = 0
    for kind in PLOTS:
        if kind == "criteria":
            continue
        fitted("plot", "model.npz", "blobs.csv", "--kind", kind, "-q")
        path = Path(f"{kind}.{'gif' if kind == 'animation' else 'png'}")
        with Image.open(path) as image:
            assert min(image.size) > 200
            colours = np.asarray(image.convert("L"))
        assert colours.std() > 5  # something is on it
        drawn += 1
    assert drawn == len(PLOTS) - 1
    _, err = fitted("plot", "model.npz", "--kind", "criteria", code=2)
    assert "error[E158]" in err


def test_a_sweep_leaves_its_criteria(shell):
    write_blobs()
    shell("sweep", "blobs.csv", "--drop", "kind", "--candidates", "1-3", *COMMON, "--plot", "all.svg", "-q")
    text = Path("all.svg").read_text()
    assert text.rstrip().endswith("</svg>")
    assert not re.search("<dc:date>", text)
    shell("plot", "model.npz", "--kind", "criteria", "-q")
    assert Path("criteria.png").exists()


def test_a_fit_leaves_a_picture_and_a_film(shell):
    write_blobs()
    words = ("fit", "blobs.csv", "-n", 3, "--drop", "kind", *COMMON)
    out, err = shell(*words, "--plot", "a.pdf", "--animate", "a.gif", "--json")
    assert json.loads(out)["pictures"] == {"plot": "a.pdf", "animate": "a.gif"}
    assert "wrote a.pdf" in err
    assert Path("a.pdf").read_bytes().startswith(b"%PDF")
    with Image.open("a.gif") as gif:
        assert gif.n_frames == len(load("model.npz").history.params.means)
    assert sorted(os.listdir()) == ["a.gif", "a.pdf", "blobs.csv", "blobs.npy", "model.npz"]


def test_the_same_picture_has_the_same_bytes(fitted):
    for name in ("a.svg", "b.svg"):
        fitted("plot", "model.npz", "blobs.csv", "-o", name, "-q")
    assert Path("a.svg").read_bytes() == Path("b.svg").read_bytes()


def test_columns_are_chosen_by_name_number_and_range(fitted):
    for features in ("a,b", "1,0", "0-1"):
        fitted("plot", "model.npz", "blobs.csv", "--kind", "contours", "--features", features, "--force", "-q")
    _, err = fitted("plot", "model.npz", "--kind", "ellipses", "--features", "a,c", code=2)
    assert "error[E130]" in err
    _, err = fitted("plot", "model.npz", "--kind", "density", "--features", "a,b", code=2)
    assert "error[E157]" in err


def test_refusals_are_sentences(fitted):
    for words, code, said in (
        (("--kind", "scatter"), "E106", "shows rows"),
        (("--kind", "scater"), "E109", "scatter"),
        (("-o", "x.jpeg"), "E120", ".png"),
        (("--kind", "animation", "-o", "x.png"), "E120", ".gif"),
        (("-o", "no/x.png"), "E123", "no"),
    ):
        _, err = fitted("plot", "model.npz", *words, code=2)
        assert f"error[{code}]" in err
        assert said in err
    fitted("plot", "model.npz", "-q")
    _, err = fitted("plot", "model.npz", code=2)
    assert "overview.png exists" in err
    np.save("other.npy", np.ones((5, 4)))
    _, err = fitted("plot", "model.npz", "other.npy", "--kind", "scatter", code=3)
    assert "columns" in err


def test_without_matplotlib_nothing_is_begun(fitted, monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    fit = ("fit", "blobs.csv", "-n", 2, "--drop", "kind", "-o", "n.npz", "--plot", "n.png")
    for words in (("plot", "model.npz"), fit):
        _, err = fitted(*words, code=2)
        assert "error[E147]" in err
        assert "jaxgmm[plot]" in err
    assert not Path("n.npz").exists()


def test_of_a_stream_the_first_rows_are_drawn(shell, monkeypatch):
    write_blobs()
    monkeypatch.setattr(pictures, "_FIRST_ROWS", 50)
    shell("fit", "blobs.npy", "-n", 3, *COMMON, "--batch-size", 40, "--plot", "a.png", "-q")
    assert Path("a.png").exists()
