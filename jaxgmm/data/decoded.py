"""Tables that must be decoded: again in every pass, or once into a ``.npy`` file in the cache directory."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from jaxgmm._files import cache_folder, replacing
from jaxgmm._status import DataError
from jaxgmm.data.batches import Batch, without_first

# A change of what is written makes another name.
_VERSION = 2
# What has not been read for so long is removed.
_UNUSED_SECONDS = 14 * 24 * 3600
_ROWS = 1 << 16


class Pieces(Protocol):
    """Some columns of a table in pieces of rows, decoded anew each time."""

    @property
    def n_columns(self) -> int: ...
    @property
    def dtype(self) -> np.dtype: ...
    @property
    def n_rows(self) -> int | None: ...

    def decode(self, size: int) -> Iterator[np.ndarray]: ...
    def place(self, row: int) -> str: ...


@dataclass(frozen=True, eq=False)
class Decoded:
    """A table as a source that decodes it in every pass.

    name: its file. weight: the last of its columns if it is not None. state: size and time of change of the file when
    it was opened.
    """

    table: Pieces
    name: str
    weight: int | None
    columns: tuple[str, ...]
    state: tuple[int, int]

    @property
    def n_samples(self) -> int | None:
        return self.table.n_rows

    @property
    def n_features(self) -> int:
        return self.table.n_columns - (self.weight is not None)

    @property
    def dtype(self) -> np.dtype:
        return self.table.dtype

    def pieces(self, size: int, start: int = 0) -> Iterator[Batch]:
        """What the decoder gives at a time."""
        return without_first(self._pieces(size), start)

    def _pieces(self, size: int) -> Iterator[Batch]:
        for rows in self.table.decode(size):
            if state_of(self.name, self.name) != self.state:
                raise DataError("E252", f"{self.name} has changed since it was opened", "fit again when it is complete")
            if self.weight is None:
                yield Batch(rows, None)
            else:
                yield Batch(np.ascontiguousarray(rows[:, : self.weight]), rows[:, self.weight].astype(np.float64))

    def place(self, row: int) -> str:
        """By its number in the file."""
        return self.table.place(row)


def state_of(path: str, name: str) -> tuple[int, int]:
    """Size and time of change of a file. `DataError` if it is not there; name: for the message."""
    try:
        found = os.stat(path)
    except OSError:
        raise DataError("E252", f"{name} has vanished since it was opened", "put it back, and fit again") from None
    return found.st_size, found.st_mtime_ns


def kept(path: str, table: Pieces, chosen: Any) -> str | None:
    """The ``.npy`` file that holds the table, written now if it is not there; None where nothing may be kept.

    chosen: what makes the table another one than the whole file. `DataError` for a file that changes meanwhile.
    """
    folder = None
    with contextlib.suppress(OSError):
        folder = cache_folder("tables")
    if folder is None:
        return None
    found = os.stat(path)
    told = (_VERSION, os.path.realpath(path), found.st_size, found.st_mtime_ns, chosen)
    target = Path(folder, hashlib.sha256(repr(told).encode()).hexdigest()[:32] + ".npy")
    if target.exists():
        with contextlib.suppress(OSError):
            # The time of change is what others, who read it now, know it by.
            os.utime(target, ns=(time.time_ns(), target.stat().st_mtime_ns))
        return str(target)
    _remove_unused(Path(folder))
    # Numbers take more room than text at most where that is very short, and than Parquet nearly always.
    if shutil.disk_usage(folder).free < 4 * found.st_size:
        return None
    # Of a process that is killed, it is removed as unused one day.
    own = target.with_name(f".{secrets.token_hex(8)}.npy")
    try:
        write_npy(own, table)
        if state_of(path, path) != (found.st_size, found.st_mtime_ns):
            raise DataError("E252", f"{path} has changed while it was read", "fit again when it is complete")
        _settle(own, target)
    except DataError as error:
        if error.code != "E440":
            raise
        return None
    finally:
        own.unlink(missing_ok=True)
    return str(target)


def _settle(own: Path, target: Path) -> None:
    """Name a complete file where there is none yet: one that came meanwhile is the same, and somebody reads it."""
    try:
        os.link(own, target)
    except OSError:
        # It is there, or the system has no such links.
        if not target.exists():
            os.replace(own, target)


def write_npy(path: str | os.PathLike[str], table: Pieces) -> int:
    """The table as a ``.npy`` file, written piece by piece; returns the number of rows."""
    n_rows = 0
    with replacing(path) as handle:
        _header(handle, table, 0)
        begin = handle.tell()
        for rows in table.decode(_ROWS):
            handle.write(np.ascontiguousarray(rows, table.dtype).data)
            n_rows += len(rows)
        handle.seek(0)
        # NumPy leaves room in a header for as many digits as a number of rows may have.
        _header(handle, table, n_rows)
        assert handle.tell() == begin
    return n_rows


def _header(handle: Any, table: Pieces, n_rows: int) -> None:
    described = np.lib.format.dtype_to_descr(table.dtype)
    shape = (n_rows, table.n_columns)
    np.lib.format.write_array_header_1_0(handle, {"descr": described, "fortran_order": False, "shape": shape})


def _remove_unused(folder: Path) -> None:
    oldest = time.time() - _UNUSED_SECONDS
    for entry in os.scandir(folder):
        with contextlib.suppress(OSError):
            if entry.name.endswith(".npy") and max(entry.stat().st_mtime, entry.stat().st_atime) < oldest:
                os.unlink(entry.path)
