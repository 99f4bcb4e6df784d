"""What the tests of the shell work on: one size of data, one K and two restarts, so that few programs are compiled."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from jaxgmm.data import make_blobs

N, K, RESTARTS = 120, 3, "2"
COMMON = ["--n-restarts", RESTARTS, "--seed", "0"]


def blobs() -> np.ndarray:
    """The rows, (120, 2)."""
    return make_blobs(N, K, 2, seed=2).x


def write_blobs() -> None:
    """Write blobs.npy and blobs.csv (columns a, b, kind) into the present directory."""
    truth = make_blobs(N, K, 2, seed=2)
    np.save("blobs.npy", truth.x)
    names = np.array(["red", "green", "blue"])[truth.labels]
    rows = [f"{a!r},{b!r},{kind}" for (a, b), kind in zip(truth.x.tolist(), names, strict=True)]
    Path("blobs.csv").write_text("a,b,kind\n" + "\n".join(rows) + "\n")


def one_object(text: str) -> dict:
    """The one JSON object that a text holds; NaN and Infinity are not JSON."""
    assert text.count("\n") == 1

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)
