"""Every code of the catalogue is provoked by the smallest call or command, names what it met, and offers a cure."""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import json
import os
import pickle
import re
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

import jaxgmm
from jaxgmm import (
    ConvergenceWarning,
    GaussianMixture,
    JaxgmmError,
    Model,
    _fork,
    fit,
    fit_many,
    functional,
    io,
    make_params,
    save,
    sweep,
)
from jaxgmm.__main__ import main
from jaxgmm._catalogue import _TABLE, CATALOGUE, ENTRIES, GROUPS
from jaxgmm._interrupt import Wish
from jaxgmm._pytree import replace
from jaxgmm._status import DataError, FitError, Status, UsageError, marked
from jaxgmm.cli import app, errors, fitting, info
from jaxgmm.cli.options import COMMANDS
from jaxgmm.cli.output import Console
from jaxgmm.data import make_mixture, read_table, sources
from jaxgmm.many import ManyResult
from tests.helpers import D, K, N, messages
from tests.test_io import rewrite

PACKAGE = Path(jaxgmm.__file__).parent
X = np.random.default_rng(0).normal(size=(N, D))
ONES = np.ones(K)


def changed(x: np.ndarray, value: float) -> np.ndarray:
    """A copy of `x` whose row 7 begins with the value."""
    x = x.copy()
    x.reshape(len(x), -1)[7, 0] = value
    return x


class Frame:
    """As much of a data frame as the estimator looks at."""

    def __init__(self, *columns: object) -> None:
        self.columns, self.shape = columns, X.shape

    def __array__(self, dtype: object = None, copy: object = None) -> np.ndarray:
        return X


class Sparse:
    """As much of a sparse matrix as is needed to recognise one."""

    nnz, toarray = 1, X


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A directory with a file of every bad kind, some models, and rows to fit."""
    folder = tmp_path_factory.mktemp("files")
    with contextlib.chdir(folder):
        np.save("points.npy", X)
        np.save("nan.npy", changed(X, np.nan))
        np.save("collapsing.npy", np.r_[X[20:], np.full((20, D), 30.0)])
        np.save("words.npy", np.array([["a", "b"]]))
        np.save("objects.npy", np.array([{}], dtype=object), allow_pickle=True)
        np.savez("two.npz", first=X, second=X)
        Path("longer.npy").write_bytes(Path("points.npy").read_bytes() + b"surplus")
        Path("cut.npy").write_bytes(Path("points.npy").read_bytes()[:200])
        Path("text.npy").write_text("1,2\n")
        Path("packed.csv").write_bytes(b"\x1f\x8b\x08")
        Path("empty.csv").touch()
        Path("ragged.csv").write_text("a,b\n1,2\n3\n")
        Path("quoted.txt").write_text('1 2\n"""" 1\xa0\n', encoding="utf-8")
        Path("missing.csv").write_text("a,b\n1,NA\n")
        Path("comma.csv").write_text("a;b\n1,5;2\n")
        Path("latin.csv").write_bytes(b"a,b\n1,\xe9\n")
        Path("open.csv").write_text('a,b\n"1,2\n')
        Path("header.csv").write_text("1,x\n3,4\n")
        Path("groups.csv").write_text("a,g\n" + "".join(f"{i % 7},{'big' if i else 'lone'}\n" for i in range(9)))
        Path("pairs.csv").write_text("a,g\n" + "".join(f"{i % 7},{i % 2}\n" for i in range(16)))
        Path("lone.csv").write_text("a,g\n1,lone\n2,alone\n")
        Path("old.mat").write_bytes(b"")
        Path("directory.npz").mkdir()
        identity = np.tile(np.eye(D), (K, 1, 1))
        for name, weights, means in (
            ("good", ONES / K, X[:K]),
            ("far", ONES / K, [X[0], X[1], np.full(D, 1e3)]),
            ("twins", [0.8, 0.1, 0.1], np.zeros((K, D))),
        ):
            save(f"{name}.npz", Model(params=make_params(weights, means, identity)))
        for name in ("newer", "unsound", "touched"):
            Path(f"{name}.npz").write_bytes(Path("good.npz").read_bytes())
        rewrite("newer.npz", {"schema": 99})
        rewrite("unsound.npz", weights=np.array([0.5, 0.4, 0.3]))
        rewrite("touched.npz", means=X[1 : K + 1])
        for name, text in {
            "toml": "[fit\n",
            "section": "[fitt]\n",
            "twice": "[fit]\n[sweep]\n",
            "data": '[data]\npath = "points.npy"\n[summary]\nmodel = "good.npz"\n',
            "outside": "seed = 1\n[fit]\n",
            "key": "[fit]\nn_component = 3\n",
            "place": '[fit]\npath = "points.npy"\ncolumns = "0"\n',
        }.items():
            Path(f"{name}.toml").write_text(text)
    return folder


