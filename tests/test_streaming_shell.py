"""Streams from the shell: the same models and answers as in memory, by other ways."""

import json

import numpy as np
import pytest

import jaxgmm
from jaxgmm import _progress
from jaxgmm._interrupt import Wish
from jaxgmm.cli import fitting, progress, writing
from jaxgmm.cli.output import Console
from jaxgmm.data import read_table
from tests.helpers import N

FIT = ["-n", "3", "--seed", "0", "--n-restarts", "2", "--max-iter", "20"]


@pytest.fixture
def files(small, tmp_path, monkeypatch):
    """The small data as .npy, CSV and, in three parts, Parquet; the model of a fit in memory."""
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JAXGMM_CACHE_DIR", str(tmp_path / "cache"))
    np.save("x.npy", small.x)
    np.savetxt("x.csv", small.x, "%.17g", ",", header="a,b,c", comments="")
    for i, part in enumerate(np.array_split(small.x, 3)):
        parquet.write_table(pyarrow.table(dict(zip("abc", part.T, strict=True))), f"part-{i}.parquet")
    return tmp_path


def same(one, other):
    for name in ("weights", "means", "covariances"):
        np.testing.assert_allclose(getattr(one.params, name), getattr(other.params, name), rtol=1e-9, atol=1e-12)
    assert one.meta["log_likelihood"] == pytest.approx(other.meta["log_likelihood"], rel=1e-12)


def test_every_way_to_the_same_model(files, shell):
    shell("fit", "x.npy", *FIT, "-o", "memory.npz")
    memory = jaxgmm.load("memory.npz")
    for i, words in enumerate(
        (
            ["x.npy", "--batch-size", "64"],
            ["x.csv", "--batch-size", "64"],
            ["x.csv", "--batch-size", "64", "--no-cache"],
            ["part-*.parquet", "--batch-size", "64"],
            ["part-*.parquet"],
            ["x.npy", "--checkpoint", "kept"],
            ["x.npy", "--checkpoint", "kept", "--resume", "auto"],
        )
    ):
        shell("fit", *words, *FIT, "-o", f"{i}.npz")
        found = jaxgmm.load(f"{i}.npz")
        same(found, memory)
        expected = None if "--no-cache" in words else memory.meta["fingerprint"]
        assert found.meta["fingerprint"] == expected
    assert jaxgmm.load("3.npz").columns == ("a", "b", "c")
    assert jaxgmm.load("5.npz").digest == jaxgmm.load("6.npz").digest


def test_standardized_and_single_precision_streams(files, shell):
    for words in (["--standardize"], ["--dtype", "float32"]):
        shell("fit", "x.npy", *FIT, *words, "-o", "a.npz", "--force")
        shell("fit", "x.npy", *FIT, *words, "-o", "b.npz", "--batch-size", "64", "--force")
        one, other = jaxgmm.load("a.npz"), jaxgmm.load("b.npz")
        tight = one.params.dtype == np.float64
        np.testing.assert_allclose(one.data_means, other.data_means, rtol=1e-8 if tight else 1e-4)
        np.testing.assert_allclose(one.scale, other.scale, rtol=1e-12)


def test_a_sweep_and_a_fit_from_a_model_stream(files, shell):
    shell("sweep", "x.npy", "--candidates", "1-3", "--seed", "0", "--batch-size", "64", "-o", "best.npz")
    shell("fit", "x.npy", "--init-from", "best.npz", "--batch-size", "64", "-o", "more.npz")
    assert jaxgmm.load("more.npz").n_components == jaxgmm.load("best.npz").n_components


@pytest.mark.parametrize("ending", ["npy", "csv", "tsv", "parquet"])
def test_predictions_stream_to_the_same_bytes(files, shell, ending, monkeypatch):
    monkeypatch.setattr(writing, "_CHUNK_ROWS", 60)
    shell("fit", "x.npy", *FIT, "-o", "m.npz")
    for words in ([], ["--proba"], ["--uncertainty"]):
        shell("predict", "m.npz", "x.npy", *words, "-o", f"a.{ending}", "--force")
        shell("predict", "m.npz", "x.npy", *words, "-o", f"b.{ending}", "--force", "--batch-size", "33")
        if ending == "parquet":
            from pyarrow import parquet

            groups = parquet.ParquetFile("a.parquet").metadata
            assert [groups.row_group(i).num_rows for i in range(4)] == [60, 60, 60, N - 180]
        assert (files / f"a.{ending}").read_bytes() == (files / f"b.{ending}").read_bytes()


def test_scores_stream(files, shell):
    shell("fit", "x.npy", *FIT, "-o", "m.npz")
    one = json.loads(shell("score", "m.npz", "x.npy", "--json", "--per-row", "a.npy")[0])
    other = json.loads(shell("score", "m.npz", "x.npy", "--json", "--per-row", "b.npy", "--batch-size", "33")[0])
    assert other["score"] == pytest.approx(one["score"], rel=1e-13)
    assert other["n_samples"] == one["n_samples"] == N
    assert (files / "a.npy").read_bytes() == (files / "b.npy").read_bytes()


