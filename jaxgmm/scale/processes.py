"""Several processes, perhaps on several machines, as one run: each reads rows of its own, and all do the same steps.

What the processes exchange are the sums of a pass, once; each adds up what all of them found, in the same order, and so
comes to the same mixture.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import jax
import numpy as np

from jaxgmm import _interrupt
from jaxgmm._status import FitError, Status, UsageError

# What a process exits with that has lost another one: sysexits' "try again later".
LOST = 75
# Seconds in which all processes must have come, and after which one that gives no sign of life counts as dead.
ARRIVAL, SILENCE = 120, 20
# Messages are filled up to multiples of so many bytes: each length takes a program, and most messages are short.
PAGE = 1 << 12


class PeerLost(FitError):
    """Another process of the run has died or cannot be reached."""

    exit_code = LOST

    def __init__(self) -> None:
        found = "another process of this run has died, or cannot be reached any more"
        super().__init__("E905", found, "run the same command again, with --resume auto", Status.INTERRUPTED)


@dataclass(frozen=True)
class Group:
    """How many processes make up the run, and which of them this one is, from 0."""

    count: int
    index: int

    @property
    def leads(self) -> bool:
        """Whether this is the one that writes."""
        return self.index == 0

    def share(self, n_rows: int) -> tuple[int, int]:
        """The first row of this process, and the one after its last."""
        return n_rows * self.index // self.count, n_rows * (self.index + 1) // self.count


ALONE = Group(1, 0)


def group() -> Group:
    """The group of this process; JAX is not started to find out."""
    if not jax.distributed.is_initialized():
        return ALONE
    return Group(jax.process_count(), jax.process_index())


def join(
    coordinator: str | None = None,
    n_processes: int | None = None,
    process: int | None = None,
    environment: Mapping[str, str] = os.environ,
) -> Group:
    """Become one of the processes of a run, before JAX computes anything.

    coordinator: HOST:PORT of process 0; with it the number of processes, and which one this is. Without, they are taken
    from JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID, or from what SLURM or MPI say. Raises
    `UsageError` where nothing says so, and `PeerLost` if the others do not come.
    """
    if coordinator is None and "JAX_COORDINATOR_ADDRESS" in environment:
        coordinator = environment["JAX_COORDINATOR_ADDRESS"]
        n_processes = n_processes or _number(environment, "JAX_NUM_PROCESSES")
        process = _number(environment, "JAX_PROCESS_ID") if process is None else process
    if coordinator is not None and (n_processes is None or process is None):
        raise UsageError(
            "E106", "a coordinator alone does not say who is who", "give --num-processes N and --process-id I as well"
        )
    with nothing_on_stdout():
        try:
            jax.distributed.initialize(
                coordinator_address=coordinator,
                num_processes=n_processes,
                process_id=process,
                initialization_timeout=ARRIVAL,
                heartbeat_timeout_seconds=SILENCE,
            )
        except (ValueError, TypeError) as error:
            raise UsageError(
                "E127",
                f"nothing says which processes make up the run ({error})",
                "give --coordinator HOST:PORT --num-processes N --process-id I",
            ) from None
        except (RuntimeError, jax.errors.JaxRuntimeError) as error:
            if "before" in str(error):
                found = "JAX has computed in this process already, so that it cannot join others"
                raise UsageError("E127", found, "join before anything else") from None
            raise PeerLost from None
        _interrupt.agree(0)
        return group()


def _number(environment: Mapping[str, str], name: str) -> int | None:
    text = environment.get(name, "")
    return int(text) if text.isdigit() else None


def gather(arrays: Sequence[np.ndarray], members: Group | None = None) -> list[list[np.ndarray]]:
    """These arrays of every process, in the order of the processes. Types and shapes beyond the first axis are equal.

    Raises `PeerLost` if not all of them are there.
    """
    members = group() if members is None else members
    if members.count == 1:
        return [list(arrays)]
    lengths = _all_bytes(np.array([len(a) for a in arrays], np.int64).view(np.uint8))
    counts = [row.view(np.int64) for row in lengths]
    longest = np.max(counts, axis=0)
    padded = [
        np.concatenate([a, np.zeros((n - len(a), *a.shape[1:]), a.dtype)]) for a, n in zip(arrays, longest, strict=True)
    ]
    together = _all_bytes(np.concatenate([np.ascontiguousarray(a).view(np.uint8).ravel() for a in padded]))
    found = []
    for row, count in zip(together, counts, strict=True):
        mine, at = [], 0
        for like, n in zip(padded, count, strict=True):
            mine.append(row[at : at + like.nbytes].view(like.dtype).reshape(like.shape)[:n].copy())
            at += like.nbytes
        found.append(mine)
    return found


def _all_bytes(mine: np.ndarray) -> list[np.ndarray]:
    """A row of bytes of every process, all equally long: bytes, since JAX would round what is wider than its switch."""
    from jax.experimental import multihost_utils

    padded = np.zeros(-(-len(mine) // PAGE) * PAGE, np.uint8)
    padded[: len(mine)] = mine
    try:
        with nothing_on_stdout():
            rows = np.asarray(multihost_utils.process_allgather(padded))
    except (RuntimeError, ValueError, jax.errors.JaxRuntimeError):
        raise PeerLost from None
    return [np.ascontiguousarray(row[: len(mine)]) for row in rows]


@contextlib.contextmanager
def nothing_on_stdout() -> Iterator[None]:
    """Send to standard error what libraries write to file descriptor 1, as gloo greets its peers there."""
    if sys.stdout is not None:
        sys.stdout.flush()
    try:
        kept = os.dup(1)
    except OSError:
        yield
        return
    try:
        os.dup2(2, 1)
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
