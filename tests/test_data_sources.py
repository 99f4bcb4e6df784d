"""Tables from .npy, .npz and .mat files and standard input: what is read is what was written, damage is refused."""

import doctest
import io
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import jaxgmm.data.scaling
import jaxgmm.data.sources
import jaxgmm.data.synthetic
from jaxgmm._status import DataError
from jaxgmm.data import Table, read_table

DATA = Path(__file__).parent.parent / "configs" / "data"
X = np.random.default_rng(0).normal(size=(7, 3)) * [1e-8, 1.0, 1e12]


def npy_bytes(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


# --- .npy ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["<f4", "<f8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_native_floats_stay_a_memory_map(write, dtype, order):
    path = write(npy_bytes(np.asarray(X, dtype=dtype, order=order)), "x.npy")
    table = read_table(path)
    assert isinstance(table.x, np.memmap)
    assert table.x.dtype == np.dtype(dtype)
    assert table.x.flags[f"{order}_CONTIGUOUS"]
    assert not table.x.flags.writeable
    assert np.array_equal(table.x, X.astype(dtype))
    assert table.columns == ("x0", "x1", "x2")
    assert (table.sample_weight, table.labels, table.source) == (None, None, str(path))


@pytest.mark.parametrize(
    ("dtype", "becomes"),
    [(">f4", "f4"), (">f8", "f8"), ("f2", "f4"), ("g", "f8"), (">i4", "f8"), ("u1", "f8"), ("?", "f8"), (">u8", "f8")],
)
def test_other_dtypes_become_native_floats(write, dtype, becomes):
    array = np.arange(6).reshape(3, 2).astype(dtype)
    x = read_table(write(npy_bytes(array), "x.npy")).x
    assert x.dtype == np.dtype(becomes)
    assert x.dtype.isnative
    assert np.array_equal(x, array)


def test_one_dimension_becomes_one_column(write):
    x = read_table(write(npy_bytes(X[:, 1].copy()), "x.npy")).x
    assert x.shape == (7, 1)
    assert np.array_equal(x[:, 0], X[:, 1])


def test_npy_cut_anywhere_is_called_incomplete(write):
    whole = npy_bytes(X)
    for n in range(1, len(whole)):
        path = write(whole[:n], "cut.npy")
        with pytest.raises(DataError, match=r"cut\.npy is not a complete \.npy file"):
            read_table(path)
    assert np.array_equal(read_table(write(whole, "cut.npy")).x, X)


def test_npy_with_more_behind_the_array_is_refused(write):
    with pytest.raises(DataError, match="296 bytes after its array"):
        read_table(write(npy_bytes(X) * 2, "x.npy"))


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.array([[1, None]], dtype=object), "Python objects"),
        (np.ones((2, 2), dtype=complex), "complex128"),
        (np.array([["a", "b"]]), "not real numbers"),
        (np.zeros(3, dtype=[("a", "f8"), ("b", "f8")]), "not real numbers"),
        (np.zeros((2, 2), dtype="M8[s]"), "datetime64"),
        (np.zeros((2, 2, 2)), r"shape \(2, 2, 2\)"),
        (np.array(1.0), r"shape \(\)"),
        (np.zeros((0, 3)), "empty"),
        (np.zeros((3, 0)), "empty"),
    ],
)
def test_npy_that_is_no_table_of_numbers(write, pipe, array, words):
    for source in (write(npy_bytes(array), "x.npy"), pipe(npy_bytes(array))):
        with pytest.raises(DataError, match=words):
            read_table(source)


def test_npy_of_another_kind(write):
    with pytest.raises(DataError, match="a pickle, which is never opened"):
        read_table(write(b"\x80\x04K\x01.", "x.npy"))
    with pytest.raises(DataError, match=r"not a \.npy file"):
        read_table(write("1,2\n", "x.npy"))
    assert read_table(write(npy_bytes(X), "array-without-suffix")).x.shape == (7, 3)


def test_npy_columns_weights_and_labels(write):
    array = np.column_stack([X, [1, 0, 2, 1, 1, 1, 1], [3, 3, 5, 5, 3, 4, 4]])
    table = read_table(write(npy_bytes(array), "x.npy"), columns="0-4", drop=1, weight_column=3, label_column="4")
    assert np.array_equal(table.x, X[:, [0, 2]])
    assert table.columns == ("x0", "x2")
    assert table.sample_weight is not None
    assert table.sample_weight.tolist() == [1, 0, 2, 1, 1, 1, 1]
    assert table.labels is not None
    assert table.labels.tolist() == [3, 3, 5, 5, 3, 4, 4]
    array[2, 4] = np.nan
    with pytest.raises(DataError, match="row 2 counted from 0, has no label"):
        read_table(write(npy_bytes(array), "x.npy"), label_column=4)


# --- .npz and .mat ---------------------------------------------------------------------------------------------


def test_npz_chooses_its_array(tmp_path):
    one, preferred, several = tmp_path / "one.npz", tmp_path / "preferred.npz", tmp_path / "several.npz"
    np.savez(one, anything=X)
    np.savez_compressed(preferred, y=np.arange(7), X=X)
    np.savez(several, first=X, second=-X)
    assert np.array_equal(read_table(one).x, X)
    assert np.array_equal(read_table(preferred).x, X)
    assert np.array_equal(read_table(f"{preferred}:y").x[:, 0], np.arange(7))
    assert np.array_equal(read_table(f"{several}:second").x, -X)
    with pytest.raises(DataError, match=r"several arrays: first, second; name one: .*several.npz:first"):
        read_table(several)
    with pytest.raises(DataError, match=r"no array 'secnd'; did you mean 'second'\? It holds: first, second"):
        read_table(f"{several}:secnd")


