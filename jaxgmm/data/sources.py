"""One door for tables of numbers: NumPy, MATLAB and text files or standard input, as samples x features."""

from __future__ import annotations

import dataclasses
import io
import operator
import os
import re
import sys
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np

from jaxgmm._status import DataError, UsageError, nearest, suggest
from jaxgmm.data import text

ColumnKey = str | int

_NPY = b"\x93NUMPY"
_BINARY = {
    b"PK\x03\x04": "a zip archive or a spreadsheet",
    b"\x1f\x8b": "compressed with gzip",
    b"\x89HDF": "an HDF5 file",
    b"PAR1\x15": "a Parquet file",
    b"\x80": "pickled or otherwise binary",
}
_PREFERRED = ("x", "X", "data")
# Measured data rarely shrink tenfold; a small array may be all zeros.
_MAX_RATIO = 100
_MAX_UNPACKED = 1 << 26
# What NumPy's reader raises on bytes that are not as it wrote them.
_DAMAGE = (ValueError, TypeError, SyntaxError, TokenError, OverflowError, MemoryError, RuntimeError, OSError)


@dataclasses.dataclass(frozen=True, eq=False)
class Table:
    """Samples read from one source.

    `x` (N, D) is float32 or float64 in native byte order, a read-only memory map where the file allows it; of a table
    that is streamed, the `batches.Source`.
    `label_names[c]` is the text that label c stands for; it is empty when the labels were integers already,
    which are then kept as they are.
    """

    x: Any
    columns: tuple[str, ...]
    sample_weight: np.ndarray | None = None
    labels: np.ndarray | None = None
    source: str = ""
    label_names: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Choice:
    features: list[int]
    weight: int | None
    label: int | None


def read_table(
    path: str | os.PathLike[str],
    *,
    columns: Sequence[ColumnKey] | ColumnKey | None = None,
    drop: Sequence[ColumnKey] | ColumnKey | None = None,
    weight_column: ColumnKey | None = None,
    label_column: ColumnKey | None = None,
    header: bool | None = None,
) -> Table:
    """Read samples by features from a file or from standard input.

    ``.npy`` is memory-mapped, and stays a map when every column is used and holds native float32 or float64.
    Other real dtypes become float64 (float16 becomes float32); integers above 2^53 are rounded by that.
    ``.npz`` and ``.mat`` (MATLAB up to 7.2, needs scipy) may hold several arrays: ``file.npz:name`` is one.
    Everything else is read as text with commas, semicolons, tabs or blanks between the fields, in UTF-8.
    ``-`` is standard input: text, or the bytes of a ``.npy`` file. NaN and inf are passed on as they are.

    A column is named by its name in the header, or by its number counted from 0: 3, ``"3"``, or ``"2-5"`` for
    a range with both ends. A name wins over a number. Columns without a name are called x0, x1, ...

    Args:
        path: the file, or ``-``.
        columns: the features to use, in this order; all of them when None.
        drop: columns to leave out.
        weight_column: a column with the weight of each row; it is taken out of `x`.
        label_column: a column with the known class of each row, numbers or words; it is taken out of `x`.
            Words are numbered from 0 in order of appearance.
        header: whether the first line of a text file names the columns; None to find out.

    Raises:
        DataError: the file is missing, damaged or holds something that is not a number.
        UsageError: a column that does not exist, is named twice, or leaves nothing to read.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "flowers.csv")
        ...     _ = path.write_text("length,width,class\\n5.1,3.5,setosa\\n5.9,3,virginica\\n")
        ...     table = read_table(path, label_column="class")
        >>> table.x.shape, table.columns, table.labels.tolist(), table.label_names
        ((2, 2), ('length', 'width'), [0, 1], ('setosa', 'virginica'))
    """
    source = os.fspath(path)
    found = open_table(source, header)
    if isinstance(found, text.Layout):
        choice = choose_columns(found.columns, columns, drop, weight_column, label_column, source)
        numeric = choice.features + ([] if choice.weight is None else [choice.weight])
        table, words = text.load(found, numeric, choice.label)
        x = table if choice.weight is None else np.ascontiguousarray(table[:, :-1])
        weight = None if choice.weight is None else table[:, -1].copy()
        cells: Sequence[Any] | None = None if choice.label is None else words
        names = found.columns
    else:
        names = tuple(f"x{i}" for i in range(found.shape[1]))
        choice = choose_columns(names, columns, drop, weight_column, label_column, source)
        every = choice.features == list(range(found.shape[1]))
        x = _native(found if every else np.asarray(found[:, choice.features]))
        weight = None if choice.weight is None else np.array(found[:, choice.weight], dtype=np.float64)
        cells = None if choice.label is None else found[:, choice.label].tolist()
    labels, label_names = (None, ()) if cells is None else text.encode_labels(cells, source)
    return Table(x, tuple(names[i] for i in choice.features), weight, labels, source, label_names)


