"""Whatever table comes in: a clear error for a reason that is in the data, or a model that recomputation confirms.

Examples are drawn by hypothesis, always the same ones: 500 in the default command, forty times as many with
``-m slow``. Rows stay inside one padded size and shapes come from short lists, so that few programs are compiled.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

import jaxgmm
from jaxgmm import FitError, GMMParams, JaxgmmError, Status
from jaxgmm.__main__ import main
from jaxgmm.estimators import GaussianMixture
from tests import awkward
from tests.awkward import Recipe, computed, recipes
from tests.helpers import parts_of, random_params
from tests.oracles import extended

MANY = 40
MAX_ITER = 200
N_DRAWN = 64
EPS = np.finfo(np.float64).eps

# Family, features, components, start.
SHAPES = (
    ("full", 2, 3, "kmeans"),
    ("tied", 3, 2, "random_from_data"),
    ("diag", 1, 4, "kmeans"),
    ("spherical", 4, 1, "k-means++"),
    ("tied_diag", 2, 5, "random"),
    ("tied_spherical", 3, 3, "kmeans"),
)
SINGLE_TOO = ("full", "diag")


def law(n_examples: int, **strategies: Any) -> Callable[[Callable[..., None]], Callable[[int], None]]:
    """The decorated function as a test over so many examples, and over `MANY` times as many when slow tests run."""

    def decorate(statement: Callable[..., None]) -> Callable[[int], None]:
        @pytest.mark.parametrize("n", [n_examples, pytest.param(MANY * n_examples, marks=pytest.mark.slow)])
        def test(n: int) -> None:
            how = settings(
                max_examples=n,
                deadline=None,
                derandomize=True,
                database=None,
                suppress_health_check=list(HealthCheck),
            )
            how(given(**strategies)(statement))()

        test.__doc__ = statement.__doc__
        return test

    return decorate


@st.composite
def cases(draw: st.DrawFn, **fixed: Any) -> tuple[tuple[str, int, int, str], Recipe]:
    """A shape and a recipe; single precision only where its programs are compiled anyway."""
    shape = draw(st.sampled_from(SHAPES))
    recipe = draw(recipes(**fixed))
    if shape[0] not in SINGLE_TOO and computed(recipe.make(shape[1])[0]).dtype == np.float32:
        recipe = Recipe(**(vars(recipe) | {"dtype": "<f8" if recipe.dtype[0] == "<" else ">f8"}))
    return shape, recipe


# What is true of every model


def confirm_model(params: GMMParams, x: np.ndarray, used: np.ndarray, reg_covar: float = 1e-6) -> None:
    """Weights sum to 1, nothing is NaN, means lie among the rows (N, D) that count and variances within their spread.

    used (N): which rows count. reg_covar: in units of the data or of their variance, the bound allows for both. A
    component without weight is only asked for numbers.
    """
    weights, means, covariances, family = parts_of(params)
    eps = float(np.finfo(params.dtype).eps)
    for part in (weights, means, covariances):
        assert np.isfinite(part).all()
    assert (weights >= 0).all()
    assert abs(weights.sum() - 1) <= 8 * len(weights) * eps
    active, rows = weights > 0, x[used].astype(extended.Wide)
    low, high = rows.min(axis=0), rows.max(axis=0)
    slack = 8 * eps * np.maximum(np.abs(low), np.abs(high)) + np.finfo(params.dtype).tiny
    assert (means[active] >= low - slack).all()
    assert (means[active] <= high + slack).all()
    full = extended.numpy_gmm.to_full(covariances, family, *means.shape).astype(extended.Wide)
    variances = np.diagonal(full, axis1=1, axis2=2)[active]
    assert (variances > 0).all()
    # At most a quarter of the squared range, and what reg_covar adds.
    widest = (high - low).max() ** 2 / 4
    assert (variances <= widest * (1 + 1e-5 + reg_covar) + 1.001 * reg_covar + slack.max() ** 2).all()


def unsure(x: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """How far rounding of rows and means may move a deviation, (D)."""
    return 4 * extended.Wide(np.finfo(dtype).eps) * np.abs(x.astype(extended.Wide)).max(axis=0)


def confirm_log_likelihood(result: Any, x: np.ndarray, weight: np.ndarray) -> None:
    """The log-likelihood that was reported is that of the parameters that were returned."""
    used = weight > 0
    rows, v = x[used], weight[used].astype(extended.Wide)
    dtype = result.params.dtype
    pivot = (v @ rows.astype(extended.Wide)) / v.sum()
    found = extended.densities(
        rows,
        parts_of(result.params)[:3],
        result.covariance_type,
        dtype,
        unsure=unsure(x, dtype),
        pivot=pivot if result.kernel == "features" else None,
    )
    low, high = found.log_prob()
    # In units of the rows the sum is another one, by log of the unit per row and feature.
    reach = float(np.abs(rows - pivot).max()) or float(np.finfo(dtype).tiny)
    terms = np.maximum(np.abs(low), np.abs(high)) + 1 + x.shape[1] * (1 + abs(math.log(reach)))
    rounding = extended.ULPS * np.finfo(dtype).eps * (v @ terms)
    assert v @ low - rounding <= result.log_likelihood <= v @ high + rounding
    assert math.isfinite(result.classification_log_likelihood)
    assert result.classification_log_likelihood <= result.log_likelihood + rounding


def confirm_status(result: Any) -> None:
    """A fit that is called converged had stopped moving; one that is not says so."""
    assert result.converged == (result.status == Status.CONVERGED)
    assert result.message.startswith("converged") == result.converged
    history = result.history
    assert np.isfinite(history).all()
    assert len(history) <= result.n_iter + 1 <= MAX_ITER + 1
    size = result.weight_sum + abs(result.log_likelihood)
    rounding = 4096 * np.finfo(result.params.dtype).eps * size
    assert result.log_likelihood >= history.max() - rounding
    if result.converged:
        still = max(result.options["tol"] * size, rounding) + result.options["tol_mean"] * result.weight_sum
        assert abs(float(history[-1]) - float(history[-2])) <= still
    if result.status == Status.MAX_ITER:
        assert result.n_iter == MAX_ITER


def confirm_answers(
    params: GMMParams, x: np.ndarray, log_prob: np.ndarray, resp: np.ndarray, labels: np.ndarray
) -> None:
    """Densities are right, responsibilities sum to 1, labels name the largest."""
    n_components, dtype = params.n_components, np.result_type(params.dtype, x.dtype)
    eps = np.finfo(dtype).eps
    assert log_prob.shape == labels.shape == (len(x),)
    assert resp.shape == (len(x), n_components)
    assert np.isfinite(log_prob).all()
    assert np.isfinite(resp).all()
    assert (resp >= 0).all()
    np.testing.assert_allclose(resp.sum(axis=1), 1.0, rtol=0, atol=8 * n_components * eps)
    assert ((labels >= 0) & (labels < n_components)).all()
    assert (parts_of(params)[0][labels] > 0).all()
    assert (resp[np.arange(len(x)), labels] >= resp.max(axis=1) - 8 * eps).all()
    found = extended.densities(x, parts_of(params)[:3], params.covariance_type, dtype)
    low, high = found.log_prob()
    # Rows further away than squares can tell have a density that is finite, and no more is promised.
    near = found.squared[:, parts_of(params)[0] > 0].min(axis=1) < float(np.finfo(dtype).max) * 1e-12
    slack = extended.ULPS * eps * (1 + np.abs(low))
    assert ((log_prob >= low - slack) & (log_prob <= high + slack))[near].all()
    assert (log_prob[~near] < -1e20).all()


def confirm_draws(params: GMMParams, x: np.ndarray, labels: np.ndarray) -> None:
    """Rows of the components that have weight, within what a normal variable ever reaches."""
    weights, means, covariances, family = parts_of(params)
    assert x.shape == (N_DRAWN, params.n_features)
    assert np.isfinite(x).all()
    assert (weights[labels] > 0).all()
    full = extended.numpy_gmm.to_full(covariances, family, *means.shape)
    deviations = np.sqrt(np.diagonal(full, axis1=1, axis2=2))[labels]
    rounding = 4 * np.finfo(params.dtype).eps * np.abs(means[labels]) + 1e-30 * (params.dtype == np.float32)
    assert (np.abs(x - means[labels]) <= 8 * deviations + rounding).all()


# When an error is fair


def reasons(
    x: np.ndarray, weight: np.ndarray, n_components: int, reg_covar: float, *, relative: bool = True
) -> set[type[Exception]]:
    """The errors that this table (N, D) may end in. relative: reg_covar is in units of the variances."""
    found: set[type[Exception]] = set()
    if not np.isfinite(x).all() or np.count_nonzero(weight) < n_components:
        found.add(jaxgmm.DataError)
    if np.isfinite(x).all() and weight.any():
        info, rows = np.finfo(x.dtype), x[weight > 0].astype(extended.Wide)
        # A mean in double precision is off by so much, and rows that are all equal lie about it.
        reach = np.abs(x.astype(extended.Wide) - rows.mean(axis=0)).max() + 2 * EPS * np.abs(x).max()
        floor = reg_covar * reach**2 if relative else reg_covar
        unseen = reg_covar <= math.sqrt(info.eps) if relative else reg_covar <= math.sqrt(info.eps) * reach**2
        # Too large, too small to be squared, or without a floor that the precision can see.
        if reach**2 > info.max * 1e-3 or 0 < floor < info.tiny * 1e12 or unseen:
            found.add(FitError)
    return found


def weights_of(weight: np.ndarray | None, n_samples: int, dtype: Any) -> np.ndarray:
    """The weights (N) as they are computed with."""
    return np.ones(n_samples) if weight is None else np.asarray(weight, dtype).astype(np.float64)


def attempt(call: Callable[[], Any], *errors: type[Exception]) -> Any:
    """What the call returns, or the error of one of these kinds that it raises."""
    try:
        return call()
    except errors as error:
        return error


def assert_clear(error: Exception) -> None:
    """One sentence that says something, and no trace of the machinery."""
    text = str(error)
    assert len(text) > 20
    assert "\n" not in text
    assert not any(word in text for word in ("Traceback", "XLA", "jaxlib", "<class"))


# Fits


@law(220, case=cases(), reg_covar=st.sampled_from((1e-6, 1e-6, 0.0, 0.1)))
def test_a_fit_is_confirmed_or_refused_for_a_reason(case, reg_covar):
    (family, n_features, n_components, init), recipe = case
    table, sample_weight = recipe.make(n_features)
    x = computed(table)
    weight = weights_of(sample_weight, len(x), x.dtype)
    how = {"covariance_type": family, "init": init, "reg_covar": reg_covar, "max_iter": MAX_ITER, "key": recipe.seed}
    result = attempt(lambda: jaxgmm.fit(table, n_components, sample_weight=sample_weight, **how), JaxgmmError)
    if isinstance(result, Exception):
        assert_clear(result)
        assert type(result) in reasons(x, weight, n_components, reg_covar), result
        return
    assert result.params.dtype == x.dtype
    confirm_model(result.params, x, weight > 0, reg_covar)
    confirm_log_likelihood(result, x, weight)
    confirm_status(result)
    params = result.params
    confirm_answers(params, x, *(score(params, table) for score in SCORES))
    confirm_draws(params, *jaxgmm.sample(params, recipe.seed, N_DRAWN))


SAME_NUMBERS = [name for name in awkward.LAYOUTS if name not in ("broadcast", "list", "tuple")]


@law(60, case=cases(dtype=st.sampled_from(("f8", "f4", "i4")), exponent=st.sampled_from((0, 3, -100)), layout="C"))
def test_memory_layout_and_byte_order_change_no_bit(case):
    (family, n_features, n_components, init), recipe = case
    numbers = recipe.numbers(n_features)
    weight = recipe.make(n_features)[1]
    how = {"covariance_type": family, "key": 0, "init": init, "max_iter": 5, "sample_weight": weight}

    def bits(table: Any) -> tuple[bytes, ...] | str:
        result = attempt(lambda: jaxgmm.fit(table, n_components, **how), JaxgmmError)
        if isinstance(result, Exception):
            return str(result)
        scores = (jaxgmm.log_prob(result.params, table), jaxgmm.responsibilities(result.params, table))
        arrays = (*parts_of(result.params)[:3], result.history, *scores)
        return tuple(np.asarray(a).tobytes() for a in arrays)

    wanted = bits(numbers)
    swapped = numbers.astype(numbers.dtype.newbyteorder(">"))
    for layout in SAME_NUMBERS[recipe.seed % 3 :: 3]:
        assert bits(awkward.laid_out(numbers, layout)) == wanted
        assert bits(awkward.laid_out(swapped, layout)) == wanted


# Scores of a given mixture

SCORES = (jaxgmm.log_prob, jaxgmm.responsibilities, jaxgmm.predict)


@law(80, shape=st.sampled_from(SHAPES), recipe=recipes(weights="none"), single=st.booleans())
def test_any_rows_are_scored_by_any_sound_mixture(shape, recipe, single):
    family, n_features, n_components, _ = shape
    table, _ = recipe.make(n_features)
    x = computed(table)
    dtype = np.float32 if single and family in SINGLE_TOO else np.float64
    params = random_params(family, n_components, n_features, recipe.seed, dtype)
    if dtype == np.float64 and family not in SINGLE_TOO:
        x = x.astype(np.float64)
    answers = attempt(lambda: [score(params, table) for score in SCORES], JaxgmmError)
    if isinstance(answers, Exception):
        assert_clear(answers)
        assert not np.isfinite(x).all()
        return
    confirm_answers(params, x, *answers)


# The drop-in


def fitted(model: GaussianMixture, table: Any, sample_weight: Any) -> GaussianMixture:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Best performing initialization did not converge")
        warnings.filterwarnings("ignore", message="reg_covar=.* is more than a thousandth")
        return model.fit(table, sample_weight=sample_weight)


@law(60, case=cases())
def test_the_drop_in_is_confirmed_or_refuses_with_a_value_error(case):
    (family, n_features, n_components, _), recipe = case
    table, sample_weight = recipe.make(n_features)
    x = computed(table)
    weight = weights_of(sample_weight, len(x), x.dtype)
    model = GaussianMixture(n_components, covariance_type=family, random_state=0, max_iter=MAX_ITER)
    found = attempt(lambda: fitted(model, table, sample_weight), ValueError, TypeError)
    if isinstance(found, Exception):
        assert len(str(found)) > 20
        assert reasons(x, weight, n_components, model.reg_covar, relative=False) or len(x) < 2, found
        return
    confirm_model(model.result_.params, x, weight > 0)
    # As in scikit-learn, half precision is computed in double.
    confirm_log_likelihood(model.result_, x, weights_of(sample_weight, len(x), model.result_.params.dtype))
    confirm_status(model.result_)
    answers = (model.score_samples(table), model.predict_proba(table), model.predict(table))
    confirm_answers(model.result_.params, x, *answers)
    confirm_draws(model.result_.params, *model.sample(N_DRAWN))


# The shell


def shell(*words: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a command line; no traceback, whatever happens."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(list(words))
    assert "Traceback" not in err.getvalue(), err.getvalue()
    assert "a bug" not in err.getvalue(), err.getvalue()
    return code, out.getvalue(), err.getvalue()


@contextlib.contextmanager
def inside_a_folder() -> Iterator[Path]:
    before = os.getcwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            yield Path(folder)
        finally:
            os.chdir(before)


@law(40, case=cases(weights="none", layout=st.sampled_from(("C", "F"))), as_text=st.booleans())
def test_the_shell_fits_scores_predicts_and_samples_or_says_why_not(case, as_text):
    (family, n_features, n_components, init), recipe = case
    numbers = recipe.numbers(n_features)
    as_text = as_text and numbers.dtype.kind == "f" and family != "spherical"
    with inside_a_folder() as folder:
        source = "rows.csv" if as_text else "rows.npy"
        if as_text:
            lines = [",".join(map(repr, row)) for row in numbers.astype(np.float64).tolist()]
            Path(source).write_text("\n".join(lines) + "\n")
        else:
            np.save(source, recipe.make(n_features)[0], allow_pickle=True)
        x = computed(numbers.astype(np.float64) if as_text else numbers)
        code, out, err = shell(
            *("fit", source, "-n", str(n_components), "--covariance-type", family, "--init", init),
            *("--seed", "0", "--max-iter", str(MAX_ITER), "--n-restarts", "1", "-o", "model.npz", "--json"),
        )
        if code:
            assert code in (1, 2, 3)
            assert err.strip()
            assert not (folder / "model.npz").exists()
            fair = reasons(x, np.ones(len(x)), n_components, 1e-6)
            assert fair or numbers.dtype.kind not in "fiu" or x.dtype != numbers.dtype, err
            return
        model = jaxgmm.load("model.npz")
        said = json.loads(out)
        confirm_model(model.params, x, np.ones(len(x), bool))
        assert said["log_likelihood"] == model.meta["log_likelihood"]
        assert said["converged"] == (said["status"] == "CONVERGED")
        code, out, _ = shell("score", "model.npz", source, "--per-row", "scores.npy", "--json")
        assert code == 0
        code, _, _ = shell("predict", "model.npz", source, "--proba", "-o", "shares.npy")
        assert code == 0
        code, _, _ = shell("predict", "model.npz", source, "-o", "labels.npy")
        assert code == 0
        confirm_answers(model.params, x, *(np.load(f"{name}.npy") for name in ("scores", "shares", "labels")))
        code, _, _ = shell("sample", "model.npz", "--n-samples", str(N_DRAWN), "--seed", "0", "-o", "drawn.npy")
        assert code == 0
        assert np.isfinite(np.load("drawn.npy")).all()


# Anything at all

ANYTHING = st.one_of(
    st.floats(),
    st.floats(width=16),
    st.integers(),
    st.integers(-(10**400), 10**400),
    st.booleans(),
    st.none(),
    st.text(max_size=3),
    st.complex_numbers(),
    st.just(np.datetime64("2020-01-01")),
    st.just({}),
)
TABLES = st.one_of(
    st.lists(st.lists(ANYTHING, max_size=3), max_size=6),
    st.integers(3, 6).flatmap(lambda n: st.lists(st.tuples(st.floats(), st.integers()), min_size=n, max_size=n)),
    st.recursive(ANYTHING, lambda inner: st.lists(inner, max_size=3), max_leaves=6),
)


@law(40, table=TABLES)
def test_what_is_no_table_of_numbers_is_refused_in_words(table):
    result = attempt(lambda: jaxgmm.fit(table, 3, key=0, max_iter=MAX_ITER), JaxgmmError, TypeError)
    if isinstance(result, Exception):
        assert_clear(result)
        return
    x = computed(table)
    if x.shape[1] == 2:
        confirm_model(result.params, x, np.ones(len(x), bool))
        confirm_log_likelihood(result, x, np.ones(len(x)))
        confirm_status(result)
