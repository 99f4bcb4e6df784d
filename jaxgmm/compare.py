"""How well do two labellings, or two sets of component means, agree when the numbering means nothing?

With n_ij the rows that have label i in one labelling and j in the other, a one-to-one matching π of labels
agrees on Σ_i n_iπ(i) rows; the best π is found by the Hungarian method (Kuhn 1955), not by trying.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from jaxgmm._checks import check_data
from jaxgmm._status import DataError

# The table of counts that the matching needs; 1000 against 1000 labels take well under a second.
_MAX_CELLS = 10**7


def accuracy_up_to_relabelling(truth: Any, predicted: Any) -> float:
    """The share of rows labelled correctly under the best one-to-one matching of labels.

        max_π Σ_i n_iπ(i) / N

    Labels left without a partner, because one labelling has more of them, count as errors.

    truth, predicted: (N) labels of any sortable values, not necessarily the same ones.
    Returns a number in (0, 1]. `DataError` for labels that are empty or not one per row.

    >>> accuracy_up_to_relabelling(["a", "a", "b", "b"], [1, 1, 0, 1])
    0.75
    """
    a, b, (n_a, n_b) = _encode(truth, predicted, "truth", "predicted")
    if n_a * n_b > _MAX_CELLS:
        raise DataError(
            "E235",
            f"the labellings have {n_a} and {n_b} different labels, too many to match",
            "give cluster labels, not measurements",
        )
    from scipy.optimize import linear_sum_assignment  # comes with JAX; loaded late because it takes 0.2 s

    table = np.bincount(a * n_b + b, minlength=n_a * n_b).reshape(n_a, n_b)
    rows, columns = linear_sum_assignment(table, maximize=True)
    return int(table[rows, columns].sum()) / len(a)


def misclassification_rate(truth: Any, predicted: Any) -> float:
    """1 − `accuracy_up_to_relabelling`: mclust's classError with a one-to-one matching of classes to clusters.

    truth, predicted: (N) labels of any sortable values. Returns a number in [0, 1).

    >>> misclassification_rate([0, 0, 1, 1], [5, 5, 5, 3])
    0.25
    """
    return 1.0 - accuracy_up_to_relabelling(truth, predicted)


def agreement(labels_a: Any, labels_b: Any) -> float:
    """The share of rows on which two fits agree under the best one-to-one matching of their components.

    Symmetric: neither labelling is the truth. The number is that of `accuracy_up_to_relabelling`.

    labels_a, labels_b: (N) labels of the same rows. Returns a number in (0, 1]. Errors as there.

    >>> agreement([0, 0, 1, 2], [2, 2, 0, 1])
    1.0
    """
    _encode(labels_a, labels_b, "labels_a", "labels_b")  # for the names in the errors
    return accuracy_up_to_relabelling(labels_a, labels_b)


def adjusted_rand_index(a: Any, b: Any) -> float:
    """The adjusted Rand index of two labellings (Hubert and Arabie 1985).

        (I − E) / (M − E),   I = Σ_ij C(n_ij, 2),   E = A B / C(N, 2),   M = (A + B) / 2

    with A = Σ_i C(n_i·, 2) and B = Σ_j C(n_·j, 2): 1 for equal partitions, the trivial ones included (one
    cluster, or every row its own), 0 on average for independent ones, negative below that.

    a, b: (N) labels of any sortable values. `DataError` for labels that are empty or not one per row.

    >>> round(adjusted_rand_index([0, 0, 1, 1], [0, 0, 1, 2]), 4)
    0.5714
    """
    codes_a, codes_b, (_, n_b) = _encode(a, b, "a", "b")
    pairs_a, pairs_b = _pairs(np.bincount(codes_a)), _pairs(np.bincount(codes_b))
    # Python's integers: the products exceed 64 bits from about 100 000 rows.
    both = _pairs(np.unique(codes_a * n_b + codes_b, return_counts=True)[1])
    total = len(codes_a) * (len(codes_a) - 1) // 2
    denominator = (pairs_a + pairs_b) * total - 2 * pairs_a * pairs_b
    # Zero only where both partitions are the same trivial one.
    return 2 * (both * total - pairs_a * pairs_b) / denominator if denominator else 1.0


def match_components(means_a: Any, means_b: Any) -> np.ndarray:
    """The permutation p with the smallest Σ_k |a_k − b_p(k)|²: component p[k] of b is component k of a.

    means_a, means_b: (K, D) in the same units; columns of very different scale should be standardised.
    Returns p, integers (K). `DataError` if the shapes differ or a number is not finite.

    >>> match_components([[0.0], [5.0], [9.0]], [[9.1], [0.2], [4.0]]).tolist()
    [1, 2, 0]
    """
    a, b = (check_data(m, name=name).astype(np.float64) for m, name in ((means_a, "means_a"), (means_b, "means_b")))
    if a.shape != b.shape:
        raise DataError(
            "E240", f"means_a has shape {a.shape} and means_b {b.shape}", "compare equal numbers of components"
        )
    from scipy.optimize import linear_sum_assignment

    unit = max(np.abs(a).max(), np.abs(b).max()) or 1.0  # squares of 1e200 would overflow
    distance = (((a / unit)[:, None, :] - (b / unit)[None, :, :]) ** 2).sum(axis=-1)
    return np.asarray(linear_sum_assignment(distance)[1])


def _pairs(counts: np.ndarray) -> int:
    """Σ C(n, 2)."""
    counts = counts.astype(np.int64)
    return int((counts * (counts - 1) // 2).sum())


def _encode(a: Any, b: Any, name_a: str, name_b: str) -> tuple[np.ndarray, np.ndarray, tuple[int, int]]:
    """Both labellings as codes 0, 1, … and how many different labels each has."""
    (codes_a, n_a), (codes_b, n_b) = _codes(a, name_a), _codes(b, name_b)
    if len(codes_a) != len(codes_b):
        raise DataError(
            "E230", f"{name_a} has {len(codes_a)} labels and {name_b} has {len(codes_b)}", "give both for the same rows"
        )
    return codes_a, codes_b, (n_a, n_b)


def _codes(labels: Any, name: str) -> tuple[np.ndarray, int]:
    try:
        array = np.asarray(labels)
        found, codes = np.unique(array, return_inverse=True)
    except (TypeError, ValueError):
        raise DataError(
            "E231", f"{name} mixes values that cannot be sorted", "use one kind of label, such as text"
        ) from None
    if array.ndim != 1:
        raise DataError("E230", f"{name} must hold one label a row, got shape {array.shape}", "pass a 1-D array")
    if not len(array):
        raise DataError("E208", f"{name} is empty", "give at least one label")
    return codes.astype(np.int64), len(found)
