"""What the shell refuses: what was found and what to do under a code, the right exit code, nothing written."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from jaxgmm import api
from jaxgmm.__main__ import main
from jaxgmm.cli import app
from jaxgmm.model import Model
from jaxgmm.params import GMMParams
from tests.helpers import messages

FIT = "fit points.npy -n 3 "
SWEEP = "sweep points.npy "


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A directory with data of every bad kind and one good model."""
    monkeypatch.chdir(tmp_path)
    x = np.random.default_rng(0).normal(size=(20, 2))
    np.save("points.npy", x)
    bad = x.copy()
    bad[3, 1] = np.nan
    np.save("nan.npy", bad)
    bad[3, 1] = np.inf
    np.save("inf.npy", bad)
    np.save("wide.npy", np.c_[x, x])
    np.save("words.npy", np.array([["a", "b"]]))
    np.save("weights.npy", np.c_[x, np.where(np.arange(20) == 7, -1.0, 1.0)])
    np.save("zeros.npy", np.c_[x, np.zeros(20)])
    np.save("one.npy", x[:1])
    Path("ragged.csv").write_text("a,b\n1,2\n3\n5,6\n")
    Path("named.csv").write_text("length,width\n" + "\n".join(f"{a},{b}" for a, b in x) + "\n")
    Path("half.csv").write_text("length,height\n" + "\n".join(f"{a},{b}" for a, b in x) + "\n")
    Path("empty.csv").write_text("")
    Path("cut.npz").write_bytes(b"PK\x03\x04")
    Path("taken.npz").write_bytes(b"precious")
    params = GMMParams(weights=np.ones(1), means=np.zeros((1, 2)), covariances=np.ones(1), covariance_type="spherical")
    from jaxgmm import save

    save("good.npz", Model(params=params, columns=("length", "width")))
    return tmp_path


def contents() -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path().iterdir() if path.is_file()}


