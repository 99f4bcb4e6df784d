"""Every file in configs/ runs and finds what its comment says; what a configuration may not say is refused."""

from __future__ import annotations

import json
import os
import shutil
import tomllib
from importlib import resources
from pathlib import Path

import numpy as np
import pytest

import jaxgmm
from jaxgmm.__main__ import main
from jaxgmm.data import make_blobs, make_cube, make_random, make_three_1d
from jaxgmm.io import load
from tests.helpers import messages

CONFIGS = Path(__file__).parent.parent / "configs"


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Run one of the configurations in an empty directory and return its JSON object and its model."""
    monkeypatch.chdir(tmp_path)

    def run(name):
        assert main(["run", str(CONFIGS / name), "--json"]) == 0, capsys.readouterr().err
        return json.loads(capsys.readouterr().out), load("model.npz")

    return run


def by_place(model, truth_means):
    """For each true mean the index of the nearest component."""
    return np.linalg.norm(model.data_means[:, None] - truth_means[None], axis=2).argmin(axis=0)


def test_iris(run):
    found, model = run("fit_iris.toml")
    assert found["comparison"]["classes"] == ["setosa", "versicolor", "virginica"]
    assert found["comparison"]["accuracy"] == pytest.approx(145 / 150)
    assert found["log_likelihood"] == pytest.approx(-180.185478, abs=1e-5)
    assert found["best_share"] > 0.5
    assert model.columns == ("f1", "f2", "f3", "f4")


def test_wine(run):
    found, model = run("fit_wine.toml")
    assert found["standardized"]
    assert found["covariance_type"] == "diag"
    assert found["comparison"]["accuracy"] > 0.95
    assert 1000 < model.data_means[:, 12].max() < 1200  # proline, in its own units


def test_thyroid(run):
    found, _ = run("fit_thyroid.toml")
    assert found["comparison"]["accuracy"] > 0.95
    assert sorted(round(c["size"]) for c in found["components"]) == [28, 35, 152]


def test_cube_started_at_its_octants(run):
    """S0.1, S0.6 to S0.9, S0.14, S0.15: in at most ten iterations at a relative change of 1e-8."""
    found, model = run("fit_cube_orthant.toml")
    assert found["converged"]
    assert found["options"]["tol"] == 1e-8
    assert found["n_iter"] <= 10
    assert abs(found["log_likelihood"] + 21_675) < 200
    corners = make_cube(seed=0).means
    nearest = by_place(model, corners)
    assert sorted(nearest) == list(range(7))
    np.testing.assert_allclose(model.data_means[nearest], corners, atol=0.1)
    np.testing.assert_allclose(model.params.weights, 1 / 7, atol=0.01)
    # S0.10, S0.11, S0.13: points at the corners are classified with certainty.
    np.testing.assert_array_equal(model.predict(corners), nearest)
    assert model.responsibilities(corners).max(axis=1).min() > 0.999


def test_sweep_over_the_cube_picks_7(run):
    """S0.12, S0.19, S4.3: of eight corners seven are occupied."""
    found, _ = run("sweep_cube.toml")
    assert [row["n_components"] for row in found["table"]] == list(range(1, 11))
    assert {row["status"] for row in found["table"]} == {"CONVERGED"}
    assert found["best"] == 7
    assert not found["at_edge"]
    assert found["comparison"]["accuracy"] == 1.0
    counts, proposed = jaxgmm.orthant_counts(make_cube(seed=0).x)
    assert counts.tolist() == [500.0] * 7 + [0.0]
    assert proposed == found["best"]


def test_silhouette_counts_touching_blobs_as_one(run):
    """S2.8, S2.16, S2.17: as many as DBSCAN finds; BIC tells all four apart."""
    found, model = run("sweep_blobs_silhouette.toml")
    table = {row["n_components"]: row for row in found["table"]}
    assert list(table) == [2, 3, 4, 5, 6]
    assert found["best"] == 3 == max(table, key=lambda n: table[n]["silhouette"])
    assert min(table, key=lambda n: table[n]["bic"]) == 4
    cluster = pytest.importorskip("sklearn.cluster")
    x = make_blobs(2000, 4, std=0.9, seed=2).x
    labels = cluster.DBSCAN(eps=0.9, min_samples=20).fit_predict(x)
    assert len(set(labels) - {-1}) == found["best"]
    core = labels >= 0
    assert jaxgmm.adjusted_rand_index(labels[core], model.predict(x)[core]) > 0.99
    by_dbscan = jaxgmm.silhouette(x[core], labels[core])
    assert table[3]["silhouette"] == pytest.approx(by_dbscan, abs=0.02)


def test_random_clusters_in_the_plane(run):
    """S1.1, S1.5, S1.8."""
    found, model = run("fit_random2d.toml")
    truth = make_random(n_components=3, n_features=2, n_per_component=1000, seed=1)
    nearest = by_place(model, truth.means)
    np.testing.assert_allclose(model.data_means[nearest], truth.means, atol=0.2)
    assert found["comparison"]["accuracy"] > 0.98
    assert model.score(truth.x) * 3000 == pytest.approx(found["log_likelihood"], rel=1e-10)


def test_three_clusters_on_a_line(run):
    """S4.4; S4.12: rows of responsibilities sum to 1, columns to the number of rows of a component."""
    found, model = run("fit_1d.toml")
    truth = make_three_1d(seed=0)
    nearest = by_place(model, truth.means)
    np.testing.assert_allclose(model.data_means[nearest], truth.means, atol=0.4)
    np.testing.assert_allclose(model.data_std[nearest, 0] ** 2, truth.covariances.ravel(), rtol=0.35)
    shares = model.responsibilities(truth.x)
    np.testing.assert_allclose(shares.sum(axis=1), 1.0, atol=1e-12)
    np.testing.assert_allclose(shares.sum(axis=0), [c["size"] for c in found["components"]], rtol=1e-3)


def test_the_demo_does_what_the_configurations_do_and_writes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["demo", "--json"]) == 0
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert found["cube"]["n_components"] == found["cube"]["proposed"] == 7
    assert found["iris"]["comparison"]["accuracy"] == pytest.approx(145 / 150)
    assert max(map(len, err.splitlines())) <= 80
    assert "What to run next" in err
    assert os.listdir(tmp_path) == []


def test_every_configuration_is_tested_and_listed():
    # Those of the benchmark are another kind of file; tests/test_benchmarks.py reads them.
    names = {path.name for path in CONFIGS.glob("*.toml") if "benchmark" not in tomllib.loads(path.read_text())}
    here = Path(__file__).read_text()
    listed = (CONFIGS / "README.md").read_text()
    assert names
    for name in names:
        assert f'run("{name}")' in here
        assert f"`{name}`" in listed


def test_the_packaged_iris_data_are_those_of_the_configurations():
    packaged = (resources.files("jaxgmm.data") / "iris.csv").read_bytes()
    assert packaged == (CONFIGS / "data" / "iris.csv").read_bytes()


# --- refusals --------------------------------------------------------------------------------------------------

IRIS = '[data]\npath = "iris.csv"\ndrop = "class"\n'

BAD = {
    "unknown key": (IRIS + "[fit]\nn_component = 3\n", "[fit] has no key 'n_component'", "'n_components'"),
    "unknown section": (IRIS + "[fitt]\nn_components = 3\n", "unknown section [fitt]", "'fit'"),
    "no command": (IRIS, "names no command", "[fit]"),
    "two commands": (IRIS + "[fit]\nn_components = 3\n[sweep]\n", "names 2 commands, fit and sweep"),
    "outside of a section": ("n_components = 3\n" + IRIS, "n_components stands outside of a section"),
    "not TOML": (IRIS + "[fit]\nn_components = \n", "is not valid TOML", "line 5"),
    "text for a number": (IRIS + '[fit]\nn_components = "3"\n', "n_components must be a whole number", "'3'"),
    "true for a number": (IRIS + "[fit]\nn_components = true\n", "n_components must be a whole number", "True"),
    "number for text": (IRIS + "[fit]\nn_components = 3\ninit = 3\n", "init must be one of kmeans"),
    "number for a switch": (IRIS + "[fit]\nn_components = 3\nforce = 1\n", "force must be true or false, got 1"),
    "text for tol": (IRIS + '[fit]\nn_components = 3\ntol = "1e-3"\n', "tol must be a finite number", "'1e-3'"),
    "misspelt value": (IRIS + '[fit]\nn_components = 3\ncovariance_type = "ful"\n', "did you mean 'full'"),
    "range the wrong way": (IRIS + "[sweep]\nfind_num_clusters_range = [10, 2]\n", "got 10 to 2"),
    "counts of no kind": (IRIS + "[sweep]\ncandidates = [1.5]\n", "candidates must be a whole number", "1.5"),
    "in the wrong section": ('[fit]\nlabel_column = "class"\nn_components = 3\n', "it belongs into [data]"),
    "model key in data": (IRIS + "n_components = 3\n[fit]\n", "it belongs into [fit]"),
    "data for a command without": (IRIS + "[sample]\nn_samples = 3\n", "[sample] reads no data"),
    "unknown generator": ('[data]\ngenerate = "cub"\n[fit]\nn_components = 7\n', "'cub'", "'cube'"),
    "foreign generator option": (
        '[data]\ngenerate = "cube"\nsizes = [3]\n[fit]\nn_components = 7\n',
        "generator 'cube' takes no 'sizes'",
        "it takes n_per_corner, half_side",
    ),
    "wrong generator option": ('[data]\ngenerate = "cube"\nmissing = 9\n[fit]\nn_components = 7\n', "from 0 to 7"),
    "rule of the command": (IRIS + '[sweep]\ncandidates = [1, 2]\ncriterion = "silhouette"\n', "at least 2, got 1"),
}


@pytest.mark.parametrize(("text", "fragments"), [(t, f) for t, *f in BAD.values()], ids=list(BAD))
def test_refused_configurations(tmp_path, monkeypatch, capsys, text, fragments):
    monkeypatch.chdir(tmp_path)
    shutil.copy(CONFIGS / "data" / "iris.csv", "iris.csv")
    Path("job.toml").write_text(text)
    assert main(["run", "job.toml"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    (message,) = messages(err)
    for fragment in fragments:
        assert fragment in message
    assert sorted(os.listdir()) == ["iris.csv", "job.toml"]


def test_a_missing_configuration_names_the_nearest(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("fit_iris.toml").touch()
    assert main(["run", "fit_irs.toml"]) == 3
    assert "did you mean 'fit_iris.toml'" in capsys.readouterr().err


def test_a_data_file_given_as_a_flag_replaces_the_generator(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("job.toml").write_text('[data]\ngenerate = "cube"\n[fit]\nn_components = 7\ninit = "orthant"\n')
    np.save("own.npy", make_cube(seed=5).x)
    assert main(["run", "job.toml", "own.npy", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["source"] == "own.npy"
    assert found["log_likelihood"] == jaxgmm.fit(make_cube(seed=5).x, 7, init="orthant").log_likelihood
