"""What cannot be used is refused at the door, in one clear sentence, by every public function."""

import jax
import numpy as np
import pytest
import scipy.sparse

import jaxgmm
from jaxgmm import DataError, FitError, JaxgmmError, UsageError
from tests.doors import DOORS, LABELS, OF_A_MODEL, PARAMS, fit
from tests.helpers import (
    D,
    K,
    N,
    params_of,
    parts_of,
)


def test_nan_and_infinity_are_named_by_row_and_column(small, door):
    x = small.x.copy()
    x[5, 2] = np.nan
    x[9, 0] = np.nan
    with pytest.raises(DataError, match=r"NaN at row 5, column 2 .*2 rows affected"):
        door(x)
    x = small.x.astype(np.float32)
    x[199, 1] = -np.inf
    with pytest.raises(DataError, match=r"infinity at row 199, column 1 .*1 row affected"):
        door(x)


def test_large_finite_numbers_are_not_infinite(small):
    x = small.x.copy()
    x[[0, 1], 0] = 1e308  # the sum overflows, the numbers do not
    assert np.isfinite(jaxgmm.log_prob(PARAMS, x)).all()


@pytest.mark.parametrize("size", [1e160, 1e308, 1.7e308])
def test_the_largest_numbers_end_as_an_error_in_words(size):
    """Their squares overflow, the power of two above them, and the difference of two of them."""
    for x in ([[size, -size]] * 4 + [[-size, size]] * 2, [[size, size]] * 3 + [[-size, size]] * 3):
        with pytest.raises(FitError, match=r"no start gave a usable model|do not fit into float64"):
            jaxgmm.fit(x, 2, key=0)


def test_the_largest_numbers_of_single_precision_end_as_an_error_in_words():
    x = np.random.default_rng(0).choice(np.array([-3e38, 3e38], np.float32), (20, 2))
    with pytest.raises(FitError, match="do not fit into float32"):
        jaxgmm.fit(x, 2, key=0)


