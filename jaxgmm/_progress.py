"""What is told while a long computation is under way: how far it is, and what it decided or could not do."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import Protocol


class Listener(Protocol):
    """Told between two pieces of work."""

    def begin(self, n_samples: int, n_batches: int) -> None:
        """A pass over so many rows begins, in so many batches."""
        ...

    def batch(self, n_rows: int) -> None:
        """A batch of rows is done."""
        ...

    def passed(self, n_iter: int, log_likelihood: float, n_lanes: int) -> None:
        """An iteration is done, the n-th: the best log-likelihood, and the lanes that are still running."""
        ...


class _Nobody:
    def begin(self, n_samples: int, n_batches: int) -> None: ...
    def batch(self, n_rows: int) -> None: ...
    def passed(self, n_iter: int, log_likelihood: float, n_lanes: int) -> None: ...


_nobody = _Nobody()
_listener: Listener = _nobody


def listener() -> Listener:
    """Whom to tell."""
    return _listener


@contextlib.contextmanager
def telling(new: Listener) -> Iterator[None]:
    """While it lasts, `new` is told."""
    global _listener
    _listener = new
    try:
        yield
    finally:
        _listener = _nobody


_log = logging.getLogger("jaxgmm")


def tell(text: str) -> None:
    """Say something aloud: the shell shows a note, a Python program what its logging makes of it."""
    _log.warning(text)


def warn(code: str, found: str, cure: str) -> None:
    """The same of something that the user should not miss, under its code, with one cure."""
    _log.warning(found, extra={"code": code, "cure": cure})
