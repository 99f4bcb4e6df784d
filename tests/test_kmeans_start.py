"""The k-means start: its steps against NumPy, its drivers against each other, its quality against scikit-learn's."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.cluster import KMeans

from jaxgmm._checks import precision_context
from jaxgmm.data.rows import prepare_rows
from jaxgmm.init import _kmeans, make_starts

K = 5
SMALL_PARTS = 1 << 10
ON_CPU = jax.default_backend() == "cpu"


def blobs(n_rows, n_features, n_blobs, separation, seed=0):
    rng = np.random.default_rng(seed)
    means = rng.normal(size=(n_blobs, n_features)) * separation
    return means[rng.integers(0, n_blobs, n_rows)] + rng.normal(size=(n_rows, n_features))


# Tests share 3500 rows, which fall into several parts, of 3 features and 8 keys where they can: few programs.
def keys_of(n_keys, seed=0):
    return jax.random.split(jax.random.key(seed), n_keys)


def distances(x, centres):
    return ((np.asarray(x)[:, None, :] - np.asarray(centres)[None]) ** 2).sum(axis=2)


def inertia(x, centres):
    return distances(x, centres).min(axis=1).sum()


def k_means(x, keys, n_components=K, weight=None, active=None):
    """Seeds (R, K, D) and ends of Lloyd's iteration (J, R, K, D) in the units of centred rows, and these rows."""
    rows = prepare_rows(x, np.ones(len(x), x.dtype) if weight is None else weight)
    active = np.ones((1, n_components), bool) if active is None else active
    assert _kmeans.row_parts(rows.x, n_components) > 1 or _kmeans._PART_CELLS != SMALL_PARTS or not ON_CPU
    seeds = np.asarray(_kmeans.kmeans_plus_plus(keys, rows.x, rows.weight, n_components))
    return seeds, _kmeans.lloyd(rows.x, rows.weight, seeds, active), rows


@pytest.fixture
def shared_out(monkeypatch):
    """A switch to the host-driven way for data too small for it."""
    return lambda: monkeypatch.setattr(_kmeans, "_PART_CELLS", SMALL_PARTS)


@pytest.fixture
def wide():
    with precision_context(np.dtype(np.float64)):
        yield


def test_one_pass_is_numpys_assignment(dtype):
    x = blobs(2048, 3, K, 2.0).astype(dtype)
    weight = np.random.default_rng(1).integers(0, 3, len(x)).astype(dtype)
    centres, active = x[:K], np.arange(K) != 2
    with precision_context(dtype):
        mass, total = _kmeans.lloyd_pass(jnp.asarray(x), jnp.asarray(weight), jnp.asarray(centres), jnp.asarray(active))
    label = np.where(active[None, :], distances(x, centres), np.inf).argmin(axis=1)
    share = (label[:, None] == np.arange(K)) * weight[:, None]
    np.testing.assert_allclose(mass, share.sum(axis=0), rtol=1e-5)
    np.testing.assert_allclose(total, share.T @ x, rtol=1e-4, atol=1e-2)


@pytest.mark.usefixtures("wide")
def test_equal_centres_give_their_rows_to_the_first():
    centres = jnp.asarray([[1.0], [0.0], [1.0]])
    nearest = _kmeans.membership(jnp.asarray([[1.0], [0.1], [2.0]]), centres, jnp.ones(3, bool))
    np.testing.assert_array_equal(nearest, [[True, False, True], [False, True, False], [False, False, False]])


@pytest.mark.usefixtures("wide")
def test_a_centre_without_rows_stays():
    for before, factor in ((np.inf, 1.0), (6.0, _kmeans.OVERSTEP)):
        state = _kmeans.Lloyd(jnp.asarray([[0.0, 0.0], [9.0, 9.0]]), jnp.ones(2, bool), before)
        mass, total = jnp.asarray([[2.0, 0.0]]), jnp.asarray([[[2.0, 4.0], [0.0, 0.0]]])
        moved = _kmeans.move(state, mass, total, jnp.asarray(1e-3))
        np.testing.assert_allclose(moved.centres, [[factor, 2.0 * factor], [9.0, 9.0]], rtol=1e-15)
        assert moved.shift == 5.0


