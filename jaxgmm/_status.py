"""Why a fit stopped, what was wrong with an input: stop codes, errors and warnings in one place."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Any, TypeVar

from jaxgmm._catalogue import CATALOGUE


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
    BAD_STEP = 9
    NO_GAIN = 10
    BAD_PENALTY = 11
    UNBOUNDED = 12


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
    Status.BAD_STEP: "stopped: the last step of the optimizer led to numbers that are no mixture",
    Status.NO_GAIN: "failed: no step of the optimizer led to a better mixture than the start",
    Status.BAD_PENALTY: "stopped: the penalty or its gradient was no longer finite",
    Status.UNBOUNDED: "stopped: the penalty drives the mixture away from the data without end",
}
_CURE: dict[Status, str] = {
    Status.MAX_ITER: "raise max_iter or tol",
    Status.SINGULAR: "raise reg_covar, use fewer components or a simpler covariance_type, or rescale tiny data",
    Status.NONFINITE: "rescale the data (standardize) or compute in float64",
    Status.DECREASED: "standardize the data or compute in float64",
    Status.DROPPED: "raise keep_restarts",
    Status.INTERRUPTED: "start the next fit from it (init, --init-from)",
    Status.BAD_STEP: "give the optimizer a smaller learning rate",
    Status.NO_GAIN: "give the optimizer a smaller learning rate",
    Status.BAD_PENALTY: "give a penalty that is finite, with its gradient, wherever a step may lead",
    Status.UNBOUNDED: "give the penalty a lower bound, or multiply it by a smaller number",
}


def cause(status: int) -> str:
    """What happened, by a stop code."""
    return _CAUSE[Status(int(status))]


def cure(status: int) -> str:
    """What to do about a stop code."""
    return _CURE.get(Status(int(status)), "try another start")


def describe(status: int) -> str:
    """The sentence for a stop code of a state that is returned: what happened, what is returned, what to do."""
    code = Status(int(status))
    kept = "; the best sound state is returned" if code > Status.MAX_ITER else ""
    return f"{cause(code)}{kept}" + (f"; {cure(code)}" if code in _CURE else "")


def sentence(code: str, found: str, help: str) -> str:
    """``found; help [code]``, which is what an error or a warning is as text. KeyError for a code without an entry."""
    join = f" {_capital(help)}" if found.endswith((".", "!", "?")) else f"; {help}"
    return f"{found}{join} [{CATALOGUE[code].code}]"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


class JaxgmmError(Exception):
    """Base of every error this package raises on purpose.

    code: the kind of fault, explained by ``jaxgmm errors CODE`` and in ERRORS.md; it stays the same when a message is
    reworded. found: what was found. help: one thing to do about it. As text: ``found; help [code]``.

    >>> from jaxgmm import make_params
    >>> try:
    ...     make_params([0.5, 0.6], [[0.0], [1.0]], [[1.0], [1.0]], "diag")
    ... except JaxgmmError as error:
    ...     error.code, error.help
    ('E242', 'divide them by their sum')
    """

    def __init__(self, code: str, found: str, help: str) -> None:
        super().__init__(code, found, help)
        self.code, self.found, self.help = code, found, help
        self._text = sentence(code, found, help)

    def named(self, columns: Sequence[str]) -> JaxgmmError:
        """The same with the names of columns in the place of their numbers, where it tells of any."""
        return self

    def __str__(self) -> str:
        return self._text


class UsageError(JaxgmmError, ValueError):
    """An option, flag, argument or configuration key that cannot be used; the shell exits with 2."""


class DataError(JaxgmmError, ValueError):
    """Data or a file that cannot be used; the shell exits with 3."""


class FitError(JaxgmmError, ValueError):
    """No start led to a usable model; `status` is the stop code of the best one. The shell exits with 1.

    diagnoses: of the components that were degenerate (`em.diagnosis`), which `found` tells in words.
    """

    def __init__(self, code: str, found: str, help: str, status: Status, diagnoses: Sequence[Any] = ()) -> None:
        super().__init__(code, found, help)
        # So that a copy, such as one from another process, is made of all of them.
        self.args = (*self.args, status, diagnoses)
        self.status, self.diagnoses = status, tuple(diagnoses)

    def named(self, columns: Sequence[str]) -> FitError:
        found = self.found
        for diagnosis in self.diagnoses:
            found = found.replace(diagnosis.text(), diagnosis.text(columns))
        return FitError(self.code, found, self.help, self.status, self.diagnoses)


class ConvergenceWarning(UserWarning):
    """A fit was returned that did not converge; `code`, `found` and `help` as in `JaxgmmError`."""

    code: str
    found: str
    help: str


Marked = TypeVar("Marked", bound=Exception)


def marked(kind: type[Marked], code: str, found: str, help: str) -> Marked:
    """An error or a warning of another package's class, with `code`, `found` and `help` like those of our own."""
    error = kind(sentence(code, found, help))
    vars(error).update(code=code, found=found, help=help)
    return error


def nearest(word: str, known: Sequence[str]) -> str:
    """``"did you mean 'tol'?"``, or an empty string when nothing known is close to `word`."""
    import difflib

    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else ""


def choose(word: Any, known: Sequence[str], listed: Sequence[str] = ()) -> str:
    """The cure for a `word` that is none of the known ones: the nearest, and the list (all known ones by default)."""
    return suggest(word, known, f"choose one of {', '.join(listed or known)}")


def suggest(word: Any, known: Sequence[str], otherwise: str) -> str:
    """``"did you mean 'tol'? Otherwise ..."``: the nearest of the known words where one is near, and something else."""
    near = nearest(str(word), known)
    return f"{near} {_capital(otherwise)}" if near else otherwise
