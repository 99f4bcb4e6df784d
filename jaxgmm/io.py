"""Model files: an `.npz` archive of plain arrays and a JSON header, without pickle.

Arrays ``weights``, ``means``, ``covariances``, ``shift`` and ``scale`` are stored byte for byte, and where it is known
the course of the fit, ``history`` (log-likelihoods) and ``history_weights`` and so on (parameters); ``header``
is UTF-8 JSON as an array of bytes with the schema version, covariance_type, columns, meta, and a digest of all this.
The comment of the archive is a digest of the whole file, so that no byte of it can change unseen.
NumPy alone can read it: ``json.loads(numpy.load(path)["header"].tobytes())``.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import math
import os
import warnings
import zipfile
import zlib
from pathlib import Path
from tokenize import TokenError
from typing import IO, Any

import numpy as np

from jaxgmm._files import replacing
from jaxgmm._provenance import versions
from jaxgmm._pytree import replace
from jaxgmm._status import DataError, UsageError, nearest
from jaxgmm.covariance import get_family
from jaxgmm.em.result import FitResult, History
from jaxgmm.interop import from_sklearn
from jaxgmm.model import Model
from jaxgmm.params import GMMParams

# Goes up when an older reader would misread a file; a reader refuses what is newer than itself.
SCHEMA_VERSION = 3
# From this schema on the archive's comment is the SHA-256, in hexadecimal digits, of all bytes before it.
_SEALED = 3
_SEAL_LENGTH = 64

_PARAMS = ("weights", "means", "covariances")
_ARRAYS = (*_PARAMS, "shift", "scale")
# Of the history, where it is known; schema 1 had none.
_CURVES = "history"
_PATH = tuple(f"history_{name}" for name in _PARAMS)
# What NumPy, zipfile and json raise on bytes that are not as they were written.
_DAMAGE = (
    *(zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError, KeyError),
    *(ValueError, TypeError, SyntaxError, TokenError, OverflowError, MemoryError, IndexError),
)
_AGAIN = "copy it or save the model again"


def save(path: str | os.PathLike[str], model: Any, *, force: bool = False) -> Path:
    """Write a mixture to a model file, all or nothing.

    The file is written under a temporary name in the same directory, brought to the disk and then renamed:
    whatever happens, `path` holds the old file or the complete new one.

    path: without a suffix it gets ``.npz``. model: a `Model`, a `FitResult`, `GMMParams`, or a fitted
    GaussianMixture of jaxgmm or scikit-learn. force: replace an existing file.

    Returns the path written. Raises `UsageError` if the file exists and `force` is not set, or for something
    that is no mixture; `DataError` if it cannot be written or the parameters are not sound.

    >>> import tempfile
    >>> p = GMMParams(weights=np.ones(1), means=np.zeros((1, 2)), covariances=np.ones(1),
    ...               covariance_type="spherical")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     load(save(f"{folder}/model", p)).covariance_type
    'spherical'
    """
    path = Path(path)
    if not path.name:
        raise UsageError("E124", f"{str(path)!r} is no file name", "give one such as model.npz")
    path = path if path.suffix else path.with_name(path.name + ".npz")
    if os.path.isdir(path):
        raise UsageError("E124", f"{path} is a directory", "give the name of a file in it")
    if os.path.exists(path) and not force:
        raise UsageError(
            "E125", f"{path} exists", "replace it with --force (in Python force=True) or choose another name"
        )
    model = _as_model(model)
    header = {
        "schema": SCHEMA_VERSION,
        "jaxgmm": versions()["jaxgmm"],
        "covariance_type": model.covariance_type,
        "columns": model.columns,
        "meta": model.meta,
    }
    arrays = {
        **{name: getattr(model.params, name) for name in _PARAMS},
        "shift": model.shift,
        "scale": model.scale,
    }
    if model.history is not None:
        header["best_restart"] = model.history.best
        arrays[_CURVES] = model.history.log_likelihood
        if model.history.params is not None:
            arrays |= {f"history_{name}": getattr(model.history.params, name) for name in _PARAMS}
    text = _as_text(header | {"digest": _digest(header, arrays)})
    with replacing(path) as handle:
        _write_archive(handle, {"header": np.frombuffer(text.encode(), np.uint8), **arrays})
        _seal(handle)
    return path


def load(path: str | os.PathLike[str]) -> Model:
    """Read a model file written by `save`. Nothing in it is executed.

    path: the file; ``.npz`` may be left out.

    Returns a `Model` whose arrays have the dtype and the bytes that were saved. Raises `DataError`, in one
    sentence, for a file that is missing, damaged, cut short, no model, from a newer version, or that holds
    something other than a sound mixture.

    >>> load("no/such/model.npz")
    Traceback (most recent call last):
        ...
    jaxgmm._status.DataError: no/such/model.npz does not exist, nor does its directory; correct the path [E401]
    """
    path = Path(path)
    if not path.suffix and not os.path.exists(path) and path.name:
        path = path.with_name(path.name + ".npz")
    header, arrays = _read(path)
    try:
        family = get_family(header["covariance_type"])
        columns, meta = header["columns"], header["meta"]
        if not isinstance(columns, (list, type(None))) or not isinstance(meta, dict):
            raise TypeError
        if columns is not None and not all(isinstance(name, str) for name in columns):
            raise DataError("E431", "the columns of its header are not names", _AGAIN)
        params = GMMParams(**{name: arrays[name] for name in _PARAMS}, covariance_type=family.name)
        model = Model(
            params=params,
            shift=arrays["shift"],
            scale=arrays["scale"],
            columns=None if columns is None else tuple(columns),
            meta=meta,
            history=_history(header, arrays, family.name),
        )
        as_written = header["digest"] == _digest(header, arrays)
        as_written &= header["schema"] < _SEALED or _is_sealed(path)
    except (DataError, UsageError) as error:
        raise DataError("E431", f"{path} holds no usable model: {error.found}", error.help) from None
    except (KeyError, TypeError, ValueError, RecursionError):
        raise DataError("E407", f"{path} has a damaged header", _AGAIN) from None
    if not as_written:
        raise DataError("E432", f"{path} is not as it was written: its digest is another", _AGAIN)
    return model


def _history(header: dict[str, Any], arrays: dict[str, np.ndarray], covariance_type: str) -> History | None:
    """The course of the fit, if the file has it."""
    if _CURVES not in arrays:
        return None
    path = None
    if set(_PATH) <= arrays.keys():
        path = GMMParams(**{name: arrays[f"history_{name}"] for name in _PARAMS}, covariance_type=covariance_type)
    best = header["best_restart"]
    if type(best) is not int:
        raise TypeError
    return History(log_likelihood=arrays[_CURVES], best=best, params=path)


def _as_model(model: Any) -> Model:
    """Anything that `save` accepts as a `Model`."""
    if isinstance(model, Model):
        return model
    if isinstance(model, FitResult):
        return Model.from_fit(model)
    if isinstance(model, GMMParams):
        return Model.from_params(model)
    if not hasattr(model, "covariance_type"):
        raise UsageError(
            "E145",
            f"cannot save a {type(model).__name__}",
            "give a Model, a FitResult, GMMParams or a fitted GaussianMixture",
        )
    columns = getattr(model, "feature_names_in_", None)
    columns = None if columns is None else tuple(columns)
    seed = getattr(model, "random_state", None)
    seed = int(seed) if isinstance(seed, (int, np.integer)) else None
    fit = getattr(model, "result_", None)
    if isinstance(fit, FitResult):  # jaxgmm's own estimator knows how it was fitted
        return Model.from_fit(fit, columns=columns, seed=seed)
    found = Model.from_params(from_sklearn(model))
    known = {name: getattr(model, f"{name}_", None) for name in ("converged", "n_iter", "lower_bound")}
    return replace(found, columns=columns, meta={"seed": seed, **known, **found.meta})


def _as_text(header: dict[str, Any]) -> str:
    return json.dumps(header, allow_nan=False, ensure_ascii=False, sort_keys=True)


def _digest(header: dict[str, Any], arrays: dict[str, np.ndarray]) -> str:
    """SHA-256 of the header without its digest and of the numbers, however they are laid out."""
    plain_header = json.loads(_as_text({k: v for k, v in header.items() if k != "digest"}))
    found = hashlib.sha256(_as_text(plain_header).encode())
    for name, array in arrays.items():
        plain = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
        found.update(f"{name} {plain.dtype.str} {array.shape} ".encode())
        found.update(plain.tobytes())
    return found.hexdigest()


def _write_archive(handle: IO[bytes], arrays: dict[str, np.ndarray]) -> None:
    np.savez(handle, allow_pickle=False, **arrays)


def _seal(handle: IO[bytes]) -> None:
    """Give an archive, which ends with the length of a comment of none, its digest as a comment."""
    handle.seek(-2, os.SEEK_END)
    handle.write(_SEAL_LENGTH.to_bytes(2, "little"))
    handle.write(_digest_of_bytes(handle, handle.tell()))


def _is_sealed(path: Path) -> bool:
    with open(path, "rb") as handle:
        return _digest_of_bytes(handle, path.stat().st_size - _SEAL_LENGTH) == handle.read()


def _digest_of_bytes(handle: IO[bytes], length: int) -> bytes:
    """SHA-256 of the first so many bytes of a file, which is left behind them."""
    found = hashlib.sha256()
    handle.seek(0)
    while length > 0 and (part := handle.read(min(length, 1 << 20))):
        found.update(part)
        length -= len(part)
    return found.hexdigest().encode()


def _read(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Header and arrays, all present and of real numbers."""
    _check_is_archive(path)
    try:
        with zipfile.ZipFile(path) as archive:
            header = _parse_header(path, archive)
            missing = [name for name in _ARRAYS if f"{name}.npy" not in archive.namelist()]
            if missing:
                raise DataError("E430", f"{path} lacks the array {missing[0]!r}", _AGAIN)
            names = (*_ARRAYS, *(n for n in (_CURVES, *_PATH) if f"{n}.npy" in archive.namelist()))
            arrays = {name: _array(path, archive, name) for name in names}
    except DataError:
        raise
    except _DAMAGE:
        raise DataError("E407", f"{path} is damaged or cut short", _AGAIN) from None
    for name, array in arrays.items():
        if array.dtype.kind != "f":
            raise DataError("E412", f"{path} holds {array.dtype} in {name!r}, not floating-point numbers", _AGAIN)
    return header, arrays


