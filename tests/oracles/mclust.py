"""Reference fits by R's mclust on iris, thyroid and wine, and the partitions they started from.

mclust's conventions are kept in the tables (BIC and ICL: larger is better; `loglik` is a total; models go by
three-letter codes); labels count from 0 here. README.md beside this file says how the numbers were made.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
DATA = HERE.parents[1] / "configs" / "data"
NAMES = ("iris", "thyroid", "wine")
CODES = {
    "full": "VVV",
    "tied": "EEE",
    "diag": "VVI",
    "spherical": "VII",
    "tied_diag": "EEI",
    "tied_spherical": "EII",
}


@dataclass(frozen=True)
class FixedPoint:
    """Converged parameters of one family, in that family's own shape."""

    covariance_type: str
    weights: np.ndarray
    means: np.ndarray
    covariances: np.ndarray
    log_likelihood: float


@dataclass(frozen=True)
class Reference:
    """One data set with everything mclust said about it."""

    name: str
    x: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]
    partitions: np.ndarray
    tables: dict[str, Any]

    def partition(self, n_components: int) -> np.ndarray:
        """Labels 0 .. K-1 of the hard partition that the fits with K components started from."""
        return self.partitions[:, n_components - 1]

    def log_likelihood(self, covariance_type: str, n_components: int) -> float | None:
        """mclust's log-likelihood, or None where its fit is singular.

        For the four main families the limit of exact EM from `partition`; for the other two the
        value where mclust's default tolerance stopped on the same path, so a longer run ends at or above it.
        """
        code = CODES[covariance_type]
        table = self.tables["tight" if code in self.tables["tight"] else "loglik"]
        usable = self.tables["usable"].get(code, [True] * 9)[n_components - 1]
        return table[code][n_components - 1] if usable else None

    def n_parameters(self, covariance_type: str, n_components: int) -> int:
        """mclust's degrees of freedom."""
        return self.tables["df"][CODES[covariance_type]][n_components - 1]

    def cells(self) -> Iterator[tuple[str, int, float]]:
        """(covariance_type, K, converged log-likelihood) for the main families, where mclust has a fit."""
        for covariance_type, code in CODES.items():
            for n_components in self.tables["G"]:
                value = self.log_likelihood(covariance_type, n_components)
                if code in self.tables["tight"] and value is not None:
                    yield covariance_type, n_components, value

    def fixed_point(self, covariance_type: str) -> FixedPoint:
        """The converged parameters of a main family at its best K."""
        stored = self.tables["families"][CODES[covariance_type]]
        weights = np.array(stored["weights"])
        return FixedPoint(
            covariance_type,
            weights / weights.sum(),  # written with 15 digits: the sum is off by as much
            np.array(stored["means"]),
            np.array(stored["covariances"]),
            stored["loglik"],
        )

    def best(self) -> dict[str, Any]:
        """mclust's choice among its 14 models: weights, means, covariances (K, D, D) and criteria."""
        stored = dict(self.tables["best"])
        for field in ("weights", "means", "covariances"):
            stored[field] = np.array(stored[field])
        stored["weights"] /= stored["weights"].sum()
        return stored


@cache
def load(name: str) -> Reference:
    """Data, class labels, starting partitions and tables of iris, thyroid or wine; arrays are read-only."""
    with open(DATA / f"{name}.csv", newline="") as file:
        header, *rows = [row for row in csv.reader(file) if row]
    where = header.index("class") if "class" in header else len(header) - 1
    x = np.array([[float(v) for i, v in enumerate(row) if i != where] for row in rows])
    classes = [row[where] for row in rows]
    class_names = tuple(sorted(set(classes)))
    labels = np.array([class_names.index(c) for c in classes])
    partitions = np.loadtxt(HERE / "init" / f"{name}.csv", delimiter=",", skiprows=1, dtype=np.int64) - 1
    tables = json.loads((HERE / f"mclust_{name}.json").read_text())
    if x.shape != (tables["n"], tables["d"]) or len(partitions) != len(x):
        raise ValueError(f"{name}: data of shape {x.shape} do not belong to these tables")
    for array in (x, labels, partitions):
        array.flags.writeable = False
    return Reference(name, x, labels, class_names, partitions, tables)


def hard_start(
    x: np.ndarray, labels: np.ndarray, n_components: int, covariance_type: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Maximum-likelihood weights, means and covariances of a hard partition (labels 0 .. K-1, none empty).

    One M-step from 0/1 responsibilities, which is how mclust begins. A covariance may come out singular.
    """
    parts = [x[labels == k] for k in range(n_components)]
    weights = np.array([len(part) for part in parts]) / len(x)
    means = np.array([part.mean(axis=0) for part in parts])
    own = np.array([(part - m).T @ (part - m) / len(part) for part, m in zip(parts, means, strict=True)])
    pooled = np.tensordot(weights, own, axes=1)
    if covariance_type == "full":
        covariances = own
    elif covariance_type == "tied":
        covariances = pooled
    elif covariance_type == "diag":
        covariances = np.array([np.diag(s) for s in own])
    elif covariance_type == "spherical":
        covariances = np.array([np.trace(s) / x.shape[1] for s in own])
    elif covariance_type == "tied_diag":
        covariances = np.diag(pooled).copy()
    elif covariance_type == "tied_spherical":
        covariances = np.array(np.trace(pooled) / x.shape[1])
    else:
        raise ValueError(f"unknown covariance_type {covariance_type!r}")
    return weights, means, covariances
