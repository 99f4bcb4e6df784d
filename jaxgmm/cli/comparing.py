"""Components against classes that are known: what ``--label-column`` is for."""

from __future__ import annotations

from typing import Any

import numpy as np

from jaxgmm import compare as _compare
from jaxgmm.cli.output import Console
from jaxgmm.data import Table
from jaxgmm.report import clip

# A table of counts is printed up to this many classes and components.
MAX_SHOWN = 8


def compare(labels: np.ndarray, table: Table, console: Console) -> dict[str, Any]:
    """Print how well `labels` (N), components, match the known classes of a table, and return the numbers."""
    truth = table.labels
    assert truth is not None  # asked for only where a table has classes
    numbers: dict[str, Any] = {
        "accuracy": _compare.accuracy_up_to_relabelling(truth, labels),
        "misclassification_rate": _compare.misclassification_rate(truth, labels),
        "adjusted_rand_index": _compare.adjusted_rand_index(truth, labels),
    }
    classes, components = np.unique(truth), np.unique(labels)
    names = [table.label_names[c] if table.label_names else str(c) for c in classes]
    console.result(
        f"against the known classes: accuracy {numbers['accuracy']:.4f} up to relabelling, "
        f"ARI {numbers['adjusted_rand_index']:.4f}"
    )
    if max(len(classes), len(components)) > MAX_SHOWN:
        return numbers
    counts = [[int(np.sum((truth == c) & (labels == k))) for k in components] for c in classes]
    lines = [f"{'class':<14}k" + "".join(f"{k:>8}" for k in components)]
    for name, row in zip(names, counts, strict=True):
        lines.append(f"{clip(name, 14):<15}" + "".join(f"{n:>8}" for n in row))
    console.result("\n".join(lines))
    return numbers | {"classes": names, "components": components.tolist(), "counts": counts}
