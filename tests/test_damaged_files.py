"""Every injury of a file is seen: it is refused in a sentence, or what is read is what was written."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import warnings
import zipfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest

import jaxgmm
from jaxgmm._status import DataError
from jaxgmm.data import read_table
from jaxgmm.io import load, save
from jaxgmm.model import Model
from tests.helpers import random_params

HERE = {"PYTHONPATH": str(Path(jaxgmm.__file__).parent.parent)}
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits of the process as Linux has them")


@pytest.fixture(scope="module")
def model():
    return Model(params=random_params("full", 2, 2), shift=[0.1, 1e8], columns=("x", "y"), meta={"seed": 3})


@pytest.fixture
def path(tmp_path, model):
    return save(tmp_path / "model.npz", model)


def refusal(read, path) -> str:
    """The sentence that refuses a file; it names the file, and there is no warning beside it."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(DataError) as caught:
            read(path)
    text = str(caught.value)
    assert str(path) in text
    assert "\n" not in text
    assert len(text) < 500
    return text


def same(a: Model, b: Model) -> bool:
    return a.digest == b.digest and (a.columns, a.meta) == (b.columns, b.meta)


# --------------------------------------------------------------------------------------- prefixes and flipped bytes


def test_every_prefix_of_a_model_file_is_refused(path):
    content = path.read_bytes()
    for n in range(len(content)):
        path.write_bytes(content[:n])
        refusal(load, path)


@pytest.mark.parametrize("dtype", ["<f8", ">f4", "<i4"])
def test_every_prefix_of_an_npy_file_is_refused(tmp_path, dtype):
    path = tmp_path / "x.npy"
    np.save(path, np.arange(6, dtype=dtype).reshape(3, 2))
    content = path.read_bytes()
    for n in range(len(content)):
        path.write_bytes(content[:n])
        refusal(read_table, path)


def test_every_prefix_of_an_npz_file_is_refused(tmp_path):
    path = tmp_path / "x.npz"
    for write in (np.savez, np.savez_compressed):
        write(path, x=np.arange(6.0).reshape(3, 2))
        content = path.read_bytes()
        for n in range(len(content)):
            path.write_bytes(content[:n])
            refusal(read_table, path)


def test_two_thousand_flipped_bytes_are_seen_or_harmless(path, model):
    content, rng = path.read_bytes(), np.random.default_rng(7)
    harmless = 0
    for place, change in zip(rng.integers(len(content), size=2000), rng.integers(1, 256, size=2000), strict=True):
        damaged = bytearray(content)
        damaged[place] ^= int(change)
        path.write_bytes(damaged)
        try:
            found = load(path)
        except DataError:
            continue
        assert same(found, model), place
        harmless += 1
    # Time stamps and the like: most bytes of the archive's own bookkeeping matter to nobody.
    assert harmless < 1000


def test_many_flipped_bits_at_once_are_seen_too(path, model):
    content, rng = path.read_bytes(), np.random.default_rng(8)
    for _ in range(200):
        damaged = np.frombuffer(content, np.uint8).copy()
        at = rng.integers(len(content), size=20)
        damaged[at] ^= rng.integers(1, 256, size=20).astype(np.uint8)
        path.write_bytes(damaged.tobytes())
        refusal(load, path)


# ---------------------------------------------------------------------------------- files made to do harm, by hand


def rewrite(path: Path, compression=zipfile.ZIP_STORED, **members: bytes) -> Path:
    """The archive with some members replaced, as raw bytes."""
    with zipfile.ZipFile(path) as archive:
        kept = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in {**kept, **{f"{name}.npy": content for name, content in members.items()}}.items():
            archive.writestr(name, content)
    return path


def npy(array, **options) -> bytes:
    handle = BytesIO()
    np.save(handle, array, **options)
    return handle.getvalue()


def npy_head(shape, descr="<f8") -> bytes:
    handle = BytesIO()
    np.lib.format.write_array_header_1_0(handle, {"descr": descr, "fortran_order": False, "shape": shape})
    return handle.getvalue()


def header_of(path: Path) -> dict:
    with np.load(path) as archive:
        return json.loads(archive["header"].tobytes())


