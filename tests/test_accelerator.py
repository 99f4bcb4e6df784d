"""The way an accelerator is used (all lanes together, long blocks), walked on a CPU: the same answers."""

import jax
import numpy as np
import pytest

import jaxgmm


@pytest.fixture
def both(monkeypatch):
    """What a call returns on a CPU, and where the package believes to have an accelerator."""

    def run(call):
        usual = call()
        with monkeypatch.context() as patch:
            patch.setattr(jax, "default_backend", lambda: "gpu")
            jax.clear_caches()
            other = call()
        jax.clear_caches()
        return usual, other

    return run


def rows(n_samples: int = 3000) -> np.ndarray:
    rng = np.random.default_rng(0)
    centres = np.array([[0.0, 0.0, 0.0], [4.0, 1.0, 0.0], [0.0, 5.0, 2.0]])
    return centres[rng.integers(3, size=n_samples)] + rng.normal(size=(n_samples, 3))


def test_a_sweep_with_restarts(both):
    usual, other = both(lambda: jaxgmm.sweep(rows(), range(1, 5), key=0, n_restarts=3, tol=1e-6))
    assert usual.best.n_components == other.best.n_components
    for a, b in zip(usual.fits, other.fits, strict=True):
        np.testing.assert_allclose(a.restart_log_likelihoods, b.restart_log_likelihoods, rtol=1e-9)
        np.testing.assert_array_equal(a.restart_status, b.restart_status)


def test_lanes_are_re_packed(both, monkeypatch):
    monkeypatch.setattr("jaxgmm.em.lanes.REPACK_FLOPS", 0.0)
    usual, other = both(lambda: jaxgmm.fit(rows(), 3, key=1, n_restarts=9, init="random_from_data", tol=1e-6))
    np.testing.assert_allclose(usual.restart_log_likelihoods, other.restart_log_likelihoods, rtol=1e-9)
    assert np.ptp(other.restart_n_iter) > 16  # longer than a first burst: lanes did leave before others


def test_many_sets_and_predictions(both):
    sets = [rows(n) for n in (40, 61, 50)]

    def call():
        result = jaxgmm.fit_many(sets, 2, key=0)
        params = result.fits[2].params
        return result.log_likelihood, jaxgmm.responsibilities(params, sets[2]), jaxgmm.predict(params, sets[2])

    for a, b in zip(*both(call), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)
