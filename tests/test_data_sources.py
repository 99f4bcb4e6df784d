"""Tables from files: what is read is what was written, and what is damaged is refused with its place."""

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
from jaxgmm._status import DataError, UsageError
from jaxgmm.data import Table, read_table

DATA = Path(__file__).parent.parent / "configs" / "data"
X = np.random.default_rng(0).normal(size=(7, 3)) * [1e-8, 1.0, 1e12]


@pytest.fixture
def write(tmp_path):
    def _write(content: str | bytes, name: str = "data.csv") -> Path:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return _write


@pytest.fixture
def pipe(monkeypatch):
    def _pipe(content: str | bytes) -> str:
        data = content if isinstance(content, bytes) else content.encode()
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
        return "-"

    return _pipe


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


# --- text: what is read ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "name"),
    [
        ("a,b\n1,2\n3.5,-4e2\n", "x.csv"),
        ("a,b\n1,2\n3.5,-4e2", "x.csv"),
        ("\ufeffa,b\r\n1,2\r\n3.5,-4e2\r\n", "x.csv"),
        ("a,b\r1,2\r3.5,-4e2\r", "x.csv"),
        ('"a","b"\n"1","2"\n"3.5","-4e2"\n', "x.csv"),
        (" a , b \n 1 , 2 \n\n3.5, -4e2\n\n", "x.csv"),
        ("a;b\n1;2\n3.5;-4e2\n", "x.csv"),
        ("a\tb\n1\t2\n3.5\t-4e2\n", "x.tsv"),
        ("a b\n  1   2  \n3.5\t-4e2\n", "x.txt"),
        ("# written by hand\n# a b\n1 2\n3.5 -4e2\n", "x.dat"),
        ("#a,b\n1,2\n3.5,-4e2\n", "x"),
    ],
)
@pytest.mark.parametrize("header", [None, True])
def test_text_layouts(write, pipe, content, name, header):
    for source in (write(content, name), pipe(content)):
        table = read_table(source, header=header)
        assert table.columns == ("a", "b")
        assert table.x.dtype == np.float64
        assert table.x.tolist() == [[1.0, 2.0], [3.5, -400.0]]


@pytest.mark.parametrize("content", ["1,2\n3,4\n", "1 2\n3 4\n", "# one remark here\n1;2\n3;4\n"])
def test_text_without_header(write, content):
    for header in (None, False):
        table = read_table(write(content), header=header)
        assert table.columns == ("x0", "x1")
        assert table.x.tolist() == [[1.0, 2.0], [3.0, 4.0]]


def test_numbers_come_back_exactly(write):
    values = np.concatenate([np.random.default_rng(1).normal(size=500) * 10.0 ** np.arange(-250, 250), [5e-324, -0.0]])
    text = "\n".join(f"{value!r},0" for value in values.tolist())
    assert np.array_equal(read_table(write(text)).x[:, 0], values)


def test_numpy_savetxt_comes_back(tmp_path):
    np.savetxt(tmp_path / "x.txt", X, header="length width height", fmt="%.17g")
    table = read_table(tmp_path / "x.txt")
    assert table.columns == ("length", "width", "height")
    assert np.array_equal(table.x, X)


def test_nan_and_infinity_are_passed_on(write):
    x = read_table(write("a,b\nnan,inf\n-inf,1\n")).x
    np.testing.assert_array_equal(x, [[np.nan, np.inf], [-np.inf, 1.0]])


def test_one_column(write):
    assert read_table(write("sepal length\n1\n2\n")).x.tolist() == [[1.0], [2.0]]
    with pytest.raises(DataError, match=r"line 3, column 0 \('a'\) is empty"):
        read_table(write("a\n1\n\n2\n"))


def test_header_of_numbers_and_data_of_words(write):
    path = write("country,1990,1991\nFR,1,2\nIT,3,4\n")
    with pytest.raises(DataError, match=r"line 1 could be a header or a row: it mixes numbers and 'country'"):
        read_table(path, drop=0)
    assert read_table(path, header=True, drop=0).columns == ("1990", "1991")
    # A word of the first line that comes again below is data, as in the original file of the irises.
    table = read_table(write("5.1,3.5,setosa\n4.9,3.0,setosa\n6,3,virginica\n"), label_column=2)
    assert table.x.shape == (3, 2)
    assert table.label_names == ("setosa", "virginica")


