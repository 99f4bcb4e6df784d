"""The same input, seed and device give the same bytes: in another process, on one core or two, whatever the hashes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from unittest import mock

import numpy as np
import pytest

import jaxgmm
from jaxgmm._pytree import replace
from jaxgmm.io import load, save
from jaxgmm.model import Model
from jaxgmm.report import summary_dict, summary_text
from tests.helpers import random_params

# Every way through the engine: lanes dealt out in slots, rows in spans, k-means in parts, streams, small
# sets in chunks.
FITS = """
import os, sys
cores = int(sys.argv[1])
if cores and hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
import hashlib, json
import jax, numpy as np, jaxgmm
from jaxgmm.model import Model
rng = np.random.default_rng(5)
few = rng.normal(size=(200, 3)) + 2.0 * rng.integers(3, size=(200, 1))
many = rng.normal(size=(140_000, 4)) + 2.0 * rng.integers(4, size=(140_000, 1))
sets = [few[:90], few[60:], few[20:120]]
found = {}
def note(name, params, *more):
    leaves = [np.asarray(a) for a in (*jax.tree.leaves(params), *more)]
    found[name] = hashlib.sha256(b"".join(a.tobytes() for a in leaves)).hexdigest()
fit = jaxgmm.fit(few, 3, key=0, n_restarts=6)
note("restarts", fit.params, fit.restart_history)
found["digest"] = Model.from_fit(fit).digest
fit = jaxgmm.fit(many, 4, key=0, max_iter=4)
note("rows", fit.params, fit.restart_history)
note("density", jaxgmm.log_prob(fit.params, many))
fit = jaxgmm.fit(many, 4, key=0, max_iter=4, init=fit.params, batch_size=len(many))
note("stream", fit.params, fit.restart_history)
if len(sys.argv) > 2:
    note("sample", jaxgmm.sample(fit.params, 3, 100))
    fit = jaxgmm.fit(few.astype(np.float32), 3, key=0, covariance_type="tied", kernel="whitening")
    note("single", fit.params, fit.restart_history)
    note("many", jaxgmm.fit_many(sets, 2, key=0).outcome)
print(json.dumps(found))
"""


def results(*ways, everything=()):
    """What `FITS` finds with (cores, environment) each, the processes side by side."""
    # Each compiles for itself.
    here = {name: value for name, value in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", FITS, str(cores), *everything],
            env=here | more,
            stdout=subprocess.PIPE,
            text=True,
        )
        for cores, more in ways
    ]
    texts = [process.communicate(timeout=600)[0] for process in processes]
    assert not any(process.returncode for process in processes)
    return [json.loads(text) for text in texts]


def test_processes_cores_and_hashes_change_no_byte():
    one, two = results((1, {"PYTHONHASHSEED": "1"}), (2, {"PYTHONHASHSEED": "2"}))
    assert one == two


@pytest.mark.slow
def test_settings_of_the_compilers_threads_change_no_byte():
    plain, *others = results(
        (0, {}),
        (0, {"XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false"}),
        (0, {"NPROC": "7"}),
        (0, {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}),
        (1, {}),
        everything=["everything"],
    )
    for other in others:
        assert other == plain


def test_twice_in_one_process_is_the_same(small, tmp_path):
    """A file that is written in another second has the same bytes, too."""
    a, b = (Model.from_fit(jaxgmm.fit(small.x, 3, key=0, n_restarts=2)) for _ in range(2))
    assert a.digest == b.digest
    first = save(tmp_path / "a.npz", a).read_bytes()
    with mock.patch("time.time", return_value=2e9), mock.patch("time.localtime", return_value=time.gmtime(2e9)):
        assert save(tmp_path / "b.npz", b).read_bytes() == first
    assert Model.from_fit(jaxgmm.fit(small.x, 3, key=1, n_restarts=2)).digest != a.digest


def test_the_digest_belongs_to_the_bits_of_the_model(tmp_path):
    params = random_params("full")
    model = Model(params=params, shift=[1.0, 2.0, 3.0], scale=[1.0, 2.0, 4.0])
    assert re.fullmatch("[0-9a-f]{12}", model.digest)
    assert model.digest == replace(model, meta={"seed": 3}, columns=("a", "b", "c")).digest
    assert load(save(tmp_path / "m", model)).digest == model.digest
    others = []
    for name in ("weights", "means", "covariances"):
        array = np.array(getattr(params, name))
        array.flat[0] = np.nextafter(array.flat[0], 9.0)
        others.append(replace(model, params=replace(params, **{name: array})))
    others += [replace(model, shift=model.shift + 1), replace(model, scale=model.scale * 2)]
    others += [Model(params=random_params("tied"), shift=model.shift, scale=model.scale)]
    assert len({model.digest, *(other.digest for other in others)}) == 7


def test_the_digest_is_in_the_summary():
    model = Model.from_params(random_params("diag"))
    assert summary_dict(model)["digest"] == model.digest
    assert re.search(rf"^digest +{model.digest}\b", summary_text(model), re.M)