REFUSED = {
    "one axis": (np.zeros(N), r"2-D .*reshape\(-1, 1\)"),
    "three axes": (np.zeros((1, N, D)), "2-D"),
    "a number": (3.0, "2-D"),
    "nothing": (None, "2-D"),
    "strings": (np.full((N, D), "1.5"), "must hold numbers.*1.5"),
    "a word among objects": ([[1, 2, 3.0], [4, "five", 6]], "must hold numbers.*five"),
    "an object among objects": (np.array([[1.0, 2.0, {}]] * N, object), "must hold numbers.*{}"),
    "a missing value": (np.array([[1.0, None, 2.0]] * N, object), "(must hold numbers.*None|NaN at row 0, column 1)"),
    "a number too large for any float": ([[1, 2, 3.0], [4, 10**400, 6]], "must hold numbers.*1000"),
    "a number too large for double precision": (
        np.full((N, D), np.longdouble("1e4000")),
        "infinity at row 0, column 0",
    ),
    "dates": (np.zeros((N, D), "M8[s]"), "must hold numbers"),
    "ragged rows": ([[1.0, 2.0, 3.0], [4.0]], "not a rectangular table"),
    "complex": (np.zeros((N, D)) + 1j, "complex"),
    "masked": (np.ma.masked_equal(np.ones((N, D)) * np.arange(D), 1), f"{N} masked values"),
    "sparse": (scipy.sparse.csr_array(np.eye(N, D)), "sparse.*toarray"),
    "no rows": (np.empty((0, D)), "0 rows"),
    "no columns": (np.empty((N, 0)), "no columns"),
    "an empty list": ([], "2-D"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_data_that_cannot_be_used(door, case):
    x, message = REFUSED[case]
    with pytest.raises(DataError, match=message) as caught:
        door(x)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", OF_A_MODEL)
@pytest.mark.parametrize("n_columns", [1, 2, 4])
def test_another_number_of_columns_than_the_model(small, name, n_columns):
    x = np.resize(small.x, (N, n_columns))
    with pytest.raises(DataError, match=rf"(x has {n_columns} columns?|{D} features, but x has {n_columns})"):
        DOORS[name](x)


@pytest.mark.parametrize("n_rows", [1, 2])
def test_fewer_rows_than_components(small, n_rows):
    with pytest.raises(DataError, match=rf"{n_rows} rows? .*n_components=3; ask for at most {n_rows} comp"):
        jaxgmm.fit(small.x[:n_rows], K, key=0)
    with pytest.raises(DataError, match=rf"{n_rows} rows? .*n_components=4"):
        jaxgmm.sweep(small.x[:n_rows], range(1, 5), key=0)
    weight = np.zeros(N)
    weight[:n_rows] = 1
    with pytest.raises(DataError, match=rf"{n_rows} rows? \(of positive weight\)"):
        fit(small.x, sample_weight=weight)


def test_one_row_is_a_mixture_of_one(small):
    result = jaxgmm.fit(small.x[:1], 1, key=0, reg_covar=0.5)
    np.testing.assert_allclose(result.params.means, small.x[:1])
    np.testing.assert_allclose(result.params.covariances, 0.5 * np.eye(D)[None])
    assert jaxgmm.predict(PARAMS, small.x[:1]).shape == (1,)
    assert jaxgmm.log_prob(PARAMS, small.x[:1]).shape == (1,)


WEIGHTS_REFUSED = {
    "negative": (np.where(np.arange(N) == 7, -0.5, 1.0), r"negative \(-0.5\) at row 7"),
    "all zero": (np.zeros(N), "zero for every row"),
    "too short": (np.ones(N - 1), rf"shape \({N - 1},\), but x has {N} rows"),
    "a single one": ([2.0], rf"shape \(1,\), but x has {N} rows"),
    "a table": (np.ones((N, 2)), rf"shape \({N}, 2\)"),
    "NaN": (np.where(np.arange(N) == 7, np.nan, 1.0), "NaN at row 7"),
    "infinite": (np.where(np.arange(N) == 7, np.inf, 1.0), "infinity at row 7"),
    "words": (["heavy"] * N, "must hold numbers.*heavy"),
    "complex": (np.ones(N) + 0j, "complex"),
}
WEIGHTED = {
    "fit": lambda x, w: fit(x, sample_weight=w),
    "sweep": lambda x, w: jaxgmm.sweep(x, [2], key=0, sample_weight=w),
    "e_step": lambda x, w: jaxgmm.e_step(PARAMS, x, w),
    "em_step": lambda x, w: jaxgmm.em_step(PARAMS, x, w),
    "score": lambda x, w: jaxgmm.score(PARAMS, x, w),
    "silhouette": lambda x, w: jaxgmm.silhouette(x, LABELS, w),
    "orthant_counts": lambda x, w: jaxgmm.orthant_counts(x, w),
    "params_from_labels": lambda x, w: jaxgmm.params_from_labels(x, LABELS, sample_weight=w),
}


@pytest.mark.parametrize("name", WEIGHTED)
@pytest.mark.parametrize("case", WEIGHTS_REFUSED)
def test_weights_that_cannot_be_used(small, name, case):
    weight, message = WEIGHTS_REFUSED[case]
    with pytest.raises(DataError, match=message):
        WEIGHTED[name](small.x, weight)


def test_weights_that_float32_cannot_hold(small):
    """Too large or too small for the computing type is an error in words, never a warning from inside."""
    for size in (1e39, 1e-33, 1e-50):
        with pytest.raises(DataError, match="sample_weight"):
            fit(small.x.astype(np.float32), sample_weight=np.full(N, size))


def test_weights_in_any_shape_of_one_per_row(small):
    wanted = jaxgmm.score(PARAMS, small.x, small.counts)
    for weight in (small.counts.tolist(), small.counts[:, None], small.counts.astype(">i2"), small.counts * 1.0):
        assert jaxgmm.score(PARAMS, small.x, weight) == wanted
    assert fit(small.x, sample_weight=small.counts > 0).weight_sum == (small.counts > 0).sum()


WORDS_REFUSED = {
    "covariance_type": (lambda x: fit(x, covariance_type="fulll"), "'fulll'; did you mean 'full'"),
    "covariance_type of another type": (lambda x: fit(x, covariance_type=["full"]), "covariance_type"),
    "init": (lambda x: fit(x, init="kmean"), "'kmean'; did you mean 'kmeans'"),
    "init of another type": (lambda x: fit(x, init=np.zeros((K, D))), "init"),
    "init as a list": (lambda x: fit(x, init=[PARAMS]), "init"),
    "criterion": (lambda x: jaxgmm.sweep(x, [2], key=0, criterion="BICC"), "'BICC'.*choose one of bic"),
    "family in a sweep": (lambda x: jaxgmm.sweep(x, [2], key=0, covariance_types=["diag", "tide"]), "'tied'"),
    "families that are none": (lambda x: jaxgmm.sweep(x, [2], key=0, covariance_types=5), "covariance_type"),
    "no families": (lambda x: jaxgmm.sweep(x, [2], key=0, covariance_types=()), "covariance_types is empty"),
    "no candidates": (lambda x: jaxgmm.sweep(x, range(5, 2), key=0), "candidates is empty"),
    "candidates that are none": (lambda x: jaxgmm.sweep(x, 5.5, key=0), "candidate"),
    "a candidate that is none": (lambda x: jaxgmm.sweep(x, [1, "two"], key=0), "'two'"),
    "a candidate of zero": (lambda x: jaxgmm.sweep(x, range(3), key=0), "at least 1, got 0"),
    "a sweep from parameters": (lambda x: jaxgmm.sweep(x, [K], init=PARAMS), "start method by name"),
    "the silhouette of one": (lambda x: jaxgmm.sweep(x, [1], key=0, criterion="silhouette"), "at least 2"),
    "no key": (lambda x: jaxgmm.fit(x, K), "pass key"),
    "no key in a sweep": (lambda x: jaxgmm.sweep(x, [2]), "pass key"),
    "no key to sample": (lambda x: jaxgmm.sample(PARAMS, None, 5), "pass key"),
    "a fractional key": (lambda x: jaxgmm.fit(x, K, key=1.5), "key must be"),
    "a generator as key": (lambda x: jaxgmm.fit(x, K, key=np.random.default_rng(0)), "key must be"),
    "several keys": (lambda x: jaxgmm.fit(x, K, key=jax.random.split(jax.random.key(0), 3)), "key"),
    "K of zero": (lambda x: fit(x, 0), "n_components must be at least 1, got 0"),
    "K below zero": (lambda x: fit(x, -2), "n_components must be at least 1, got -2"),
    "a fractional K": (lambda x: fit(x, 3.0), "n_components must be a whole number, got 3.0"),
    "K as a word": (lambda x: fit(x, "3"), "n_components must be a whole number, got '3'"),
    "K as a truth value": (lambda x: fit(x, True), "whole number"),
    "no restarts": (lambda x: jaxgmm.fit(x, K, key=0, n_restarts=0), "n_restarts must be at least 1"),
    "tol below zero": (lambda x: fit(x, tol=-1e-3), "tol must be finite and at least 0, got -0.001"),
    "tol as a word": (lambda x: fit(x, tol="1e-3"), "tol must be a number, got '1e-3'"),
    "tol not finite": (lambda x: fit(x, tol=np.nan), "tol must be finite"),
    "tol beyond every float": (lambda x: fit(x, tol=10**400), "tol must be finite and at least 0, got 1000"),
    "reg_covar below zero": (lambda x: fit(x, reg_covar=-1.0), "reg_covar must be finite and at least 0"),
    "max_iter below zero": (lambda x: fit(x, max_iter=-1), "at least 0, got -1; for example max_iter=1000"),
    "a fractional max_iter": (lambda x: fit(x, max_iter=2.5), "max_iter must be a whole number"),
    "no samples": (lambda x: jaxgmm.sample(PARAMS, 0, 0), "n_samples must be at least 1"),
    "another K than the start's": (lambda x: fit(x, 4), "init has 3 components"),
    "another family than the start's": (lambda x: fit(x, covariance_type="diag"), "init has covariance_type 'full'"),
}


@pytest.mark.parametrize("case", WORDS_REFUSED)
def test_options_that_cannot_be_used(small, case):
    call, message = WORDS_REFUSED[case]
    with pytest.raises(UsageError, match=message) as caught:
        call(small.x)
    assert "\n" not in str(caught.value)


def test_orthants_beyond_reach():
    wide = np.random.default_rng(0).normal(size=(40, 17))
    for call in (jaxgmm.orthant_counts, lambda x: jaxgmm.fit(x, 2, init="orthant")):
        with pytest.raises(UsageError, match="D=17 columns, more than 16"):
            call(wide)
    with pytest.raises(DataError, match=r"occupy 8 orthants .*9 components"):
        jaxgmm.fit(np.random.default_rng(0).normal(size=(N, D)), 9, init="orthant")


def _changed(**parts):
    weights, means, covariances, _ = parts_of(PARAMS)
    given = {"weights": weights, "means": means, "covariances": covariances} | parts
    return params_of((given["weights"], given["means"], given["covariances"]), "full")


STARTS_REFUSED = {
    "weights that sum to 2": (_changed(weights=PARAMS.weights * 2), "sum to 1, got a sum of 2"),
    "a negative weight": (_changed(weights=[1.5, -0.25, -0.25]), "at least 0"),
    "weights of another K": (_changed(weights=[0.5, 0.5]), r"shapes \(K\) and \(K, D\)"),
    "a NaN mean": (_changed(means=PARAMS.means * np.nan), "means contain NaN"),
    "covariances of another shape": (_changed(covariances=np.eye(D)), r"must have shape \(3, 3, 3\), got \(3, 3\)"),
    "a singular covariance": (_changed(covariances=PARAMS.covariances * 0), "not positive definite"),
    "an indefinite covariance": (_changed(covariances=PARAMS.covariances - 9 * np.eye(D)), "not positive definite"),
}


@pytest.mark.parametrize("case", STARTS_REFUSED)
def test_starting_parameters_that_cannot_be_used(small, case):
    params, message = STARTS_REFUSED[case]
    with pytest.raises(DataError, match=message):
        fit(small.x, init=params)
    with pytest.raises(DataError, match=message):
        jaxgmm.make_params(params.weights, params.means, params.covariances)


def test_given_starts_that_cannot_be_used(small):
    x = small.x
    with pytest.raises(DataError, match=r"labels have shape \(2,\), but x has 200 rows"):
        jaxgmm.params_from_labels(x, [0, 1])
    with pytest.raises(DataError, match=r"labels have shape \(200, 1\)"):
        jaxgmm.params_from_labels(x, np.zeros((N, 1)))
    with pytest.raises(DataError, match="at least 0, got -1"):
        jaxgmm.params_from_responsibilities(x, np.where(np.arange(2) == 1, -1.0, np.ones((N, 2))))
    with pytest.raises(DataError, match="no row belongs to component 1"):
        jaxgmm.params_from_responsibilities(x, np.stack([np.ones(N), np.zeros(N)], axis=1))
    with pytest.raises(DataError, match="no row of x is nearest to mean 1"):
        jaxgmm.params_from_means(x, [[0, 0, 0], [1e6, 0, 0]])
    with pytest.raises(DataError, match="means has 2 columns"):
        jaxgmm.params_from_means(x, [[0, 0], [1, 0]])
    with pytest.raises(UsageError, match="either covariances or precisions"):
        jaxgmm.make_params([1.0], [[0.0]], [[1.0]], "diag", precisions=[[1.0]])
    for wrong in ([[0.0], [1.0, 2.0]], [["a"], ["b"]], [[0j], [1j]]):
        with pytest.raises(JaxgmmError, match="means"):
            jaxgmm.make_params([0.5, 0.5], wrong, [1.0, 1.0], "spherical")


def test_labels_of_a_silhouette(small):
    with pytest.raises(DataError, match="at least 2 clusters, got 1"):
        jaxgmm.silhouette(small.x, np.zeros(N))
    with pytest.raises(DataError, match=r"labels have shape \(20,\), but x has 200 rows"):
        jaxgmm.silhouette(small.x, np.zeros(20))


def test_errors_are_value_errors():
    """So that callers who know nothing of this package catch them."""
    for error in (DataError, UsageError, FitError):
        assert issubclass(error, JaxgmmError)
        assert issubclass(error, ValueError)
