"""The state of a streamed run in a directory, so that the same command goes on where it was broken off.

A run is a series of batches of lanes, each of which follows from the data, the options and the results of those before.
So a checkpoint holds the results of the batches that are done, how far the lanes of the present one are (`Course`), and
the sums of the pass that is under way. Everything else is worked out again, and comes out the same.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import json
import os
import re
import time
import zipfile
import zlib
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxgmm import _interrupt, _progress
from jaxgmm._files import replacing
from jaxgmm._status import DataError, UsageError
from jaxgmm.em.lanes import Course, LanesResult, history_of
from jaxgmm.scale.processes import ALONE, Group, gather
from jaxgmm.stats import SuffStats

EVERY = 300.0
_SCHEMA = 2
_NAME = re.compile(r"checkpoint-(\d{8})\.npz")
_KEPT = 2
_SCALARS = ("kernel", "width", "limit", "left", "wasted")
# What reading a damaged archive raises.
_DAMAGE = (DataError, RuntimeError, OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error)


def describe(value: Any) -> Any:
    """A value of the configuration as JSON tells two of them apart: arrays by a digest."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, (list, tuple)):
        return [describe(item) for item in value]
    if isinstance(value, dict):
        return {name: describe(item) for name, item in value.items()}
    leaves, structure = jax.tree.flatten(value)
    digest = hashlib.sha256(str(structure).encode())
    for leaf in leaves:
        if isinstance(leaf, jax.Array) and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        array = np.ascontiguousarray(leaf)
        digest.update(f"{array.dtype} {array.shape}".encode() + array.tobytes())
    return f"sha256 {digest.hexdigest()[:16]}"