FIT = "fit points.npy -n 3 "

# Code -> a command line, and what of it the message repeats.
SHELL = {
    "E101": ("fti points.npy", "'fti'"),
    "E102": (FIT + "--max-itr 5", "--max-itr"),
    "E103": (FIT + "--candidates 1-3", "--candidates"),
    "E104": (FIT + "--max-iter", "--max-iter"),
    "E105": (FIT + "surplus", "'surplus'"),
    "E106": ("sample good.npz", "how many rows?"),
    "E107": ("points.npy -n 3 --candidates 1-3", "--candidates"),
    "E108": (FIT + "--tol -1", "'-1'"),
    "E109": (FIT + "--init kmean", "'kmean'"),
    "E110": (FIT + "--covariance-type full,diag", "full,diag"),
    "E111": ("points.npy --candidates 1-3 --criterion silhouette", "got 1"),
    "E112": ("generate bimodal --std 2", "--std"),
    "E113": ("errors E2O3", "'E2O3'"),
    "E120": (FIT + "-o model.csv", "model.csv"),
    "E121": ("predict good.npz points.npy -o points.npy", "points.npy"),
    "E122": ("sample good.npz -n 2 -o a.csv --labels-to a.csv", "a.csv"),
    "E123": (FIT + "-o nowhere/a.npz", "nowhere"),
    "E124": (FIT + "-o directory.npz", "directory.npz"),
    "E125": (FIT + "-o good.npz", "good.npz"),
    "E130": (FIT + "--columns colour", "'colour'"),
    "E131": (FIT + "--columns 0,0", "'x0'"),
    "E132": (FIT + "--drop 0-2", "points.npy"),
    "E133": (FIT + "--weight-column 0-1", "'0-1'"),
    "E232": ("fit nan.npy -n 3 --label-column 0", "row 7"),
    "E304": ("fit-many lone.csv --group g -n 2 --seed 0", "'lone'"),
    "E401": ("fit pionts.npy -n 3", "pionts.npy"),
    "E402": ("fit directory.npz -n 3", "directory.npz"),
    "E403": ("fit points.npy/x.npy -n 3", "points.npy/x.npy"),
    "E404": ("fit empty.csv -n 3", "empty.csv"),
    "E405": ("fit packed.csv -n 3", "gzip"),
    "E406": ("fit text.npy -n 3", "text.npy"),
    "E407": ("fit cut.npy -n 3", "cut.npy"),
    "E408": ("fit longer.npy -n 3", "7 bytes"),
    "E410": ("fit two.npz:third -n 3", "'third'"),
    "E411": ("fit objects.npy -n 3", "objects.npy"),
    "E412": ("fit words.npy -n 3", "<U1"),
    "E420": ("fit ragged.csv -n 1", "line 3"),
    "E421": ("fit quoted.txt -n 1 --label-column 0", "row 2"),
    "E422": ("fit missing.csv -n 1", "'NA'"),
    "E423": ("fit comma.csv -n 1", "'1,5'"),
    "E424": ("fit latin.csv -n 1", "0xe9"),
    "E425": ("fit open.csv -n 1", "line 2"),
    "E426": ("fit header.csv -n 1", "'x'"),
    "E430": ("summary points.npy", "points.npy"),
    "E431": ("summary unsound.npz", "1.2"),
    "E432": ("summary touched.npz", "touched.npz"),
    "E433": ("summary newer.npz", "99"),
    "E501": ("run toml.toml", "line 1"),
    "E502": ("run section.toml", "[fitt]"),
    "E503": ("run twice.toml", "fit and sweep"),
    "E504": ("run data.toml", "[summary]"),
    "E505": ("run outside.toml", "seed"),
    "E506": ("run key.toml", "'n_component'"),
    "E507": ("run place.toml", "'path'"),
    "E904": ("fit points.npy --init-from good.npz --max-iter 1 --strict -o a.npz --force", "max_iter"),
    "W301": ("fit points.npy --init-from good.npz --max-iter 1 -o a.npz --force", "max_iter"),
    "W302": (
        "fit collapsing.npy -n 3 --reg-covar 0 --init random --n-restarts 1 --seed 0 -o a.npz --force",
        "singular",
    ),
    "W303": ("fit points.npy --init-from far.npz -o a.npz --force", "component 2"),
    "W304": ("sweep points.npy --candidates 2,3 --n-restarts 1 --max-iter 2 --seed 0 -o a.npz --force", "best count, "),
    "W305": ("fit points.npy --init-from twins.npz --max-iter 0 --criterion silhouette -o a.npz --force", "silhouette"),
    "W306": ("fit-many groups.csv --group g -n 2 --n-restarts 1 --seed 0", "'lone'"),
}

