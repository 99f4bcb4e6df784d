"""``python -m jaxgmm``, and the console script ``jaxgmm``."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run the shell.

    argv: the words after the program's name; None takes those of the process.
    Returns the exit code: 0 done, 1 no fit or a bug, 2 usage, 3 data, 4 not accepted by ``--strict``, 130
    interrupted, 143 terminated.
    """
    from jaxgmm.cli.app import INTERRUPTED, TERMINATED, run

    code = run(sys.argv[1:] if argv is None else argv)
    if argv is None and code in (INTERRUPTED, TERMINATED):
        # XLA may still be compiling in its own threads, and a regular exit under them can crash.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


if __name__ == "__main__":
    sys.exit(main())