USAGE = {
    # no or unknown command
    "fti points.npy -n 3": ("unknown command 'fti'", "'fit'"),
    "blorb": ("unknown command 'blorb'", "choose one of"),
    # flags
    FIT + "--max_itr 5": ("no flag --max-itr", "--max-iter"),
    FIT + "--n_cluster 5": ("no flag --n-cluster", "--n-clusters"),
    FIT + "--qqqqqq": ("no flag --qqqqqq", "jaxgmm fit --help"),
    FIT + "-z 5": ("no flag -z",),
    FIT + "--candidates 1-3": ("has no --candidates", "it belongs to sweep"),
    FIT + "--max-iter": ("--max-iter needs one value",),
    FIT + "--json=3": ("--json",),
    FIT + "surplus": ("'surplus' is one word too many",),
    FIT + "--data-path points.npy": ("keep one",),
    # S2.3: exactly one of the two, and mutually exclusive
    "points.npy": ("how many components?", "--n-components K", "--find-num-clusters-range A B"),
    "--n_clusters 3 --find_num_clusters_range 2 4 --data_path points.npy": ("exclude each other",),
    "--n_clusters 3": ("no data", "name a file"),
    "fit points.npy": ("how many components?",),
    "points.npy --candidates 1-3 --find-num-clusters-range 1 3": ("give one of them",),
    # S2.4: A <= B, counts of at least 1, of at least 2 for the silhouette
    "--find_num_clusters_range 10 2 --data_path points.npy": ("got 10 to 2", "write 2 10"),
    "--find_num_clusters_range 0 2 --data_path points.npy": ("at least 1, got 0",),
    "--find_num_clusters_range 1 4 --data_path points.npy --criterion silhouette": ("at least 2, got 1",),
    "--find_num_clusters_range 2 --data_path points.npy": ("--find-num-clusters-range needs 2 values",),
    "--n_clusters 0 --data_path points.npy": ("--n-components", "at least 1, got 0"),
    "--n_clusters 1 --data_path points.npy --criterion silhouette": ("1 component has none",),
    SWEEP + "--candidates 10-2": ("got 10 to 2", "write 2-10"),
    SWEEP + "--candidates many": ("1-10 or 2,4,8", "'many'"),
    SWEEP + "--init-from good.npz": ("has no --init-from", "it belongs to fit"),
    "points.npy --candidates 1-3 --init-from good.npz": ("cannot serve a range",),
    # values
    "fit points.npy -n three": ("--n-components must be a whole number", "'three'"),
    "fit points.npy -n 2.5": ("--n-components must be a whole number", "'2.5'"),
    FIT + "--tol -1e-3": ("--tol must be a finite number of at least 0", "'-1e-3'"),
    FIT + "--reg-covar nan": ("--reg-covar must be a finite number",),
    FIT + "--seed -1": ("--seed must be a whole number from 0", "got -1"),
    FIT + "--n-restarts 0": ("--n-restarts", "at least 1"),
    FIT + "--covariance-type ful": ("'ful'", "did you mean 'full'"),
    FIT + "--covariance-type full,diag": ("a fit has one covariance type", "sweep"),
    FIT + "--init kmean": ("'kmean'", "did you mean 'kmeans'"),
    SWEEP + "--criterion bix": ("'bix'", "did you mean 'bic'"),
    FIT + "--columns a,,b": ("--columns must be column names",),
    FIT + "--columns 0,colour": ("no column 'colour'", "x0, x1"),
    "fit named.csv -n 3 --drop widht": ("no column 'widht'", "'width'"),
    FIT + "--init kmeans --init-from good.npz": ("leave out --init",),
    FIT + "--init-from good.npz": ("1 components", "[3]"),
    # outputs
    FIT + "-o taken.npz": ("taken.npz exists already", "--force"),
    FIT + "-o points.npy": ("must end in .npz",),
    FIT + "-o nowhere/m.npz": ("no directory nowhere",),
    "predict good.npz points.npy -o points.npy --force": ("is also the input",),
    "predict good.npz points.npy -o labels.xls": (".npy or .csv or .tsv",),
    "predict good.npz points.npy --proba --uncertainty -o p.npy": (".csv",),
    "sample good.npz -n 5 -o s.npy --with-labels": ("--labels-to",),
    "sample good.npz -n 5 -o s.npy --labels-to s.npy": ("two outputs",),
    "sample good.npz": ("how many rows?", "-n N"),
    "summary": ("no model",),
    "predict good.npz": ("no data",),
    "predict good.npz half.csv": ("'length' but not 'width'", "--columns"),
    # generators
    "generate cub": ("'cub'", "did you mean 'cube'"),
    "generate bimodal --std 2": ("takes no --std",),
    "generate": ("no generator named", "jaxgmm generate cube"),
    "generate cube --missing 8": ("--missing must be a whole number from 0 to 7",),
    # configurations
    "run": ("no configuration file", "jaxgmm run configs/fit_iris.toml"),
}

DATA = {
    "fit point.npy -n 3": ("point.npy does not exist", "points.npy"),
    "fit nowhere/x.npy -n 3": ("nor does its directory",),
    "fit nan.npy -n 3": ("nan.npy contains NaN at row 3, column 1", "drop or impute"),
    "fit inf.npy -n 3": ("inf.npy contains infinity at row 3, column 1",),
    "fit nan.npy -n 3 --standardize": ("row 3, column 1",),
    "fit words.npy -n 1": ("words.npy holds", "not real numbers"),
    "fit ragged.csv -n 1": ("ragged.csv, line 3", "'b' is missing"),
    "fit empty.csv -n 1": ("empty.csv is empty",),
    "fit one.npy -n 3": ("1 row", "fewer than n_components=3"),
    "fit points.npy -n 30": ("20 rows", "at most 20 components"),
    "fit weights.npy -n 2 --weight-column 2": ("negative (-1) at row 7",),
    "fit zeros.npy -n 2 --weight-column 2": ("zero for every row",),
    "predict good.npz wide.npy": ("4 columns", "fitted on 2"),
    "predict good.npz nan.npy": ("NaN at row 3, column 1",),
    "predict goood.npz points.npy": ("goood.npz does not exist", "good.npz"),
    "summary points.npy": ("points.npy is no model file",),
    "summary cut.npz": ("cut.npz is damaged or cut short",),
    "run job.toml": ("job.toml does not exist",),
}