# The same with something to set up first, by pytest's monkeypatch.
SCENES: dict[str, tuple[str, str, Callable[[pytest.MonkeyPatch], None]]] = {
    "E305": ("doctor", "off by 1", lambda patch: patch.setattr(info, "_known_answer", lambda dtype: 1.0)),
    "E409": ("fit old.mat -n 3", "old.mat", lambda patch: old_without_scipy(patch)),
    "E440": ("sample good.npz -n 2 --seed 0 -o a.csv", "a.csv", lambda patch: full_disk(patch)),
    "E901": ("doctor", "ZeroDivisionError: by design", lambda patch: command(patch, ZeroDivisionError("by design"))),
    "E902": ("doctor", "memory", lambda patch: command(patch, MemoryError())),
    "E903": ("doctor", "interrupted", lambda patch: command(patch, KeyboardInterrupt())),
    "W101": ("errors", "points.npy", lambda patch: cache_in_a_file(patch)),
    "W901": ("errors", "by design", lambda patch: command(patch, None)),
}


def old_without_scipy(patch):
    Path("old.mat").write_bytes(b"MATLAB 5.0 MAT-file")
    patch.setitem(sys.modules, "scipy.io", None)


def full_disk(patch):
    def replace(*_):
        raise OSError(28, "No space left on device")

    patch.setattr("os.replace", replace)


