"""Many data sets in one call: each result is that of the set fitted alone, and compiling stays rare."""

from __future__ import annotations

import csv
import json
from functools import cache, partial

import jax
import numpy as np
import pytest

import jaxgmm
from jaxgmm import DataError, FitError, JaxgmmError, UsageError
from jaxgmm.em import many as engine
from jaxgmm.init import make_starts
from jaxgmm.init._lane import lane_start
from tests.helpers import assert_params_close, full_covariances
from tests.test_retrace import compilations

KEY = jax.random.key(7)


def make_sets(n_sets: int, low: int = 30, high: int = 64, seed: int = 0) -> list[np.ndarray]:
    """Two clouds each, of any size in [low, high], far from the origin and from each other's place."""
    rng = np.random.default_rng(seed)
    sets = []
    for _ in range(n_sets):
        n = int(rng.integers(low, high + 1))
        first = rng.random(n) < rng.uniform(0.3, 0.7)
        shift = np.where(first[:, None], 0.0, np.array([[4.0, 1.0]]))
        sets.append(rng.normal(size=(n, 2)) * np.array([[1.0, 0.6]]) + shift + rng.normal(size=(1, 2)) * 100)
    return sets


@cache
def small_sets() -> tuple[np.ndarray, ...]:
    """Sets of one padded size, which most tests share."""
    return tuple(make_sets(5))


def alone(sets, i, n_components, **options):
    return jaxgmm.fit(sets[i], n_components, key=jax.random.fold_in(KEY, i), **options)


def fit_or_error(sets, i, n_components, **options):
    try:
        return alone(sets, i, n_components, **options)
    except JaxgmmError as error:
        return error


def assert_same_fit(a, b, rtol=1e-9):
    assert a.status == b.status
    assert a.n_components == b.n_components
    assert a.params.dtype == b.params.dtype
    assert a.n_samples == b.n_samples
    assert a.weight_sum == pytest.approx(b.weight_sum, rel=rtol)
    for name in ("log_likelihood", "aic", "bic", "icl"):
        assert getattr(a, name) == pytest.approx(getattr(b, name), rel=rtol), name
    np.testing.assert_allclose(a.restart_log_likelihoods, b.restart_log_likelihoods, rtol=rtol)
    # Rounding may carry a lane over the stopping rule an iteration earlier or later.
    assert np.abs(a.restart_n_iter - b.restart_n_iter).max() <= 1
    assert_params_close(a.params, b.params, 1e-3 if a.params.dtype == np.float32 else 1e-5)


def test_each_set_is_fitted_as_if_alone():
    sets = small_sets()
    result = jaxgmm.fit_many(sets, 2, key=KEY)
    assert len(result.fits) == len(sets)
    assert tuple(result.failures) == (None,) * len(sets)
    for i in range(len(sets)):
        assert_same_fit(result.fits[i], alone(sets, i, 2))
    np.testing.assert_array_equal(result.n_components, 2)
    np.testing.assert_allclose(result.log_likelihood, [fit.log_likelihood for fit in result.fits])
    assert result.converged.all()


@pytest.mark.parametrize("init", jaxgmm.INIT_METHODS)
def test_every_start(init):
    """The traceable start of one set is that of `fit`, also with a component left out and a row of weight 0."""
    x = small_sets()[1][:32]
    x = x - x.mean(axis=0)
    weight, active = np.ones(32), np.array([[True, True, False]])
    weight[3] = 0.0
    keys = jax.random.split(KEY, 2)
    with jax.enable_x64(True):
        how = {"method": init, "covariance_type": "tied_diag"}
        wanted = make_starts(keys, jax.numpy.asarray(x), jax.numpy.asarray(weight), active, 1e-6, **how)
        lane = jax.jit(jax.vmap(partial(lane_start, **how), in_axes=(0, None, None, None, None)))
        found = lane(keys, x, weight, active[0], 1e-6)
    for name in ("weights", "means", "covariances"):
        np.testing.assert_allclose(getattr(found, name), getattr(wanted, name), rtol=1e-12, atol=1e-14)


