"""Several devices in one process: each takes a share of the rows, and the fit is that of one."""

import json
import subprocess
import sys

import numpy as np
import pytest

from tests.children import surroundings

# Seconds after which a run counts as hung.
WATCHDOG = 240
COUNTS = (1, 2, 4, 8)

# One device does everything in memory, each of the others a part: compiling for many devices takes most of the time.
# A name says what of one device the numbers are to agree with, up to the first comma.
CHILD = """
import json, sys
import jax, numpy as np
import jaxgmm
from jaxgmm.scale import devices
x = np.load(sys.argv[1])
n = len(jax.devices())
found = {"devices": n}
weight = np.arange(len(x)) % 3
start = {"weights": np.ones(3) / 3, "means": x[:3], "covariances": np.stack([np.cov(x.T)] * 3)}
once = {"init": jaxgmm.GMMParams(**start, covariance_type="full"), "max_iter": 20}
often = {"key": 0, "n_restarts": 4, "max_iter": 20, "init": "random_from_data"}
def note(name, how):
    result = jaxgmm.fit(x, 3, **how)
    means = np.asarray(result.params.means).ravel().tolist()
    ends = sorted(result.restart_log_likelihoods.tolist())
    found[name] = ends if len(ends) > 1 else [result.log_likelihood, *means, result.n_iter]
note("held", once)
if n > 1:
    note("held, batches", once | {"batch_size": 70})
if n in (1, 4):
    note("weights", once | {"sample_weight": weight})
if n in (1, 8):
    note("restarts", often)
    # As many lanes as of restarts.
    both = often | {"n_restarts": 2}
    found["sweep"] = [jaxgmm.sweep(x, range(2, 4), criterion="silhouette", **both).best.log_likelihood]
if n == 8:
    note("restarts, lanes shared", often | {"lane_devices": 2})
if n in (1, 2):
    how = {"means_init": x[:3], "init_params": "random_from_data", "max_iter": 20, "tol": 0.0}
    estimator = jaxgmm.GaussianMixture(3, random_state=0, **how)
    found["estimator"] = [estimator.fit(x).lower_bound_, estimator.fit(x, sample_weight=weight + 1).lower_bound_]
# As on accelerators: the devices add up among themselves.
devices._POOLED = ()
if n == 2:
    note("held, added there", once)
if n == 8:
    note("restarts, lanes shared, added there", often | {"lane_devices": 2})
print(json.dumps(found))
"""


@pytest.mark.distributed
def test_any_number_of_devices_agrees_and_none_hangs(small, tmp_path):
    np.save(tmp_path / "x.npy", small.x)
    children = {}
    for n in COUNTS:
        # With a pool of two threads, programs on several CPU devices could wait for each other for ever.
        flag = f"--xla_force_host_platform_device_count={n}"
        around = surroundings(flag, NPROC="16", JAX_PLATFORMS="cpu")
        command = [sys.executable, "-c", CHILD, str(tmp_path / "x.npy")]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        children[n] = subprocess.Popen(command, env=around, **pipes)
    found = {}
    try:
        for n, child in children.items():
            out, err = child.communicate(timeout=WATCHDOG)
            assert child.returncode == 0, err
            found[n] = json.loads(out.splitlines()[-1])
            assert found[n].pop("devices") == n
    finally:
        for child in children.values():
            child.kill()
            child.communicate()
    for n in COUNTS[1:]:
        for name, values in found[n].items():
            what = name.split(",")[0]
            close = 1e-12 if what != "restarts" else 1e-10
            np.testing.assert_allclose(values, found[1][what], rtol=close, err_msg=f"{n}: {name}")