def test_tables_are_converted_piece_by_piece(files, small, shell):
    shell("convert", "part-*.parquet", "all.npy")
    np.testing.assert_array_equal(np.load("all.npy"), small.x)
    shell("convert", "x.csv", "some.npy", "--columns", "c,a", "--dtype", "float32")
    np.testing.assert_array_equal(np.load("some.npy"), small.x[:, [2, 0]].astype(np.float32))
    shell("convert", "x.npy", "x.parquet")
    shell("convert", "x.parquet", "again.csv")
    assert (files / "again.csv").read_text().splitlines()[0] == "x0,x1,x2"
    _, err = shell("convert", "x.npy", code=2)
    assert "error[E106]" in err
    np.save("bad.npy", np.r_[small.x, [[1.0, np.nan, 1.0]]])
    _, err = shell("convert", "bad.npy", "bad.csv", code=3)
    assert "row 200, column 1" in err
    assert not (files / "bad.csv").exists()
    shell("convert", "-", "s.npy", code=2)
    for source in ("part-*.parquet", "."):
        _, err = shell("convert", source, "part-9.parquet", code=2)
        assert "error[E121]" in err


def test_scores_of_rows_without_weight(files, small, shell):
    shell("fit", "x.npy", *FIT, "-o", "m.npz")
    np.save("w.npy", np.c_[small.x, np.r_[np.zeros(60), np.ones(N - 60)]])
    words = ["score", "m.npz", "w.npy", "--weight-column", "3", "--json"]
    one, other = (json.loads(shell(*words, *more)[0]) for more in ([], ["--batch-size", "50"]))
    assert other["score"] == pytest.approx(one["score"], rel=1e-13)
    assert other["weight_sum"] == N - 60


def test_what_a_stream_cannot_is_refused(files, shell):
    for words, code in (
        (["fit", "x.npy", *FIT, "--batch-size", "9", "--criterion", "silhouette"], "E111"),
        (["fit", "-", *FIT, "--batch-size", "9"], "E107"),
        (["fit", "x.csv", *FIT, "--batch-size", "9", "--label-column", "a"], "E107"),
        (["fit", "*.arrow", *FIT], "E401"),
        (["fit", "x.npy", *FIT, "--batch-size", "0"], "E108"),
    ):
        _, err = shell(*words, "-o", "n.npz", code=2 if code.startswith("E1") else 3)
        assert f"error[{code}]" in err, words


def test_bars_and_lines_tell_how_far_it_is(capsys, monkeypatch):
    def told(listener):
        listener.begin(100, 2)
        listener.batch(50)
        listener.batch(50)
        listener.passed(1, -1000.0, 3)
        listener.passed(2, -990.0, 1)
        listener.close()

    told(progress._Lines(Console()))
    err = capsys.readouterr().err
    assert "pass 1: log-likelihood -1000, 3 lanes left" in err
    assert "rows/s" in err
    told(progress._Bars())
    err = capsys.readouterr().err
    assert "change 1.0e-02, 1 lane left" in err
    with progress.shown(Console(quiet=True)):
        assert _progress.listener() is _progress._nobody


def test_a_run_goes_on_with_the_seed_it_began_with(files, shell):
    """The commands of the README, which name no seed."""
    for words in (["fit", "x.npy", "-n", 2], ["sweep", "x.npy", "--candidates", "1-2"]):
        words = [*words, "--init", "random_from_data", "--max-iter", 2, "--n-restarts", 1, "--resume", "auto"]
        words += ["--checkpoint", f"kept-{words[0]}", "-o", f"{words[0]}.npz", "--force"]
        _, err = shell(*words)
        assert "drawn" in err
        first = jaxgmm.load(f"{words[0]}.npz")
        _, err = shell(*words)
        assert f"seed {first.meta['seed']}, that of the run in kept-{words[0]}" in err
        assert jaxgmm.load(f"{words[0]}.npz").digest == first.digest
    # Another seed that is given is another run.
    _, err = shell(*words, "--seed", (first.meta["seed"] + 1) % 2**32, code=3)
    assert "error[E435]" in err
    # What cannot be read says so itself.
    for path in (files / "kept-sweep").iterdir():
        path.write_bytes(path.read_bytes()[:-100])
    _, err = shell(*words, code=3)
    assert "error[E434]" in err


def test_no_output_becomes_part_of_the_data(files, small, shell):
    shell("fit", "x.npy", *FIT, "-o", "m.npz")
    (files / "parts").mkdir()
    for i, part in enumerate(np.array_split(small.x, 3)):
        np.save(files / "parts" / f"p{i}.npy", part)
    before = {path.name: path.read_bytes() for path in (files / "parts").iterdir()}
    for words in (
        ["predict", "m.npz", "parts", "-o", "parts/p0.npy"],
        ["predict", "m.npz", "parts", "-o", "parts/labels.csv"],
        ["score", "m.npz", "parts/p[1-2].npy", "--per-row", "parts/p1.npy"],
        ["score", "m.npz", "parts/p*.npy", "--per-row", "parts/p-of-rows.npy"],
        ["fit", "parts/*", *FIT, "-o", "parts/m.npz"],
        ["fit", "parts/*", *FIT, "-o", "m2.npz", "--plot", "parts/m.png"],
    ):
        _, err = shell(*words, "--force", code=2)
        assert "error[E121]" in err, words
    assert {path.name: path.read_bytes() for path in (files / "parts").iterdir()} == before
    shell("predict", "m.npz", "parts", "-o", "labels.csv")
    shell("score", "m.npz", "parts/p[1-2].npy", "--per-row", "parts/rows.npy")


def test_an_interrupted_run_with_checkpoints_goes_on_from_them(files, shell, capsys):
    shell("fit", "x.npy", *FIT, "-o", "m.npz")
    for settings, cure in (({}, "--init-from m.npz"), ({"checkpoint": "kept"}, "--resume auto --force")):
        console, wish = Console(), Wish()
        wish.exit_code = 143
        settings = settings | {"output": "m.npz", "data_path": "x.npy"}
        fitting._about(jaxgmm.load("m.npz"), read_table("x.npy"), settings, console, wish)
        assert cure in capsys.readouterr().err