def open_table(source: str, header: bool | None) -> np.ndarray | text.Layout:
    """A numeric matrix of any real dtype, or the layout of a text file."""
    if source == "-":
        return _read_stdin(header)
    path, member = _split_member(source)
    magic, suffix = _first_bytes(path, source), path.suffix.lower()
    if suffix == ".npz":
        return _matrix(_read_npz(path, member, magic, source), source)
    if suffix == ".mat":
        return _matrix(_read_mat(path, member, source), source)
    if suffix == ".npy" or magic == _NPY:
        return _matrix(_read_npy(path, magic, source), source)
    for start, kind in _BINARY.items():
        if magic.startswith(start):
            raise DataError("E405", f"{source} is {kind}, which is not read here", "convert it to .npy or .csv")
    return text.survey(source, lambda: open(path, encoding="utf-8-sig"), tabs=suffix in (".tsv", ".tab"), header=header)


def _split_member(source: str) -> tuple[Path, str | None]:
    match = re.fullmatch(r"(.+\.(?:npz|mat)):([^:/\\]+)", source, re.IGNORECASE)
    if match and not os.path.exists(source):
        return Path(match[1]), match[2]
    return Path(source), None


def _first_bytes(path: Path, source: str) -> bytes:
    if os.path.isdir(path):  # unlike Path.is_dir, no error for a name that is too long
        raise DataError("E402", f"{source} is a directory", "name a file in it")
    try:
        with open(path, "rb") as handle:
            magic = handle.read(len(_NPY))
    except FileNotFoundError:
        if not path.parent.is_dir():
            raise DataError("E401", f"{source} does not exist, nor does its directory", "correct the path") from None
        hint = nearest(path.name, sorted(os.listdir(path.parent)))
        raise DataError("E401", f"{source} does not exist", hint or "correct the path") from None
    except OSError as error:
        raise DataError(
            "E403", f"{source} cannot be read: {error.strerror}", "check its permissions and its name"
        ) from None
    if not magic:
        raise DataError("E404", f"{source} is empty", "give a file with one sample per row")
    return magic


def _read_stdin(header: bool | None) -> np.ndarray | text.Layout:
    name = "standard input"
    stream = getattr(sys.stdin, "buffer", None)
    data = b"" if sys.stdin is None else sys.stdin.read().encode() if stream is None else stream.read()
    if not data:
        raise DataError("E404", f"{name} is empty", "pipe a table or the bytes of a .npy file into it")
    if not _NPY.startswith(data[: len(_NPY)]):
        return text.survey(name, lambda: io.TextIOWrapper(io.BytesIO(data), "utf-8-sig"), header=header)
    handle = io.BytesIO(data)
    array = _load_npy(handle, name, None)
    _refuse_rest(len(data) - handle.tell(), name)
    return _matrix(array, name)


def _read_npy(path: Path, magic: bytes, source: str) -> np.ndarray:
    if not _NPY.startswith(magic):
        kind = "a pickle, which is never opened" if magic.startswith(b"\x80") else "something else"
        raise DataError("E406", f"{source} is not a .npy file but {kind}", "save the array with numpy.save")
    array = _load_npy(path, source, "r")
    if isinstance(array, np.memmap):
        _refuse_rest(path.stat().st_size - array.offset - array.nbytes, source)
    return array


