"""Degenerate components: named, with the rows and columns that they rest on, and only where they are."""

import numpy as np
import pytest

import jaxgmm
from jaxgmm import FitError, Model
from jaxgmm.report import summary_text
from tests.helpers import D, K, params_of, start


def with_equal_rows(small, n_equal=4):
    return np.concatenate([small.x, np.full((n_equal, D), 40.0)])


def test_sound_fits_have_no_diagnosis(small, family, dtype):
    result = jaxgmm.fit(small.x.astype(dtype), K, covariance_type=family, init=start(family), max_iter=50)
    assert result.diagnoses == ()
    assert not result.degenerate


def test_equal_rows_are_counted(small, dtype):
    for family in ("full", "diag", "spherical"):
        x = with_equal_rows(small).astype(dtype)
        result = jaxgmm.fit(x, K + 1, covariance_type=family, key=0, n_restarts=4)
        (found,) = result.diagnoses
        weights = np.asarray(result.params.weights)
        assert weights[found.component] == pytest.approx(4 / len(x), rel=1e-3)
        assert (found.kind, found.n_rows, found.n_distinct, found.columns) == ("floor", 4, 1, (0, 1, 2))
        assert found.weight == pytest.approx(weights[found.component])
        text = found.text(["a", "b", "c"])
        assert f"component {found.component}" in text
        assert "4 rows, 1 of them distinct" in text
        assert "columns a, b, c" in text


def test_the_iteration_in_which_it_came_about(small):
    x = with_equal_rows(small)
    init = jaxgmm.params_from_means(x, np.vstack([start("full").means, np.full(D, 30.0)]))
    wide = params_of((init.weights, init.means, np.tile(9.0 * np.eye(D), (K + 1, 1, 1))), "full")

    def fit(max_iter):
        return jaxgmm.fit(x, K + 1, init=wide, max_iter=max_iter, tol=1e-10)

    (found,) = fit(200).diagnoses
    assert found.component == K
    assert found.since is not None
    assert 0 < found.since <= 10
    assert not fit(found.since - 1).degenerate
    assert fit(found.since).degenerate


def test_columns_that_repeat_or_stand_still_are_named(small):
    repeated = np.column_stack([small.x, small.x[:, 1]])
    for result in (jaxgmm.fit(repeated, 2, key=0), jaxgmm.fit(repeated * 1e-6, 2, key=0)):
        assert [d.columns for d in result.diagnoses] == [(1, 3), (1, 3)]
    still = small.x.copy()
    still[:, 2] = 1e6
    for family in ("full", "diag", "tied", "tied_diag"):
        result = jaxgmm.fit(still, 2, covariance_type=family, key=0)
        assert {d.columns for d in result.diagnoses} == {(2,)}
        shared = family.startswith("tied")
        assert [d.component for d in result.diagnoses] == ([None] if shared else [0, 1])
        assert result.converged


def test_more_components_than_distinct_rows(small):
    x = np.repeat(small.x[:2], 10, axis=0)
    result = jaxgmm.fit(x, 4, key=0, n_restarts=2)
    assert {d.component for d in result.diagnoses} == {0, 1, 2, 3}
    assert sum(d.kind == "empty" for d in result.diagnoses) == len(result.empty_components)
    assert np.isfinite(result.params.covariances).all()


def test_without_a_floor_the_error_names_the_component(small):
    repeated = np.column_stack([small.x, small.x[:, 1]])
    with pytest.raises(FitError, match=r"component 0 \(weight 0\.\d+, smallest eigenvalue .*columns 1, 3"):
        jaxgmm.fit(repeated, 2, key=0, reg_covar=0.0)
    x = with_equal_rows(small)
    init = jaxgmm.params_from_means(x, np.vstack([start("full").means, np.full(D, 30.0)]))
    wide = params_of((init.weights, init.means, np.tile(9.0 * np.eye(D), (K + 1, 1, 1))), "full")
    # One that becomes singular on the way: the state before it is returned, and says so.
    result = jaxgmm.fit(x, K + 1, init=wide, reg_covar=0.0)
    assert result.status.name == "SINGULAR"
    (found,) = result.diagnoses
    assert (found.component, found.kind, found.n_rows, found.n_distinct) == (K, "singular", 4, 1)


def test_a_floor_that_is_meant_to_shrink_is_no_degeneracy(small):
    assert not jaxgmm.fit(small.x, K, key=0, reg_covar=0.5).degenerate
    assert not jaxgmm.fit_many([small.x], K, key=0, reg_covar=0.5).degenerate.any()


