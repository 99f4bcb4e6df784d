"""Why a fit stopped, what was wrong with an input: stop codes, errors and warnings in one place."""

from __future__ import annotations

import enum
from collections.abc import Sequence


class Status(enum.IntEnum):
    """Stop code of one lane, an integer while compiled and looked up here on the host."""

    RUNNING = 0
    CONVERGED = 1
    MAX_ITER = 2
    SINGULAR = 3
    NONFINITE = 4
    DECREASED = 5
    IMPRECISE = 6
    DROPPED = 7
    INTERRUPTED = 8


# What happened, and what to do about it.
_CAUSE: dict[Status, str] = {
    Status.RUNNING: "still running",
    Status.CONVERGED: "converged: the change of the log-likelihood fell below the tolerance",
    Status.MAX_ITER: "not converged: max_iter was reached first",
    Status.SINGULAR: "stopped: a covariance became singular",
    Status.NONFINITE: "stopped: the log-likelihood was no longer finite",
    Status.DECREASED: "stopped: the log-likelihood fell although reg_covar is 0, which is rounding error",
    Status.IMPRECISE: "halted: the features kernel would lose digits here, the whitening kernel goes on",
    Status.DROPPED: "dropped: after a short run other starts were ahead",
    Status.INTERRUPTED: "interrupted before it converged",
}
_CURE: dict[Status, str] = {
    Status.MAX_ITER: "raise max_iter or tol",
    Status.SINGULAR: "raise reg_covar, use fewer components or a simpler covariance_type, or rescale tiny data",
    Status.NONFINITE: "rescale the data (standardize) or compute in float64",
    Status.DECREASED: "standardize the data or compute in float64",
    Status.DROPPED: "raise keep_restarts",
    Status.INTERRUPTED: "start the next fit from it (init, --init-from)",
}


def describe(status: int) -> str:
    """The sentence for a stop code of a state that is returned: what happened, what is returned, what to do."""
    code = Status(int(status))
    kept = "; the best sound state is returned" if code > Status.MAX_ITER else ""
    cure = f"; {_CURE[code]}" if code in _CURE else ""
    return f"{_CAUSE[code]}{kept}{cure}"


def describe_failure(status: int) -> str:
    """The sentence for a stop code that left nothing to return."""
    code = Status(int(status))
    return f"{_CAUSE[code]} at the very start; {_CURE.get(code, 'try another start')}"


class JaxgmmError(Exception):
    """Base of every error this package raises on purpose."""


class UsageError(JaxgmmError, ValueError):
    """An option, flag or configuration key that cannot be used; the shell exits with 2."""


class DataError(JaxgmmError, ValueError):
    """Data or a file that cannot be used; the shell exits with 3."""


class FitError(JaxgmmError, ValueError):
    """No start led to a usable model; `status` is the stop code of the best one. The shell exits with 1."""

    def __init__(self, message: str, status: Status) -> None:
        super().__init__(message)
        self.status = status


class ConvergenceWarning(UserWarning):
    """A fit was returned that did not converge."""


def nearest(word: str, known: Sequence[str]) -> str:
    """``"; did you mean 'tol'?"``, or an empty string when nothing known is close to `word`."""
    import difflib

    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""