def test_ragged_sizes_share_few_programs():
    """300 sets of 30 to 500 rows; what is compiled besides belongs to the key."""
    how = {"covariance_type": "tied_spherical", "init": "random_from_data"}
    sets = make_sets(300, 30, 500, seed=1)
    with compilations() as programs:
        result = jaxgmm.fit_many(sets, 2, key=3, tol=1e-4, **how)
    assert len(programs) <= 8
    assert result.converged.all()
    with compilations() as programs:
        again = jaxgmm.fit_many(sets[::-1], 2, key=4, tol=1e-6, max_iter=300, **how)
    assert not programs
    assert again.fitted.all()
    i = next(i for i, x in enumerate(sets) if len(x) > 256)
    own = jaxgmm.fit(sets[i], 2, key=jax.random.fold_in(jax.random.key(3), i), tol=1e-4, **how)
    assert_same_fit(result.fits[i], own)


def test_the_same_call_gives_the_same_bits():
    a, b = (jaxgmm.fit_many(small_sets(), 2, key=KEY) for _ in range(2))
    for x, y in zip(jax.tree.leaves(a.outcome), jax.tree.leaves(b.outcome), strict=True):
        np.testing.assert_array_equal(x, y)


def test_company_does_not_matter():
    sets = small_sets()
    few, many = (jaxgmm.fit_many(sets[:n], 2, key=KEY) for n in (2, 5))
    assert_same_fit(few.fits[1], many.fits[1], rtol=1e-12)


def test_groups_are_the_list():
    sets = small_sets()
    names = np.array(["e", "d", "a", "c", "b"])
    rows, labels = np.concatenate(sets), np.repeat(names, [len(x) for x in sets])
    order = np.random.default_rng(0).permutation(len(rows))
    order = order[np.argsort(labels[order], kind="stable")]
    order = np.argsort(np.arange(len(rows)) % 7, kind="stable")  # mixed, but each group in its own order
    result = jaxgmm.fit_many(rows[order], 2, groups=labels[order], key=KEY)
    assert result.keys == ("a", "b", "c", "d", "e")
    wanted = jaxgmm.fit_many([rows[order][labels[order] == name] for name in "abcde"], 2, key=KEY)
    np.testing.assert_array_equal(result.log_likelihood, wanted.log_likelihood)
    assert [row["set"] for row in result.table()] == list("abcde")


@pytest.mark.parametrize("criterion", ["bic", "aic", "icl"])
def test_the_count_is_chosen_for_each_set(criterion):
    """With restarts, in a family that all components share."""
    sets = [*small_sets(), small_sets()[0][small_sets()[0][:, 0] < small_sets()[0][:, 0].mean()]]
    result = jaxgmm.fit_many(sets, range(1, 4), criterion=criterion, covariance_type="tied", key=KEY, n_restarts=2)
    for i in (1, 5):
        own = jax.random.fold_in(KEY, i)
        wanted = jaxgmm.sweep(sets[i], range(1, 4), criterion=criterion, covariance_types="tied", key=own, n_restarts=2)
        assert result.n_components[i] == wanted.best.n_components
        assert_same_fit(result.fits[i], wanted.best)
        assert result.table()[i][criterion] == pytest.approx(getattr(wanted.best, criterion), rel=1e-9)
    assert result.criterion == criterion
    assert len(set(result.n_components.tolist())) > 1