def test_a_thin_direction_of_many_columns_is_seen_in_the_loop(small):
    """None of the columns stands still, and the last given the others varies by several times the floor."""
    x = np.column_stack([small.x, small.x.sum(axis=1), small.x @ np.array([1.0, -1.0, 2.0])])
    result = jaxgmm.fit(x, 2, key=0)
    assert [d.kind for d in result.diagnoses] == ["floor", "floor"]
    assert all(d.since is not None and len(d.columns) >= 3 for d in result.diagnoses)
    # It is thin in the data themselves, and no component is the worse for that.
    assert jaxgmm.fit(x, 2, key=0, degenerate="drop").n_components == 2
    many = jaxgmm.fit_many([small.x, x[:, :3], x[:, 2:]], 2, key=0)
    assert many.degenerate.tolist() == [False, False, False]
    assert jaxgmm.fit_many([x], 2, key=0).degenerate.tolist() == [True]


def test_a_model_keeps_its_diagnoses(small, tmp_path):
    result = jaxgmm.fit(with_equal_rows(small), K + 1, key=0, n_restarts=4)
    model = Model.from_fit(result, columns=["a", "b", "c"])
    jaxgmm.save(tmp_path / "m.npz", model)
    (kept,) = jaxgmm.load(tmp_path / "m.npz").meta["diagnoses"]
    assert kept["component"] == result.diagnoses[0].component
    assert "columns a, b, c" in kept["text"]
    assert "note: component" in summary_text(model)


def test_the_numbers_of_a_diagnosis(small):
    """A shared covariance has no weight of its own; beside a huge column an eigenvalue does not drown in rounding."""
    x = np.column_stack([small.x, small.x[:, 0]])
    (tied,) = jaxgmm.fit(x, K, key=0, covariance_type="tied").diagnoses
    assert (tied.component, tied.weight) == (None, 1.0)
    assert tied.text().startswith("the shared covariance (smallest eigenvalue")
    far = small.x.copy()
    far[0, 0] = 1e30
    result = jaxgmm.fit(far, 2, key=0)
    for found in result.diagnoses:
        # All other columns vary as they do in the data.
        rest = np.linalg.inv(np.linalg.inv(np.float64(result.params.covariances[found.component]))[1:, 1:])
        assert 0 < found.eigenvalue <= 1.01 * np.linalg.eigvalsh(rest)[0]
        if found.n_rows > 1:
            assert found.eigenvalue > 0.1


@pytest.mark.parametrize("size", [1e99, 1e9, 1.0, 1e-30, 1e-320])
def test_equal_rows_are_at_the_floor_whatever_rounding_makes_of_their_mean(size):
    x, weight = np.full((21, 2), 3.45584192 * size), np.tile([0.7848364, 0.89547343, 2.44267722], 7)
    alone, many = jaxgmm.fit(x, 1, key=0, sample_weight=weight), jaxgmm.fit_many([x], 1, key=0, sample_weight=[weight])
    for result in (alone, many.fits[0]):
        assert result.converged
        (found,) = result.diagnoses
        assert (found.kind, found.columns, found.n_distinct) == ("floor", (0, 1), 1)


def test_rows_of_weight_0_may_be_of_any_size(small):
    weight = np.where(np.arange(len(small.x)) % 3, 1.0, 0.0)
    far = np.where(weight[:, None] > 0, small.x, 1e200)
    for fit in (
        lambda x: jaxgmm.fit(x, 2, key=0, sample_weight=weight),
        lambda x: jaxgmm.fit_many([x], 2, key=0, sample_weight=[weight]).fits[0],
    ):
        assert fit(far).log_likelihood == pytest.approx(fit(small.x).log_likelihood, rel=1e-9)
    alone = jaxgmm.fit(np.where(weight[:, None] > 0, 1e200, small.x)[:4], 1, key=0, sample_weight=[0.0, 1.0, 0.0, 0.0])
    assert [d.kind for d in alone.diagnoses] == ["floor"]


@pytest.mark.parametrize("reg_covar", [1e-6, 0.0])
def test_single_precision_raises_a_floor_that_it_cannot_hold(reg_covar):
    """Twice 1e-6 is left of a repeated column, but of 18 columns float32 resolves no less than 3e-6."""
    x = np.random.default_rng(0).normal(size=(200, 9)).astype(np.float32)
    x = np.column_stack([x, x])
    if not reg_covar:
        with pytest.raises(FitError, match="singular"):
            jaxgmm.fit(x, 1, key=0, reg_covar=reg_covar)
        return
    result = jaxgmm.fit(x, 1, key=0, reg_covar=reg_covar)
    assert result.converged
    (found,) = result.diagnoses
    assert (found.kind, len(found.columns)) == ("floor", 18)
    assert result.options["reg_covar"] == pytest.approx((18 + 8) * np.finfo(np.float32).eps)
    assert jaxgmm.fit(x[:, :9], 1, key=0, reg_covar=reg_covar).options["reg_covar"] == np.float32(reg_covar)
    many = jaxgmm.fit_many([x, x[::-1] + np.repeat(x[:, :1], 18, axis=1) ** 2], 1, key=0, reg_covar=reg_covar)
    assert many.degenerate.all()
    assert many.fits[0].options == result.options
    # What is left in nine directions is known to a few digits.
    assert many.fits[0].log_likelihood == pytest.approx(result.log_likelihood, rel=1e-2)


