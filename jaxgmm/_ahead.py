"""A thread that makes the next items while one is in use."""

from __future__ import annotations

import contextlib
import os
import queue
import threading
from collections.abc import Callable, Generator, Iterator
from functools import cache
from typing import Any, TypeVar

T = TypeVar("T")
Inbox = queue.SimpleQueue[tuple[Callable[[], None], threading.Event]]


def ahead(items: Callable[[], Iterator[T]], depth: int = 1) -> Generator[T]:
    """The items, of which a thread makes the next `depth` while one is in use; what goes wrong there is raised here."""
    made: queue.Queue[tuple[bool, Any]] = queue.Queue(depth)
    stopped = threading.Event()

    def hand_over(last: bool, item: Any) -> None:
        while not stopped.is_set():
            with contextlib.suppress(queue.Full):
                made.put((last, item), timeout=0.1)
                return

    def work() -> None:
        try:
            for item in items():
                hand_over(False, item)
                if stopped.is_set():
                    return
            hand_over(True, None)
        except BaseException as error:
            hand_over(True, error)

    done = _begin(work)
    try:
        while True:
            last, item = made.get()
            if last and item is not None:
                raise item
            if last:
                return
            yield item
            # Not to be held here while the next one is made.
            del item
    finally:
        stopped.set()
        done.wait()


@cache
def _idle(process: int) -> queue.LifoQueue[Inbox]:
    """The threads of this process that wait for work (none survives a fork).

    The C library gives every new thread memory of its own and keeps it when the thread ends, so that a thread for each
    pass over the data would take more and more.
    """
    return queue.LifoQueue()


def _begin(work: Callable[[], None]) -> threading.Event:
    """Have a thread do `work`; what is returned is set when that has ended."""
    idle, done = _idle(os.getpid()), threading.Event()
    try:
        inbox = idle.get_nowait()
    except queue.Empty:
        inbox = Inbox()
        threading.Thread(target=_serve, args=(inbox, idle), name="jaxgmm-reader", daemon=True).start()
    inbox.put((work, done))
    return done


def _serve(inbox: Inbox, idle: queue.LifoQueue[Inbox]) -> None:
    while True:
        work, done = inbox.get()
        work()
        # What it has made is not to be held while there is nothing to do.
        del work
        idle.put(inbox)
        done.set()