class Evil:
    """Unpickling this writes a file."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_nothing_that_is_pickled_is_executed(tmp_path, path):
    done = tmp_path / "executed"
    evil = Evil(done)
    objects = npy(np.array([evil], object), allow_pickle=True)
    refusal(load, rewrite(path, weights=objects))
    for name in ("model.npz", "x.npy", "x.npz", "x.csv", "x.mat"):
        (tmp_path / name).write_bytes(pickle.dumps(evil))
        refusal(load, tmp_path / name)
        refusal(read_table, tmp_path / name)
    (tmp_path / "x.npy").write_bytes(objects)
    assert "pickle" in refusal(read_table, tmp_path / "x.npy")
    np.savez(tmp_path / "x.npz", x=np.array([evil], object), allow_pickle=True)
    assert "pickle" in refusal(read_table, tmp_path / "x.npz")
    assert not done.exists()
    pickle.loads(pickle.dumps(evil))
    assert done.is_dir()  # the trap is a trap


HEADER = {"schema": 1, "covariance_type": "full", "columns": None, "meta": {}, "digest": "1"}


def text_of(**changes) -> bytes:
    return json.dumps(HEADER | changes).encode()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "damaged"),
        (b"{", "damaged"),
        (b"\xff\xfe", "damaged"),
        (b"[]", "names no schema"),
        (b"null", "names no schema"),
        (b'{"schema": true}', "names no schema"),
        (b'{"schema": 1e999}', "names no schema"),
        (b'{"schema": 99, "jaxgmm": "9.9"}', "needs jaxgmm 9.9"),
        (b'{"schema": 1}', "damaged header"),
        (b"[" * 100_000, "damaged"),
        (text_of(), "its digest is another"),
        (text_of(digest=None), "its digest is another"),
        (text_of(more=float("nan")), "damaged header"),
        (text_of(more="\ud800"), "damaged header"),
        (text_of(meta={"a": 0}).replace(b"0", b"[" * 700 + b"]" * 700), "damaged header"),
        (text_of(covariance_type={}), "unknown covariance_type"),
    ],
)
def test_headers_nobody_wrote(path, text, words):
    rewrite(path, header=npy(np.frombuffer(text, np.uint8)))
    assert words in refusal(load, path)


def test_a_newer_schema_is_refused_whatever_else_it_holds(path):
    header = header_of(path) | {"schema": 2, "jaxgmm": "3.0"}
    rewrite(path, header=npy(np.frombuffer(json.dumps(header).encode(), np.uint8)), weights=b"something new")
    assert "it needs jaxgmm 3.0 or newer" in refusal(load, path)


MEAGRE = """
import resource, sys, warnings
from jaxgmm.data import read_table
from jaxgmm.io import load
from jaxgmm import DataError
import numpy
import scipy.io
# Room for 200 MB beyond what the process has now.
now = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (now + 200_000_000,) * 2)
for path in sys.argv[1:]:
    for read in (load, read_table):
        try:
            read(path)
            print("read", path)
        except DataError as error:
            print("refused", error)
