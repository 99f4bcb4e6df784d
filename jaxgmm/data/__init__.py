"""Data in: tables from files, samples with known truth, scaling."""

from jaxgmm.data import synthetic
from jaxgmm.data.digits import make_digits
from jaxgmm.data.scaling import standardize
from jaxgmm.data.sources import Table, read_table
from jaxgmm.data.synthetic import (
    Synthetic,
    make_1d_blobs,
    make_bimodal,
    make_blobs,
    make_cube,
    make_ellipsoids,
    make_mixture,
    make_random,
    make_three_1d,
    make_two_gaussians,
)

GENERATORS = {**synthetic.GENERATORS, "digits": make_digits}

__all__ = [
    "GENERATORS",
    "Synthetic",
    "Table",
    "make_1d_blobs",
    "make_bimodal",
    "make_blobs",
    "make_cube",
    "make_digits",
    "make_ellipsoids",
    "make_mixture",
    "make_random",
    "make_three_1d",
    "make_two_gaussians",
    "read_table",
    "standardize",
]
