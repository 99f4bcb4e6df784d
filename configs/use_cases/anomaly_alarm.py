"""Use case: an anomaly alarm that rings on healthy rows as rarely as was asked for, in 1 % of them.

Eight sensors of a machine with four modes of operation. A mixture fitted to 500 rows tells how likely a new row is; the
alarm rings below a threshold. The 1 % quantile of the rows of the fit is too high, since a fit flatters its own rows.
Of n rows held out, the floor((n + 1) 0.01)-th smallest log-density is one that a new row falls below with a chance of
at most 1 %, however good or bad the fit is (split conformal prediction, Vovk et al. 2005). The number is the share of
false alarms among 20,000 fresh rows; faults are one sensor that is off by 4 units.

Run: python configs/use_cases/anomaly_alarm.py    (needs matplotlib; the data are generated)
"""

from __future__ import annotations

from typing import Any

import numpy as np
from _common import BLUE, ORANGE, RED, axes, check_figure, command_line, save
from scipy.stats import betabinom

import jaxgmm

N_SENSORS, SHARES = 8, (0.4, 0.3, 0.2, 0.1)


def make_machine(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Means (4, 8) and covariances (4, 8, 8) of the sensors in each mode."""
    rng = np.random.default_rng(seed)
    mixing = rng.standard_normal((len(SHARES), N_SENSORS, N_SENSORS)) / np.sqrt(N_SENSORS)
    covariances = mixing @ mixing.transpose(0, 2, 1) + 0.2 * np.eye(N_SENSORS)
    return rng.normal(0.0, 3.0, (len(SHARES), N_SENSORS)), covariances


def threshold(scores: np.ndarray, rate: float) -> float:
    """Below which a new score falls with a chance of at most `rate`, if it is one more draw from where these are."""
    rank = int(np.floor((len(scores) + 1) * rate))
    return float(np.sort(scores)[rank - 1]) if rank else -np.inf


def expected_range(n_held: int, n_fresh: int, rate: float, chance: float = 0.99) -> tuple[float, float]:
    """Where the share of false alarms lies with this chance over draws of both samples: it is beta-binomial."""
    rank = int(np.floor((n_held + 1) * rate))
    low, high = betabinom.interval(chance, n_fresh, rank, n_held + 1 - rank)
    return float(low / n_fresh), float(high / n_fresh)


def main(
    figure: str | None = None,
    *,
    force: bool = False,
    rate: float = 0.01,
    n_fit: int = 500,
    n_held: int = 5000,
    n_fresh: int = 20_000,
    candidates: tuple[int, ...] = (2, 3, 4, 5, 6),
    seed: int = 0,
) -> dict[str, Any]:
    """Fit, set the threshold on rows held out, and count alarms. rate: of false alarms, as asked for."""
    check_figure(figure, force)
    means, covariances = make_machine(seed)

    def rows(n: int, stream: int) -> np.ndarray:
        return jaxgmm.data.make_mixture(n, SHARES, means, covariances, seed=1000 * seed + stream).x

    x = rows(n_fit, 1)
    chosen = jaxgmm.sweep(x, candidates, key=seed, n_restarts=4).best
    faults = rows(1000, 4)
    faults[np.arange(1000), np.random.default_rng(seed).integers(0, N_SENSORS, 1000)] += 4.0
    samples = {"fit": x, "held": rows(n_held, 2), "fresh": rows(n_fresh, 3), "faults": faults}
    scores = {name: np.asarray(jaxgmm.log_prob(chosen.params, own)) for name, own in samples.items()}

    alarm, naive = threshold(scores["held"], rate), threshold(scores["fit"], rate)
    facts: dict[str, Any] = {
        "false_alarms": float(np.mean(scores["fresh"] < alarm)),
        "false_alarms_of_fit_rows": float(np.mean(scores["fresh"] < naive)),
        "detected": float(np.mean(scores["faults"] < alarm)),
        "expected": expected_range(n_held, n_fresh, rate),
        "n_components": chosen.n_components,
    }
    low, high = (100 * limit for limit in facts["expected"])
    print(
        f"False alarms: {100 * facts['false_alarms']:.2f} % of {n_fresh:,} fresh rows, asked for {100 * rate:g} % "
        f"(expected in 99 of 100 runs: {low:.2f} to {high:.2f} %); {100 * facts['detected']:.0f} % of faults are found."
    )
    print(f"With the threshold from the rows of the fit: {100 * facts['false_alarms_of_fit_rows']:.2f} %.")
    if figure is not None:
        drawing, (panel,) = axes(width=6.4)
        style: dict[str, Any] = {"bins": np.linspace(np.quantile(scores["faults"], 0.02), scores["fresh"].max(), 80)}
        style |= {"density": True}
        panel.hist(scores["faults"], color=ORANGE, ec="none", alpha=0.7, label="one sensor off by 4", **style)
        panel.hist(scores["fresh"], color=BLUE, histtype="step", lw=2, label="fresh healthy rows", **style)
        panel.axvline(alarm, color=RED, lw=2, label=f"alarm below: {100 * facts['false_alarms']:.2f} % false")
        wrong = 100 * facts["false_alarms_of_fit_rows"]
        panel.axvline(naive, color="black", lw=1.2, ls="--", label=f"from the rows of the fit: {wrong:.2f} % false")
        panel.set(xlabel="log-density of a row (nats)", ylabel="density")
        panel.legend(frameon=False, fontsize="small", loc="upper left")
        save(drawing, figure)
    return facts


if __name__ == "__main__":
    command_line(main, __file__)
