"""Rows shared out among several devices: each works on its own, and what they found is added up.

Accelerators add up among themselves. Devices that are threads of one pool, as forced CPU devices are, would wait for
each other there, and hang where the pool is smaller than their number: what they found is added up on the host.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import numpy as np
from jax import Array
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxgmm._compile import hot_jit
from jaxgmm._pytree import replace, take
from jaxgmm.data.rows import pad_rows, pad_vector
from jaxgmm.em.burst import added_up, collect_spans
from jaxgmm.params import Factors
from jaxgmm.stats import SuffStats, collect

_ROWS, _LANES = "rows", "lanes"
# Platforms whose devices are threads of one pool.
_POOLED = ("cpu",)


@dataclass(frozen=True)
class Grid:
    """Devices in a grid: those of a column share the rows, those of a row the lanes.

    devices: of this process. groups: columns; 1 where all devices share the rows.
    """

    devices: tuple[jax.Device, ...]
    groups: int = 1

    @property
    def n_shares(self) -> int:
        """Parts that the rows are shared out in."""
        return len(self.devices) // self.groups

    @property
    def mesh(self) -> Mesh:
        """The grid as JAX knows it."""
        grid = np.asarray(self.devices[: self.n_shares * self.groups]).reshape(self.n_shares, self.groups)
        return Mesh(grid, (_ROWS, _LANES), axis_types=(AxisType.Auto, AxisType.Auto))


def place(
    x: np.ndarray, weight: np.ndarray, dtype: Any, offset: np.ndarray, scale: float, n_rows: int, grid: Grid
) -> tuple[Array, Array]:
    """(x − offset) / scale and the weights on the devices, in equal shares, padded with weight 0 for `n_rows` rows.

    Rows of weight 0 become 0.
    """
    share = -(-n_rows // grid.n_shares)
    parts = []
    for i in range(grid.n_shares):
        mine = slice(i * share, (i + 1) * share)
        z = pad_rows(x[mine], dtype, offset, scale, n_rows=share)
        z[np.flatnonzero(weight[mine] == 0)] = 0.0
        parts.append((z, pad_vector(weight[mine], dtype, n_rows=share)))
    if len(grid.devices) == 1:
        return jax.device_put(parts[0][0]), jax.device_put(parts[0][1])
    mesh = grid.mesh
    sharding = NamedSharding(mesh, PartitionSpec(_ROWS))

    def joined(pieces: Sequence[np.ndarray]) -> Array:
        shape = (sum(len(piece) for piece in pieces), *pieces[0].shape[1:])
        rows = zip(pieces, mesh.devices, strict=True)
        put = [jax.device_put(piece, device) for piece, devices in rows for device in devices]
        return jax.make_array_from_single_device_arrays(shape, sharding, put)

    return joined([z for z, _ in parts]), joined([w for _, w in parts])


def collect_placed(factors: Factors, x: Array, weight: Array, kernel: str) -> SuffStats:
    """The statistics of every lane (L, ...) of rows that `place` put somewhere, added up in double precision."""
    if len(x.sharding.device_set) == 1:
        return collect_spans(factors, x=x, weight=weight, kernel=kernel, n_rows=x.shape[0], dtype=np.float64)
    assert isinstance(x.sharding, NamedSharding)
    mesh = x.sharding.mesh
    n_lanes = len(factors.means)
    # From the host to all devices: from one of them, every array would be cut and copied by a program of its own.
    factors = jax.tree.map(np.asarray, factors)
    # Every column of the grid has as many lanes; the first one fills up.
    missing = -n_lanes % mesh.shape[_LANES]
    full = take(factors, np.concatenate([np.arange(n_lanes), np.zeros(missing, int)])) if missing else factors
    add = mesh.devices.flat[0].platform not in _POOLED
    found = _collect_shares(full, x, weight, kernel=kernel, mesh=mesh, add=add)
    return take(added_up([found], np.float64), slice(n_lanes))


@partial(hot_jit, static_argnames=("kernel", "mesh", "add"))
def _collect_shares(factors: Factors, x: Array, weight: Array, *, kernel: str, mesh: Mesh, add: bool) -> SuffStats:
    """The statistics of each share of the rows (P, L, ...), or of all of them (1, L, ...) if they are to be added."""

    def share(factors: Factors, x: Array, weight: Array) -> SuffStats:
        mine = jax.vmap(lambda f: collect(f, x, weight, kernel=kernel))(factors)
        if add:
            # The pivots are no sums: they are the same for all rows.
            mine = replace(jax.lax.psum(mine, _ROWS), pivot=mine.pivot)
        return jax.tree.map(lambda a: a[None], mine)

    lanes, rows = PartitionSpec(_LANES), PartitionSpec(_ROWS)
    parts = PartitionSpec(None if add else _ROWS, _LANES)
    # JAX's check of what differs between devices does not see through the kernels' scans.
    mapped = jax.shard_map(share, mesh=mesh, in_specs=(lanes, rows, rows), out_specs=parts, check_vma=False)
    return mapped(factors, x, weight)
