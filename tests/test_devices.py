"""Several devices in one process: each takes a share of the rows, and the fit is that of one."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

# Seconds after which a run counts as hung.
WATCHDOG = 240
COUNTS = (1, 2, 4, 8)

CHILD = """
import json, sys
import jax, numpy as np
import jaxgmm
from jaxgmm.api import prepared
x = np.load(sys.argv[1])
start = jaxgmm.params_from_means(x, x[:3])
found = {"devices": len(jax.devices())}
weight = np.arange(len(x)) % 3
for name, more in (("held", {}), ("batches", {"batch_size": 70}), ("weights", {"sample_weight": weight})):
    result = jaxgmm.fit(x, 3, init=start, max_iter=20, **more)
    found[name] = [result.log_likelihood, *np.asarray(result.params.means).ravel().tolist(), result.n_iter]
result = jaxgmm.fit(x, 3, key=0, n_restarts=4, max_iter=20)
found["restarts"] = sorted(result.restart_log_likelihoods.tolist())
if len(jax.devices()) > 1:
    spread = jaxgmm.fit(x, 3, key=0, n_restarts=5, max_iter=20, lane_devices=2)
    one = jaxgmm.fit(x, 3, key=0, n_restarts=5, max_iter=20)
    np.testing.assert_allclose(spread.restart_log_likelihoods, one.restart_log_likelihoods, rtol=1e-10)
best = jaxgmm.sweep(x, range(2, 4), key=0, criterion="silhouette", max_iter=20).best
found["sweep"] = [best.log_likelihood]
print(json.dumps(found))
"""


@pytest.mark.distributed
def test_any_number_of_devices_agrees_and_none_hangs(small, tmp_path):
    np.save(tmp_path / "x.npy", small.x)
    found = {}
    for n in COUNTS:
        # With a pool of two threads, programs on several CPU devices could wait for each other for ever.
        flags = {"XLA_FLAGS": f"--xla_force_host_platform_device_count={n}", "NPROC": "16"}
        flags |= {"JAX_COMPILATION_CACHE_DIR": str(tmp_path), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
        command = [sys.executable, "-c", CHILD, str(tmp_path / "x.npy")]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=WATCHDOG, env=os.environ | flags, check=False
        )
        assert done.returncode == 0, done.stderr
        found[n] = json.loads(done.stdout.splitlines()[-1])
        assert found[n].pop("devices") == n
    for n in COUNTS[1:]:
        for name, values in found[n].items():
            close = 1e-12 if name != "restarts" else 1e-10
            np.testing.assert_allclose(values, found[1][name], rtol=close, err_msg=name)
