"""A wish to stop: heard by the shell, and looked at by long computations between two pieces of work.

Python runs its own signal handlers in the main thread, which may be inside a compiled call, or compiling one, for a
while. So a thread of its own listens while a fit is under way, and ends the process where nobody answers and nothing
would be lost. A library call hears nothing by itself: there Ctrl-C stays Python's own.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from typing import NoReturn

from jaxgmm._signals import EXIT_BASE, answered_by
from jaxgmm._status import FitError, Status

_END = b"\0"
# Seconds that a program without anything to keep is given to notice.
PATIENCE = 1.0


class Interrupted(FitError):
    """Asked to stop before there was anything to keep; `exit_code` is what the shell exits with."""

    def __init__(self, exit_code: int) -> None:
        found = "interrupted before there was a model to keep; nothing is written"
        super().__init__("E903", found, "run the same command again", Status.INTERRUPTED)
        self.exit_code = exit_code


class Wish:
    """Whether somebody has asked to stop; `exit_code` is 0 as long as nobody has.

    holding: there is something to keep by now.
    """

    exit_code = 0
    holding = False


_NOBODY = Wish()
_current = _NOBODY


# The exit code that all processes of a run have agreed to stop with, 0 for none, or None where this is the only one.
_agreed: int | None = None


def asked() -> bool:
    """Whether somebody has asked to stop; of a run of several processes, whether all of them know."""
    return bool(_current.exit_code if _agreed is None else _agreed)


def check() -> None:
    """Raise `Interrupted` if somebody has asked to stop: before each piece of work that may take long."""
    if asked():
        raise Interrupted(_current.exit_code)


def wanted() -> int:
    """The exit code that this process has been asked to stop with, or 0."""
    return _current.exit_code


def agree(exit_code: int) -> None:
    """From now on processes stop together: with this exit code, 0 for not yet."""
    global _agreed
    _agreed = exit_code
    _current.exit_code = _current.exit_code or exit_code


def hold() -> None:
    """Note that there is something to keep from now on."""
    _current.holding = True


@contextlib.contextmanager
def heeding_signals(farewell: Callable[[Interrupted], object]) -> Iterator[Wish]:
    """While it lasts, the first SIGINT or SIGTERM is a wish to stop, and the second ends the process at once.

    So does the first after a while, if nothing has come of it and there is nothing to keep: then `farewell` tells.
    Signals that the process ignores stay ignored, as for a background job; outside the main thread nothing changes.
    """
    global _current
    if threading.current_thread() is not threading.main_thread():
        yield _NOBODY
        return
    wish, (ear, mouth) = Wish(), socket.socketpair()
    mouth.setblocking(False)
    # Python writes the number of every signal here the moment it arrives; until we answer, whoever did so before does.
    outer = signal.set_wakeup_fd(mouth.fileno(), warn_on_full_buffer=False)
    listener = threading.Thread(target=_listen, args=(ear, wish, farewell), name="jaxgmm-signals", daemon=True)
    _current = wish
    listener.start()
    try:
        with answered_by(lambda *_: None):
            yield wish
    finally:
        _current = _NOBODY
        signal.set_wakeup_fd(outer)
        mouth.send(_END)
        listener.join()
        ear.close()
        mouth.close()


def _listen(ear: socket.socket, wish: Wish, farewell: Callable[[Interrupted], object]) -> None:
    """Note the first signal, end the process at the second, or when its time is up."""
    while True:
        try:
            heard = ear.recv(1)
        except TimeoutError:
            ear.settimeout(None)
            if not wish.holding:
                farewell(Interrupted(wish.exit_code))
                _end(wish.exit_code)
            continue
        if heard == _END:
            return
        number = heard[0]
        if number not in (signal.SIGINT, signal.SIGTERM):
            continue
        if wish.exit_code:
            _end(EXIT_BASE + number)
        wish.exit_code = EXIT_BASE + number
        ear.settimeout(PATIENCE)


def _end(code: int) -> NoReturn:
    """Without any further step: files are complete or have no name yet (`_files`), and compiled code may be running."""
    os._exit(code)