@pytest.mark.usefixtures("wide")
def test_stepping_beyond_the_means_lowers_the_inertia_and_saves_passes():
    """Overlapping blobs, on which Lloyd's iteration creeps."""
    x = blobs(3500, 3, K, 1.0)
    rows = prepare_rows(x, np.ones(len(x)))
    centred, weight, enough = rows.x, rows.weight, _kmeans.shortest_move(rows.x, rows.weight)
    active, passes, ends = np.ones(K, bool), {True: 0, False: 0}, {True: [], False: []}
    one = jax.jit(_kmeans.lloyd_step)
    for plain in (True, False):
        for seeds in np.asarray(_kmeans.kmeans_plus_plus(keys_of(8), rows.x, rows.weight, K)):
            state, last = _kmeans.Lloyd(seeds, active, np.inf), np.inf
            while state.shift > enough and passes[plain] < 1000:
                # A last shift of infinity is that of a first pass, which never steps beyond.
                state = one(centred, weight, enough, state._replace(shift=np.inf) if plain else state)
                now = inertia(np.asarray(centred)[: len(x)], state.centres)
                assert now <= last * (1 + 1e-12)
                last, passes[plain] = now, passes[plain] + 1
            ends[plain].append(last)
    assert passes[False] < 0.75 * passes[True]
    np.testing.assert_allclose(np.mean(ends[False]), np.mean(ends[True]), rtol=1e-3)


@pytest.mark.usefixtures("wide")
def test_a_seed_is_the_candidate_that_leaves_least():
    x, weight = jnp.asarray(blobs(512, 3, 4, 3.0)), jnp.asarray(np.random.default_rng(0).uniform(size=512))
    draws, state = _kmeans.begin(jax.random.key(0), x, weight, 4)
    chosen = np.empty((0, 3))
    for u in draws:
        candidates = _kmeans.draw_candidates(u, x, weight, state)
        assert all((np.asarray(x) == c).all(axis=1).any() for c in np.asarray(candidates))
        passed = _kmeans.seeding_pass(x, weight, state, candidates)
        left = [distances(x, np.vstack([chosen, c])).min(axis=1) @ weight for c in np.asarray(candidates)]
        np.testing.assert_allclose(passed[1].sum(axis=0), left, rtol=1e-12)
        state = _kmeans.settle(candidates, *passed)
        chosen = np.vstack([chosen, candidates[np.argmin(left)]])
        np.testing.assert_array_equal(state.latest, chosen[-1])


@pytest.mark.usefixtures("wide")
def test_candidates_follow_weight_times_squared_distance():
    """Four rows at 0, 1, 2 and 3 with the seed at 0: masses 0, 1·2, 4·1 and 9·0."""
    x = jnp.asarray(np.repeat([[0.0], [1.0], [2.0], [3.0]], 64, axis=0))
    weight = jnp.asarray(np.repeat([1.0, 2.0, 1.0, 0.0], 64))
    _, state = _kmeans.begin(jax.random.key(0), x, weight, 2)
    seed = jnp.zeros((_kmeans.TRIALS, 1))
    state = _kmeans.settle(seed, *_kmeans.seeding_pass(x, weight, state, seed))
    draws = jnp.linspace(0.0, 1.0, 901)
    values, counts = np.unique(_kmeans.draw_candidates(draws, x, weight, state), return_counts=True)
    np.testing.assert_array_equal(values, [1.0, 2.0])
    np.testing.assert_allclose(counts, [300, 601], atol=1)