def cache_in_a_file(patch):
    for name in ("JAX_COMPILATION_CACHE_DIR", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"):
        patch.setenv(name, "")  # so that it is put back afterwards
        patch.delenv(name)
    patch.setenv("JAXGMM_CACHE_DIR", "points.npy")
    patch.delitem(sys.modules, "jax")


def command(patch, error):
    """A command that raises, or for None warns."""

    def function(settings, console):
        if error is not None:
            raise error
        warnings.simplefilter("always")  # pytest would make it an error
        warnings.warn("by design", UserWarning, stacklevel=2)

    patch.setattr(app, "_function", lambda command: function)


def sampled(**options):
    return make_mixture(10, [1.0], [[0.0]], **options)


# Code -> a call, and what of it the message repeats.
CALLS: dict[str, tuple[Callable[[], object], str]] = {
    "E140": (lambda: sweep(X, [], key=0), "candidates"),
    "E141": (lambda: fit(X, K), "init='kmeans'"),
    "E142": (lambda: fit(X, K, key=0.5), "float"),
    "E143": (lambda: fit(X, 2, init=io.load("good.npz").params), "3 components"),
    "E144": (lambda: fit(np.ones((N, 17)), K, init="orthant"), "D=17"),
    "E145": (lambda: save("model.npz", {}), "dict"),
    "E146": (lambda: GaussianMixture().predict(X), "GaussianMixture"),
    "E147": (lambda: jaxgmm.to_sklearn(io.load("good.npz").params), "scikit-learn"),
    "E148": (lambda: fit_many(X, K, key=0), "datasets"),
    "E149": (lambda: sampled(covariances=[[[-1.0]]]), "covariance"),
    "E150": (lambda: GaussianMixture().set_params(n_clusters=2), "'n_clusters'"),
    "E151": (lambda: fit(X, 2, key=0, prior="weak"), "weak"),
    "E201": (lambda: fit([["a"]], 1), "'a'"),
    "E202": (lambda: fit(X + 1j, K, key=0), "x is complex"),
    "E203": (lambda: fit(changed(X, np.inf), K, key=0), "infinity at row 7, column 0"),
    "E204": (lambda: fit(Sparse(), K), "x is a sparse"),
    "E205": (lambda: fit(np.ma.masked_less(X, X[7, 0] + 1e-12), K), "masked"),
    "E206": (lambda: fit([[1.0], [1.0, 2.0]], 1), "x is not a rectangular"),
    "E207": (lambda: fit(X[0], 1), "(3,)"),
    "E208": (lambda: fit(X[:, :0], 1), "(200, 0)"),
    "E209": (lambda: GaussianMixture().fit(X[:1]), "1 sample"),
    "E210": (lambda: jaxgmm.predict(io.load("good.npz").params, X[:, :2]), "2 columns"),
    "E211": (lambda: fit(X[:2], K, key=0), "2 rows"),
    "E212": (lambda: fit(X[:, :1], K, init="orthant"), "2 orthants"),
    "E213": (lambda: fitted_on("a", "b", "c").predict(Frame("a", "b", "colour")), "colour"),
    "E214": (lambda: GaussianMixture(K).fit(Frame("a", "b", 3)), "'int'"),
    "E220": (lambda: fit(X, K, key=0, sample_weight=[1.0]), "(1,)"),
    "E221": (lambda: fit(X, K, key=0, sample_weight=changed(np.ones(N), -1.0)), "row 7"),
    "E222": (lambda: fit(X, K, key=0, sample_weight=np.zeros(N)), "sample_weight"),
    "E223": (lambda: fit(X, K, key=0, sample_weight=np.full(N, 1e308)), "1e+308"),
    "E230": (lambda: jaxgmm.params_from_labels(X, [0, 1]), "(2,)"),
    "E231": (lambda: jaxgmm.adjusted_rand_index(np.array([1, "a"], object), [0, 1]), "a mixes"),
    "E233": (lambda: jaxgmm.silhouette(X, np.zeros(N)), "got 1"),
    "E234": (lambda: jaxgmm.silhouette(X, np.arange(N) % 2, np.full(N, 0.5)), "0.5"),
    "E235": (lambda: jaxgmm.accuracy_up_to_relabelling(np.arange(9000), np.arange(9000)), "9000"),
    "E240": (lambda: make_params([0.5, 0.5], [[0.0]], [[1.0]], "diag"), "(2,)"),
    "E241": (lambda: make_params([1.0], [[np.nan]], [[1.0]], "diag"), "means"),
    "E242": (lambda: make_params([0.5, 0.6], [[0.0], [1.0]], [[1.0], [1.0]], "diag"), "1.1"),
    "E243": (lambda: make_params([1.0], [[0.0]], [[-1.0]], "diag"), "diag"),
    "E244": (lambda: Model(params=io.load("good.npz").params, scale=[1.0, -2.0, 1.0]), "-2"),
    "E245": (lambda: jaxgmm.params_from_responsibilities([[0.0]], [[-0.5]]), "-0.5"),
    "E246": (lambda: jaxgmm.params_from_means(X, [X[0], np.full(D, 1e3)]), "mean 1"),
    "E301": (lambda: fit(np.ones((N, D)), K, key=0, reg_covar=0.0), "3 components"),
    "E302": (lambda: fit(X * 1e200, K, key=0, max_iter=1), "float64"),
    "E303": (lambda: GaussianMixture(K, reg_covar=0, random_state=0).fit(np.ones((N, D))), "ill-defined"),
    "W201": (lambda: fitted_on("a", "b", "c").predict(X), "feature names"),
    "E152": (lambda: orphaned(), str(os.getpid())),
    "E413": (lambda: bomb(), "bomb.npz"),
    "E307": (lambda: fit(np.repeat(X[:2], 9, axis=0), 2, key=0, degenerate="raise"), "9 rows, 1 of them distinct"),
    "W307": (lambda: diagnosed(), "component 2"),
    "W309": (lambda: stopped(), "good.npz"),
    "W308": (lambda: GaussianMixture(reg_covar=1.0, random_state=0).fit(X), "reg_covar=1"),
}


def fitted_on(*names):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return GaussianMixture(K, max_iter=1, random_state=0).fit(Frame(*names))


def diagnosed():
    """What the shell says of a model whose fit found something, as a Python warning."""
    model = io.load("good.npz")
    meta = {"status": "CONVERGED", "diagnoses": [{"kind": "floor", "text": "component 2 rests on 3 rows"}]}
    console = Console(strict=True)
    fitting.warn_of_status(Model(params=model.params, meta=meta), console)
    assert console.close() == 4
    warnings.warn(marked(UserWarning, "W307", console.warnings[0], "see above"), stacklevel=1)


def orphaned():
    """A fit in a process that believes it is a fork of one in which JAX had begun."""
    with mock.patch.object(_fork, "_orphaned", True):
        fit(X, K, key=0)


def bomb():
    """An archive that is refused where nothing may unpack to more than it holds."""
    np.savez_compressed("bomb.npz", x=np.zeros((1000, D)))
    with mock.patch.multiple(sources, _MAX_UNPACKED=0, _MAX_RATIO=2):
        read_table("bomb.npz")


def stopped():
    """What the shell says after a signal, as a Python warning."""
    console, wish = Console(), Wish()
    wish.exit_code = app.INTERRUPTED
    settings = {"output": "good.npz", "data_path": "points.npy"}
    fitting._about(io.load("good.npz"), read_table("points.npy"), settings, console, wish)
    warnings.warn(marked(UserWarning, "W309", console.warnings[0], "--init-from"), stacklevel=1)


# ------------------------------------------------------------------------------------------------- the codes


def test_every_code_has_one_case_that_provokes_it():
    assert sorted([*SHELL, *SCENES, *CALLS]) == sorted(CATALOGUE)


def fits_a_terminal(err):
    """Errors, warnings and their helps in lines of 80 characters; notes may be longer."""
    note = re.compile(r"jaxgmm: (?!error\[|warning\[)")
    return all(len(line) <= 80 for line in err.splitlines() if not note.match(line))


@pytest.mark.parametrize("code", [*SHELL, *SCENES])
def test_commands(files, monkeypatch, capsys, code):
    monkeypatch.chdir(files)
    line, own = SHELL[code] if code in SHELL else SCENES[code][:2]
    if code in SCENES:
        SCENES[code][2](monkeypatch)
    exit_code = main(line.split())
    _, err = capsys.readouterr()
    kind = "warning" if code.startswith("W") else "error"
    (said,) = (message for message in messages(err) if f"{kind}[{code}]" in message)
    match = re.fullmatch(rf"jaxgmm: {kind}\[{code}\]: (.+?) help: (.+)", said)
    assert own in match[1]
    assert exit_code == {"E903": 130, "E904": 4}.get(code, CATALOGUE[code].group.exit_code)
    assert ("Traceback" in err) == (code == "E901")
    assert code == "E901" or fits_a_terminal(err)


@pytest.mark.parametrize("code", [code for code in SHELL if code.startswith("E")])
def test_errors_as_json(files, monkeypatch, capsys, code):
    monkeypatch.chdir(files)
    line, own = SHELL[code]
    exit_code = main([*line.split(), "--json"])
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert (found["code"], found["exit_code"]) == (code, exit_code)
    assert own in found["error"]
    assert "\n" not in found["error"]
    assert f"jaxgmm: error[{code}]: {found['error']} help: {found['help']}" in messages(err)


@pytest.mark.parametrize("code", [code for code in CALLS if code.startswith("E")])
def test_calls(files, monkeypatch, code):
    monkeypatch.chdir(files)
    if code == "E147":
        monkeypatch.setitem(sys.modules, "sklearn.mixture", None)
    call, own = CALLS[code]
    with pytest.raises((ValueError, TypeError)) as caught:
        call()
    error = caught.value
    assert error.code == code
    assert own in str(error)
    assert error.help in str(error) or error.help.capitalize()[:1] + error.help[1:] in str(error)
    assert str(error).endswith(f" [{code}]")
    if isinstance(error, JaxgmmError):
        assert isinstance(error, getattr(jaxgmm, CATALOGUE[code].group.exception))
    else:  # where scikit-learn has a class of its own, or asks for a TypeError
        assert type(error).__module__.startswith(("sklearn", "builtins", "jaxgmm.estimators"))
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), copy.code, copy.help) == (type(error), str(error), error.code, error.help)


