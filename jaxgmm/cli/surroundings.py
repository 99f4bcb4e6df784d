"""What the machine around this process is: a cluster job, a proxy in the way, a GPU that JAX does not see."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

# Launcher -> the variables that say how many processes there are, and which of them this one is.
_LAUNCHERS = {
    "jaxgmm": ("JAX_NUM_PROCESSES", "JAX_PROCESS_ID"),
    "SLURM": ("SLURM_NTASKS", "SLURM_PROCID"),
    "Open MPI": ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"),
    "MPICH": ("PMI_SIZE", "PMI_RANK"),
}
_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "grpc_proxy")
# In no_proxy, any of them says that somebody has thought of it.
_OWN_NAMES = frozenset({"*", "localhost", "127.0.0.1", "::1", "127.0.0.0/8"})
_GPU_FILES = ("/dev/nvidia0", "/proc/driver/nvidia/version")
_CUDA_PLUGINS = ("jax_cuda13_plugin", "jax_cuda12_plugin")


@dataclass(frozen=True)
class Cluster:
    """The launcher that this process has been started by, "" for none, the number of processes and its own."""

    launcher: str
    n_processes: int
    process: int

    def text(self) -> str:
        """In words."""
        if not self.launcher:
            return "none: this is the only process"
        return f"{self.launcher}, process {self.process} of {self.n_processes}"

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def cluster(environment: Mapping[str, str] = os.environ) -> Cluster:
    """What the variables of the environment say."""
    for launcher, (count, number) in _LAUNCHERS.items():
        if environment.get(count, "").isdigit() and environment.get(number, "").isdigit():
            return Cluster(launcher, int(environment[count]), int(environment[number]))
    return Cluster("", 1, 0)


def complaints(platform: str, environment: Mapping[str, str] = os.environ) -> list[tuple[str, str]]:
    """What is likely to be in the way, each with a cure."""
    found = []
    named = [name for name in _PROXIES if environment.get(name) or environment.get(name.upper())]
    if named and not _shielded(environment):
        found.append(
            (
                f"{named[0]} is set: several processes may hang when they look for each other through a proxy",
                "export no_proxy=localhost,127.0.0.1 and the names of the other machines",
            )
        )
    if platform == "cpu" and has_gpu() and not any(importlib.util.find_spec(name) for name in _CUDA_PLUGINS):
        found.append(
            (
                "there is an NVIDIA GPU, but JAX has no plugin for it and computes on the CPU",
                "pip install 'jax[cuda13]'",
            )
        )
    return found


def _shielded(environment: Mapping[str, str]) -> bool:
    """Whether no proxy stands between the processes of this machine."""
    spared = ",".join(environment.get(name, "") for name in ("no_proxy", "NO_PROXY"))
    return not _OWN_NAMES.isdisjoint(name.strip().lower() for name in spared.split(","))


def has_gpu() -> bool:
    """Whether the machine has an NVIDIA GPU with its driver."""
    return any(Path(name).exists() for name in _GPU_FILES) or shutil.which("nvidia-smi") is not None