def test_damaged_first_number_is_not_a_name(write):
    for content in ("1.5x\n2\n3\n", "1.5x,2\n3,4\n"):
        with pytest.raises(DataError, match=r"mixes numbers and '1\.5x'"):
            read_table(write(content))


def test_columns_by_name_number_and_range(write):
    path = write("a,b,7,d\n1,2,3,4\n5,6,7,8\n")
    assert read_table(path, header=True, columns=["d", 0]).x.tolist() == [[4.0, 1.0], [8.0, 5.0]]
    assert read_table(path, header=True, columns="1-2").columns == ("b", "7")
    assert read_table(path, header=True, columns="7").x.tolist() == [[3.0], [7.0]]
    assert read_table(path, header=True, drop=["a", "3"]).columns == ("b", "7")
    assert read_table(path, header=True, drop=np.int64(0)).columns == ("b", "7", "d")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"columns": ["lenght"]}, r"no column 'lenght'; did you mean 'length'\? The columns are: length, width"),
        ({"drop": "klass"}, r"no column 'klass'; did you mean 'class'\?"),
        ({"columns": [3]}, "numbered 0 to 2"),
        ({"columns": [-1]}, "numbered 0 to 2"),
        ({"columns": "1-3"}, "numbered 0 to 2"),
        ({"columns": "2-1"}, "no column '2-1'"),
        ({"columns": ["length", 0]}, "'length' is chosen twice"),
        ({"drop": "0-2"}, "no column is left"),
        ({"weight_column": "0-1"}, "is 2 columns"),
        ({"weight_column": "width", "label_column": 1}, "both the weight and the label"),
    ],
)
def test_columns_that_cannot_be_used(write, arguments, words):
    with pytest.raises(UsageError, match=words):
        read_table(write("length,width,class\n1,2,3\n"), **arguments)


def test_a_name_that_two_columns_have(write):
    path = write("a,a\n1,2\n")
    with pytest.raises(UsageError, match=r"\[0, 1\] are all called 'a'"):
        read_table(path, columns="a")
    assert read_table(path, columns=1).x.tolist() == [[2.0]]


def test_weights_and_labels_leave_x(write):
    content = 'w,a,kind,b\n0.5,1,"red, dark",2\n2,3,blue,4\n1,5,"red, dark",6\n'
    table = read_table(write(content), weight_column="w", label_column="kind")
    assert table.columns == ("a", "b")
    assert table.x.tolist() == [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]
    assert table.x.flags.c_contiguous
    assert table.sample_weight is not None
    assert table.sample_weight.tolist() == [0.5, 2.0, 1.0]
    assert table.labels is not None
    assert table.labels.tolist() == [0, 1, 0]
    assert table.label_names == ("red, dark", "blue")


def test_integer_labels_are_kept(write):
    table = read_table(write("a,k\n1,3\n2,1\n"), label_column="k")
    assert table.labels is not None
    assert table.labels.dtype == np.int64
    assert table.labels.tolist() == [3, 1]
    assert table.label_names == ()


@pytest.mark.parametrize(
    ("name", "shape", "counts"),
    [("iris", (150, 4), [50, 50, 50]), ("wine", (178, 13), [59, 71, 48]), ("thyroid", (215, 5), [150, 35, 30])],
)
def test_shipped_data(name, shape, counts):
    table = read_table(DATA / f"{name}.csv", label_column="class")
    assert table.x.shape == shape
    assert table.labels is not None
    assert sorted(np.unique(table.labels, return_counts=True)[1]) == sorted(counts)
    assert np.array_equal(table.x, read_table(DATA / f"{name}.csv", drop="class").x)


