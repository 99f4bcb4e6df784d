"""Tables from text that is damaged: every injury is named by line and column."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from jaxgmm._status import DataError
from jaxgmm.data import read_table
from tests.helpers import refusal

DATA = Path(__file__).parent.parent / "configs" / "data"
X = np.random.default_rng(0).normal(size=(7, 3)) * [1e-8, 1.0, 1e12]


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


GOOD = "a,b,c\n1,2,3\n4,5,6\n7,8,9\n"
NUMBERS = [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]]
HARMLESS = {
    "byte order mark": "\ufeff" + GOOD,
    "two byte order marks": "\ufeff\ufeff" + GOOD,
    "Windows line ends": GOOD.replace("\n", "\r\n"),
    "old Mac line ends": GOOD.replace("\n", "\r"),
    "mixed line ends": "a,b,c\r\n1,2,3\n4,5,6\r7,8,9",
    "no last line end": GOOD[:-1],
    "empty lines": "a,b,c\n\n1,2,3\n\n \n4,5,6\n7,8,9\n\n\n",
    "blanks around cells": "a,b,c\n 1 ,2, 3\n4,\t5,6\n7,8,9  \n",
    "quoted numbers": '"a","b","c"\n1,"2",3\n"4","5","6"\n7,8,9\n',
    "no header": GOOD.split("\n", 1)[1],
    "comments above": "# made by hand\n" + GOOD,
    "semicolons": GOOD.replace(",", ";"),
    "tabs": GOOD.replace(",", "\t"),
    "signs and points": "a,b,c\n+1,2.,3\n4,5.0,6e0\n7,.8e1,9\n",
    "no-break space": "a,b,c\n1,2,3\n4,\u00a05,6\n7,8,9\n",
    "a form feed": "a,b,c\n1,2,3\n\x0c4,5,6\n7,8,9\n",
}


@pytest.mark.parametrize("name", HARMLESS)
def test_harmless_habits_of_text_are_read_right(tmp_path, name):
    path = tmp_path / "x.csv"
    path.write_bytes(HARMLESS[name].encode())
    assert read_table(path).x.tolist() == NUMBERS


def at(cell: str) -> str:
    """The good table with another cell in line 3, column 1."""
    return GOOD.replace("4,5,6", f"4,{cell},6")


PLACE = "line 3, column 1 ('b')"
INJURIES = {
    "cut inside a row": (GOOD[:-3], "line 4, column 2: 'c' is missing"),
    "cut after a comma": (GOOD[:-2], "line 4, column 2 ('c') is empty"),
    "cut after the first cell": ("a,b,c\n1,2,3\n4", "line 3, column 1: 'b' is missing"),
    "short line": (GOOD.replace("4,5,6", "4,5"), "line 3, column 2: 'c' is missing"),
    "short first line": (GOOD.replace("1,2,3", "1,2"), "line 2: 2 fields"),
    "long line": (GOOD.replace("4,5,6", "4,5,6,6"), "line 3, column 3: '6' is too many"),
    "comma at every end": (GOOD.replace("\n", ",\n"), "line 2, column 3 ('x3') is empty"),
    "NA": (at("NA"), f"{PLACE} holds 'NA', a missing value"),
    "null": (at("null"), f"{PLACE} holds 'null', a missing value"),
    "question mark": (at("?"), f"{PLACE} holds '?', a missing value"),
    "None": (at("None"), f"{PLACE}: 'None' is not a number"),
    "dash": (at("-"), f"{PLACE}: '-' is not a number"),
    "nothing": (at(""), f"{PLACE} is empty"),
    "a blank": (at(" "), f"{PLACE} is empty"),
    "a word": (at("five"), f"{PLACE}: 'five' is not a number"),
    "a word in every row": ("a,b,c\n1,x,3\n4,y,6\n", "line 2, column 1 ('b') holds text: 'x'"),
    "two numbers": (at("5 5"), f"{PLACE}: '5 5' is not a number"),
    "two points": (at("5..5"), f"{PLACE}: '5..5' is not a number"),
    "an exponent cut short": (at("5e"), f"{PLACE}: '5e' is not a number"),
    "Fortran's exponent": (at("5d3"), f"{PLACE}: '5d3' is not a number"),
    "hexadecimal": (at("0x5"), f"{PLACE}: '0x5' is not a number"),
    "underscore": (at("5_0"), f"{PLACE}: '5_0' is not a number"),
    "other digits": (at("٥"), f"{PLACE}: '٥' is not a number"),
    "a typographic minus": (at("−5"), f"{PLACE}: '−5' is not a number"),
    "complex": (at("5+2j"), f"{PLACE}: '5+2j' is not a number"),
    "per cent": (at("5%"), f"{PLACE}: '5%' is not a number"),
    "a date": (at("2020-01-01"), f"{PLACE}: '2020-01-01' is not a number"),
    "truth": (at("True"), f"{PLACE}: 'True' is not a number"),
    "a payload": (at("nan(12)"), f"{PLACE}: 'nan(12)' is not a number"),
    "thousands": (at('"5,000"'), f"{PLACE}: '5,000' is not a number"),
    "decimal commas": (at("5,5").replace(",5,5,", ";5,5;").replace("1,2,3", "1;2;3").replace("a,b,c", "a;b;c"), PLACE),
    "too large a number": (at("1e999"), f"{PLACE}: 1e999 is beyond the range"),
    "too many digits": (at("9" * 400), f"{PLACE}: 99999999999999999999 is beyond the range"),
    "an open quote": (at('"5'), "line 3, column 1 or after: a quote is not closed"),
    "an open quote at the end": (GOOD[:-2] + '"9', "line 4, column 2 or after: a quote is not closed"),
    "a quote inside a number": (at('5"5'), f"{PLACE}: '5\"5' is not a number"),
    "a line end inside a cell": (at('"5\n"'), "line 3, column 1 or after: a quote is not closed"),
    "another delimiter": (GOOD.replace("4,5,6", "4;5;6"), "line 3, column 1: 'b' is missing"),
    "another delimiter, tabs": (GOOD.replace("4,5,6", "4\t5\t6"), "line 3, column 1: 'b' is missing"),
    "the header once more": (GOOD.replace("4,5,6", "a,b,c"), "line 3, column 0 ('a'): 'a' is not a number"),
    "a total at the end": (GOOD + "Total,15,18\n", "line 5, column 0 ('a'): 'Total' is not a number"),
    "a comment in the middle": (GOOD.replace("4,5,6", "#4,5,6"), "line 3, column 0 ('a'): '#4' is not a number"),
    "a comment at an end": (GOOD.replace("4,5,6", "4,5,6 # six"), "line 3, column 2 ('c'): '6 # six' is not a number"),
    "a byte order mark in the middle": (GOOD.replace("4,5", "\ufeff4,5"), "line 3, column 0 ('a'): '\\ufeff4' is not"),
    "a zero byte": (at("5\0"), "line 3 holds a zero byte"),
    "an end-of-file mark": (GOOD + "\x1a", "line 5, column 1: 'b' is missing"),
    "Latin-1": (at("5\xe9").encode("latin-1"), "line 3, character 4 is not UTF-8 text (byte 0xe9)"),
    "UTF-16": (GOOD.encode("utf-16"), "line 1, character 1 is not UTF-8 text"),
    "UTF-16 without a mark": (GOOD.encode("utf-16-le"), "line 1 holds a zero byte"),
    "two files in one": (GOOD + GOOD, "line 5, column 0 ('a'): 'a' is not a number"),
    "only a header": ("a,b,c\n", "has a header and no rows"),
    "nothing at all": ("", "is empty"),
    "compressed": (b"\x1f\x8b\x08\x00rest", "compressed with gzip"),
    "a web page": ("<html>\n<body>404</body>\n</html>\n", "line 2, column 0"),
}  # fmt: skip


def injured(content: str | bytes, good_lines: int) -> bytes:
    """The content with many good rows after its header, so that it is the bulk reader that must notice."""
    whole = content if isinstance(content, bytes) else content.encode()
    head, end, rest = whole.partition(b"\n")
    return head + end + b"7,8,9\n" * good_lines + rest if end else whole


@pytest.mark.parametrize("name", INJURIES)
def test_injuries_of_text_are_named_by_line_and_column(tmp_path, name):
    content, words = INJURIES[name]
    path = tmp_path / "x.csv"
    path.write_bytes(injured(content, 0))
    assert words in refusal(read_table, path)


FAR = [name for name, (content, words) in INJURIES.items() if words.startswith("line 3") and ";" not in str(content)]


@pytest.mark.parametrize("name", FAR)
def test_injuries_are_found_far_below_too(tmp_path, name):
    content, words = INJURIES[name]
    path = tmp_path / "x.csv"
    path.write_bytes(injured(content, 3000))
    found = refusal(read_table, path)
    assert "line 3003" in found
    assert name == "a zero byte" or words[6:].partition(": ")[0] in found
