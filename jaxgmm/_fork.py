"""JAX's threads do not survive a fork: a child that computed without them would wait for ever, so it is refused.

The package imports this first of all and without JAX, so that no fork after the import goes unnoticed.
"""

from __future__ import annotations

import os
import sys

# Whether this process is a fork of one in which JAX had begun.
_orphaned = False


def check_threads() -> None:
    """Refuse to compute in a fork of a process in which JAX had begun."""
    if _orphaned:
        from jaxgmm._status import UsageError

        raise UsageError(
            "E152",
            f"process {os.getpid()} was forked from one in which JAX had begun, and has none of its threads",
            "start workers with multiprocessing.get_context('spawn'), or fork before the first fit",
        )


def _note_fork() -> None:
    """In the child. JAX tells only privately whether it has begun; should that change, a child is let through."""
    global _orphaned
    bridge = sys.modules.get("jax._src.xla_bridge")
    _orphaned = _orphaned or bool(getattr(bridge, "_backends", None))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_note_fork)
