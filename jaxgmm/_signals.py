"""Who answers SIGINT and SIGTERM: of the standard library only, so that the shell can ask before anything is loaded."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

# How the shells of Unix tell of a process that a signal ended.
EXIT_BASE = 128


@contextlib.contextmanager
def answered_by(handler: Callable[[int, Any], object]) -> Iterator[None]:
    """While it lasts, SIGINT and SIGTERM are answered by `handler`, which is given the number and the frame.

    Signals that the process ignores stay ignored, as for a background job; outside the main thread nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    heeded = [s for s in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(s) is not signal.SIG_IGN]
    before = {number: signal.signal(number, handler) for number in heeded}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)