@pytest.mark.parametrize("code", [code for code in CALLS if code.startswith("W")])
def test_warnings_of_calls(files, monkeypatch, code):
    monkeypatch.chdir(files)
    call, own = CALLS[code]
    with pytest.warns(UserWarning, match=rf"{own}.* \[{code}\]$") as caught:
        call()
    assert caught[0].message.code == code


def test_an_estimator_that_does_not_converge_warns_with_a_code():
    with pytest.warns(Warning, match="did not converge") as caught:
        GaussianMixture(K, max_iter=1, tol=0, random_state=0).fit(X)
    (warning,) = caught
    assert warning.message.code == "W301"
    assert warning.message.help.startswith("try different init parameters")
    assert warning.category.__name__ == ConvergenceWarning.__name__


@pytest.mark.parametrize(
    ("code", "call"),
    [
        ("E108", lambda: GaussianMixture(K, random_state=-1).fit(X)),
        ("E108", lambda: GaussianMixture(0).fit(X)),
        ("E108", lambda: jaxgmm.sample(io.load("good.npz").params, 0, 10**20)),
        ("E108", lambda: read_table("points.npy", columns=1.5)),
        ("E148", lambda: fit_many(3, K, key=0)),
        ("E201", lambda: GaussianMixture(K).fit([*X.astype(str).tolist()[:-1], ["1", "2", "three"]])),
        ("E201", lambda: GaussianMixture(K, means_init="a").fit(X)),
        ("E206", lambda: GaussianMixture(K).fit([[1.0], [1.0, 2.0]])),
        ("E220", lambda: fit_many([X], K, key=0, sample_weight=3)),
    ],
)
def test_what_numpy_would_say_otherwise(files, monkeypatch, code, call):
    monkeypatch.chdir(files)
    with pytest.raises(ValueError, match=rf"\[{code}\]$"):
        call()


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("fit " + "x" * 300 + ".npy -n 3", "E403"),
        ("summary " + "x" * 300, "E403"),
        ("fit points.npy -n " + "9" * 5000, "E108"),
        ("sample good.npz -n 99999999999", "E108"),
        ("sweep points.npy --candidates 1-300000000", "E108"),
        ("generate blobs --std 1e308", "E108"),
        ("generate cube --n-per-corner 99999999999999999999999999", "E108"),
        ("run nul.toml", "E108"),
    ],
    ids=lambda value: value[:20],
)
def test_extremes_are_refused_not_a_bug(files, monkeypatch, capsys, line, code):
    monkeypatch.chdir(files)
    Path("nul.toml").write_text('[data]\npath = "a\\u0000b"\n[fit]\nn_components = 3\n')
    assert main(line.split()) == CATALOGUE[code].group.exit_code
    _, err = capsys.readouterr()
    assert f"error[{code}]" in err
    assert "Traceback" not in err


