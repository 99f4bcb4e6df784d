"""Prediction visits the rows in pieces: the same answers, few programs, and no second array of N rows."""

import subprocess
import sys

import numpy as np
import pytest

import jaxgmm
from jaxgmm import functional
from jaxgmm._pytree import replace
from jaxgmm._status import DataError
from jaxgmm.model import Model
from tests.helpers import D, random_params, tolerance
from tests.test_retrace import compilations

NAMES = ("log_prob", "component_log_prob", "responsibilities", "log_responsibilities", "predict", "uncertainty")
LARGEST = functional._PIECES[-1]
SIZES = (1, 2, 127, 128, 129, 300, 512, 2000, 2049, LARGEST, LARGEST + 1, 3 * LARGEST + 700)
RNG = np.random.default_rng(0)
X = RNG.normal(size=(max(SIZES), D)) * 3 + [5.0, -2.0, 2.0]


@pytest.mark.parametrize("n_rows", [*range(1, 40), *SIZES, 10**6, 10**6 + 1, 12345])
def test_pieces_cover_every_row_once_with_little_padding(n_rows):
    pieces = functional._pieces(n_rows)
    ends = [0, *np.cumsum([size for _, size in pieces])]
    assert [start for start, _ in pieces] == ends[:-1]
    assert ends[-2] < n_rows <= ends[-1]
    assert {size for _, size in pieces} <= set(functional._PIECES)
    assert ends[-1] - n_rows < max(functional._PIECES[0], n_rows)
    assert len(pieces) <= n_rows // LARGEST + 3 * len(functional._PIECES)


@pytest.mark.parametrize(
    ("name", "family", "dtype"),
    [(name, "diag", np.float64) for name in NAMES]
    + [("responsibilities", "full", np.float32), ("log_prob", "tied", np.float64)],
)
def test_rows_do_not_know_their_piece(name, family, dtype):
    params, score = random_params(family, dtype=dtype), getattr(jaxgmm, name)
    x = X.astype(dtype)
    whole = score(params, x)
    assert len(whole) == len(x)
    for start, end in ((0, 5), (LARGEST - 100, LARGEST + 300), (len(x) - 700, len(x))):
        np.testing.assert_allclose(score(params, x[start:end]), whole[start:end], rtol=0, atol=tolerance(dtype, 2000))


@pytest.mark.parametrize("name", NAMES)
def test_a_result_belongs_to_the_caller(name):
    params = random_params("diag")
    result = getattr(jaxgmm, name)(params, X[:300])
    assert type(result) is np.ndarray
    assert result.flags.owndata
    assert result.flags.writeable
    assert result.dtype == (np.int32 if name == "predict" else np.float64)


def test_rows_of_any_layout_give_the_same():
    params = random_params("full")
    wide = np.zeros((2 * len(X), 2 * D))
    wide[::2, ::2] = X
    whole = jaxgmm.log_prob(params, X)
    for x in (np.asfortranarray(X), wide[::2, ::2], X.astype(">f8"), X.tolist()):
        np.testing.assert_array_equal(jaxgmm.log_prob(params, x), whole)


@pytest.mark.parametrize("name", ["log_prob", "responsibilities"])
def test_forty_sizes_are_a_handful_of_programs(name):
    score, x = getattr(jaxgmm, name), np.zeros((200_000, 1), np.float32)
    params = random_params("spherical", 2, 1, dtype=np.float32)
    with compilations() as programs:
        for n_rows in np.geomspace(1, len(x), 40).astype(int):
            assert len(score(params, x[:n_rows])) == n_rows
    assert 0 < len(programs) <= len(functional._PIECES)


def test_the_estimator_neither_predicts_nor_samples_per_size():
    x = X[:500, :2]
    estimator = jaxgmm.GaussianMixture(2, covariance_type="diag", random_state=0).fit(x)
    methods = (estimator.predict, estimator.predict_proba, estimator.score_samples, estimator.score, estimator.bic)
    for method in methods:
        method(x[:1])
    with compilations() as programs:
        for n_rows in (1, 3, 64, 65, 100, 127, 128, 250):
            for method in methods:
                method(x[:n_rows])
            assert len(estimator.sample(n_rows)[0]) == n_rows
    assert not programs


def test_uncertainty_and_icl_of_the_estimator():
    x = X[:400, :2]
    estimator = jaxgmm.GaussianMixture(2, covariance_type="diag", random_state=0).fit(x)
    largest = estimator.predict_proba(x).max(axis=1)
    np.testing.assert_allclose(estimator.uncertainty(x), 1 - largest, rtol=0, atol=1e-15)
    expected = estimator.bic(x) - 2 * np.log(largest).sum()
    assert estimator.icl(x) == pytest.approx(expected, rel=1e-12)


