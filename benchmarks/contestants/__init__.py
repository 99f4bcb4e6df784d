"""Who runs: one module per library, in it one function per task, which turns a problem into something to time."""

from __future__ import annotations

import importlib
from dataclasses import dataclass

from benchmarks.cases import Case
from benchmarks.contestants.base import Outcome, Prepared
from benchmarks.problems import Problem

__all__ = ["LIBRARIES", "Contestant", "Outcome", "Prepared", "parse"]

# Name -> module. A library that is not installed fails to import, which is recorded as a skip.
LIBRARIES = {
    "numpy": "numpy_em",
    "scikit-learn": "scikit_learn",
    "gmmx": "gmmx",
    "pomegranate": "pomegranate",
    "torchgmm": "torchgmm",
    "jaxgmm": "jaxgmm",
}


@dataclass(frozen=True)
class Contestant:
    """A library, and the dtype it computes in; without one, that of the case."""

    library: str
    dtype: str = ""

    def dtype_for(self, case: Case) -> str:
        """The dtype it computes a case in."""
        return self.dtype or case.dtype

    def takes_part(self, case: Case) -> bool:
        """Whether its module has the case's task; one that cannot be imported takes part, to be recorded."""
        try:
            return hasattr(self._module(), case.task)
        except ImportError:
            return True

    def prepare(self, problem: Problem, task: str = "") -> Prepared:
        """Everything that is not to be timed: imports, data handed over, models built."""
        return getattr(self._module(), task or problem.case.task)(problem.astype(self.dtype_for(problem.case)))

    def _module(self) -> object:
        return importlib.import_module(f"benchmarks.contestants.{LIBRARIES[self.library]}")


def parse(text: str) -> Contestant:
    """``"gmmx"`` or ``"gmmx:float32"``."""
    library, _, dtype = text.partition(":")
    if library not in LIBRARIES:
        raise ValueError(f"no contestant is called {library!r}; there are {', '.join(LIBRARIES)}")
    if dtype not in ("", "float32", "float64"):
        raise ValueError(f"{text!r}: the dtype must be float32 or float64")
    return Contestant(library, dtype)