def test_more_rows_than_memory_are_refused_before_they_are_drawn(monkeypatch):
    monkeypatch.setattr(functional, "_compiled_sample", lambda *_, **__: pytest.fail("XLA would end the process"))
    wide = make_params([1.0], np.zeros((1, 2000)), np.ones((1, 2000)), "diag")
    with pytest.raises(MemoryError):
        jaxgmm.sample(wide, 0, 2**31 - 1)


def test_a_fit_error_keeps_its_stop_code_when_copied():
    error = FitError("E301", "found", "help", Status.SINGULAR)
    copy = pickle.loads(pickle.dumps(error))
    assert (copy.status, str(copy)) == (Status.SINGULAR, "found; help [E301]")


@pytest.mark.parametrize("kind", [UsageError, DataError])
def test_an_unknown_code_cannot_be_raised(kind):
    with pytest.raises(KeyError):
        kind("E999", "found", "help")
    with pytest.raises(KeyError):
        Console().warn("W999", "found", "help")


# --------------------------------------------------------------------------------------------- the catalogue


def test_the_table_is_read_to_the_last_line():
    heads = [line for line in _TABLE.splitlines() if line and not line.startswith("    ")]
    assert heads == [f"{entry.code} {entry.title}" for entry in ENTRIES]
    assert len(CATALOGUE) == len(ENTRIES)
    assert list(CATALOGUE) == sorted(CATALOGUE)
    for entry in ENTRIES:
        assert re.fullmatch(r"[EW]\d{3}", entry.code)
        assert entry.group in GROUPS
        assert not entry.title.endswith(".")
        assert entry.text.endswith(".")