def test_a_bad_set_does_not_disturb_the_others():
    sets = small_sets()
    bad = np.zeros((40, 2))  # one point many times: singular without reg_covar
    wanted = jaxgmm.fit_many(sets, 2, key=KEY, reg_covar=0.0)
    mixed = jaxgmm.fit_many([sets[0], sets[1], bad, sets[2][:1], sets[2][:0]], 2, key=KEY, reg_covar=0.0)
    np.testing.assert_array_equal(mixed.log_likelihood[:2], wanted.log_likelihood[:2])
    assert mixed.fitted.tolist() == [True, True, False, False, False]
    assert list(mixed.fits[2:]) == [None] * 3
    assert "component 0 (weight 1, smallest eigenvalue 0) becomes singular" in str(mixed.failures[2])
    assert "1 row " in str(mixed.failures[3])
    assert "0 rows " in str(mixed.failures[4])
    assert np.isnan(mixed.log_likelihood[2:]).all()
    assert not mixed.converged[2:].any()
    assert [row["status"] for row in mixed.table()[2:]] == ["FAILED"] * 3
    with pytest.raises(DataError):
        alone(sets, 3, 100)


def test_counts_above_the_rows_are_left_out():
    tiny = small_sets()[0][:2]
    result = jaxgmm.fit_many(
        [*small_sets(), tiny], range(1, 4), key=KEY, covariance_type="tied", n_restarts=2, criterion="aic"
    )
    assert result.fits[5].n_components <= 2


def test_single_precision_and_mixtures_of_types():
    sets = [x.astype(np.float32) for x in small_sets()]
    result = jaxgmm.fit_many(sets, 2, key=KEY, tol=1e-5)
    assert result.fits[1].params.dtype == np.float32
    assert_same_fit(result.fits[1], alone(sets, 1, 2, tol=1e-5), rtol=1e-5)
    mixed = jaxgmm.fit_many([sets[0], *small_sets()[1:]], 2, key=KEY)
    assert mixed.fits[0].params.dtype == np.float64


def test_a_set_of_any_scale():
    """Sets are scaled as a single one is, and refused in the same words where their squares are beyond the type."""
    sets = small_sets()
    for dtype, scales in (
        (np.float64, (1e-150, 3e152, 1e-200, 1e-300, 1e200)),
        (np.float32, (3e18, 1e-17, 1e-40, 1e20)),
    ):
        scaled = [(s * sets[i]).astype(dtype) for i, s in enumerate(scales)]
        result = jaxgmm.fit_many(scaled, 2, key=KEY, tol=1e-5)
        for i in range(len(scaled)):
            own = fit_or_error(scaled, i, 2, tol=1e-5)
            assert result.fitted[i] == (i < 2)
            if i < 2:
                assert result.fits[i].log_likelihood == pytest.approx(own.log_likelihood, rel=1e-5)
                np.testing.assert_allclose(result.fits[i].params.means, own.params.means, rtol=1e-3)
            else:
                assert own.code == "E302"
                assert str(result.failures[i]) == str(own)


def test_orthants_that_are_not_occupied():
    rng = np.random.default_rng(0)
    two = np.concatenate([rng.normal(size=(20, 2)) - 9, rng.normal(size=(20, 2)) + 9])
    sets = [two, rng.normal(size=(40, 2)), np.ones((30, 2))]
    result = jaxgmm.fit_many(sets, 3, init="orthant")
    for i in (0, 2):
        with pytest.raises(DataError) as alone:
            jaxgmm.fit(sets[i], 3, init="orthant")
        assert alone.value.code == "E212"
        assert str(result.failures[i]) == str(alone.value)
    assert_same_fit(result.fits[1], jaxgmm.fit(sets[1], 3, init="orthant"))
    assert jaxgmm.fit_many(sets[:2], [2, 3, 4], init="orthant").n_components[0] == 2


def test_sets_that_outlast_a_turn_are_not_compiled_anew(monkeypatch):
    """What is left of a chunk has another length after every turn."""
    rng = np.random.default_rng(5)
    sets = [rng.normal(size=(int(rng.integers(33, 64)), 2)) for _ in range(200)]
    options = {"key": 3, "covariance_type": "tied_spherical", "init": "random_from_data", "tol": 1e-10}
    wanted = jaxgmm.fit_many(sets, 2, **options)
    monkeypatch.setattr(engine, "TURN_FLOPS", 1.0)
    with compilations() as programs:
        result = jaxgmm.fit_many(sets, 2, **options)
    assert not programs
    assert len(set(result.outcome.n_iter.ravel().tolist())) > 20
    np.testing.assert_array_equal(result.log_likelihood, wanted.log_likelihood)


