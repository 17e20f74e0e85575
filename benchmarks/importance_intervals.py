"""How often the intervals of the hyperparameters' importances are right, on simulated sweeps of known shares.

    python benchmarks/importance_intervals.py        # about two minutes on one core

Quality is 2 a + b + noise of four independent uniform hyperparameters a, b, c, d, so that the noise-free shares of the
variance are 4/5, 1/5, 0, 0. Writes benchmarks/results/importance_intervals.json and prints its table.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from reports.importance.surrogate import Surrogate, fit_surrogate

TRIALS = (12, 25, 50, 100)
SIGNAL = (2**2 + 1) / 3
"""Variance of 2 a + b with both uniform in [-1, 1]."""
NOISE_SHARES = (0.0, 0.3)
SWEEPS = 60
RESAMPLES = 60


def simulate(trials: int, noise_share: float, seed: int) -> Surrogate:
    """One sweep: noise takes that share of the variance of its quality."""
    rng = np.random.default_rng(seed)
    table = rng.uniform(-1, 1, (trials, 4))
    noise = np.sqrt(SIGNAL * noise_share / (1 - noise_share))
    values = 2 * table[:, 0] + table[:, 1] + rng.normal(0, 1, trials) * noise
    grids = [np.zeros((1, 1))] * 4
    return fit_surrogate([table[:, [k]] for k in range(4)], values, grids, resamples=RESAMPLES, seed=seed)


def measure(trials: int, noise_share: float) -> dict[str, float]:
    """One case over `SWEEPS` sweeps."""
    found = [simulate(trials, noise_share, seed) for seed in range(SWEEPS)]
    shares, low = np.array([one.importance for one in found]), np.array([one.bounds[:, 0] for one in found])
    half = np.array([(one.bounds[:, 1] - one.bounds[:, 0]) / 2 for one in found])
    return {
        "trials": trials,
        "noise_share": noise_share,
        "sweeps": SWEEPS,
        "r_squared": float(np.mean([one.r_squared for one in found])),
        "share_a": float(shares[:, 0].mean()),
        "share_b": float(shares[:, 1].mean()),
        "share_inert": float(shares[:, 2:].mean()),
        "clear_a": float((low[:, 0] > 0).mean()),
        "clear_b": float((low[:, 1] > 0).mean()),
        "clear_inert": float((low[:, 2:] > 0).mean()),
        "half_width_over_spread": float((half.mean(axis=0) / (1.96 * shares.std(axis=0, ddof=1))).mean()),
    }


def main() -> None:
    """Measure, write and print every case."""
    rows = [measure(trials, noise) for noise in NOISE_SHARES for trials in TRIALS]
    file = Path(__file__).parent / "results" / "importance_intervals.json"
    file.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    print("| noise | trials | R2 | a | b | inert | a clear | b clear | inert clear | width |")
    for row in rows:
        said = " | ".join(f"{row[key]:.2f}" for key in list(row)[3:])
        print(f"| {row['noise_share']:.0%} | {row['trials']} | {said} |")


if __name__ == "__main__":
    main()