# The floor itself


def test_a_relative_floor_follows_the_units_of_each_column(small, family):
    units = np.array([1e-6, 1.0, 1e6]) if "spherical" not in family else np.full(D, 1e-6)
    labels = small.labels
    plain, scaled = (
        jaxgmm.params_from_labels(small.x * u, labels, covariance_type=family, reg_covar=0.1)
        for u in (np.ones(D), units)
    )
    outer = {"full": np.outer(units, units), "tied": np.outer(units, units), "diag": units**2, "tied_diag": units**2}
    factor = outer.get(family, units[0] ** 2)
    np.testing.assert_allclose(scaled.covariances, plain.covariances * factor, rtol=1e-9)
    bare = jaxgmm.params_from_labels(small.x, labels, covariance_type=family, reg_covar=0.0)
    variances = small.x.var(axis=0)
    added = np.asarray(plain.covariances - bare.covariances)
    wanted = {"full": np.diag(variances), "tied": np.diag(variances), "diag": variances, "tied_diag": variances}
    np.testing.assert_allclose(
        added, np.broadcast_to(0.1 * wanted.get(family, variances.mean()), added.shape), rtol=1e-7, atol=1e-9
    )


def test_an_absolute_floor_is_added_as_it_is(small):
    bare, floored = (
        jaxgmm.params_from_labels(small.x, small.labels, reg_covar=r, reg_kind="absolute") for r in (0.0, 0.25)
    )
    np.testing.assert_allclose(floored.covariances - bare.covariances, np.tile(0.25 * np.eye(D), (K, 1, 1)), atol=1e-12)


# What is done about them


def test_dropped_components_are_gone(small, family):
    x = with_equal_rows(small)
    plain = jaxgmm.fit(x, K + 1, covariance_type=family, key=0, n_restarts=4)
    result = jaxgmm.fit(x, K + 1, covariance_type=family, key=0, n_restarts=4, degenerate="drop")
    assert result.converged
    if plain.degenerate and plain.params.family.per_component:
        # The rows are still there, and may draw another component onto themselves.
        assert result.n_components == K if family == "full" else 1 <= result.n_components <= K
        assert not result.degenerate
        assert result.params.weights.sum() == pytest.approx(1.0)
        # What is left is what EM makes of the others alone: a fixed point of one more step.
        count = result.n_components
        again = jaxgmm.fit(x, count, covariance_type=family, init=result.params, max_iter=1, tol=0.0)
        assert again.log_likelihood == pytest.approx(result.log_likelihood, rel=1e-6)
    else:
        assert result.log_likelihood == plain.log_likelihood


def test_revived_components_find_rows_again(small):
    x = with_equal_rows(small)
    result = jaxgmm.fit(x, K + 1, key=0, n_restarts=4, degenerate="revive", max_iter=3000)
    assert result.n_components == K + 1
    assert not result.degenerate
    assert (np.asarray(result.params.weights) > 0.01).all()
    # A component that lost all its rows has some again.
    far = jaxgmm.params_from_means(small.x, start("full").means)
    weights = np.array([0.5, 0.5, 0.0])
    lost = params_of((weights, far.means, far.covariances), "full")
    assert jaxgmm.fit(small.x, K, init=lost).empty_components == (2,)
    assert jaxgmm.fit(small.x, K, init=lost, degenerate="revive").empty_components == ()


def test_rounds_of_repair_end():
    """Where nothing helps, the last state is kept with its diagnosis."""
    x = np.repeat([[0.0, 0.0], [5.0, 1.0]], 20, axis=0)
    revived = jaxgmm.fit(x, 2, key=0, degenerate="revive")
    assert (revived.n_components, revived.degenerate) == (2, True)
    assert jaxgmm.fit(x, 2, key=0, degenerate="drop").n_components == 1


@pytest.mark.parametrize("how", ["drop", "revive"])
def test_what_the_data_themselves_lack_is_no_fault_of_a_component(small, how):
    """A constant column, and a repeated one: every component is thin along it, and there is nothing to repair."""
    for column in (np.full(len(small.x), 3.3), 2.0 * small.x[:, 1]):
        x = np.column_stack([small.x, column])
        kept, repaired = (jaxgmm.fit(x, 2, key=0, degenerate=d) for d in ("keep", how))
        assert repaired.degenerate
        assert repaired.n_components == 2
        assert repaired.log_likelihood == kept.log_likelihood
        assert repaired.n_iter == kept.n_iter


def test_to_raise_names_them(small):
    with pytest.raises(FitError, match=r"4 rows, 1 of them distinct.*E307"):
        jaxgmm.fit(with_equal_rows(small), K + 1, key=0, n_restarts=4, degenerate="raise")
    assert jaxgmm.fit(small.x, K, key=0, degenerate="raise").converged
