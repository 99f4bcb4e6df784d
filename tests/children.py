"""Processes that tests start: each compiles for itself, seconds of work for programs that then run for milliseconds."""

import os

# Programs are made as fast as the compiler can, not to run as fast as they can.
_IN_A_HURRY = (
    "--xla_backend_optimization_level=0",
    "--xla_cpu_use_fusion_emitters=false",
    "--xla_cpu_parallel_codegen_split_count=1",
)


def surroundings(*flags: str, **variables: str) -> dict[str, str]:
    """The environment of such a process, with further flags of XLA and variables."""
    given = os.environ.get("XLA_FLAGS", "").split()
    return os.environ | {"XLA_FLAGS": " ".join([*given, *_IN_A_HURRY, *flags])} | variables