@pytest.mark.parametrize(
    ("line", "code", "fragments"),
    [(line, 2, fragments) for line, fragments in USAGE.items()]
    + [(line, 3, fragments) for line, fragments in DATA.items()],
    ids=[*USAGE, *DATA],
)
def test_refusals(folder, capsys, line, code, fragments):
    before = contents()
    assert main(line.split()) == code
    out, err = capsys.readouterr()
    assert out == ""
    *notes, last = messages(err)
    assert re.match(r"jaxgmm: error\[E[15]" if code == 2 else r"jaxgmm: error\[E[24]", last)
    assert " help: " in last
    assert all(len(line) <= 80 for line in err.splitlines())
    assert all(note.startswith("jaxgmm: ") for note in notes), err
    assert "Traceback" not in err
    for fragment in fragments:
        assert fragment in last
    assert contents() == before


def test_a_taken_output_is_refused_before_any_work_and_kept(folder, monkeypatch, capsys):
    monkeypatch.setattr(api, "fit", lambda *_, **__: pytest.fail("the fit was started"))
    assert main((FIT + "-o taken.npz --seed 0").split()) == 2
    assert Path("taken.npz").read_bytes() == b"precious"
    capsys.readouterr()


def test_force_replaces_the_output(folder, capsys):
    assert main(["sample", "good.npz", "-n", "2", "--seed", "0", "-o", "named.csv", "--force"]) == 0
    assert len(Path("named.csv").read_text().splitlines()) == 3
    capsys.readouterr()


def test_a_failed_write_keeps_the_old_file_and_leaves_no_other(folder, monkeypatch, capsys):
    before = contents()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    assert main(["sample", "good.npz", "-n", "2", "--seed", "0", "-o", "named.csv", "--force"]) == 3
    assert "No space left on device" in capsys.readouterr().err
    assert contents() == before


def test_errors_are_one_json_object_when_asked(folder, capsys):
    for line, code in (("fit nan.npy -n 2 --json --seed 0", 3), ("fit points.npy -n 2 --jsn --json", 2)):
        assert main(line.split()) == code
        out, err = capsys.readouterr()
        found = json.loads(out)
        assert found["exit_code"] == code
        assert messages(err)[-1] == f"jaxgmm: error[{found['code']}]: {found['error']} help: {found['help']}"


def test_no_words_is_a_usage_error_with_the_overview(capsys):
    assert main([]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("usage: jaxgmm")


def fail_with(error, monkeypatch):
    def function(settings, console):
        raise error

    monkeypatch.setattr(app, "_function", lambda command: function)


def test_a_failed_fit_exits_with_1(folder, capsys):
    np.save("constant.npy", np.ones((20, 2)))
    assert main(["fit", "constant.npy", "-n", "2", "--reg-covar", "0", "--seed", "0", "--n-restarts", "2"]) == 1
    last = messages(capsys.readouterr().err)[-1]
    assert last.startswith("jaxgmm: error[E301]: no start gave a usable model with 2 components")
    assert "raise reg_covar" in last
    assert not Path("model.npz").exists()


def test_interrupt_exits_with_130(monkeypatch, capsys):
    fail_with(KeyboardInterrupt(), monkeypatch)
    assert main(["doctor"]) == 130
    assert capsys.readouterr().err == "jaxgmm: error[E903]: interrupted\n  help: run the same command again\n"


def test_a_bug_shows_where_it_happened(monkeypatch, capsys):
    fail_with(ZeroDivisionError("by design"), monkeypatch)
    assert main(["doctor"]) == 1
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert messages(err)[-1] == (
        "jaxgmm: error[E901]: a bug: ZeroDivisionError: by design "
        "help: please report it with the lines above in the project's issue tracker"
    )


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("INTERNAL: Out of memory allocating 12000000772 bytes.")], ids=["host", "XLA"]
)
def test_running_out_of_memory_is_no_bug(error, monkeypatch, capsys):
    fail_with(error, monkeypatch)
    assert main(["doctor"]) == 1
    assert messages(capsys.readouterr().err)[0].startswith(
        "jaxgmm: error[E902]: out of memory help: use fewer restarts"
    )


