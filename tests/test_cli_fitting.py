"""The shell: what fit and sweep read, print and write."""

from __future__ import annotations

import io
import re
import sys

import numpy as np
import pytest

import jaxgmm
from jaxgmm.cli import inputs
from jaxgmm.data import make_blobs, standardize
from jaxgmm.io import load
from tests.blobs import COMMON, N, blobs, one_object, write_blobs
from tests.helpers import messages


@pytest.fixture
def shell(shell):
    """The shell in a directory that holds blobs.npy and blobs.csv (columns a, b, kind)."""
    write_blobs()
    return shell


def test_fit_in_the_old_spelling_writes_a_model_and_prints_its_summary(shell):
    """S2.1, S2.5, S2.6: --n_clusters, --data_path with a .npy file, --max_iter, no subcommand."""
    out, err = shell("--n_clusters", 3, "--data_path", "blobs.npy", "--max_iter", 100, "--n_restarts", 2, "--seed", 0)
    model = load("model.npz")
    assert model.n_components == 3
    assert model.meta["options"]["max_iter"] == 100
    assert "3 components, full covariance, 2 features" in out
    assert f"{model.meta['log_likelihood']:.4f}" in out
    assert "wrote model.npz" in err


@pytest.mark.parametrize(
    "words",
    [
        ["fit", "blobs.npy", "-n", "3"],
        ["blobs.npy", "--n-components=3"],
        ["--n-clusters", "3", "blobs.npy"],
        ["fit", "--data-path=blobs.npy", "-n3"],
        ["fit", "-n", "3", "blobs.npy"],
    ],
)
def test_spellings_of_one_fit_agree(shell, words):
    shell(*words, *COMMON, "-q")
    direct = jaxgmm.fit(blobs(), 3, key=0, n_restarts=2)
    np.testing.assert_array_equal(load("model.npz").params.means, direct.params.means)


def test_sweep_range_includes_both_ends(shell):
    """S2.2; and BIC chooses unless told otherwise."""
    out, err = shell("--find_num_clusters_range", 2, 4, "--data_path", "blobs.npy", *COMMON, "--json")
    found = one_object(out)
    assert [row["n_components"] for row in found["table"]] == [2, 3, 4]
    assert found["criterion"] == "bic"
    assert found["best"] == 3 == load("model.npz").n_components
    assert min(row["bic"] for row in found["table"]) == found["bic"]
    assert "* full" in err


def test_silhouette_prints_the_old_lines(shell):
    """S2.7, S2.8, S2.13: one line per count, and the best."""
    words = ("blobs.npy", "--criterion", "silhouette", *COMMON)
    out, _ = shell("--find_num_clusters_range", 2, 4, *words, "-o", "sweep.npz")
    scores = {int(k): float(s) for k, s in re.findall(r"^Silhouette score for (\d+) clusters: (\d\.\d{4})$", out, re.M)}
    assert sorted(scores) == [2, 3, 4]
    best = max(scores, key=scores.__getitem__)
    assert f"\nFound {best} clusters; Silhouette score: {scores[best]:.4f}\n" in out
    out, _ = shell("--n_clusters", 3, *words, "-o", "fit.npz")
    assert f"\nSilhouette score for 3 clusters: {scores[3]:.4f}\n" in out
    labels = load("fit.npz").predict(blobs())
    assert scores[3] == pytest.approx(jaxgmm.silhouette(blobs(), labels), abs=1e-4)


def test_sweep_over_covariance_types(shell):
    out, _ = shell("sweep", "blobs.npy", "--candidates", "2-4", "--covariance-type", "full,VII", *COMMON, "--json")
    found = one_object(out)
    assert [(row["covariance_type"], row["n_components"]) for row in found["table"]] == [
        (name, n) for name in ("full", "spherical") for n in (2, 3, 4)
    ]
    assert found["best_covariance_type"] == "spherical"  # the blobs are round


def test_sweep_warns_at_the_edge(shell):
    np.save("four.npy", make_blobs(N, 4, 2, seed=0).x)
    out, err = shell("sweep", "four.npy", "--candidates", "2-4", *COMMON, "--json")
    assert one_object(out)["best"] == 4
    assert one_object(out)["at_edge"]
    assert "largest one tried" in err
    assert "--candidates 2-8" in err
    out, err = shell("sweep", "blobs.npy", "--candidates", "2-4", *COMMON, "--force", "--json")
    assert one_object(out)["best"] == 3
    assert "tried" not in err


def test_max_iter_stops_the_fit_which_is_kept_and_said(shell):
    """S2.12."""
    out, err = shell("fit", "blobs.npy", "-n", 3, "--max_iter", 1, "--init", "random_from_data", *COMMON)
    assert load("model.npz").meta["n_iter"] == 1
    assert load("model.npz").meta["status"] == "MAX_ITER"
    assert "jaxgmm: warning[W301]: the fit is kept, but it is not converged" in messages(err)[-2]
    assert "--init-from model.npz" in out


def test_tol_stops_the_fit_early(shell):
    """S2.12: a loose tolerance ends the fit before a tight one does, and both count as converged."""
    steps = []
    for tol in ("1e-1", "1e-9"):
        shell("fit", "blobs.npy", "-n", 3, "--tol", tol, "--init", "random_from_data", *COMMON, "--force", "-q")
        meta = load("model.npz").meta
        assert meta["converged"]
        steps.append(meta["n_iter"])
    assert steps[0] < steps[1]


