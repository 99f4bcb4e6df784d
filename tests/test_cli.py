"""The shell: what each command reads, prints and writes. Errors are in test_cli_errors.py."""

from __future__ import annotations

import inspect
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import jaxgmm
from jaxgmm.__main__ import main
from jaxgmm.cli import inputs, options, parser
from jaxgmm.data import GENERATORS, make_blobs, standardize
from jaxgmm.io import load
from jaxgmm.kernels import KERNELS
from tests.helpers import messages

# One size of data, one K and two restarts for nearly all tests: few programs to compile.
N, K, RESTARTS = 120, 3, "2"
COMMON = ["--n-restarts", RESTARTS, "--seed", "0"]


@pytest.fixture
def shell(tmp_path, monkeypatch, capsys):
    """Run a command line in an empty directory that holds blobs.npy and blobs.csv (columns a, b, kind)."""
    monkeypatch.chdir(tmp_path)
    truth = make_blobs(N, K, 2, seed=2)
    np.save("blobs.npy", truth.x)
    names = np.array(["red", "green", "blue"])[truth.labels]
    rows = [f"{a!r},{b!r},{kind}" for (a, b), kind in zip(truth.x.tolist(), names, strict=True)]
    Path("blobs.csv").write_text("a,b,kind\n" + "\n".join(rows) + "\n")

    def run(*words, code=0):
        found = main([str(word) for word in words])
        out, err = capsys.readouterr()
        assert found == code, err
        return out, err

    return run


def one_object(text: str) -> dict:
    """The one JSON object that a text holds; NaN and Infinity are not JSON."""
    assert text.count("\n") == 1

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)


def blobs() -> np.ndarray:
    return make_blobs(N, K, 2, seed=2).x


# --- fit and sweep ---------------------------------------------------------------------------------------------


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


# --- predict, score, sample, summary ---------------------------------------------------------------------------


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


# --- generate, run, doctor, demo -------------------------------------------------------------------------------


def test_generate_is_the_generator(shell):
    """S2.16, S2.6: make_blobs(2000 rows, 4 centres, 0.9, seed 2) saved as .npy."""
    shell("generate", "blobs", "--n_samples", 2000, "--std", 0.9, "--seed", 2, "-o", "s2.npy", "--labels-to", "l.csv")
    truth = make_blobs(2000, 4, 2, 0.9, seed=2)
    np.testing.assert_array_equal(np.load("s2.npy"), truth.x)
    np.testing.assert_array_equal(np.loadtxt("l.csv", skiprows=1), truth.labels)
    out, _ = shell("generate", "1d-blobs", "--sizes", "3,2", "--means", "-1,1", "--stds", "1,1", "--with-labels")
    assert len(out.splitlines()) == 6
    assert out.splitlines()[0] == "x0,label"


def test_generated_text_is_read_back(shell):
    """S0.16: a text file of points in three columns."""
    shell("generate", "cube", "--n-per-corner", 3, "--seed", 1, "-o", "cube.tsv")
    np.testing.assert_array_equal(np.loadtxt("cube.tsv", skiprows=1), GENERATORS["cube"](n_per_corner=3, seed=1).x)


def test_run_takes_defaults_then_the_file_then_flags(shell, tmp_path):
    folder = tmp_path / "jobs"
    folder.mkdir()
    (folder / "job.toml").write_text(
        '[data]\npath = "../blobs.npy"\n[fit]\nn_clusters = 2\nn_restarts = 2\nseed = 3\nmax_iter = 7\n'
    )
    shell("run", "jobs/job.toml", "-n", 3, "--seed", 0, "-q")
    meta, direct = load("model.npz").meta, jaxgmm.fit(blobs(), 3, key=0, n_restarts=2, max_iter=7)
    assert meta["options"]["max_iter"] == 7  # from the file
    assert meta["options"]["tol"] == 1e-8  # by default
    assert meta["log_likelihood"] == direct.log_likelihood  # K and seed from the flags


def test_doctor_finds_this_installation_sound(shell):
    out, _ = shell("doctor", "--json")
    found = one_object(out)
    assert found["self_check"]["ok"]
    assert found["versions"]["numpy"] == np.__version__
    assert found["device"]["count"] >= 1


