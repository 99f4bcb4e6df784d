"""Agreement of labellings must not depend on what the labels are called, and must be the best over all renamings."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from jaxgmm._status import DataError
from jaxgmm.compare import (
    accuracy_up_to_relabelling,
    adjusted_rand_index,
    agreement,
    match_components,
    misclassification_rate,
)

RNG = np.random.default_rng(0)


def every_matching(truth, predicted):
    """The definition, by trying all one-to-one matchings of up to 5 labels."""
    best = 0.0
    for names in itertools.permutations(range(5)):
        best = max(best, float(np.mean(np.asarray(names)[predicted] == truth)))
    return best


@pytest.mark.parametrize("seed", range(8))
def test_accuracy_is_the_best_over_all_matchings(seed):
    rng = np.random.default_rng(seed)
    truth, predicted = rng.integers(0, rng.integers(1, 6), 40), rng.integers(0, rng.integers(1, 6), 40)
    expected = every_matching(truth, predicted)
    assert accuracy_up_to_relabelling(truth, predicted) == pytest.approx(expected, abs=1e-15)
    assert misclassification_rate(truth, predicted) == pytest.approx(1.0 - expected, abs=1e-15)
    assert agreement(truth, predicted) == agreement(predicted, truth) == accuracy_up_to_relabelling(truth, predicted)


def test_names_of_the_labels_do_not_matter():
    truth = np.array(["setosa", "virginica", "versicolor"])[RNG.integers(0, 3, 60)]
    renamed = np.select([truth == "setosa", truth == "virginica"], [7.5, -1.0], 3.0)
    assert accuracy_up_to_relabelling(truth, renamed) == 1.0
    assert accuracy_up_to_relabelling(list(truth), truth.astype(object)) == 1.0
    assert adjusted_rand_index(truth, renamed) == 1.0


def test_labels_without_a_partner_are_errors():
    # Splitting a class in two halves costs the smaller half: the matching is one-to-one.
    assert accuracy_up_to_relabelling([0] * 10, [0] * 6 + [1] * 4) == 0.6
    assert misclassification_rate([0] * 10, range(10)) == 0.9


@pytest.mark.parametrize("seed", range(5))
def test_adjusted_rand_index_against_scikit_learn(seed):
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, 4, 80), rng.integers(0, 3, 80)
    b = np.where(rng.random(80) < 0.2 * seed, a, b)
    assert adjusted_rand_index(a, b) == pytest.approx(metrics.adjusted_rand_score(a, b), abs=1e-14)


@pytest.mark.parametrize("labels", [[0] * 5, list(range(5)), ["x"], [1, 1, 2]])
def test_adjusted_rand_index_of_equal_partitions_is_one(labels):
    assert adjusted_rand_index(labels, [str(label) for label in labels]) == 1.0


def test_adjusted_rand_index_of_opposite_trivial_partitions_is_zero():
    assert adjusted_rand_index([0] * 5, range(5)) == 0.0


def test_adjusted_rand_index_does_not_overflow():
    n = 400_000  # C(n, 2)² is far above 2^63
    a = np.arange(n) % 2
    assert adjusted_rand_index(a, np.where(np.arange(n) < 4, 1 - a, a)) == pytest.approx(1 - 4 * 4 / n, abs=1e-9)


def test_components_are_matched_by_least_total_distance():
    means = RNG.normal(size=(6, 3))
    order = RNG.permutation(6)
    found = match_components(means, means[order] + 1e-3)
    np.testing.assert_array_equal(order[found], np.arange(6))
    # Nearest-first would pair 1 with 2 and leave 0 with 9, which costs more in total.
    assert match_components([[0.0], [1.0]], [[2.0], [9.0]]).tolist() == [0, 1]
    assert match_components([[1e200], [-1e200]], [[-1e200], [1e200]]).tolist() == [1, 0]
    assert match_components([[0.0], [0.0]], [[0.0], [0.0]]).tolist() == [0, 1]


@pytest.mark.parametrize(
    ("truth", "predicted", "words"),
    [
        ([0, 1], [0, 1, 1], "truth has 2 labels and predicted has 3"),
        ([], [], "truth is empty"),
        ([[0, 1]], [0, 1], "one label a row"),
        ([0, 1], [None, "a"], "predicted mixes values"),
        ([0, 1], [[0], [1, 2]], "predicted"),
        (np.arange(4000.0), np.arange(4000.0), "too many to match"),
    ],
)
def test_unusable_labels_are_refused(truth, predicted, words):
    with pytest.raises(DataError, match=words):
        accuracy_up_to_relabelling(truth, predicted)


def test_errors_name_the_arguments_of_the_function_called():
    with pytest.raises(DataError, match="labels_a has 1 labels and labels_b has 2"):
        agreement([1], [1, 2])
    with pytest.raises(DataError, match="b is empty"):
        adjusted_rand_index([1], [])
    with pytest.raises(DataError, match="equal numbers of components"):
        match_components([[0.0]], [[0.0], [1.0]])
    with pytest.raises(DataError, match="means_b contains NaN"):
        match_components([[0.0]], [[np.nan]])
