"""``python -m jaxgmm``, and the console script ``jaxgmm``."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from jaxgmm._signals import answered_by


def main(argv: Sequence[str] | None = None) -> int:
    """Run the shell.

    argv: the words after the program's name; None takes those of the process, which a signal then ends.
    Returns the exit code: 0 done, 1 no fit or a bug, 2 usage, 3 data, 4 not accepted by ``--strict``, 130
    interrupted, 143 terminated.
    """
    if argv is not None:
        from jaxgmm.cli.app import run

        return run(argv)
    early: list[int] = []
    # A KeyboardInterrupt may get lost in an import: what comes so early waits the moment until somebody can tell.
    with answered_by(lambda number, _: early.append(number)):
        from jaxgmm.cli.app import INTERRUPTED, TERMINATED, run_process

        code = run_process(early)
    if code in (INTERRUPTED, TERMINATED):
        # XLA may still be compiling in its own threads, and a regular exit under them can crash.
        os._exit(code)
    return code


if __name__ == "__main__":
    sys.exit(main())
