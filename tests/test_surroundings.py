"""What `jaxgmm doctor` says of the machine around it."""

import pytest

from jaxgmm.cli import surroundings


@pytest.mark.parametrize(
    ("environment", "launcher", "n_processes", "process"),
    [
        ({}, "", 1, 0),
        ({"SLURM_NTASKS": "4", "SLURM_PROCID": "3"}, "SLURM", 4, 3),
        ({"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "0"}, "Open MPI", 2, 0),
        ({"SLURM_NTASKS": "4(x2)", "SLURM_PROCID": "0"}, "", 1, 0),
        ({"JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": "1"}, "jaxgmm", 2, 1),
    ],
)
def test_launchers_are_known_by_their_variables(environment, launcher, n_processes, process):
    found = surroundings.cluster(environment)
    assert (found.launcher, found.n_processes, found.process) == (launcher, n_processes, process)
    assert (launcher or "only") in found.text()


def test_proxies_and_a_gpu_without_its_plugin_are_complained_of(monkeypatch):
    monkeypatch.setattr(surroundings, "has_gpu", lambda: False)
    assert surroundings.complaints("cpu", {}) == []
    for spared in ("localhost", "*", "127.0.0.1,node1", "node1, LOCALHOST", "::1"):
        for name in ("no_proxy", "NO_PROXY"):
            assert surroundings.complaints("cpu", {"https_proxy": "http://p", name: spared}) == []
    assert surroundings.complaints("cpu", {"https_proxy": "http://p", "no_proxy": "node1"})
    ((found, cure),) = surroundings.complaints("cpu", {"HTTPS_PROXY": "http://p"})
    assert "https_proxy" in found
    assert "no_proxy" in cure
    monkeypatch.setattr(surroundings, "has_gpu", lambda: True)
    ((found, cure),) = surroundings.complaints("cpu", {})
    assert "pip install" in cure
    assert surroundings.complaints("gpu", {}) == []
