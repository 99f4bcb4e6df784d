"""Fits at the same time: the bits of each are those it has alone, and nobody waits for ever."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest


def python(code: str, *words: str, seconds: float = 300) -> str:
    """What the code prints in a new process, which fails if it takes too long."""
    command = [sys.executable, "-c", code, *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


THREADS = """
import os, sys, threading
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
import jax, numpy as np, jaxgmm
rounds, *large = map(int, sys.argv[1:])
rng = np.random.default_rng(0)
# Rows, columns, components: lanes in slots, rows in spans, k-means in parts.
shapes = [(200, 3, 3), (900, 2, 2), (3000, 4, 3), (300, 2, 4), (30_000, 4, 4), (140_000, 2, 4), (70, 3, 3), (130, 3, 3)]
if large:
    shapes[:2] = [tuple(large)] * 2
data = [(rng.normal(size=(n, d)) + 2.0 * rng.integers(k, size=(n, 1)), k) for n, d, k in shapes]

def fit(i):
    x, k = data[i]
    way = {"n_restarts": 1 + i % 3, "init": "kmeans" if i > 4 else "random_from_data"}
    result = jaxgmm.fit(x, k, key=i, max_iter=6, **way)
    leaves = [*jax.tree.leaves(result.params), result.restart_history]
    return [np.asarray(a).tobytes() for a in leaves]

def together():
    found, barrier = [None] * len(data), threading.Barrier(len(data))
    def work(i):
        barrier.wait()
        found[i] = fit(i)
    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(data))]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    return found

first = together()  # the programs are compiled side by side too
alone = [fit(i) for i in range(len(data))]
print(all(found == alone for found in [first, *(together() for _ in range(rounds))]))
"""


def test_eight_threads_get_the_bits_they_get_alone():
    assert python(THREADS, "5") == "True\n"


@pytest.mark.slow
def test_many_rounds_of_eight_threads_with_long_products():
    """The shape with which two executions at once used to wait for each other."""
    assert python(THREADS, "20", "51200", "32", "32", seconds=1500) == "True\n"


FORK = """
import os, warnings, numpy as np, jaxgmm
warnings.simplefilter("ignore")  # JAX's own
x = np.random.default_rng(0).normal(size=(200, 2))
params = jaxgmm.make_params([1.0], [[0.0, 0.0]], [1.0], "spherical")
free = jaxgmm.FreeParams(logits=np.zeros(1), means=np.zeros((1, 2)), shapes=np.zeros(1), covariance_type="spherical")
{before}
child = os.fork()
if not child:
    for call in ({calls}):
        try:
            call()
            print("computed", flush=True)
        except jaxgmm.UsageError as error:
            print(error, flush=True)
    os._exit(0)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
FIT = "lambda: jaxgmm.fit(x, 2, key=0, max_iter=2),"
EVERYTHING = f"""{FIT}
lambda: jaxgmm.fit_many([x, x], 2, key=0),
lambda: jaxgmm.GaussianMixture(2, random_state=0).fit(x),
lambda: jaxgmm.log_prob(params, x),
lambda: jaxgmm.sample(params, 0, 10),
lambda: jaxgmm.params_from_means(x, x[:2]),
lambda: jaxgmm.silhouette(x, x[:, 0] > 0),
lambda: jaxgmm.e_step(params, x),
lambda: jaxgmm.unconstrain(params),
lambda: jaxgmm.constrain(free),
lambda: jaxgmm.run_em(params, x),
lambda: jaxgmm.Model.from_params(params).score(x),"""
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")


@needs_fork
def test_a_fork_after_the_import_computes():
    assert python(FORK.format(before="", calls=FIT), seconds=120) == "computed\n0\n"


@needs_fork
@pytest.mark.parametrize("before", ["jaxgmm.fit(x, 2, key=0, max_iter=1)", "import jax; jax.devices()"])
def test_a_fork_of_a_process_that_has_computed_is_refused(before):
    *lines, code = python(FORK.format(before=before, calls=EVERYTHING), seconds=120).splitlines()
    assert code == "0"
    assert len(lines) == 12
    assert all("get_context('spawn')" in line for line in lines)
