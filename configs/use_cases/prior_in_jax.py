"""Use case: a fitted mixture as a differentiable density inside somebody else's JAX program.

Pulses of 16 samples come in three shapes. A sensor with five wide, noisy windows sees each of them, so that the inverse
problem y = A x + noise has more unknowns than equations and needs a prior. A mixture fitted to earlier pulses is one:
the program below minimises |y - A x|^2 / 2 s^2 - log p(x) with optax inside jit, for all pulses at once by vmap, and
`jaxgmm.log_prob` is differentiated like any other function. The number is the root mean square error of the pulses,
against the best linear estimate (Wiener, a single Gaussian as prior) and against ridge regression tuned on the truth.

Run: python configs/use_cases/prior_in_jax.py    (needs matplotlib; the data are generated)
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from _common import BLUE, GREEN, RED, axes, check_figure, command_line, save

import jaxgmm

LENGTH, N_WINDOWS, NOISE = 16, 5, 0.05


def make_pulses(n: int, seed: int) -> np.ndarray:
    """Pulses (N, 16), float32: early and narrow, late and wide, or a falling wave, of random height and place."""
    rng = np.random.default_rng(seed)
    t = np.arange(LENGTH)
    kind = rng.integers(0, 3, n)[:, None]
    height, place = rng.normal(1.0, 0.2, (n, 1)), rng.normal(0.0, 0.4, (n, 1))
    early = np.exp(-0.5 * ((t - 4.0 - place) / 1.2) ** 2)
    late = np.exp(-0.5 * ((t - 10.5 - place) / 2.5) ** 2)
    wave = np.cos(0.9 * (t - place)) * np.exp(-t / 12.0)
    shape = np.choose(kind, (early, late, wave))
    return (height * shape + 0.02 * rng.standard_normal((n, LENGTH))).astype(np.float32)


def windows() -> np.ndarray:
    """A (5, 16): what each window sees of a pulse."""
    centres = np.linspace(1.5, LENGTH - 2.5, N_WINDOWS)[:, None]
    return np.exp(-0.5 * ((np.arange(LENGTH) - centres) / 2.0) ** 2).astype(np.float32) / 5.0


def energy(x: jax.Array, y: jax.Array, a: jax.Array, prior: jaxgmm.GMMParams) -> jax.Array:
    """What a pulse x (16) costs that was seen as y (5): misfit and prior, nats."""
    return jnp.sum((y - a @ x) ** 2) / (2.0 * NOISE**2) - jaxgmm.log_prob(prior, x[None])[0]


@jax.jit
def restore(y: jax.Array, a: jax.Array, prior: jaxgmm.GMMParams) -> jax.Array:
    """The pulses (N, 16) of least energy for y (N, 5): Adam from the mean of each component, the best one kept."""
    optimizer = optax.adam(optax.cosine_decay_schedule(0.05, 400))

    def descend(start: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
        def step(state: Any, _: None) -> tuple[Any, None]:
            x, memory = state
            updates, memory = optimizer.update(jax.grad(energy)(x, y, a, prior), memory)
            return (optax.apply_updates(x, updates), memory), None

        (x, _), _ = jax.lax.scan(step, (start, optimizer.init(start)), length=400)
        return x, energy(x, y, a, prior)

    found, cost = jax.vmap(jax.vmap(descend, in_axes=(0, None)), in_axes=(None, 0))(jnp.asarray(prior.means), y)
    return jax.vmap(lambda x, c: x[jnp.argmin(c)])(found, cost)


def rmse(estimate: Any, truth: np.ndarray) -> float:
    """Root mean square error."""
    return float(np.sqrt(np.mean((np.asarray(estimate) - truth) ** 2)))


def main(
    figure: str | None = None,
    *,
    force: bool = False,
    n_train: int = 3000,
    n_test: int = 200,
    n_components: int = 6,
    seed: int = 0,
) -> dict[str, Any]:
    """Fit the prior, restore pulses by three methods, compare."""
    check_figure(figure, force)
    train, truth, a = make_pulses(n_train, seed), make_pulses(n_test, seed + 1), windows()
    y = truth @ a.T + NOISE * np.random.default_rng(seed).standard_normal((n_test, N_WINDOWS)).astype(np.float32)
    prior = jaxgmm.fit(train, n_components, key=seed).params
    restored = np.asarray(restore(y, a, prior))

    mean, spread = train.mean(axis=0), np.cov(train.T)
    gain = spread @ a.T @ np.linalg.inv(a @ spread @ a.T + NOISE**2 * np.eye(N_WINDOWS))
    wiener = mean + (y - mean @ a.T) @ gain.T
    ridges = [y @ np.linalg.solve(a @ a.T + c * np.eye(N_WINDOWS), a) for c in np.logspace(-5, 1, 25)]
    ridge = min(ridges, key=lambda estimate: rmse(estimate, truth))
    errors = {"mixture": rmse(restored, truth), "wiener": rmse(wiener, truth), "ridge": rmse(ridge, truth)}
    print(
        f"Error of {n_test} restored pulses (root mean square): {errors['mixture']:.3f} with the mixture as prior, "
        f"{errors['wiener']:.3f} with one Gaussian, {errors['ridge']:.3f} with tuned ridge regression."
    )
    if figure is not None:
        drawing, panels = axes(3, width=3.6)
        for panel, i in zip(panels, _three_kinds(truth), strict=True):
            panel.plot(truth[i], color="black", lw=3, alpha=0.35, label="truth")
            panel.plot(restored[i], "o-", ms=4, color=BLUE, label="mixture as prior")
            panel.plot(wiener[i], "s--", ms=3, color=RED, label="one Gaussian")
            panel.plot(ridge[i], ":", lw=2, color=GREEN, label="ridge")
            panel.set(xlabel="sample", ylabel="pulse")
        panels[0].legend(frameon=False, fontsize="small")
        save(drawing, figure)
    return errors | {"prior": prior, "a": a, "y": y, "restored": restored, "truth": truth}


def _three_kinds(pulses: np.ndarray) -> list[int]:
    """The first pulse of each shape: early, late, wave."""
    kinds = (pulses[:, 4] > 0.5, pulses[:, 11] > 0.5, pulses[:, 0] > 0.5)
    return [int(np.argmax(kind)) for kind in kinds]


if __name__ == "__main__":
    command_line(main, __file__)