def test_usage_errors_import_nothing_heavy(tmp_path):
    lines = [line for line in USAGE if not any(word in line for word in ("colour", "widht", "good.npz", "half.csv"))]
    program = (
        "import sys, contextlib, io\n"
        "from jaxgmm.__main__ import main\n"
        f"for line in {lines!r}:\n"
        "    with contextlib.redirect_stderr(io.StringIO()):\n"
        "        assert main(line.split()) == 2, line\n"
        "assert not {'jax', 'numpy'} & set(sys.modules)\n"
    )
    for name in ("taken.npz", "points.npy"):
        Path(tmp_path, name).touch()
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True)
    assert sorted(os.listdir(tmp_path)) == ["points.npy", "taken.npz"]


def test_a_missing_input_is_said_before_an_existing_output(folder, capsys):
    np.save(folder / "points.npy", np.zeros((5, 2)))
    (folder / "model.npz").write_bytes(b"kept")
    assert main(["fit", str(folder / "pionts.npy"), "-n", "2", "-o", str(folder / "model.npz")]) == 3
    assert "points.npy" in capsys.readouterr().err
    assert (folder / "model.npz").read_bytes() == b"kept"


# ----------------------------------------------------------------------------- standard streams that cannot be written


full = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device that is always full")


@pytest.fixture
def unwritable(monkeypatch):
    """Close a standard stream of this process, or send it to a full disk."""
    with contextlib.ExitStack() as stack:

        def change(name, how):
            stream = None if how == "closed" else stack.enter_context(open("/dev/full", "w"))
            monkeypatch.setattr(sys, name, stream)

        yield change


@full
@pytest.mark.parametrize(("how", "why"), [("closed", "Bad file descriptor"), ("full", "No space left on device")])
@pytest.mark.parametrize(
    "line", ["summary good.npz", "summary good.npz --json", "predict good.npz points.npy", "--help"]
)
def test_standard_output_that_cannot_be_written(folder, unwritable, capsys, line, how, why):
    unwritable("stdout", how)
    assert main(line.split()) == 3
    found = f"standard output cannot be written ({why})"
    assert messages(capsys.readouterr().err)[-1].startswith(f"jaxgmm: error[E440]: {found} help: ")


@full
@pytest.mark.parametrize("how", ["closed", "full"])
def test_without_standard_error_the_work_is_done(folder, unwritable, monkeypatch, capsys, how):
    unwritable("stderr", how)
    assert main(["sample", "good.npz", "-n", "2", "-o", "made.npy"]) == 0  # it tells of the seed and of the file
    assert Path("made.npy").exists()
    assert main(["summary", "none.npz", "--json"]) == 3
    assert json.loads(capsys.readouterr().out)["code"] == "E401"
    assert main([]) == 2
    fail_with(ZeroDivisionError("by design"), monkeypatch)
    assert main(["doctor"]) == 1


def test_whoever_reads_may_leave_before_an_error_is_told(folder, monkeypatch, capsys):
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        assert main(["summary", "none.npz", "--json"]) == 141
    assert messages(capsys.readouterr().err)[-1].startswith("jaxgmm: error[E401]")


@full
@pytest.mark.parametrize(
    ("streams", "words", "code"),
    [(">/dev/full", "--help", 3), ("2>/dev/full", "", 2), (">&- 2>&-", "--help", 3)],
)
def test_python_adds_nothing_when_a_process_ends(tmp_path, streams, words, code):
    line = f'"{sys.executable}" -m jaxgmm {words} {streams}'
    done = subprocess.run(line, shell=True, capture_output=True, text=True)
    assert done.returncode == code
    assert "Exception" not in done.stderr


def test_no_file_takes_the_place_of_a_closed_stream(tmp_path):
    program = (
        "import os\n"
        "from jaxgmm.cli import app\n"
        "app._occupy_closed_streams()\n"
        "assert os.open('file', os.O_RDWR | os.O_CREAT) > 2\n"
    )
    line = f'"{sys.executable}" -c "{program}" >&-'
    done = subprocess.run(line, shell=True, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
