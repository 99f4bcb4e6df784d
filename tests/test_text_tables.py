"""Tables from text: layouts, headers, and columns by name; what is read is what was written."""

from pathlib import Path

import numpy as np
import pytest

from jaxgmm._status import DataError, UsageError
from jaxgmm.data import read_table

DATA = Path(__file__).parent.parent / "configs" / "data"
X = np.random.default_rng(0).normal(size=(7, 3)) * [1e-8, 1.0, 1e12]


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
