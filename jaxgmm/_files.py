"""Files that are written whole or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import IO

from jaxgmm._status import DataError

CACHE_VARIABLE = "JAXGMM_CACHE_DIR"
_OPEN_FILES = "/proc/self/fd"


def cache_folder(name: str) -> str | None:
    """A directory for what can be made again: in $JAXGMM_CACHE_DIR, else in ``jaxgmm`` in the user's cache directory.

    Made if it is not there. None where that is ``off`` or empty; where it cannot be written to, an `OSError`.
    """
    named = os.environ.get(CACHE_VARIABLE)
    if named in ("", "off"):
        return None
    base = os.environ.get("XDG_CACHE_HOME", "")
    # A relative path is to be ignored, says the XDG specification.
    base = base if os.path.isabs(base) else os.path.expanduser("~/.cache")
    folder = os.path.join(named or os.path.join(base, "jaxgmm"), name)
    os.makedirs(folder, mode=0o700, exist_ok=True)
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        raise PermissionError(None, "not writable")
    return folder


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """A file that takes the place of `path`, complete and on the disk, when the block ends without an error.

    Whatever happens, `path` holds the old content or all of the new. Where the system can, the file has no name before
    it is complete, so that a process that is killed leaves none behind. Raises `DataError` if it cannot be written.
    """
    target = Path(os.path.realpath(path))  # a link keeps pointing at its file, which is replaced
    part = target.with_name(f".jaxgmm-{secrets.token_hex(8)}.tmp")
    try:
        with _open(part) as handle:
            yield handle
            handle.flush()
            os.fsync(handle.fileno())
            if not (named := part.exists()):
                _name(handle, target)
        if named:
            os.replace(part, target)
    except OSError as error:
        cure = "free some space or choose another place" if target.parent.is_dir() else "create its directory first"
        raise DataError("E440", f"{path} cannot be written ({error.strerror or error})", cure) from None
    finally:
        with contextlib.suppress(OSError):
            part.unlink()
    _synchronise(target.parent)


def _open(part: Path) -> IO[bytes]:
    """A file without a name in the directory of `part`, or under that name where there is no such thing."""
    if hasattr(os, "O_TMPFILE") and os.path.isdir(_OPEN_FILES):
        with contextlib.suppress(OSError):
            return os.fdopen(os.open(part.parent, os.O_TMPFILE | os.O_RDWR, 0o666), "w+b")
    return open(part, "x+b")


def _name(handle: IO[bytes], target: Path) -> None:
    """Put an open, complete file without a name in the place of `target`.

    Where there is nothing, that is one step. No system call takes the place of a file at once: it is linked beside
    `target` and renamed. A process killed between the two leaves a complete file under a name that depends on `target`
    alone, so that the next to write `target` meets it and finishes the work; so it does for one that is alive, which
    then finds its own work done.
    """
    # With a directory given, Python follows the link to the open file, as a plain link would not.
    name = partial(os.link, f"{_OPEN_FILES}/{handle.fileno()}", src_dir_fd=handle.fileno())
    with contextlib.suppress(FileExistsError):
        return name(target)
    beside = target.with_name(f".jaxgmm-{hashlib.sha256(os.fsencode(target.name)).hexdigest()[:16]}.tmp")
    linked = False
    while not linked:
        try:
            with contextlib.suppress(FileExistsError):
                name(beside)
                linked = True
            with contextlib.suppress(FileNotFoundError):
                os.replace(beside, target)
        except BaseException:
            if linked:
                beside.unlink(missing_ok=True)
            raise


def _synchronise(folder: Path) -> None:
    """Bring new names to the disk; not every system can."""
    with contextlib.suppress(OSError):
        directory = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
