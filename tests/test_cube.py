"""A known mixture is found: 500 points about each of seven corners of a cube."""

import numpy as np
import pytest

import jaxgmm
from jaxgmm.data import make_cube
from tests.helpers import (
    full_covariances,
    match,
    parts_of,
)

# Sample means of 500 points have a standard error of 0.045 a coordinate: a seed whose largest error is below 0.1.
CUBE = make_cube(seed=0)


@pytest.fixture(scope="module")
def cube_sweep():
    return jaxgmm.sweep(CUBE.x, range(1, 11), key=0, reg_covar=1e-6)


def assert_is_the_cube(result):
    weights, means, _, _ = parts_of(result.params)
    order = match(means, CUBE.means)
    assert np.abs(means[order] - CUBE.means).max() < 0.1
    assert np.abs(weights - 1 / 7).max() < 0.01
    assert np.abs(full_covariances(result.params)[order] - np.eye(3)).max() < 0.35
    assert abs(result.log_likelihood + 21_675) < 200


def test_the_seed_of_the_cube_is_a_fair_one():
    errors = [np.abs(CUBE.x[CUBE.labels == k].mean(axis=0) - CUBE.means[k]).max() for k in range(7)]
    assert 0.04 < max(errors) < 0.09


def test_a_sweep_finds_the_seven_corners(cube_sweep):
    assert cube_sweep.best.n_components == 7
    assert not cube_sweep.at_edge
    assert cube_sweep.best.converged
    assert_is_the_cube(cube_sweep.best)


def test_the_orthant_start_needs_few_iterations():
    result = jaxgmm.fit(CUBE.x, 7, init="orthant", tol=1e-8)
    assert result.converged
    assert result.n_iter <= 10
    assert result.init == "orthant"
    assert_is_the_cube(result)


def test_counting_orthants_proposes_seven():
    counts, proposed = jaxgmm.orthant_counts(CUBE.x)
    assert proposed == 7
    assert sorted(counts.tolist()) == [0.0] + [500.0] * 7
    assert counts[0b111] == 0
    # Weights count rows; a few stray ones do not make a component.
    stray = np.concatenate([CUBE.x, np.full((3, 3), 15.0)])
    counts, proposed = jaxgmm.orthant_counts(stray, np.full(len(stray), 2.0))
    assert (counts[0b111], proposed) == (6.0, 7)


def test_five_points_are_classified(cube_sweep):
    points = np.array([[19.0, 21, -20], [-21, -19, -18], [-20, 20, 20], [22, -20, 19], [-18, -20, 22]])
    params = cube_sweep.best.params
    resp = jaxgmm.responsibilities(params, points)
    assert (resp.max(axis=1) > 1 - 1e-9).all()
    corners = params.means[jaxgmm.predict(params, points)]
    np.testing.assert_array_equal(np.sign(corners), np.sign(points))


def test_memberships_add_up_to_component_sizes(cube_sweep):
    resp = jaxgmm.responsibilities(cube_sweep.best.params, CUBE.x)
    np.testing.assert_allclose(resp.sum(axis=0), 500, atol=1e-6)
