"""How the programs are compiled in which the time is spent."""

from __future__ import annotations

from functools import partial

import jax

# Where the processor has 512-bit vectors, LLVM by itself uses half of them; exponentials take 0.9 instead of 1.4 ns.
# Elsewhere the option means nothing.
hot_jit = partial(jax.jit, compiler_options={"xla_cpu_prefer_vector_width": 512})