def constructions() -> list[tuple[str, str, str]]:
    """(class or function, code, place) of every error and warning that the package makes with a code of its own."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                name = ast.unparse(node.func)
                for argument in node.args[:2]:
                    if isinstance(argument, ast.Constant) and re.fullmatch(r"[EW]\d{3}", str(argument.value)):
                        found.append((name, argument.value, f"{path.name}:{node.lineno}"))
    return found


def test_the_class_of_an_error_is_that_of_its_group():
    for name, code, place in constructions():
        if name in ("UsageError", "DataError", "FitError"):
            assert name == CATALOGUE[code].group.exception, place


def test_every_code_is_raised_somewhere():
    named = {code for _, code, _ in constructions()}
    named |= set(re.findall(r'"([EW]\d{3})" if ', "".join(p.read_text("utf-8") for p in PACKAGE.rglob("*.py"))))
    named |= set(re.findall(r' else "([EW]\d{3})"', "".join(p.read_text("utf-8") for p in PACKAGE.rglob("*.py"))))
    assert named == set(CATALOGUE)


def test_nothing_is_raised_without_a_code():
    """A plain built-in exception is for what never leaves the package, or for what Python itself would raise."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
                name = ast.unparse(node.exc.func)
                assert name not in ("ValueError", "Exception", "RuntimeError"), f"{path.name}:{node.lineno}"


def test_the_page_is_made_from_the_table():
    page = (PACKAGE.parent / "ERRORS.md").read_text(encoding="utf-8")
    assert page == errors.page(), "write it anew: jaxgmm errors --long > ERRORS.md"