def test_weights():
    sets = small_sets()
    rng = np.random.default_rng(1)
    weights = [rng.integers(0, 4, len(x)) for x in sets]
    result = jaxgmm.fit_many(sets, 2, key=KEY, sample_weight=weights)
    assert_same_fit(result.fits[3], alone(sets, 3, 2, sample_weight=weights[3]))
    labels = np.repeat(np.arange(5), [len(x) for x in sets])
    grouped = jaxgmm.fit_many(
        np.concatenate(sets), 2, groups=labels, key=KEY, sample_weight=np.concatenate(weights).astype(float)
    )
    np.testing.assert_array_equal(grouped.log_likelihood, result.log_likelihood)


def test_where_the_quick_kernel_is_imprecise_the_careful_one_is_used():
    sets = [x.copy() for x in small_sets()]
    sets[1][:20] = sets[1][:1] + 20.0 + 1e-3 * np.random.default_rng(0).normal(size=(20, 2))
    result = jaxgmm.fit_many(sets, 2, key=KEY, reg_covar=0.0)
    assert [fit.kernel for fit in result.fits] == ["features", "whitening", "features", "features", "features"]
    # A mean of narrow rows far away: rounding is not that of the other way of summing.
    wanted = alone(sets, 1, 2, reg_covar=0.0)
    assert result.fits[1].log_likelihood == pytest.approx(wanted.log_likelihood, rel=1e-6)
    assert np.isfinite(full_covariances(result.fits[1].params)).all()


def test_what_cannot_be_used_is_refused():
    sets = list(small_sets())
    nan = sets[2].copy()
    nan[4, 1] = np.nan
    with pytest.raises(DataError, match=r"datasets\[2\] contains NaN at row 4, column 1"):
        jaxgmm.fit_many([*sets[:2], nan], 2, key=0)
    with pytest.raises(DataError, match=r"datasets\[1\] has 3 columns, but datasets\[0\] has 2"):
        jaxgmm.fit_many([sets[0], np.zeros((9, 3))], 2, key=0)
    with pytest.raises(DataError, match=r"datasets\[1\] must be 2-D"):
        jaxgmm.fit_many([sets[0], np.zeros(9)], 2, key=0)
    with pytest.raises(DataError, match=r"sample_weight\[1\] has shape"):
        jaxgmm.fit_many(sets[:2], 2, key=0, sample_weight=[np.ones(len(sets[0])), np.ones(3)])
    with pytest.raises(DataError, match="1 parts for 2 data sets"):
        jaxgmm.fit_many(sets[:2], 2, key=0, sample_weight=[np.ones(3)])
    with pytest.raises(DataError, match="groups has shape"):
        jaxgmm.fit_many(sets[0], 2, key=0, groups=[1, 2])
    with pytest.raises(DataError, match="groups contains NaN at row 1"):
        jaxgmm.fit_many(sets[0][:2], 1, key=0, groups=[1.0, np.nan])
    for call, message in (
        (lambda: jaxgmm.fit_many([], 2, key=0), "no data sets"),
        (lambda: jaxgmm.fit_many(sets[0], 2, key=0), "with groups"),
        (lambda: jaxgmm.fit_many(sets, 2), "key="),
        (lambda: jaxgmm.fit_many(sets, [], key=0), "n_components is empty"),
        (lambda: jaxgmm.fit_many(sets, 2, key=0, criterion="bik"), "did you mean 'bic'"),
        (lambda: jaxgmm.fit_many(sets, 2, key=0, init=sets), "init must be the name"),
    ):
        with pytest.raises(UsageError, match=message):
            call()
    with pytest.raises(IndexError):
        jaxgmm.fit_many(sets, 2, key=KEY).fits[5]


