"""The shell: what predict, score, sample and summary do with a model."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pytest

from jaxgmm.io import load
from tests.blobs import COMMON, N, blobs, one_object, write_blobs


@pytest.fixture
def shell(shell):
    """The shell in a directory that holds blobs.npy and blobs.csv (columns a, b, kind)."""
    write_blobs()
    return shell


@pytest.fixture
def fitted(shell):
    """The shell with model.npz in its directory, fitted on columns a and b of blobs.csv."""
    shell("fit", "blobs.csv", "-n", 3, "--label-column", "kind", *COMMON, "-q")
    return shell


def test_predict_writes_labels_and_responsibilities(fitted):
    """S2.10: membership of every row in every cluster."""
    model = load("model.npz")
    out, _ = fitted("predict", "model.npz", "blobs.csv")
    assert out.splitlines()[0] == "label"
    np.testing.assert_array_equal(np.array(out.split()[1:], int), model.predict(blobs()))
    fitted("predict", "--model", "model.npz", "blobs.npy", "-o", "labels.npy")
    np.testing.assert_array_equal(np.load("labels.npy"), model.predict(blobs()))
    fitted("predict", "model.npz", "blobs.csv", "--proba", "--uncertainty", "-o", "all.csv")
    table = np.genfromtxt("all.csv", delimiter=",", names=True)
    assert table.dtype.names == ("label", "p0", "p1", "p2", "uncertainty")
    shares = np.column_stack([table[f"p{k}"] for k in range(3)])
    np.testing.assert_allclose(shares.sum(axis=1), 1.0, atol=1e-12)
    np.testing.assert_allclose(shares, model.responsibilities(blobs()), rtol=0, atol=1e-15)
    np.testing.assert_allclose(table["uncertainty"], 1 - shares.max(axis=1), rtol=0, atol=1e-15)
    fitted("predict", "model.npz", "blobs.npy", "--proba", "-o", "proba.npy")
    np.testing.assert_array_equal(np.load("proba.npy"), model.responsibilities(blobs()))


def test_predict_finds_the_model_columns_by_name(fitted):
    rows = [f"{b!r},x,{a!r}" for a, b in blobs().tolist()]
    Path("turned.csv").write_text("b,note,a\n" + "\n".join(rows) + "\n")
    out, _ = fitted("predict", "model.npz", "turned.csv", "--json")
    assert one_object(out)["columns"]["label"] == load("model.npz").predict(blobs()).tolist()


def test_rows_are_piped_from_one_command_to_the_next(fitted, monkeypatch):
    out, _ = fitted("sample", "model.npz", "-n", 64, "--seed", 4)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(out.encode())))
    out, _ = fitted("predict", "model.npz", "-")
    model = load("model.npz")
    np.testing.assert_array_equal(np.array(out.split()[1:], int), model.predict(model.sample(4, 64)[0]))


def test_predict_compares_with_known_classes(fitted):
    out, err = fitted("predict", "model.npz", "blobs.csv", "--label-column", "kind")
    assert len(out.split()) == N + 1  # nothing but the labels
    assert "accuracy 1.0000" in err


def test_score_is_the_mean_log_likelihood(fitted):
    model = load("model.npz")
    out, _ = fitted("score", "model.npz", "blobs.npy", "--per-row", "rows.npy", "--json")
    found = one_object(out)
    assert found["score"] == pytest.approx(model.meta["log_likelihood"] / N, rel=1e-12)
    assert found["log_likelihood"] == pytest.approx(model.meta["log_likelihood"], rel=1e-12)
    np.testing.assert_array_equal(np.load("rows.npy"), model.log_prob(blobs()))
    out, _ = fitted("score", "model.npz", "blobs.npy")
    assert f"{model.meta['log_likelihood']:.4f}" in out


def test_score_weighs_rows(fitted):
    weights = np.r_[np.ones(10), np.zeros(N - 10)]
    np.save("weighted.npy", np.column_stack([blobs(), weights]))
    out, _ = fitted("score", "model.npz", "weighted.npy", "--columns", "0-1", "--weight-column", 2, "--json")
    assert one_object(out)["score"] == pytest.approx(load("model.npz").log_prob(blobs()[:10]).mean(), rel=1e-12)


def test_sample_repeats_with_its_seed(fitted):
    fitted("sample", "model.npz", "-n", 64, "--seed", 4, "-o", "a.npy", "--labels-to", "labels.npy")
    out, _ = fitted("sample", "model.npz", "-n", 64, "--seed", 4, "--with-labels")
    x, labels = load("model.npz").sample(4, 64)
    np.testing.assert_array_equal(np.load("a.npy"), x)
    np.testing.assert_array_equal(np.load("labels.npy"), labels)
    printed = np.genfromtxt(io.StringIO(out), delimiter=",", names=True)
    assert printed.dtype.names == ("a", "b", "label")
    np.testing.assert_array_equal(printed["b"], x[:, 1])  # every digit survives the text
    out, err = fitted("sample", "model.npz", "-n", 64, "--json")
    assert f"--seed {one_object(out)['seed']}" in err


def test_summary_prints_what_fit_printed(shell):
    printed, _ = shell("fit", "blobs.npy", "-n", 3, *COMMON)
    again, _ = shell("summary", "model.npz")
    assert again == printed
    out, err = shell("summary", "model.npz", "--json")
    found = one_object(out)
    assert found["seed"] == 0
    assert sum(c["weight"] for c in found["components"]) == pytest.approx(1.0)
    assert sum(c["size"] for c in found["components"]) == pytest.approx(N)
    assert err == printed  # what people read has moved to standard error