"""


@linux
def test_claims_of_size_allocate_nothing(tmp_path, model):
    """A few bytes that promise 1e18 rows, in every format; and archives that would fill the memory."""
    huge = npy_head((10**18, 3)) + bytes(72)
    long = npy_head((10**9, 3)) + bytes(72)
    names = []
    for i, content in enumerate((huge, long)):
        names += [tmp_path / f"{i}.npy", tmp_path / f"{i}.npz", tmp_path / f"packed{i}.npz", tmp_path / f"m{i}.npz"]
        names[-4].write_bytes(content)
        for name, how in zip(names[-3:-1], (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED), strict=True):
            with zipfile.ZipFile(name, "w", how) as archive:
                archive.writestr("x.npy", content)
        rewrite(save(names[-1], model), means=content)
    # A thousand times what it takes on the disk.
    bomb, zeros = tmp_path / "bomb.npz", bytes(1 << 24)
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("x.npy", "w") as handle:
        handle.write(npy_head((1 << 25,)))
        for _ in range(16):
            handle.write(zeros)
    names.append(bomb)
    # The sizes in the archive's directory are claims as well.
    false = save(tmp_path / "false.npz", model)
    content = bytearray(false.read_bytes())
    place = content.index(b"PK\x01\x02")
    content[place + 20 : place + 28] = (0xFFFFFFF0).to_bytes(4, "little") * 2
    false.write_bytes(content)
    names.append(false)
    command = [sys.executable, "-c", MEAGRE, *map(str, names)]
    done = subprocess.run(command, env=os.environ | HERE, capture_output=True, text=True, timeout=120)
    lines = done.stdout.splitlines()
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(lines) == 2 * len(names)
    assert all(line.startswith("refused") for line in lines), done.stdout
    assert "would unpack to 2.68e+08 bytes" in lines[-3]
    assert "claims more than the whole file holds" in lines[-2]
    assert not done.stderr


def test_an_array_that_packs_well_is_no_bomb(tmp_path):
    path = tmp_path / "x.npz"
    np.savez_compressed(path, x=np.zeros((100_000, 5)))
    assert read_table(path).x.shape == (100_000, 5)


# -------------------------------------------------------------------------------------------- text, injured by hand

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


# ------------------------------------------------------------------------------------------------- while it is written

FULL = """
import os, resource, sys
from jaxgmm.io import load, save
from jaxgmm import DataError
model = load(sys.argv[1])
size = os.path.getsize(sys.argv[1])
for limit in (0, 1, 100, size // 2, size - 1):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    for name in (sys.argv[1], sys.argv[2]):
        try:
            save(name, model, force=True)
            print("saved", limit)
        except DataError as error:
            print("refused", error)
"""


@linux
def test_a_full_disk_leaves_the_old_file_and_no_litter(path):
    before = path.read_bytes()
    command = [sys.executable, "-c", FULL, str(path), str(path.with_name("new.npz"))]
    done = subprocess.run(command, env=os.environ | HERE, capture_output=True, text=True, timeout=120)
    lines = done.stdout.splitlines()
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(lines) == 10
    assert all("cannot be written (File too large); free some space" in line for line in lines), done.stdout
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == ["model.npz"]


SHELL_FULL = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, resource.RLIM_INFINITY))
from jaxgmm.__main__ import main
sys.exit(main())
"""


@linux
@pytest.mark.parametrize("name", ["rows.csv", "rows.npy"])
def test_a_full_disk_is_a_sentence_in_the_shell(path, name):
    target = path.with_name(name)
    target.write_text("old")
    words = ["generate", "cube", "--seed", "0", "-o", str(target), "--force"]
    environment = os.environ | HERE | {"JAXGMM_CACHE_DIR": "off"}
    command = [sys.executable, "-c", SHELL_FULL, *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (3, "")
    assert "cannot be written (File too large)" in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert target.read_text() == "old"
    assert sorted(os.listdir(path.parent)) == sorted(["model.npz", name])


# A child is forked where nothing has computed, saves one of two models again and again, and is killed.
KILLED = """
import os, random, signal, sys, time
from jaxgmm.io import load, save
litter = 0
path, rounds = sys.argv[1], int(sys.argv[2])
first = load(path)
second = load(sys.argv[3])
os.unlink(sys.argv[3])
random.seed(0)
seen = set()
for _ in range(rounds):
    ready, told = os.pipe()
    child = os.fork()
    if not child:
        save(path, first, force=True)
        os.write(told, b"x")
        while True:
            save(path, second, force=True)
            save(path, first, force=True)
    os.close(told)
    assert os.read(ready, 1) == b"x"
    os.close(ready)
    time.sleep(random.random() * 0.02)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    seen.add(load(path).digest)
    # A complete file may wait for its rename; killed there, it is the next to write the model that finds it.
    litter += os.listdir(os.path.dirname(path)) != ["model.npz"]
    save(path, first, force=True)
    assert os.listdir(os.path.dirname(path)) == ["model.npz"], os.listdir(os.path.dirname(path))
assert litter <= 1, litter
assert seen <= {first.digest, second.digest}
print(len(seen))
"""


@pytest.mark.skipif(not hasattr(os, "O_TMPFILE"), reason="no files without a name here")
def test_fifty_kills_while_saving_leave_one_whole_model(tmp_path, model):
    path = save(tmp_path / "model.npz", model)
    other = save(tmp_path / "other.npz", Model(params=random_params("full", 40, 20)))
    command = [sys.executable, "-c", KILLED, str(path), "50", str(other)]
    done = subprocess.run(command, env=os.environ | HERE, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout == "2\n"  # the kills came at many moments