def _array(path: Path, archive: zipfile.ZipFile, name: str) -> np.ndarray:
    """One array of the archive, which takes no more memory than the file does, whatever the file claims."""
    entry = archive.getinfo(f"{name}.npy")
    if entry.compress_type != zipfile.ZIP_STORED:
        raise DataError("E430", f"{path} is compressed, which model files never are", "save the model again")
    if entry.file_size > path.stat().st_size:
        found = f"{path} is damaged or cut short: {name!r} claims more than the whole file holds"
        raise DataError("E407", found, _AGAIN)
    content = archive.read(entry)
    start = io.BytesIO(content)
    version = np.lib.format.read_magic(start)
    parse = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # damage may look like the habits of an old NumPy
        shape, is_fortran, dtype = parse(start)
    if dtype.hasobject:
        raise DataError(
            "E411", f"{path} holds Python objects (a pickle) in {name!r}, which are never opened", "save numbers"
        )
    if len(content) - start.tell() != math.prod(shape) * dtype.itemsize:
        raise DataError("E407", f"{path} is damaged or cut short: {name!r} is not of the size it claims", _AGAIN)
    values = np.frombuffer(content, dtype, offset=start.tell()).copy()
    return values.reshape(shape, order="F" if is_fortran else "C")


def _check_is_archive(path: Path) -> None:
    """Refuse what is plainly no archive, with the nearest file name for one that is missing."""
    if os.path.isdir(path):
        raise DataError("E402", f"{path} is a directory", "name a model file in it")
    try:
        with open(path, "rb") as handle:
            magic = handle.read(4)
    except FileNotFoundError:
        if not path.parent.is_dir():
            raise DataError("E401", f"{path} does not exist, nor does its directory", "correct the path") from None
        names: list[str] = []
        with contextlib.suppress(OSError):  # a directory may be entered but not listed
            names = sorted(os.listdir(path.parent))
        hint = nearest(path.name, names) or "correct the path"
        raise DataError("E401", f"{path} does not exist", hint) from None
    except OSError as error:
        raise DataError(
            "E403", f"{path} cannot be read ({error.strerror})", "check its permissions and its name"
        ) from None
    if not magic:
        raise DataError("E404", f"{path} is empty", _AGAIN)
    if magic != b"PK\x03\x04":
        raise DataError("E430", f"{path} is no model file (.npz)", "give one written by jaxgmm.save or --output")


def _parse_header(path: Path, archive: zipfile.ZipFile) -> dict[str, Any]:
    """The header as a dictionary of this version or an older one."""
    if "header.npy" not in archive.namelist():
        listed = ", ".join(name.removesuffix(".npy") for name in archive.namelist()[:5]) or "nothing"
        raise DataError(
            "E430", f"{path} is no model file: it has no header (it holds {listed})", "write one with jaxgmm.save"
        )
    header = json.loads(_array(path, archive, "header").tobytes().decode())
    schema = header.get("schema") if isinstance(header, dict) else None
    if type(schema) is not int or schema < 1:
        raise DataError("E430", f"{path} is no model file: its header names no schema", "write one with jaxgmm.save")
    if schema > SCHEMA_VERSION:
        raise DataError(
            "E433",
            f"{path} has schema {schema}, newer than {SCHEMA_VERSION}, the newest this version reads",
            f"it needs jaxgmm {header.get('jaxgmm', '')} or newer: pip install --upgrade jaxgmm",
        )
    return header
