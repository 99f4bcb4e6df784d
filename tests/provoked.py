"""For every code of the catalogue the smallest command line or call that provokes it, and the files they need."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

import jaxgmm
from jaxgmm import (
    GaussianMixture,
    Model,
    _fork,
    fit,
    fit_many,
    io,
    make_params,
    save,
    sweep,
)
from jaxgmm._interrupt import Wish
from jaxgmm._status import UsageError, marked
from jaxgmm.cli import app, fitting, info, pictures, surroundings
from jaxgmm.cli.output import Console
from jaxgmm.data import make_mixture, read_table, sources
from jaxgmm.data.batches import Indexed
from jaxgmm.scale import checkpoint, processes, stream
from tests.helpers import D, K, N, rewrite

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


class Broken:
    """An optimiser that cannot even begin."""

    def init(self, place: object) -> object:
        return 1 / 0

    def update(self, *_: object) -> None: ...


def make_files() -> None:
    """A file of every bad kind, some models, and rows to fit, in the present directory."""
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
    Path("kept").mkdir()
    Path("kept", "checkpoint-00000001.npz").write_bytes(b"PK")
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
    "E126": (FIT + "--seed 0 --checkpoint kept", "kept"),
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
    "E434": (FIT + "--seed 0 --checkpoint kept --resume auto", "kept"),
    "E157": ("plot good.npz --kind ellipses --features 0", "2 of the 3 columns"),
    "E158": ("plot good.npz --kind history", "history"),
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
    "E127": (
        FIT + "--seed 0 --distributed auto",
        "coordinator_address",
        lambda patch: no_cluster(patch, ValueError("coordinator_address should be defined")),
    ),
    "E305": ("doctor", "off by 1", lambda patch: patch.setattr(info, "_known_answer", lambda dtype: 1.0)),
    "E409": ("fit old.mat -n 3", "old.mat", lambda patch: old_without_scipy(patch)),
    "E440": ("sample good.npz -n 2 --seed 0 -o a.csv", "a.csv", lambda patch: full_disk(patch)),
    "E901": ("doctor", "ZeroDivisionError: by design", lambda patch: command(patch, ZeroDivisionError("by design"))),
    "E902": ("doctor", "memory", lambda patch: command(patch, MemoryError())),
    "E903": ("doctor", "interrupted", lambda patch: command(patch, KeyboardInterrupt())),
    "E905": (
        FIT + "--seed 0 --distributed auto",
        "another process",
        lambda patch: no_cluster(patch, RuntimeError("deadline exceeded")),
    ),
    "E906": ("doctor", "'cuda'", lambda patch: no_device(patch)),
    "W101": ("errors", "points.npy", lambda patch: cache_in_a_file(patch)),
    "W310": (FIT + "--seed 0 --checkpoint room --checkpoint-every 0", "No space", lambda patch: full_room(patch)),
    "W311": ("doctor", "NVIDIA", lambda patch: patch.setattr(surroundings, "has_gpu", lambda: True)),
    "W312": (
        FIT + "--init-from good.npz --max-iter 2 --compare-with dbscan -o b.npz",
        "scikit-learn",
        lambda patch: patch.setitem(sys.modules, "sklearn", None),
    ),
    "W313": ("demo", "no pictures", lambda patch: patch.setattr(pictures, "check", lambda: no_display())),
    "W901": ("errors", "by design", lambda patch: command(patch, None)),
}


def old_without_scipy(patch):
    Path("old.mat").write_bytes(b"MATLAB 5.0 MAT-file")
    patch.setitem(sys.modules, "scipy.io", None)


def full_disk(patch):
    def replace(*_, **__):
        raise OSError(28, "No space left on device")

    # The one where there is a file already, the other where there is none.
    patch.setattr("os.replace", replace)
    patch.setattr("os.link", replace)


def cache_in_a_file(patch):
    for name in ("JAX_COMPILATION_CACHE_DIR", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"):
        patch.setenv(name, "")  # so that it is put back afterwards
        patch.delenv(name)
    patch.setenv("JAXGMM_CACHE_DIR", "points.npy")
    patch.delitem(sys.modules, "jax")


def no_cluster(patch, error):
    """A run of several processes of which this one finds no other."""

    def initialize(**_):
        raise error

    patch.setattr(processes.jax.distributed, "initialize", initialize)


def no_device(patch):
    def devices():
        raise RuntimeError("Unable to initialize backend 'cuda'")

    patch.setattr(processes.jax, "devices", devices)


def full_room(patch):
    def replacing(path):
        raise jaxgmm.DataError("E440", f"{path} cannot be written (No space left on device)", "free some space")

    patch.setattr(checkpoint, "replacing", replacing)


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
    "E128": (lambda: unknown_length(), "x"),
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
    "E153": (lambda: jaxgmm.fit_gradient(X, 2, key=0, penalty=lambda params: params.means), f"(2, {D})"),
    "E154": (lambda: jaxgmm.fit_gradient(X, 2, key=0, optimizer=Broken()), "division by zero"),
    "E155": (lambda: fit(Indexed(X, weight=np.ones(N)), K, key=0, sample_weight=np.ones(N)), "weights already"),
    "E156": (lambda: fit(X, K, key=0, n_restarts=50, max_iter=10**6, history="params"), "1000001 iterations"),
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
    "E250": (lambda: fit((X for _ in range(2)), K, key=0), "generator"),
    "E251": (lambda: fit([X, X[:, :2]], K, key=0), "2 columns"),
    "E252": (lambda: fit(Shrinking(), K, key=0, batch_size=N), "in all at first"),
    "E301": (lambda: fit(np.ones((N, D)), K, key=0, reg_covar=0.0), "3 components"),
    "E302": (lambda: fit(X * 1e200, K, key=0, max_iter=1), "float64"),
    "E303": (lambda: GaussianMixture(K, reg_covar=0, random_state=0).fit(np.ones((N, D))), "ill-defined"),
    "W201": (lambda: fitted_on("a", "b", "c").predict(X), "feature names"),
    "E152": (lambda: orphaned(), str(os.getpid())),
    "E413": (lambda: bomb(), "bomb.npz"),
    "E435": (lambda: other_run(), "tol was 1e-08 and is 0.1"),
    "E307": (lambda: fit(np.repeat(X[:2], 9, axis=0), 2, key=0, degenerate="raise"), "9 rows, 1 of them distinct"),
    "W307": (lambda: diagnosed(), "component 2"),
    "W309": (lambda: stopped(), "good.npz"),
    "W308": (lambda: GaussianMixture(reg_covar=1.0, random_state=0).fit(X), "reg_covar=1"),
}


def no_display():
    """What looks for matplotlib and does not find it."""
    raise UsageError("E147", "plots need matplotlib", "pip install 'jaxgmm[plot]'")


class Shrinking:
    """Rows of which there are fewer each time."""

    length = N

    def __iter__(self) -> Iterator[np.ndarray]:
        self.length -= 1
        yield X[: self.length]


def unknown_length():
    """Rows that two processes would share if they knew how many there are."""
    with mock.patch.object(stream, "group", return_value=processes.Group(2, 0)):
        fit([X], K, key=0)


def other_run():
    """A fit that is to go on from the checkpoint of one with other options."""
    for tol in (1e-8, 0.1):
        fit(X, K, key=0, tol=tol, max_iter=1, checkpoint="other", resume="auto")


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
