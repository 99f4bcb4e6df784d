"""Use case: a universal background model, streamed from one file a speaker, for telling speakers apart.

Every speaker is one .npy file of cepstra-like frames, 12 numbers each. One mixture of 64 components is fitted to the
frames of 30 background speakers, read batch after batch, never all at once. The means of each of 30 enrolled speakers
are that mixture's, adapted by one E-step on the speaker's frames (maximum a posteriori, Reynolds et al. 2000). An
utterance is scored by its log-likelihood ratio, speaker against background, in nats a frame. The number is the equal
error rate on new utterances of 100 frames: the threshold at which as many impostors pass as speakers are turned away.

Run: python configs/use_cases/speaker_background.py    (needs matplotlib; the data are generated)
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from _common import BLUE, ORANGE, RED, axes, check_figure, command_line, save

import jaxgmm

N_FEATURES, N_SOUNDS = 12, 32
RELEVANCE = 16.0  # frames of a component after which the speaker counts as much as the background
N_TESTS, N_FRAMES = 10, 100  # utterances of each enrolled speaker to verify, and their length


def make_speakers(n_speakers: int, seed: int) -> Callable[[int, int], np.ndarray]:
    """``speak(speaker, n_frames)``: frames (N, 12) of sounds that all share, a little shifted by each speaker."""
    rng = np.random.default_rng(seed)
    shares = rng.dirichlet(np.full(N_SOUNDS, 5.0))
    sounds = rng.normal(0.0, 2.0, (N_SOUNDS, N_FEATURES))
    spread = rng.uniform(0.6, 1.2, (N_SOUNDS, N_FEATURES))
    shift = rng.normal(0.0, 0.15, (n_speakers, N_SOUNDS, N_FEATURES))

    def speak(speaker: int, n_frames: int) -> np.ndarray:
        k = rng.choice(N_SOUNDS, n_frames, p=shares)
        return sounds[k] + shift[speaker, k] + spread[k] * rng.standard_normal((n_frames, N_FEATURES))

    return speak


def adapt(background: jaxgmm.GMMParams, x: np.ndarray) -> jaxgmm.GMMParams:
    """The background with means moved towards x: by r_k / (r_k + 16) of the way, r_k the frames of component k."""
    stats = jaxgmm.e_step(background, x)
    frames = stats.resp_sum[:, None]
    step = stats.x_sum / np.maximum(frames, 1e-9) + stats.pivot - background.means
    means = background.means + frames / (frames + RELEVANCE) * step
    return jaxgmm.make_params(background.weights, means, background.covariances, background.covariance_type)


def error_rates(scores: np.ndarray, genuine: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """False alarms and misses at every threshold, and the rate where the two are closest."""
    thresholds = np.sort(scores.ravel())
    own, others = np.sort(scores[genuine]), np.sort(scores[~genuine])
    miss = np.searchsorted(own, thresholds) / len(own)
    alarm = 1.0 - np.searchsorted(others, thresholds) / len(others)
    equal = int(np.argmin(np.abs(miss - alarm)))
    return alarm, miss, float(miss[equal] + alarm[equal]) / 2.0


def main(
    figure: str | None = None,
    *,
    force: bool = False,
    n_speakers: int = 30,
    n_components: int = 64,
    n_frames: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Write the files, fit the background from them, adapt, verify. n_speakers: in the background, and enrolled."""
    check_figure(figure, force)
    speak = make_speakers(2 * n_speakers, seed)
    options: dict[str, Any] = {"covariance_type": "diag", "key": seed, "tol": 1e-5}
    with tempfile.TemporaryDirectory() as folder:
        for speaker in range(n_speakers):
            np.save(Path(folder, f"speaker-{speaker:03}.npy"), speak(speaker, n_frames))
        streamed = jaxgmm.fit(jaxgmm.scan_table(folder), n_components, batch_size=4000, **options)
        together = np.concatenate([np.load(path) for path in sorted(Path(folder).iterdir())])
    in_memory = jaxgmm.fit(together, n_components, **options)
    background = streamed.params

    enrolled = range(n_speakers, 2 * n_speakers)
    models = [adapt(background, speak(speaker, n_frames)) for speaker in enrolled]
    tests = np.concatenate([speak(speaker, N_TESTS * N_FRAMES) for speaker in enrolled])

    def per_utterance(params: jaxgmm.GMMParams) -> np.ndarray:
        return np.asarray(jaxgmm.log_prob(params, tests)).reshape(-1, N_FRAMES).mean(axis=1)

    scores = np.stack([per_utterance(model) for model in models])
    ratios = scores - per_utterance(background)
    genuine = np.arange(n_speakers)[:, None] == np.repeat(np.arange(n_speakers), N_TESTS)
    alarm, miss, rate = error_rates(ratios, genuine)
    plain_alarm, plain_miss, plain_rate = error_rates(scores, genuine)
    print(
        f"Equal error rate of {ratios.size:,} trials: {100 * rate:.1f} % by the ratio to the background, "
        f"{100 * plain_rate:.0f} % by the speaker's likelihood alone."
    )
    gap = abs(streamed.score - in_memory.score)
    print(
        f"The streamed fit and the one in memory differ by {gap:.0e} nats a frame after {streamed.n_iter} iterations."
    )
    if figure is not None:
        drawing, (left, right) = axes(2)
        style: dict[str, Any] = {"bins": np.linspace(ratios.min(), ratios.max(), 60), "density": True}
        left.hist(ratios[~genuine], color=ORANGE, alpha=0.7, label="impostors", **style)
        left.hist(ratios[genuine], color=BLUE, histtype="step", lw=2, label="the speaker", **style)
        left.set(xlabel="log-likelihood ratio to the background (nats a frame)", ylabel="density")
        right.plot(100 * alarm, 100 * miss, color=BLUE, lw=2, label="ratio to the background")
        right.plot(100 * plain_alarm, 100 * plain_miss, color=RED, lw=2, ls="--", label="likelihood alone")
        right.plot([0, 100], [0, 100], color="black", lw=0.8, ls=":", label="equal errors")
        right.set(xlabel="impostors accepted (%)", ylabel="speakers turned away (%)", xlim=(-2, 102), ylim=(-2, 102))
        for panel in (left, right):
            panel.legend(frameon=False, fontsize="small")
        save(drawing, figure)
    return {
        "equal_error_rate": rate,
        "without_background": plain_rate,
        "streamed": streamed,
        "in_memory": in_memory,
        "ratios": ratios,
        "genuine": genuine,
    }


if __name__ == "__main__":
    command_line(main, __file__)
