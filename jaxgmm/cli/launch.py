"""``jaxgmm launch``: a command as several processes of this machine, the first of which speaks for all."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence

from jaxgmm._status import UsageError

# Seconds that processes are given to end by themselves once one of them has failed.
PATIENCE = 30.0
_POLL = 0.05


def launch(n_processes: int, words: Sequence[str]) -> int:
    """Run ``jaxgmm WORDS --distributed auto`` as that many processes, and return what the first one exits with.

    If one fails, the others have `PATIENCE` to save what they have; then they are ended. Signals go to all of them.
    """
    if not words:
        raise UsageError("E106", "no command to launch", "for example: jaxgmm launch -n 2 -- fit big.npy -n 64")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    shared = os.environ | {"JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": str(n_processes)}
    # The processes find each other on this machine, whatever proxy is set.
    shared["no_proxy"] = ",".join(filter(None, [os.environ.get("no_proxy"), "localhost,127.0.0.1"]))
    command = [sys.executable, "-m", "jaxgmm", *words, "--distributed", "auto"]
    processes = [
        subprocess.Popen(
            command,
            env=shared | {"JAX_PROCESS_ID": str(i)},
            stdin=None if i == 0 else subprocess.DEVNULL,
            stdout=None if i == 0 else subprocess.DEVNULL,
        )
        for i in range(n_processes)
    ]

    def pass_on(number: int, _: object) -> None:
        for process in processes:
            if process.poll() is None:
                process.send_signal(number)

    before = {number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        return _wait(processes)
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
            process.wait()
        for number, handler in before.items():
            signal.signal(number, handler)


def _wait(processes: Sequence[subprocess.Popen[bytes]]) -> int:
    """Until all have ended, or for a while after one has failed: the exit code of the first that did, or 0."""
    deadline, failed = None, 0
    while any(process.poll() is None for process in processes):
        codes = [process.poll() for process in processes]
        failed = failed or next((code for code in codes if code), 0)
        if failed and deadline is None:
            deadline = time.monotonic() + PATIENCE
        if deadline is not None and time.monotonic() > deadline:
            break
        time.sleep(_POLL)
    first = processes[0].poll()
    codes = [process.poll() for process in processes]
    failed = failed or next((code for code in codes if code), 0)
    # What the first process says counts, unless it knows nothing of a failure, or was ended by a signal.
    return first if first is not None and first > 0 else _code(failed)


def _code(failed: int) -> int:
    """What a shell calls the end of a process: 128 and the number of the signal that ended it."""
    return 128 - failed if failed < 0 else failed
