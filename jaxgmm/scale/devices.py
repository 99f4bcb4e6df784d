"""Rows shared out among several devices: each works on its own, and what they found is added up on the host.

No device waits for another inside a program. The host's sum has a fixed order, and a machine whose devices are threads
of one small pool, as forced CPU devices are, cannot hang in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import numpy as np
from jax import Array
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxgmm._compile import hot_jit
from jaxgmm.data.rows import pad_rows, pad_vector
from jaxgmm.em.burst import collect_spans
from jaxgmm.params import Factors
from jaxgmm.stats import SuffStats, collect

_AXIS = "rows"


def row_mesh(devices: Sequence[jax.Device]) -> Mesh:
    """The devices in a line, along which rows are shared out."""
    return Mesh(np.asarray(devices), (_AXIS,), axis_types=(AxisType.Auto,))


def place(
    x: np.ndarray,
    weight: np.ndarray,
    dtype: Any,
    offset: np.ndarray,
    scale: float,
    n_rows: int,
    devices: Sequence[jax.Device],
) -> tuple[Array, Array]:
    """(x − offset) / scale and the weights on the devices, in equal shares, padded with weight 0 for `n_rows` rows.

    Rows of weight 0 become 0.
    """
    share = -(-n_rows // len(devices))
    parts = []
    for i in range(len(devices)):
        mine = slice(i * share, (i + 1) * share)
        z = pad_rows(x[mine], dtype, offset, scale, n_rows=share)
        z[np.flatnonzero(weight[mine] == 0)] = 0.0
        parts.append((z, pad_vector(weight[mine], dtype, n_rows=share)))
    if len(devices) == 1:
        return jax.device_put(parts[0][0]), jax.device_put(parts[0][1])
    sharding = NamedSharding(row_mesh(devices), PartitionSpec(_AXIS))

    def joined(pieces: Sequence[np.ndarray]) -> Array:
        shape = (sum(len(piece) for piece in pieces), *pieces[0].shape[1:])
        put = [jax.device_put(piece, device) for piece, device in zip(pieces, devices, strict=True)]
        return jax.make_array_from_single_device_arrays(shape, sharding, put)

    return joined([z for z, _ in parts]), joined([w for _, w in parts])


def collect_placed(factors: Factors, x: Array, weight: Array, kernel: str) -> list[SuffStats]:
    """The statistics of every lane (L, ...) of rows that `place` put somewhere, in parts (P, L, ...)."""
    if len(x.sharding.device_set) == 1:
        return collect_spans(factors, x=x, weight=weight, kernel=kernel, n_rows=x.shape[0])
    assert isinstance(x.sharding, NamedSharding)
    return [jax.tree.map(np.asarray, _collect_shares(factors, x, weight, kernel=kernel, mesh=x.sharding.mesh))]


@partial(hot_jit, static_argnames=("kernel", "mesh"))
def _collect_shares(factors: Factors, x: Array, weight: Array, *, kernel: str, mesh: Mesh) -> SuffStats:
    def share(factors: Factors, x: Array, weight: Array) -> SuffStats:
        mine = jax.vmap(lambda f: collect(f, x, weight, kernel=kernel))(factors)
        return jax.tree.map(lambda a: a[None], mine)

    everyone, rows = PartitionSpec(), PartitionSpec(_AXIS)
    # Whether values differ between devices is checked nowhere: nothing is exchanged.
    mapped = jax.shard_map(share, mesh=mesh, in_specs=(everyone, rows, rows), out_specs=rows, check_vma=False)
    return mapped(factors, x, weight)