class Checkpoints:
    """Checkpoints of one run in one directory, of which the last two are kept.

    folder: made if it is not there. every: seconds between two. facts: what must be the same for a run to go on, as
    JSON holds it. batches: what must be the same for a pass to go on. resume: go on from what is there, if anything is;
    otherwise the directory must hold none. members: processes of the run, of which the first one reads and writes.
    Raises `UsageError` for checkpoints that are not wanted, and `DataError` for those of another run, or all damaged.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        every: float,
        facts: dict[str, Any],
        batches: Any = None,
        *,
        resume: bool,
        members: Group = ALONE,
    ) -> None:
        self.folder, self.every, self.facts = Path(folder), every, json.loads(json.dumps(facts))
        self._batches, self._leads = json.loads(json.dumps(batches)), members.leads
        if not os.fspath(folder):
            # As a path it would be the current directory.
            raise UsageError("E108", f"checkpoint must name a directory, got {folder!r}", "give its path")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(
                "E440", f"{folder} cannot be made ({error.strerror})", "name a directory that you can write to"
            ) from None
        self._results: list[LanesResult] = []
        self._course: Course | None = None
        self._partial: tuple[int, SuffStats] | None = None
        self._stored: dict[str, Any] = {}
        self._header: dict[str, Any] = {"batches": 0, "course": None, "position": 0}
        self._number, self._due = 0, time.monotonic() + every
        self._failing = self._stopped = False
        found = b""
        if members.leads:
            there = self._files()
            if there and not resume:
                raise UsageError(
                    "E126", f"{folder} holds checkpoints of an earlier run", "go on with --resume auto, or name another"
                )
            if there:
                self._number = _number_of(there[0])
                found = self._newest(there)
        # The others may not see the directory.
        found = gather([np.frombuffer(found, np.uint8)], members)[0][0].tobytes()
        if found:
            self._load(found)

    def _files(self) -> list[Path]:
        """Checkpoints, the newest first."""
        try:
            named = [entry for entry in self.folder.iterdir() if _NAME.fullmatch(entry.name)]
        except OSError as error:
            raise DataError("E403", f"{self.folder} cannot be read: {error.strerror}", "name another") from None
        return sorted(named, key=lambda path: path.name, reverse=True)

    def _newest(self, files: list[Path]) -> bytes:
        """The newest of the files that is whole."""
        for path in files:
            try:
                content = path.read_bytes()
                _read(content)
                return content
            except _DAMAGE:
                _progress.tell(f"{path} is damaged and left aside")
        raise DataError("E434", f"no checkpoint in {self.folder} can be read", "remove them, and begin again")

    def _load(self, content: bytes) -> None:
        header, arrays = _read(content)
        self._compare(header["facts"])
        if header["pass"] != self._batches:
            # Sums of a pass that was cut otherwise.
            header["position"] = 0
        self._stored, self._header = arrays, header

    def _compare(self, found: dict[str, Any]) -> None:
        for name in {**found, **self.facts}:
            before, now = found.get(name), self.facts.get(name)
            if before != now:
                raise DataError(
                    "E435",
                    f"{self.folder} is the state of another run: {name.replace('_', ' ')} was {before} and is {now}",
                    "give the same data and options again, or name another directory",
                )

    # What `em.lanes.Passes` tells

    def enter(self, course: Course) -> LanesResult | None:
        """See `Passes.enter`."""
        number = len(self._results)
        if self._stopped:
            return None
        if number < self._header["batches"]:
            blank = dataclasses.fields(LanesResult)[1:]
            template = LanesResult(params=course.states.best_params, **{f.name: 0 for f in blank})
            known = _unflatten(template, self._stored, f"result{number}_")
            self._results.append(known)
            return known
        self._course = course
        if number == self._header["batches"] and self._header["course"] is not None:
            course.states = _unflatten(course.states, self._stored, "state")
            course.used, course.lanes = self._stored["used"], self._stored["lanes"]
            if self._stored["history"].size:
                course.pieces = [(np.arange(len(course.used)), self._stored["history"])]
            for name in _SCALARS:
                setattr(course, name, self._header["course"][name])
            if self._header["position"]:
                names = (f.name for f in dataclasses.fields(SuffStats))
                sums: dict[str, Any] = dict(zip(names, _leaves(self._stored, "sum"), strict=True))
                self._partial = self._header["position"], SuffStats(**sums)
        self._header = {"batches": 0, "course": None, "position": 0}
        self._stored = {}
        return None

    def passed(self, course: Course) -> None:
        """See `Passes.passed`."""
        self._partial = None
        self._write_if_due()

    def leave(self, result: LanesResult) -> None:
        """See `Passes.leave`."""
        # One that was broken off is not done.
        if not _interrupt.asked():
            self._results.append(jax.tree.map(np.asarray, result))
            self._course = self._partial = None
            self.write()

    # What a pass tells

    def begin_pass(self) -> tuple[int, SuffStats | None]:
        """How many batches of rows the present pass has behind it, and their sums."""
        return self._partial or (0, None)

    def batch_done(self, position: int, sums: SuffStats) -> None:
        """So many batches are added up now."""
        self._partial = position, sums
        self._write_if_due()

    def _write_if_due(self) -> None:
        if time.monotonic() >= self._due:
            self.write()

    def stop(self) -> None:
        """Write for the last time: whatever is still told belongs to a run that has been broken off."""
        self.write()
        self._stopped = True

    def write(self, *, anyway: bool = False) -> None:
        """A new checkpoint; the oldest is removed. A disk that is full ends no run that is under way.

        Of several processes the first one writes, or with `anyway` whoever is left: all of them know the same.
        """
        if self._stopped or not (self._leads or anyway):
            return
        arrays: dict[str, Any] = {}
        header: dict[str, Any] = {"schema": _SCHEMA, "facts": self.facts, "batches": len(self._results)}
        header["pass"] = self._batches
        for i, result in enumerate(self._results):
            arrays |= _flatten(result, f"result{i}_")
        header |= {"course": None, "position": 0}
        if self._course is not None:
            course = self._course
            header["course"] = {name: getattr(course, name) for name in _SCALARS}
            dtype = np.asarray(course.states.best_log_likelihood).dtype
            arrays |= _flatten(course.states, "state") | {"used": course.used, "lanes": course.lanes}
            arrays["history"] = history_of(course.pieces, len(course.used), dtype) if course.pieces else np.empty(0)
            if self._partial is not None:
                header["position"] = self._partial[0]
                arrays |= _flatten(self._partial[1], "sum")
        header["digest"] = _digest(header, arrays)
        path = self.folder / f"checkpoint-{self._number + 1:08d}.npz"
        try:
            with replacing(path) as handle:
                np.savez(handle, header=np.frombuffer(json.dumps(header).encode(), np.uint8), **arrays)
        except DataError as error:
            if not self._failing:
                found = f"{error.found}; the fit goes on, and the last checkpoint is whole"
                _progress.warn("W310", found, "free some space: it will be tried again")
            self._failing = True
        else:
            self._number, self._failing = self._number + 1, False
            for old in self._files()[_KEPT:]:
                with contextlib.suppress(OSError):
                    old.unlink()
        self._due = time.monotonic() + self.every


def _number_of(path: Path) -> int:
    found = _NAME.fullmatch(path.name)
    assert found is not None
    return int(found[1])


def _read(content: bytes) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The header and the arrays of a checkpoint."""
    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    header = json.loads(arrays.pop("header").tobytes())
    if header["schema"] != _SCHEMA:
        raise DataError("E434", "the checkpoint is of another version of jaxgmm", "begin again with this one")
    if header.pop("digest") != _digest(header, arrays):
        raise DataError("E434", "the checkpoint is not as it was written", "remove it")
    return header, arrays


def _digest(header: dict[str, Any], arrays: dict[str, np.ndarray]) -> str:
    """Of all that a checkpoint holds: the checks of an archive see what is altered in a part, but not one that is gone.

    header: without the digest.
    """
    found = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        found.update(f"{name} {array.dtype} {np.shape(arrays[name])} ".encode())
        found.update(array.tobytes())
    return found.hexdigest()


def _flatten(tree: Any, prefix: str) -> dict[str, np.ndarray]:
    return {f"{prefix}{i}": np.asarray(leaf) for i, leaf in enumerate(jax.tree.leaves(tree))}


def _leaves(arrays: dict[str, np.ndarray], prefix: str) -> list[np.ndarray]:
    numbered = [name for name in arrays if re.fullmatch(rf"{prefix}\d+", name)]
    return [arrays[f"{prefix}{i}"] for i in range(len(numbered))]


def _unflatten(like: Any, arrays: dict[str, np.ndarray], prefix: str) -> Any:
    return jax.tree.unflatten(jax.tree.structure(like), _leaves(arrays, prefix))