def test_the_command_explains(capsys):
    assert main(["errors"]) == 0
    table = capsys.readouterr().out.splitlines()
    assert table[2:] == [f"| {entry.code} | {entry.title} |" for entry in ENTRIES]
    assert main(["errors", "--long"]) == 0
    assert capsys.readouterr().out == errors.page()
    for word in ("E203", "e203"):
        assert main(["errors", word]) == 0
        out = capsys.readouterr().out
        assert out.startswith("E203: NaN or infinity\n\n")
        assert " ".join(out.split()).endswith(
            f"{CATALOGUE['E203'].text} In Python `jaxgmm.DataError`; the shell exits with 3."
        )
    assert main(["errors", "203"]) == 2
    assert "there is no code '203'\n  help: did you mean 'E203'?" in capsys.readouterr().err
    assert main(["errors", "W301", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["text"] == CATALOGUE["W301"].text


# -------------------------------------------------------------------------------------------------- --strict


def test_the_fitting_commands_take_strict():
    assert {name for name, command in COMMANDS.items() if command.option("strict")} == {"fit", "sweep", "fit-many"}


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (SHELL["W301"][0], "W301"),
        (SHELL["W302"][0], "W302"),
        (SHELL["W303"][0], "W303"),
        (SHELL["W304"][0], "W301"),
        (SHELL["W306"][0], "W306"),
        ("fit-many pairs.csv --group g -n 2 --n-restarts 1 --max-iter 0 --seed 0 -o a.csv --force", "W301"),
    ],
    ids=str,
)
def test_strict_exits_with_4_after_all_is_written(files, monkeypatch, capsys, line, code):
    monkeypatch.chdir(files)
    for name in ("a.npz", "a.csv"):
        Path(name).unlink(missing_ok=True)
    assert main(line.split()) == 0
    loose, _ = capsys.readouterr()
    written = [name for name in ("a.npz", "a.csv") if Path(name).exists()]
    for name in written:
        Path(name).unlink()
    assert main([*line.split(), "--strict"]) == 4
    strict, err = capsys.readouterr()
    assert strict == loose
    assert [name for name in ("a.npz", "a.csv") if Path(name).exists()] == written
    *_, last = messages(err)
    (reason,) = re.findall(rf"warning\[{code}\]: (.*) help: ", "\n".join(messages(err)))
    assert last.startswith("jaxgmm: error[E904]: ")
    assert reason in last
    assert main([*line.split(), "--strict", "--json"]) == 4
    found = json.loads(capsys.readouterr().out)
    assert (found["code"], found["exit_code"]) == ("E904", 4)
    assert "command" in found  # all that the command says without --strict is there too


def test_strict_sees_a_lost_component_of_any_group(files, monkeypatch, capsys):
    monkeypatch.chdir(files)
    line = "fit-many pairs.csv --group g -n 2 --n-restarts 1 --tol 1 --seed 0 --strict -o a.csv --force"
    assert main(line.split()) == 0
    summary = ManyResult.empty_components

    def without_rows(result):
        """As if the last component of the second group had no rows."""
        weights = np.array(result.outcome.params.weights)
        weights[1, ..., 1] = 0
        params = replace(result.outcome.params, weights=weights)
        return summary.fget(dataclasses.replace(result, outcome=replace(result.outcome, params=params)))

    monkeypatch.setattr(ManyResult, "empty_components", property(without_rows))
    assert main(line.split()) == 4
    said = messages(capsys.readouterr().err)
    assert any("warning[W303]" in text and "in 1 of 2 groups, first in 1 " in text for text in said)


def test_strict_says_nothing_of_a_sound_fit(files, monkeypatch, capsys):
    monkeypatch.chdir(files)
    line = "fit points.npy --init-from good.npz --tol 1e-2 --strict --json -o a.npz --force"
    assert main(line.split()) == 0
    assert "exit_code" not in json.loads(capsys.readouterr().out)


def test_strict_stands_in_a_configuration_too(files, monkeypatch, capsys):
    monkeypatch.chdir(files)
    text = '[data]\npath = "points.npy"\n[fit]\ninit_from = "good.npz"\nmax_iter = 1\nstrict = true\noutput = "b.npz"\n'
    Path("strict.toml").write_text(text)
    assert main(["run", "strict.toml", "--force"]) == 4
    assert Path("b.npz").exists()
    capsys.readouterr()