def _load_npy(file: Path | io.BytesIO, source: str, mmap_mode: Any) -> np.ndarray:
    try:
        with np.errstate(over="ignore"):  # a size beyond all numbers is refused like any that is false
            array: np.ndarray = np.load(file, mmap_mode=mmap_mode, allow_pickle=False)
    except _DAMAGE as error:
        # NumPy takes a file cut inside its first bytes for a pickle, so only an object dtype is called one.
        if "Python objects" in str(error) or "Object arrays" in str(error):
            raise _objects(source) from None
        raise DataError("E407", f"{source} is not a complete .npy file", "copy or save it again") from None
    return array


def _refuse_rest(n_bytes: int, source: str) -> None:
    if n_bytes > 0:
        raise DataError("E408", f"{source} goes on for {n_bytes} bytes after its array", "save one array per file")


def _read_npz(path: Path, member: str | None, magic: bytes, source: str) -> np.ndarray:
    if not magic.startswith(b"PK"):
        raise DataError("E406", f"{source} is not a .npz file", "save the arrays with numpy.savez")
    name = path.name
    try:
        # NumPy leaves the file open when the archive is damaged, so it is opened and closed here.
        with open(path, "rb") as handle, np.load(handle, allow_pickle=False) as archive:
            if {"format", "shape"} <= set(archive.files):
                raise DataError("E204", f"{source} holds a sparse matrix", "save it as a dense array")
            name = _pick(archive.files, member, str(path))
            _refuse_bomb(archive.zip, name, source)
            return np.asarray(archive[name])
    except DataError:
        raise
    except (*_DAMAGE, zipfile.BadZipFile, zlib.error, EOFError) as error:
        if "Object arrays" in str(error):
            raise _objects(f"{path}:{name}") from None
        raise DataError("E407", f"{source} is damaged or incomplete", "copy or save it again") from None


def _refuse_bomb(archive: zipfile.ZipFile, name: str, source: str) -> None:
    """Refuse what would fill the memory from a few bytes on the disk, before it is unpacked."""
    entry = archive.getinfo(f"{name}.npy" if f"{name}.npy" in archive.namelist() else name)
    if entry.file_size > _MAX_UNPACKED + _MAX_RATIO * entry.compress_size:
        raise DataError(
            "E413",
            f"{source} would unpack to {entry.file_size:.3g} bytes from {entry.compress_size:.3g}",
            "if it is no trap, save the array with numpy.save",
        )


def _read_mat(path: Path, member: str | None, source: str) -> np.ndarray:
    try:
        from scipy.io import loadmat
    except ImportError:
        raise DataError(
            "E409", f"{source}: MATLAB files are read with scipy, which is missing", "pip install 'jaxgmm[data]'"
        ) from None
    with open(path, "rb") as handle:
        try:
            found = loadmat(handle)
        except NotImplementedError:
            raise DataError("E405", f"{source} is a MATLAB 7.3 (HDF5) file", "save it with save(..., '-v7')") from None
        except Exception:  # a damaged file makes scipy's parser fail in a dozen ways
            raise DataError("E407", f"{source} is not a complete MATLAB file", "copy or save it again") from None
    usable = [
        name
        for name, value in found.items()
        if not name.startswith("__") and isinstance(value, np.ndarray) and value.ndim == 2
        # MATLAB stores scalars as 1 x 1 matrices: those are settings, not samples.
        if value.dtype.kind in "fiub" and value.size > 1
    ]
    array: np.ndarray = found[_pick(usable, member, str(path))]
    return array


def _pick(names: Sequence[str], member: str | None, path: str) -> str:
    listed = ", ".join(names)
    if not names:
        raise DataError("E410", f"{path} holds no numeric matrix", "save the samples as an N x D array")
    if member is not None:
        if member not in names:
            raise DataError(
                "E410",
                f"{path} holds no array {member!r}",
                suggest(member, names, f"it holds: {listed}"),
            )
        return member
    for name in names if len(names) == 1 else _PREFERRED:
        if name in names:
            return name
    raise DataError("E410", f"{path} holds several arrays: {listed}", f"name one: {path}:{names[0]}")