@pytest.mark.usefixtures("wide")
@pytest.mark.parametrize("n_rows", [3500, 20_000])
def test_parts_side_by_side_are_the_one_program(shared_out, n_rows):
    x, keys = blobs(n_rows, 3, K, 2.0), keys_of(8)
    seeds, ends, rows = k_means(x, keys)
    assert _kmeans.row_parts(rows.x, K) == 1
    shared_out()
    assert _kmeans.row_parts(rows.x, K) > 1 or jax.default_backend() != "cpu"
    seeds_in_parts, ends_in_parts, _ = k_means(x, keys)
    np.testing.assert_array_equal(seeds_in_parts, seeds)
    np.testing.assert_allclose(ends_in_parts, ends, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("parts", [False, True])
def test_bits_do_not_depend_on_the_number_of_cores(shared_out, monkeypatch, parts, dtype):
    if parts:
        shared_out()
    x, keys = blobs(3500, 3, K, 2.0).astype(dtype), keys_of(8)
    with precision_context(dtype):
        some = k_means(x, keys)
        monkeypatch.setattr("jaxgmm._parallel.n_workers", lambda: 1)
        one = k_means(x, keys)
    np.testing.assert_array_equal(one[0], some[0])
    np.testing.assert_array_equal(one[1], some[1])


@pytest.mark.parametrize("parts", [False, True])
def test_a_key_gives_the_same_start_in_both_precisions(shared_out, parts):
    if parts:
        shared_out()
    ends = {}
    for name in ("float32", "float64"):
        with precision_context(np.dtype(name)):
            ends[name] = k_means(blobs(3500, 3, K, 4.0).astype(name), keys_of(8))[:2]
    chex.assert_trees_all_close(*ends.values(), atol=2e-3)


@pytest.mark.usefixtures("wide")
@pytest.mark.parametrize("parts", [False, True])
def test_repeating_rows_is_weighting_them(shared_out, parts):
    """To the last bit at the seeds it is not: a repeated row lies in another block. From equal seeds it is."""
    if parts:
        shared_out()
    x, counts = blobs(3500, 3, K, 2.0), np.random.default_rng(0).integers(0, 4, 3500)
    seeds = x[counts > 0][: 2 * K].reshape(2, K, 3)
    active, ends = np.ones((1, K), bool), []
    for rows, weight in ((x, counts.astype(float)), (np.repeat(x, counts, axis=0), np.ones(counts.sum()))):
        ready = prepare_rows(rows, weight)
        begin = (seeds - ready.offset) / ready.scale
        ends.append(_kmeans.lloyd(ready.x, ready.weight, begin, active) * ready.scale + ready.offset)
    np.testing.assert_allclose(*ends, rtol=1e-9, atol=1e-12)


@pytest.mark.usefixtures("wide")
@pytest.mark.parametrize("parts", [False, True])
def test_rows_of_weight_zero_are_never_seeds(shared_out, parts):
    if parts:
        shared_out()
    x = np.concatenate([blobs(1750, 3, K, 2.0), np.full((1750, 3), 100.0)])
    weight = np.repeat([1.0, 0.0], 1750)
    seeds, ends, rows = k_means(x, keys_of(8), weight=weight)
    assert (seeds * rows.scale + rows.offset).max() < 50
    assert (ends * rows.scale + rows.offset).max() < 50


@pytest.mark.parametrize("parts", [False, True])
def test_fewer_distinct_rows_than_seeds(shared_out, parts, dtype):
    """Every distinct row is found before one is drawn again, however its squares round."""
    if parts:
        shared_out()
    distinct = np.array([[0.1, 1e3], [7.3, 1e3 + 1.7], [-4.9, 1e3 - 2.3]], dtype)
    with precision_context(dtype):
        seeds, _, _ = k_means(np.repeat(distinct, 1170, axis=0), keys_of(6))
    for lane in seeds:
        assert len(np.unique(lane[:3], axis=0)) == 3
        assert len(np.unique(lane, axis=0)) == 3


@pytest.mark.usefixtures("wide")
@pytest.mark.parametrize("parts", [False, True])
def test_the_first_seeds_serve_fewer_components(shared_out, parts):
    if parts:
        shared_out()
    x, keys = blobs(3500, 3, K, 2.0), keys_of(8)
    seeds, ends, _ = k_means(x, keys, active=np.arange(K) < np.array([[3], [K]]))
    alone, end, _ = k_means(x, keys, n_components=3)
    np.testing.assert_array_equal(seeds[:, :3], alone)
    np.testing.assert_allclose(ends[0][:, :3], end[0], rtol=1e-9, atol=1e-12)


@pytest.mark.usefixtures("wide")
@pytest.mark.parametrize("parts", [False, True])
def test_lloyd_agrees_with_scikit_learn_from_the_same_seeds(shared_out, parts, monkeypatch):
    """Without steps beyond the means, which scikit-learn does not take."""
    if parts:
        shared_out()
    monkeypatch.setattr(_kmeans, "OVERSTEP", 1.0)
    programs = (_kmeans._lloyd_in_slots, _kmeans._move)
    for program in programs:
        program.clear_cache()
    x = blobs(3500, 3, K, 1.0)
    seeds, ends, rows = k_means(x, keys_of(8))
    centred = (x - rows.offset) / rows.scale
    for lane, end in zip(seeds, ends[0], strict=True):
        theirs = KMeans(K, init=lane, n_init=1, algorithm="lloyd").fit(centred)
        np.testing.assert_allclose(end, theirs.cluster_centers_, rtol=1e-9, atol=1e-12)
    for program in programs:
        program.clear_cache()


@pytest.mark.usefixtures("wide")
def test_inertia_is_scikit_learns_on_average():
    x, n_seeds = blobs(2000, 2, 8, 6.0), 20
    _, ends, rows = k_means(x, keys_of(n_seeds), n_components=8)
    ours = np.mean([inertia((x - rows.offset) / rows.scale, end) * rows.scale**2 for end in ends[0]])
    theirs = np.mean([KMeans(8, n_init=1, random_state=s).fit(x).inertia_ for s in range(n_seeds)])
    # What the average of twenty runs is known to.
    assert ours < 1.05 * theirs


@pytest.mark.slow
@pytest.mark.usefixtures("wide")
@pytest.mark.parametrize("shape", [(6000, 16, 32, 2.0), (4000, 8, 8, 2.0), (6000, 16, 32, 0.7), (6000, 2, 32, 8.0)])
def test_inertia_is_within_a_hundredth_of_scikit_learns(shape):
    x, n_components, n_seeds = blobs(*shape), shape[2], 100
    _, ends, rows = k_means(x, keys_of(n_seeds, seed=1), n_components=n_components)
    ours = np.mean([inertia((x - rows.offset) / rows.scale, end) * rows.scale**2 for end in ends[0]])
    theirs = np.mean([KMeans(n_components, n_init=1, random_state=s).fit(x).inertia_ for s in range(n_seeds)])
    assert ours < 1.01 * theirs


@pytest.mark.parametrize("n_components", [K, _kmeans.MAX_UNROLLED + 1])
def test_runs_in_slots_end_where_they_end_alone(n_components, dtype):
    """More runs than slots, of different lengths and with different active centres."""
    x = blobs(600, 3, n_components, 2.0).astype(dtype)
    active = np.arange(n_components) < np.array([[2], [n_components]])
    with precision_context(dtype):
        seeds, ends, rows = k_means(x, keys_of(20), n_components, active=active)
        alone = jax.jit(_kmeans.lloyd_run)
        enough = _kmeans.shortest_move(rows.x, rows.weight)
        for mask, of_mask in zip(active, ends, strict=True):
            expected = [alone(rows.x, rows.weight, seed, mask, enough) for seed in seeds]
            np.testing.assert_allclose(of_mask, expected, rtol=0, atol=1e3 * np.finfo(dtype).eps)


@pytest.mark.parametrize("parts", [False, True])
def test_new_values_and_a_few_more_restarts_compile_nothing_new(shared_out, parts, dtype):
    if parts:
        shared_out()
    programs = [_kmeans._seeds, _kmeans._lloyd_in_slots, _kmeans._seeding_parts, _kmeans._lloyd_parts, _kmeans._settle]
    masks = np.tril(np.ones((K, K), bool))
    with precision_context(dtype):
        k_means(blobs(3500, 3, K, 2.0).astype(dtype), keys_of(4), active=masks)
        before = [program._cache_size() for program in programs]
        k_means(blobs(3400, 3, K, 3.0, seed=1).astype(dtype), keys_of(6, seed=1), active=masks)
    assert [program._cache_size() for program in programs] == before


@pytest.mark.usefixtures("wide")
@pytest.mark.parametrize("method", ["kmeans", "k-means++", "random", "random_from_data", "orthant"])
def test_lanes_are_masks_times_keys(method):
    rows = prepare_rows(blobs(1000, 3, K, 2.0), np.ones(1000))
    active = np.arange(4) < np.array([[2], [4]])
    both = make_starts(keys_of(3), rows.x, rows.weight, active, 1e-6, method=method, covariance_type="diag")
    assert both.means.shape == (6, 4, 3)
    for j, mask in enumerate(active):
        one = make_starts(keys_of(3), rows.x, rows.weight, mask[None], 1e-6, method=method, covariance_type="diag")
        np.testing.assert_allclose(both.means[3 * j : 3 * j + 3], one.means, rtol=1e-9, atol=1e-12)
        assert (np.asarray(one.weights)[:, ~mask] == 0).all()