# --- text: what is refused -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("a,b\n1,2\n3\n", r"line 3, column 1: 'b' is missing; fields here: 1, on line 2: 2; "),
        ("a,b\n1,2\n3", r"line 3, column 1: 'b' is missing.*was the file cut short\?"),
        ("a,b\n1,2\n3,4,5\n", r"line 3, column 2: '5' is too many"),
        ("a,b\n1,2,3\n4,5,6\n", r"line 2: 3 fields where the header on line 1 names 2.*row\.names = FALSE"),
        ("a,b\n\n1,2\n3,\n", r"line 4, column 1 \('b'\) is empty; fill in"),
        ("a,b\n1,2\nNA,3\n", r"line 3, column 0 \('a'\) holds 'NA', a missing value"),
        ("NA,2\n1,2\n", r"line 1, column 0 \('x0'\) holds 'NA'"),
        ("a,b\n1,2\n3,4..5\n", r"line 3, column 1 \('b'\): '4\.\.5' is not a number; correct"),
        ("a,b\n1,2\n3,1_0\n", r"line 3, column 1 \('b'\): '1_0' is not a number"),
        ("a,b\n1,2\n3,٤\n", r"line 3, column 1 \('b'\): '٤' is not a number"),
        ("a,b\n1,2\n3,1e\n", r"line 3, column 1 \('b'\): '1e' is not a number"),
        ("a,b\n1,2\n#3,4\n", r"line 3, column 0 \('a'\): '#3' is not a number"),
        ("a;b\n1,5;2\n", r"line 2, column 0 \('a'\): '1,5' is not a number; write a decimal point"),
        ('a,b\n1,2\n3,"4\n', r"line 3, column 1 or after: a quote is not closed"),
        ('a,b\n1,2\n3,"4', r"line 3, column 1 or after: a quote is not closed"),
        ('a,b\n1,2\n"3,4\n5,6\n', r"line 3, column 0 or after: a quote is not closed"),
        ("a,b\n1,x\n2,y\n", r"line 2, column 1 \('b'\) holds text: 'x'. .*--drop b"),
        ("a,b\n", "has a header and no rows"),
        ("", "is empty"),
        ("\n \n# nothing\n", "is empty"),
        ("a,b\n1,\0\n", "is binary"),
        ("a,b\n1,2\n".encode("utf-16"), "is not UTF-8 text"),
        (b"a,b\n" + b"1,2\n" * 5000 + b"1,\xe9\n", "is not UTF-8 text .byte 0xe9"),
    ],
)
def test_injuries_are_named_with_their_place(write, pipe, content, words):
    for source, name in ((write(content), r"data\.csv"), (pipe(content), "standard input")):
        with pytest.raises(DataError, match=rf"{name}.*{words}"):
            read_table(source)


@pytest.mark.parametrize("good", [1, 300])
@pytest.mark.parametrize("rows", ["1,2,3\n4,5\n", "1,2,3\n4,5,6,7\n", '1,2,"3\n4,5,"6\n', '1,2,3\n4,5,"6'])
def test_the_whole_text_is_checked_not_only_the_chosen_columns(write, good, rows):
    # Below the first lines, which are looked at closely, it is the bulk reader that must notice.
    with pytest.raises(DataError, match=rf"line ({good + 2}|{good + 3}), column"):
        read_table(write("a,b,c\n" + "7,8,9\n" * good + rows), drop=["b", "c"])


@pytest.mark.parametrize("cell", ["", "NA", "?"])
def test_a_missing_label_is_refused(write, cell):
    with pytest.raises(DataError, match=r"line 3, column 1 \('k'\)"):
        read_table(write(f"a,k\n1,red\n2,{cell}\n3,blue\n"), label_column="k")


def test_a_label_cut_inside_its_quotes_is_not_a_new_class(write):
    for good in (1, 300):
        with pytest.raises(DataError, match=rf"line {good + 2}, column 1 or after: a quote is not closed"):
            read_table(write("a,k\n" + '1,"setosa"\n' * good + '2,"set'), label_column="k")


def test_a_lone_quote_inside_a_word_is_a_character(write):
    table = read_table(write("size,w\n" + '5" pipe,1\n' * 300 + '6" pipe,2'), label_column="size")
    assert table.label_names == ('5" pipe', '6" pipe')
    assert table.x.shape == (301, 1)


def test_text_column_of_the_irises_names_the_cure():
    with pytest.raises(DataError, match=r"iris\.csv, line 2, column 4 \('class'\) holds text: 'setosa'.*--drop class"):
        read_table(DATA / "iris.csv")


def test_csv_cut_anywhere_is_refused_or_ends_inside_its_last_cell(write):
    whole = "a,b\n1.25,-2.5\n3.75,-4.5\n"
    for n in range(len(whole)):
        kept = whole[:n]
        try:
            table = read_table(write(kept))
        except DataError:
            continue
        lines = kept.splitlines()[1:]
        assert table.x.tolist() == [[float(cell) for cell in line.split(",")] for line in lines]
        assert all(line.count(",") == 1 for line in lines)


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"\x1f\x8b\x08", "gzip"), (b"PK\x03\x04", "spreadsheet"), (b"\x89HDF\r\n", "HDF5"), (b"PAR1\x15\x04", "Parquet")],
)
def test_other_formats_are_named(write, content, words):
    with pytest.raises(DataError, match=f"{words}.*convert"):
        read_table(write(content, "x.dat"))


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