def _objects(source: str) -> DataError:
    return DataError("E411", f"{source} holds Python objects (a pickle), which are never opened", "save numbers")


def _matrix(array: np.ndarray, source: str) -> np.ndarray:
    """`array` as samples by features, refused when it does not hold real numbers; the dtype is kept."""
    if array.dtype.kind not in "fiub":
        raise DataError("E412", f"{source} holds {array.dtype}, not real numbers", "save the samples as a float array")
    if array.ndim == 1:
        array = array[:, np.newaxis]
    if array.ndim != 2:
        raise DataError("E207", f"{source} has shape {array.shape}", "reshape it to samples x features")
    if array.size == 0:
        raise DataError("E208", f"{source} is empty: its shape is {array.shape}", "give at least one row and column")
    return array


def _native(x: np.ndarray) -> np.ndarray:
    """`x` in native float32 or float64, without a copy when it is that already."""
    if x.dtype.kind != "f":
        return np.asarray(x, dtype=np.float64)
    dtype = np.dtype(np.float32 if x.dtype.itemsize <= 4 else np.float64)
    return x if x.dtype == dtype else np.asarray(x, dtype=dtype)


def choose_columns(
    names: Sequence[str],
    columns: Sequence[ColumnKey] | ColumnKey | None,
    drop: Sequence[ColumnKey] | ColumnKey | None,
    weight_column: ColumnKey | None,
    label_column: ColumnKey | None,
    source: str,
) -> Choice:
    weight, label = (None if key is None else _single(key, names, source) for key in (weight_column, label_column))
    if weight is not None and weight == label:
        raise UsageError(
            "E131", f"{source}: {names[weight]!r} cannot be both the weight and the label column", "name two columns"
        )
    chosen = list(range(len(names))) if columns is None else _indices(columns, names, source)
    if len(set(chosen)) < len(chosen):
        twice = max(chosen, key=chosen.count)
        raise UsageError("E131", f"{source}: column {names[twice]!r} is chosen twice", "name it once")
    out = {weight, label, *(() if drop is None else _indices(drop, names, source))}
    features = [i for i in chosen if i not in out]
    if not features:
        raise UsageError("E132", f"{source}: no column is left to read", "choose or keep at least one")
    return Choice(features, weight, label)


def _indices(keys: Sequence[ColumnKey] | ColumnKey, names: Sequence[str], source: str) -> list[int]:
    listed: Sequence[ColumnKey] = keys if isinstance(keys, Iterable) and not isinstance(keys, str) else [keys]
    return [index for key in listed for index in _index(key, names, source)]


def _single(key: ColumnKey, names: Sequence[str], source: str) -> int:
    indices = list(_index(key, names, source))
    if len(indices) != 1:
        raise UsageError("E133", f"{source}: {key!r} is {len(indices)} columns", "name one")
    return indices[0]


def _index(key: ColumnKey, names: Sequence[str], source: str) -> Sequence[int]:
    if isinstance(key, str):
        named = [i for i, name in enumerate(names) if name == key]
        if len(named) > 1:
            raise UsageError("E133", f"{source}: columns {named} are all called {key!r}", "use the number instead")
        if named:
            return named
        match = re.fullmatch(r"(\d{1,18})(?:-(\d{1,18}))?", key.strip())
        if match is None:
            listed = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
            raise UsageError(
                "E130",
                f"{source}: there is no column {key!r}",
                suggest(key, names, f"the columns are: {listed}"),
            )
        span = range(int(match[1]), int(match[2] or match[1]) + 1)
    else:
        try:
            span = range(operator.index(key), operator.index(key) + 1)
        except TypeError:
            raise UsageError(
                "E108", f"a column is a name or a number, not {key!r}", "for example columns=[0, 1]"
            ) from None
    if not span or span[0] < 0 or span[-1] >= len(names):
        raise UsageError("E130", f"{source}: there is no column {key!r}", f"they are numbered 0 to {len(names) - 1}")
    return span
