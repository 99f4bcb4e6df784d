"""Compiling is rare: new values never compile, new sizes at most once per bucket."""

import contextlib

import chex
import jax
import numpy as np
import pytest

import jaxgmm
from jaxgmm.em import burst, lanes
from tests.helpers import K, cast, random_params, start

COMPILED = "/jax/core/compile/backend_compile_duration"
_counters: list[list[str]] = []


def _listen(event: str, duration: float, **_) -> None:
    if event == COMPILED:
        for counter in _counters:
            counter.append(event)


jax.monitoring.register_event_duration_secs_listener(_listen)


@contextlib.contextmanager
def compilations():
    """A list that grows by one for every program XLA compiles inside the context."""
    counter: list[str] = []
    _counters.append(counter)
    try:
        yield counter
    finally:
        _counters.remove(counter)


def test_the_counter_counts():
    def fresh(a):
        return a * 3 + 1

    with compilations() as programs:
        compiled = jax.jit(fresh)
        compiled(np.ones(3, np.float32))
        assert len(programs) == 1
        compiled(np.zeros(3, np.float32))
        assert len(programs) == 1
        compiled(np.zeros(4, np.float32))
        assert len(programs) == 2


def test_values_never_compile(small, dtype):
    x = small.x.astype(dtype)

    def fit(x, **options):
        return jaxgmm.fit(x, K, covariance_type="diag", **{"key": 0, "max_iter": 40} | options)

    fit(x)
    with compilations() as programs:
        fit(x, tol=1e-3)
        fit(x, tol=0.0, max_iter=17)
        fit(x, max_iter=0)
        fit(x, reg_covar=0.5)
        fit(x, reg_covar=0)
        fit(x, key=jax.random.key(5))
        fit(x, sample_weight=small.counts + 1)
        fit(x[::-1] * 3 - 7)
        fit(np.asfortranarray(x))
    assert not programs


def test_one_program_serves_every_burst(small, dtype, monkeypatch):
    monkeypatch.setattr(lanes, "BURST", 8)
    # A shape that no other test uses.
    x = np.tile(small.x, (2, 1))[:300].astype(dtype)
    before = burst._in_slots._cache_size()
    result = jaxgmm.fit(x, 2, covariance_type="spherical", init=start("spherical", 2), tol=0.0, max_iter=60)
    assert result.n_iter > 2 * lanes.BURST
    assert burst._in_slots._cache_size() == before + 1


def test_values_of_a_given_start_never_compile(small, dtype):
    x = small.x.astype(dtype)
    jaxgmm.fit(x, K, init=cast(start("full"), dtype), max_iter=3)
    with compilations() as programs:
        jaxgmm.fit(x, K, init=cast(start("full", K, 3), dtype), max_iter=4, tol=0.1)
    assert not programs


def test_sixty_five_to_128_rows_are_one_program(small):
    def fit(n_rows):
        return jaxgmm.fit(small.x[:n_rows], K, covariance_type="diag", init=start("diag"), max_iter=3)

    fit(100)
    with compilations() as programs:
        for n_rows in (65, 70, 99, 127, 128):
            assert fit(n_rows).n_samples == n_rows
        assert not programs
        fit(64)
        assert programs


def test_a_sweep_compiles_once(small):
    def sweep(x, **options):
        return jaxgmm.sweep(x, range(1, 5), covariance_types="diag", max_iter=5, **{"key": 0} | options)

    sweep(small.x)
    with compilations() as programs:
        sweep(small.x, key=1, criterion="icl")
        sweep(small.x[:150] * 2, criterion="aic", tol=1e-2)
    assert not programs


@pytest.mark.parametrize("name", ["log_prob", "responsibilities", "predict", "e_step"])
def test_scoring_compiles_once_per_bucket(small, name):
    params = random_params("tied_spherical", 2, seed=9)
    score = getattr(jaxgmm, name)
    with compilations() as programs:
        for n_rows in (*range(1, 140, 9), 129, 200):
            score(params, small.x[:n_rows])
    assert len(programs) <= 3  # 64, 128 and 256 rows
    with compilations() as programs:
        score(random_params("tied_spherical", 2, seed=10), small.x[:33] + 1)
    assert not programs


def test_sampling_compiles_once_per_power_of_two_from_128_on():
    params = random_params("tied_spherical", 2, seed=9)
    jaxgmm.sample(params, 0, 1)
    with compilations() as programs:
        for n_samples in range(2, 130, 3):
            x, labels = jaxgmm.sample(params, n_samples, n_samples)
            assert len(x) == len(labels) == n_samples
    assert len(programs) <= 1  # 256 rows


def test_the_pieces_trace_once_inside_a_users_program(small):
    @jax.jit
    @chex.assert_max_traces(n=1)
    def iterate(params, x, weight, reg_covar):
        params, stats = jaxgmm.em_step(params, x, weight, reg_covar=reg_covar)
        return params, stats.log_likelihood, jaxgmm.responsibilities(params, x), jaxgmm.predict(params, x)

    params = cast(start("tied"), np.float32)
    x = small.x.astype(np.float32)
    for reg_covar in (0.0, 1e-3, 1.0):
        params, *_ = iterate(params, x + reg_covar, np.ones(len(x), np.float32), reg_covar)


def test_options_of_a_users_run_are_traced(small):
    @jax.jit
    @chex.assert_max_traces(n=1)
    def run(params, x, options):
        return jaxgmm.run_em(params, x, None, options).n_iter

    x, params = small.x.astype(np.float32), cast(start("tied_spherical"), np.float32)
    steps = [
        int(run(params, x, jaxgmm.EMOptions(tol=tol, reg_covar=tol, max_iter=max_iter)))
        for tol, max_iter in ((0.0, 3), (1e-3, 5), (0.5, 9))
    ]
    assert steps == [3, 5, 1]