def test_npz_damage(tmp_path, write):
    np.savez(tmp_path / "x.npz", x=X)
    whole = (tmp_path / "x.npz").read_bytes()
    for n in range(4, len(whole), 7):
        with pytest.raises(DataError, match="damaged or incomplete"):
            read_table(write(whole[:n], "cut.npz"))
    at = whole.index(npy_bytes(X)[-8:])
    with pytest.raises(DataError, match="damaged or incomplete"):
        read_table(write(whole[:at] + b"\0" + whole[at + 1 :], "flipped.npz"))
    with pytest.raises(DataError, match=r"not a \.npz file"):
        read_table(write(npy_bytes(X), "renamed.npz"))
    np.savez(tmp_path / "objects.npz", x=np.array([{}]))
    with pytest.raises(DataError, match=r"objects\.npz:x holds Python objects"):
        read_table(tmp_path / "objects.npz")


def test_sparse_npz_is_not_taken_for_its_nonzeros(tmp_path):
    sparse = pytest.importorskip("scipy.sparse")
    sparse.save_npz(tmp_path / "s.npz", sparse.csr_matrix(np.eye(3)))
    with pytest.raises(DataError, match="sparse matrix"):
        read_table(tmp_path / "s.npz")


@pytest.mark.parametrize("do_compression", [False, True])
def test_mat(tmp_path, write, do_compression):
    scipy_io = pytest.importorskip("scipy.io")
    path = tmp_path / "digits.mat"
    scipy_io.savemat(path, {"samples": X, "n": 3, "note": "text"}, do_compression=do_compression)
    assert np.array_equal(read_table(path).x, X)
    whole = path.read_bytes()
    for n in range(1, 128 + 56, 3):
        with pytest.raises(DataError, match=r"not a complete MATLAB file|holds no numeric matrix"):
            read_table(write(whole[:n], "cut.mat"))
    scipy_io.savemat(path, {"a": X, "b": np.arange(6).reshape(3, 2)})
    assert read_table(f"{path}:b").x.tolist() == [[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]]
    with pytest.raises(DataError, match=r"several arrays: a, b"):
        read_table(path)
    scipy_io.savemat(path, {"note": "text"})
    with pytest.raises(DataError, match="no numeric matrix"):
        read_table(path)


def test_mat_without_scipy_names_the_cure(write, monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.io", None)
    with pytest.raises(DataError, match=r"pip install 'jaxgmm\[data\]'"):
        read_table(write(b"MATLAB 5.0", "x.mat"))


def test_paths_that_lead_nowhere(tmp_path, write):
    write("1\n", "iris.csv")
    with pytest.raises(DataError, match=r"irs\.csv does not exist; did you mean 'iris\.csv'"):
        read_table(tmp_path / "irs.csv")
    with pytest.raises(DataError, match="nor does its directory"):
        read_table(tmp_path / "no" / "iris.csv")
    with pytest.raises(DataError, match="is a directory"):
        read_table(tmp_path)


# --- standard input and the module itself ------------------------------------------------------------------------


def test_stdin_takes_npy_bytes(pipe):
    table = read_table(pipe(npy_bytes(X.astype(">f4"))))
    assert table.x.dtype == np.float32
    assert table.x.dtype.isnative
    assert np.array_equal(table.x, X.astype(np.float32))
    assert table.source == "-"
    whole = npy_bytes(X)
    for n in (1, 5, 6, 20, len(whole) - 1):
        with pytest.raises(DataError, match=r"standard input is not a complete \.npy file"):
            read_table(pipe(whole[:n]))
    with pytest.raises(DataError, match="after its array"):
        read_table(pipe(whole + b"x"))


def test_stdin_without_bytes_underneath(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("1 2\n3 4\n"))
    assert read_table("-").x.tolist() == [[1.0, 2.0], [3.0, 4.0]]


def test_a_large_text_file_takes_the_fast_path(write):
    # About 0.1 s in bulk; a parser that builds every cell as a Python object takes more than ten times that.
    line = ",".join(["0.123456"] * 8) + "\n"
    path = write(line * 100_000)
    start = time.process_time()
    table = read_table(path)
    assert time.process_time() - start < 2.0
    assert table.x.shape == (100_000, 8)


def test_reading_needs_neither_jax_nor_scipy():
    # The package's own __init__ is not run: only what these modules import themselves counts.
    code = (
        "import sys, types, pathlib; package = types.ModuleType('jaxgmm')\n"
        f"package.__path__ = [{str(Path(jaxgmm.data.sources.__file__).parent.parent)!r}]\n"
        "sys.modules['jaxgmm'] = package\n"
        "import jaxgmm.data\n"
        "print(sorted({'jax', 'scipy', 'pandas', 'sklearn'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("module", [jaxgmm.data.sources, jaxgmm.data.scaling, jaxgmm.data.synthetic])
def test_docstring_examples(module):
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0


def test_table_is_frozen():
    with pytest.raises(AttributeError):
        Table(X, ("a", "b", "c")).x = X  # type: ignore[misc]