def test_quiet_leaves_only_the_file(shell):
    assert shell("fit", "blobs.npy", "-n", 3, *COMMON, "--quiet") == ("", "")
    assert Path("model.npz").exists()


@pytest.mark.parametrize("name", [c.name for c in options.COMMANDS.values()])
def test_every_command_has_help_within_80_columns(shell, name):
    out, _ = shell(name, "--help")
    assert out.startswith(f"usage: jaxgmm {name}")
    assert max(map(len, out.splitlines())) <= 80
    command = options.COMMANDS[name]
    assert all(option.flag in out for option in command.options)


def test_overview_lists_every_command(shell):
    out, _ = shell("--help")
    assert max(map(len, out.splitlines())) <= 80
    for name in options.COMMANDS:
        assert f"\n  {name} " in out
    assert shell("--version")[0] == f"jaxgmm {jaxgmm.__version__}\n"


def test_the_examples_in_the_help_parse():
    for command in options.COMMANDS.values():
        for example in command.examples:
            found, words = parser.split_command(example.split()[1:])
            if found.name == "run":
                continue
            given = parser.parse(found, words) if found.name else parser.parse_bare(words)[1]
            assert given or not words


# --- the tables that stand in for the registries ----------------------------------------------------------------


def test_names_are_those_of_the_registries():
    from jaxgmm.covariance import get_family

    assert options.COVARIANCE_TYPES == jaxgmm.COVARIANCE_TYPES
    assert tuple(get_family(name).mclust_code for name in jaxgmm.COVARIANCE_TYPES) == options.MCLUST_CODES
    assert options.INIT_METHODS == jaxgmm.INIT_METHODS
    assert options.CRITERIA == jaxgmm.CRITERIA
    assert sorted(options.KERNELS) == sorted(("auto", *KERNELS))


def test_generators_take_what_the_table_says():
    assert list(options.GENERATORS) == list(GENERATORS)
    for name, taken in options.GENERATORS.items():
        assert {*taken, "seed"} == set(inspect.signature(GENERATORS[name]).parameters), name


# --- the process -----------------------------------------------------------------------------------------------


def test_help_in_a_new_process_imports_nothing_heavy():
    found = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "jaxgmm", "--help"], capture_output=True, text=True, check=True
    )
    assert "commands:" in found.stdout
    imported = {line.rsplit("|", 1)[-1].strip() for line in found.stderr.splitlines()}
    assert "jaxgmm.cli.parser" in imported
    assert not imported & {"jax", "numpy", "scipy", "jaxgmm.api"}


def test_module_and_json_in_a_new_process_whatever_the_terminal_can_show(tmp_path):
    rows = "".join(f"{a!r},{b!r}\n" for a, b in blobs().tolist())
    (tmp_path / "x.csv").write_text(f"größe,b\n{rows}", encoding="utf-8")
    words = [sys.executable, "-m", "jaxgmm", "fit", "x.csv", "-n", "1", "--seed", "0", "--json"]
    terminal = os.environ | {"PYTHONIOENCODING": "ascii"}
    found = subprocess.run(words, cwd=tmp_path, env=terminal, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    assert one_object(found.stdout)["columns"] == ["größe", "b"]
    assert " gr\\xf6\\xdfe " in found.stderr
    words = [sys.executable, "-m", "jaxgmm", "sample", "model.npz", "-n", "1", "--seed", "0"]
    found = subprocess.run(words, cwd=tmp_path, env=terminal, capture_output=True, text=True)
    assert found.stdout.splitlines()[0] == "gr\\xf6\\xdfe,b"
    assert sorted(os.listdir(tmp_path)) == ["model.npz", "x.csv"]


def test_a_reader_that_leaves_early_gets_no_traceback(tmp_path):
    words = [sys.executable, "-m", "jaxgmm", "generate", "cube", "--seed", "0"]
    process = subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline() == "x0,x1,x2\n"
    process.stdout.close()
    err = process.stderr.read()
    process.stderr.close()
    assert process.wait() == 141
    assert "Traceback" not in err
    assert "Exception" not in err