def test_starting_at_random_rows_repeats_with_its_seed(shell):
    """S2.9."""
    for name, seed in (("a.npz", 5), ("b.npz", 5), ("c.npz", 6)):
        shell("fit", "blobs.npy", "-n", 3, "--init", "random_from_data", "--max-iter", 2, "--seed", seed, "-o", name)
    a, b, c = (load(name).params.means for name in ("a.npz", "b.npz", "c.npz"))
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, c)


def test_a_drawn_seed_is_printed_stored_and_repeats_the_run(shell):
    _, err = shell("fit", "blobs.npy", "-n", 3, "--n-restarts", 2, "-o", "a.npz")
    seed = int(re.search(r"repeat this run with --seed (\d+)", err)[1])
    assert load("a.npz").meta["seed"] == seed
    shell("fit", "blobs.npy", "-n", 3, "--n-restarts", 2, "-o", "b.npz", "--seed", seed)
    np.testing.assert_array_equal(load("a.npz").params.means, load("b.npz").params.means)


def test_init_from_goes_on_where_a_model_stopped(shell):
    shell(
        "fit",
        "blobs.csv",
        "--drop",
        "kind",
        "-n",
        3,
        "--max-iter",
        1,
        "--init",
        "random_from_data",
        *COMMON,
        "--standardize",
    )
    shell("fit", "blobs.csv", "--init-from", "model.npz", "-o", "better.npz")
    start, end = load("model.npz"), load("better.npz")
    assert end.meta["log_likelihood"] > start.meta["log_likelihood"]
    assert end.meta["converged"]
    assert end.columns == ("a", "b")
    np.testing.assert_array_equal(end.scale, start.scale)  # its units are those of the start


def test_one_iteration_is_an_e_step_and_an_m_step(shell):
    """S2.11."""
    shell("fit", "blobs.npy", "-n", 3, "--max-iter", 2, "--init", "random_from_data", *COMMON)
    shell("fit", "blobs.npy", "--init-from", "model.npz", "--max-iter", 1, "--reg-kind", "absolute", "-o", "next.npz")
    expected, _ = jaxgmm.em_step(load("model.npz").params, blobs(), reg_covar=1e-6)
    found = load("next.npz")
    np.testing.assert_allclose(found.params.means, expected.means, rtol=1e-9)
    np.testing.assert_allclose(found.params.covariances, expected.covariances, rtol=1e-7, atol=1e-9)
    assert found.meta["n_iter"] == 1


def test_standardize_reports_in_the_units_of_the_data(shell):
    out, _ = shell("sweep", "blobs.npy", "--candidates", "2-4", "--standardize", *COMMON, "--json")
    found, model = one_object(out), load("model.npz")
    assert found["standardized"]
    np.testing.assert_allclose(model.scale, standardize(blobs())[2])
    direct = float(model.log_prob(blobs()).sum())
    best = next(row for row in found["table"] if row["n_components"] == found["best"])
    assert best["log_likelihood"] == pytest.approx(direct, rel=1e-10)
    assert best["bic"] == pytest.approx(found["bic"], rel=1e-12)


def test_known_classes_are_compared_and_not_used(shell):
    out, _ = shell("fit", "blobs.csv", "-n", 3, "--label-column", "kind", *COMMON, "--json")
    found = one_object(out)
    assert found["columns"] == ["a", "b"]
    assert found["comparison"]["accuracy"] == found["comparison"]["adjusted_rand_index"] == 1.0
    assert sum(map(sum, found["comparison"]["counts"])) == N


def test_weight_column_counts_a_row_as_often(shell):
    x = blobs()
    weights = np.arange(N) % 3
    np.save("weighted.npy", np.column_stack([x, weights]))
    np.save("repeated.npy", np.repeat(x, weights, axis=0))
    words = ("-n", 1, "--seed", 0, "--n-restarts", 1, "-q")
    shell("fit", "weighted.npy", "--weight-column", 2, *words, "-o", "w.npz")
    shell("fit", "repeated.npy", *words, "-o", "r.npz")
    weighted, repeated = load("w.npz").meta, load("r.npz").meta
    assert weighted["log_likelihood"] == pytest.approx(repeated["log_likelihood"], rel=1e-10)
    assert weighted["bic"] == pytest.approx(repeated["bic"], rel=1e-10)


@pytest.mark.parametrize(
    ("stored", "flag", "on_cpu", "computed"),
    [
        ("float64", None, True, "float64"),
        ("float32", None, True, "float32"),
        ("float64", "float32", True, "float32"),
        ("float64", None, False, "float32"),
        ("float64", "data", False, "float64"),
    ],
)
def test_dtype_follows_the_data_on_a_cpu(shell, monkeypatch, stored, flag, on_cpu, computed):
    monkeypatch.setattr(inputs, "_on_cpu", lambda: on_cpu)
    np.save("typed.npy", blobs().astype(stored))
    _, err = shell("fit", "typed.npy", "-n", 3, *COMMON, *(["--dtype", flag] if flag else []))
    assert load("model.npz").params.dtype == computed
    assert computed in err


def test_standard_input_is_read(shell, monkeypatch):
    text = "\n".join(f"{a!r} {b!r}" for a, b in blobs().tolist())
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    shell("fit", "-", "-n", 3, *COMMON, "-q")
    direct = jaxgmm.fit(blobs(), 3, key=0, n_restarts=2)
    assert load("model.npz").meta["log_likelihood"] == pytest.approx(direct.log_likelihood, rel=1e-12)