@pytest.fixture
def fit_rows(shell):
    """``jaxgmm fit-many`` of a file rows.csv: the small sets, and a group of one row."""
    with open("rows.csv", "w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["a", "b", "cell"])
        for i, x in enumerate(small_sets()):
            writer.writerows([*row, f"c{i}"] for row in x.tolist())
        writer.writerow([1.0, 2.0, "lonely"])
    return partial(shell, "fit-many", "rows.csv")


def test_shell(fit_rows):
    options = ("--group", "cell", "-n", "2", "--n-restarts", "1", "--seed", "7")
    out, err = fit_rows(*options, "--parameters-to", "p.csv")
    lines = list(csv.DictReader(out.splitlines()))
    assert [line["group"] for line in lines] == ["c0", "c1", "c2", "c3", "c4", "lonely"]
    assert "1 of 6 groups could not be fitted; group 'lonely'" in err
    assert lines[-1]["status"] == "FAILED"
    wanted = jaxgmm.fit_many(small_sets(), 2, key=7)
    np.testing.assert_allclose([float(line["bic"]) for line in lines[:5]], [f.bic for f in wanted.fits], rtol=1e-9)
    with open("p.csv") as handle:
        parameters = list(csv.DictReader(handle))
    assert len(parameters) == 10
    first = wanted.fits[0].params
    assert float(parameters[1]["mean_b"]) == pytest.approx(first.means[1, 1], rel=1e-9)
    assert float(parameters[1]["cov_a_b"]) == pytest.approx(first.covariances[1, 0, 1], rel=1e-6)
    out, _ = fit_rows(*options, "--json", "-o", "fits.tsv")
    found = json.loads(out)
    assert found["failed"] == 1
    assert [row["group"] for row in found["groups"]] == [line["group"] for line in lines]
    assert found["groups"][1]["log_likelihood"] == pytest.approx(float(lines[1]["log_likelihood"]))
    assert "exists already" in fit_rows(*options, "-o", "fits.tsv", code=2)[1]


def test_shell_says_what_is_missing(fit_rows):
    assert "--group COLUMN" in fit_rows("-n", "2", code=2)[1]
    assert "how many components" in fit_rows("--group", "cell", code=2)[1]
    assert ".csv or .tsv" in fit_rows("--group", "cell", "-n", "2", "-o", "x.npy", code=2)[1]
    assert "no group could be fitted" in fit_rows("--group", "cell", "-n", "100", "--seed", "0", code=1)[1]


# Priors, and what is done about degenerate components


def with_equal_rows() -> list[np.ndarray]:
    """The small sets, the second of which has a third of its rows on one place."""
    sets = list(small_sets())
    sets[1] = np.concatenate([sets[1], np.repeat(sets[1][:1], len(sets[1]) // 2, axis=0)])
    return sets


GIVEN_PRIOR = jaxgmm.Prior(mean=np.zeros(2), mean_weight=0.1, dof=5.0, scale=np.eye(2), concentration=2.0)


@pytest.mark.parametrize("prior", ["default", GIVEN_PRIOR], ids=["default", "given"])
def test_each_set_has_the_prior_that_it_would_have_alone(prior):
    sets = small_sets()
    result = jaxgmm.fit_many(sets, [1, 2], key=KEY, prior=prior)
    for i, fit in enumerate(result.fits):
        own = alone(sets, i, fit.n_components, prior=prior)
        assert_same_fit(fit, own)
        assert fit.log_posterior == pytest.approx(own.log_posterior, rel=1e-9)
        assert fit.log_prior != 0.0


@pytest.mark.parametrize("how", ["keep", "drop", "revive"])
@pytest.mark.parametrize("reg_covar", [1e-6, 0.0])
def test_degenerate_components_are_treated_as_they_would_be_alone(how, reg_covar):
    sets, options = with_equal_rows(), {"n_restarts": 2, "degenerate": how, "reg_covar": reg_covar}
    result = jaxgmm.fit_many(sets, 3, key=KEY, **options)
    fits = [alone(sets, i, 3, **options) for i in range(len(sets))]
    assert result.n_components.tolist() == [fit.n_components for fit in fits]
    assert result.degenerate.tolist() == [fit.degenerate for fit in fits]
    assert how == "revive" or result.degenerate[1] == (how == "keep")
    # On its way into a singularity the likelihood magnifies rounding.
    rtol = 1e-9 if reg_covar else 1e-6
    for mine, own in zip(result.fits, fits, strict=True):
        assert mine.log_likelihood == pytest.approx(own.log_likelihood, rel=rtol)
        assert mine.bic == pytest.approx(own.bic, rel=rtol)
        assert [d.text() for d in mine.diagnoses] == [d.text() for d in own.diagnoses]


def test_a_degenerate_fit_can_be_refused():
    options = {"key": KEY, "n_restarts": 2}
    kept = jaxgmm.fit_many(with_equal_rows(), 3, **options)
    result = jaxgmm.fit_many(with_equal_rows(), 3, degenerate="raise", **options)
    assert 0 < kept.degenerate.sum() < len(kept.keys)
    assert result.fitted.tolist() == (~kept.degenerate).tolist()
    assert "of them distinct and is at the floor" in str(result.failures[1])
    assert result.fits[1] is None
    assert not result.degenerate.any()
    for i in np.flatnonzero(kept.degenerate).tolist():
        with pytest.raises(FitError) as refused:
            alone(with_equal_rows(), i, 3, n_restarts=2, degenerate="raise")
        assert str(result.failures[i]) == str(refused.value)
        assert result.diagnoses(i) == result.failures[i].diagnoses != ()


@pytest.mark.parametrize("prior", [None, "default"])
def test_a_set_without_a_fit_says_what_it_would_say_alone(prior):
    line = np.arange(40.0)[:, None] * [1.0, 2.0] + [0.0, 1.0]
    sets, options = [line, np.ones((30, 2)), line[:1]], {"reg_covar": 0.0, "prior": prior}
    result = jaxgmm.fit_many(sets, 2, key=KEY, **options)
    for i in range(len(sets)):
        own = fit_or_error(sets, i, 2, **options)
        assert getattr(result.failures[i], "code", None) == getattr(own, "code", None)
        assert result.fitted[i] == (result.failures[i] is None)
        # Rounding decides which of several equally singular components is told of first.
        every = (result.diagnoses(i), getattr(own, "diagnoses", ()))
        told = [{(d.kind, d.columns) for d in diagnoses} for diagnoses in every]
        assert told[0] == told[1]
        assert (("singular", (0, 1)) in told[0]) == (i < 2)


def test_the_shell_names_the_columns_of_degenerate_groups(tmp_path, shell):
    lines = [f"{i},{x[0]:.17g},{x[1]:.17g}" for i, rows in enumerate(with_equal_rows()) for x in rows]
    path = tmp_path / "x.csv"
    path.write_text("\n".join(["g,east,north", *lines]))
    words = ["fit-many", path, "--group", "g", "-n", "3", "--n-restarts", "2", "--seed", "5", "--json"]
    out, err = shell(*words)
    groups = json.loads(out)["groups"]
    assert [g["group"] for g in groups if "diagnoses" in g] == [1]
    assert "columns east, north" in groups[1]["diagnoses"][0]["text"]
    assert "group 1: component" in " ".join(err.split())
    out, err = shell(*words, "--degenerate", "raise")
    groups = json.loads(out)["groups"]
    assert groups[1]["status"] == "FAILED"
    assert "columns east, north" in groups[1]["message"]
    assert "columns east, north" in groups[1]["diagnoses"][0]["text"]
    assert "columns east, north" in " ".join(err.split())
    out, _ = shell(*words, "--degenerate", "drop", "--prior", "default")
    assert not any("diagnoses" in g for g in json.loads(out)["groups"])
