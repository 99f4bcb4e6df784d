"""Use case: thousands of small fits in one call, each with a number of components of its own.

2,000 data sets of 30 to 500 rows in the plane, each with one, two or three clusters, as when every shop, patient or
machine gets a mixture of its own. `jaxgmm.fit_many` fits one to four components to each, and BIC chooses for each; the
default prior keeps components from collapsing onto a few rows of the smallest sets. The number is how many sets a
second that makes, and how often the true count was found. The first call compiles, the second one does not; both are
timed. A loop of scikit-learn over 50 of the sets, with the same candidates and one thread, which is its fastest for so
few rows, is the comparison; it is not run on the rest.

Run: python configs/use_cases/many_small_fits.py    (needs scikit-learn and matplotlib; the data are generated)
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from _common import BLUE, ORANGE, axes, check_figure, command_line, save
from sklearn.mixture import GaussianMixture
from threadpoolctl import threadpool_limits

import jaxgmm

TRUE_COUNTS, CANDIDATES = (1, 2, 3), (1, 2, 3, 4)


def make_sets(n_sets: int, sizes: tuple[int, int], seed: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Tables (N, 2) of very different N, and how many clusters each has."""
    rng = np.random.default_rng(seed)
    counts = rng.choice(TRUE_COUNTS, n_sets)
    lengths = np.exp(rng.uniform(*np.log(sizes), n_sets)).astype(int)
    tables = []
    for count, size in zip(counts, lengths, strict=True):
        # Centres on a circle, so that clusters lie six standard deviations apart or more.
        angles = rng.uniform(0, 2 * np.pi) + 2 * np.pi * np.arange(count) / count
        centres = 4.0 * np.stack([np.cos(angles), np.sin(angles)], axis=1)
        which = np.arange(size) % count
        tables.append(rng.uniform(-50, 50, 2) + centres[which] + rng.standard_normal((size, 2)))
    return tables, counts


def chosen_by_sklearn(tables: Sequence[np.ndarray], seed: int) -> list[int]:
    """The same by a loop: fit every candidate, keep the one of smallest BIC."""
    found = []
    for x in tables:
        fits = [GaussianMixture(k, max_iter=500, random_state=seed).fit(x) for k in CANDIDATES]
        found.append(CANDIDATES[int(np.argmin([gm.bic(x) for gm in fits]))])
    return found


def main(
    figure: str | None = None,
    *,
    force: bool = False,
    n_sets: int = 2000,
    n_compared: int = 50,
    sizes: tuple[int, int] = (30, 500),
    seed: int = 0,
) -> dict[str, Any]:
    """Fit all sets in one call, and the first `n_compared` of them in a loop. sizes: fewest and most rows of a set."""
    check_figure(figure, force)
    tables, counts = make_sets(n_sets, sizes, seed)
    seconds = []
    for _ in range(2):
        began = time.perf_counter()
        found = jaxgmm.fit_many(tables, CANDIDATES, key=seed, prior="default")
        seconds.append(time.perf_counter() - began)
    with threadpool_limits(1):
        began = time.perf_counter()
        by_sklearn = chosen_by_sklearn(tables[:n_compared], seed)
        loop_per_second = n_compared / (time.perf_counter() - began)
    per_second = n_sets / seconds[1]
    right = float(np.mean(found.n_components == counts))
    print(
        f"{per_second:,.0f} sets a second, {n_sets:,} of them in one call of {seconds[1]:.1f} s (the first call, which "
        f"compiles, took {seconds[0]:.1f} s); the number of components is right in {100 * right:.1f} %."
    )
    print(
        f"scikit-learn in a loop: {loop_per_second:,.0f} sets a second, measured on {n_compared} sets and right in "
        f"{100 * np.mean(by_sklearn == counts[:n_compared]):.0f} %; at that rate all would take "
        f"{n_sets / loop_per_second:,.0f} s (extrapolated)."
    )
    if figure is not None:
        drawing, (left, right_panel) = axes(2)
        shares = [[np.mean(found.n_components[counts == c] == k) for k in CANDIDATES] for c in TRUE_COUNTS]
        left.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        for row, line in enumerate(shares):
            for column, share in enumerate(line):
                colour = "black" if share < 0.5 else "white"
                left.text(column, row, f"{100 * share:.1f} %", ha="center", va="center", color=colour)
        left.set_xticks(range(len(CANDIDATES)), [str(k) for k in CANDIDATES])
        left.set_yticks(range(len(TRUE_COUNTS)), [str(k) for k in TRUE_COUNTS])
        left.set(xlabel="components chosen by BIC", ylabel="true clusters")
        bars = right_panel.bar(
            ["jaxgmm.fit_many", "loop of scikit-learn"], [per_second, loop_per_second], color=(BLUE, ORANGE), width=0.5
        )
        right_panel.bar_label(bars, labels=[f"{rate:,.0f}" for rate in (per_second, loop_per_second)])
        right_panel.set(ylabel="sets a second")
        save(drawing, figure)
    return {
        "sets_per_second": per_second,
        "loop_per_second": loop_per_second,
        "right": right,
        "result": found,
        "tables": tables,
        "counts": counts,
        "by_sklearn": by_sklearn,
    }


if __name__ == "__main__":
    command_line(main, __file__)