def test_a_model_rescales_piece_by_piece(monkeypatch):
    params = random_params("full")
    model = Model(params=params, shift=[1e6, 0.0, -3.0], scale=[2.0, 10.0, 0.5])
    x = X[: LARGEST + 200] * model.scale + model.shift
    seen = []
    convert = Model._to_z
    monkeypatch.setattr(Model, "_to_z", lambda self, rows: seen.append(len(rows)) or convert(self, rows))
    z = (x - model.shift) / model.scale
    np.testing.assert_allclose(model.log_prob(x), jaxgmm.log_prob(params, z) - np.log(10.0), rtol=1e-13)
    np.testing.assert_allclose(model.uncertainty(x), 1 - model.responsibilities(x).max(axis=1), rtol=0, atol=1e-15)
    np.testing.assert_array_equal(model.predict(x), jaxgmm.predict(params, z))
    assert model.score(x) == pytest.approx(model.log_prob(x).mean(), rel=1e-13)
    assert max(seen) == LARGEST


def test_an_offset_of_a_hundred_million_costs_no_digits():
    # Steps of 2**-26 are exact at this offset, so both tables hold the same rows.
    params = random_params("full")
    x = np.round(X[:1000] * 2**20) / 2**20
    means = np.round(params.means * 2**20) / 2**20
    near = jaxgmm.GMMParams(**{**vars(params), "means": means})
    far = jaxgmm.GMMParams(**{**vars(params), "means": means + 2.0**27})
    np.testing.assert_array_equal(jaxgmm.log_prob(far, x + 2.0**27), jaxgmm.log_prob(near, x))


# The programs first: what is measured is the growth during one call on a table.
MEMORY = """
import resource, sys
import numpy as np
import jaxgmm
K, D, N = 16, 8, 1_000_000
rng = np.random.default_rng(0)
params = jaxgmm.make_params(np.full(K, 1 / K), rng.normal(size=(K, D)), np.ones((K, D)), "diag")
x = np.zeros((N, D))
x[:] = rng.normal(size=(1, D))
score = getattr(jaxgmm, sys.argv[1])
score(params, x[:100_000])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
score(params, x)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss counts KiB on Linux only")
@pytest.mark.parametrize(("name", "columns"), [("responsibilities", 16), ("score", 1)])
def test_memory_is_the_result_and_little_more(name, columns):
    done = subprocess.run([sys.executable, "-c", MEMORY, name], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    grown, result = float(done.stdout) / 1024, 1e6 * columns * 8 / 2**20
    # One more copy of the rows would be 61 MiB, one of N x K 122 MiB.
    assert grown < result + 48, f"{grown:.0f} MiB for a result of {result:.0f} MiB"


def test_what_is_no_mixture_is_refused():
    """Parameters put together by hand, that `make_params` has never seen."""
    good = random_params("full")
    bad = [
        replace(good, covariances=-good.covariances),
        replace(good, means=np.full_like(good.means, np.nan)),
        replace(good, weights=np.ones(len(good.weights) + 1)),
        replace(good, covariances=good.covariances + np.triu(np.ones((D, D)), 1)),
    ]
    doors = [getattr(jaxgmm, name) for name in (*NAMES, "score", "e_step")]
    for params, code in zip(bad, ("E243", "E241", "E240", "E243"), strict=True):
        for door in doors:
            with pytest.raises(DataError) as error:
                door(params, X[:3])
            assert error.value.code == code
        with pytest.raises(DataError):
            jaxgmm.sample(params, 0, 3)


def test_a_covariance_may_be_as_symmetric_as_rounding_leaves_it():
    good = random_params("tied", dtype=np.float32)
    nearly = good.covariances * (1 + 1e-6 * np.triu(np.ones((D, D)), 1))
    made = jaxgmm.make_params(good.weights, good.means, nearly, "tied")
    assert np.isfinite(jaxgmm.log_prob(made, X[:3])).all()
    with pytest.raises(DataError, match="not symmetric"):
        jaxgmm.make_params(good.weights, good.means, good.covariances * (1 + np.triu(np.ones((D, D)), 1)), "tied")


@pytest.mark.parametrize("distance", [1e6, 1e8, 1e160])
def test_log_responsibilities_of_far_rows_keep_their_digits(distance):
    """Two components alike: ½ each, however large the log-density is that both share."""
    params = jaxgmm.make_params([0.5, 0.5], np.zeros((2, D)), np.ones((2, D)), "diag")
    found = jaxgmm.log_responsibilities(params, np.full((1, D), distance))
    np.testing.assert_allclose(found, np.log(0.5), rtol=tolerance(np.float64, 2))
