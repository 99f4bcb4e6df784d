"""A thread that makes the next items while one is in use."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Generator, Iterator
from typing import Any, TypeVar

T = TypeVar("T")


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

    reader = threading.Thread(target=work, name="jaxgmm-reader", daemon=True)
    reader.start()
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
        reader.join()
