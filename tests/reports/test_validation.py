"""A validation's verdict follows from its intervals, and its text from the verdict."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from lora_sweep.store import RunFolder
from reports import page, read_results
from reports.recommendation import read_recommendation, recommendation_sentences, validation_sentences
from reports.statistics.effects import effect_over_seeds
from reports.validation import Validation, read_validation

EXAMPLES = 400
LAYERS = [
    {"name": f"layers.{depth}.{kind}", "depth": depth, "kind": kind, "out": 8, "in": 8, "uniform_rank": 2, "rank": rank,
     "alpha": 2.0 * rank, "gains": [0.1, 0.0], "slopes": [0.1, 0.0], "level": 0.1}
    for (depth, kind), rank in {(0, "q"): 5, (0, "v"): 0, (1, "q"): 1, (1, "v"): 2}.items()
]  # fmt: skip
RECOMMENDATION = {
    "trial_id": "000-abc", "examples": 256, "split": "holdout", "note": "", "rule": "", "layers": LAYERS,
    "budget": {"asked": 128, "uniform_rank": 2, "parameters": 128}, "parameters": 128, "saved": 0,
    "check": {"gain": 0.25, "bounds": [0.1, 0.4], "differs": True},
}  # fmt: skip
RANKS = {row["name"]: row["rank"] for row in LAYERS}
SPREAD = (-0.004, 0.0, 0.004)
"""How far the seeds lie from their arm's mean loss; small beside the differences that are meant to show."""

MakeValidation = Callable[..., RunFolder]


@pytest.fixture
def make_validation(make_run: Any, make_record: Any, make_info: Any) -> MakeValidation:
    def make(seeds: Sequence[float] = SPREAD, margin: float = 0.01, lost: Sequence[str] = (), **means: float) -> Any:
        """A run whose validation reached these mean losses, by kind; `lost` arms have no complete last seed."""
        info = make_info(metric={"name": "loss", "mode": "min"})
        run = make_run([make_record("000-abc", 2.0, metric="loss")], info)
        run.write_analysis("recommendation", RECOMMENDATION)
        folder = RunFolder.create(run.path / "validation")
        kinds = {"uniform": "uniform", "recommended": "recommended", "permuted-1": "permuted", "svd": "svd"}
        rows = []
        for arm, kind in kinds.items():
            for number, off in enumerate(seeds):
                # the arms' seeds do not move together: only then is their spread that of the difference
                luck = off if kind == "recommended" else 0.0
                name = f"{arm}-{number}"
                write_losses(folder, name, means[kind] + luck)
                gone = arm in lost and number == len(seeds) - 1
                rows.append(row(arm, number, name, "failed" if gone else "complete"))
        plan = {
            "trial_id": "000-abc", "metric": "loss", "mode": "min", "margin": margin, "seeds": list(range(len(seeds))),
            "arms": [
                {"name": arm, "kind": kind, "parameters": 128, "trained_parameters": 256 if kind == "svd" else 128,
                 "ranks": RANKS}
                for arm, kind in kinds.items()
            ],
        }  # fmt: skip
        folder.write_analysis("arms", {"plan": plan, "trials": rows})
        return run

    return make


def row(arm: str, seed: int, name: str, status: str) -> dict[str, Any]:
    return {
        "trial_id": name, "adapter": name, "arm": arm, "role": "final", "seed": seed, "learning_rate": 1e-3,
        "status": status, "tokens": 1000, "device_seconds": 2.0,
    }  # fmt: skip


def write_losses(folder: RunFolder, name: str, loss: float) -> None:
    """Texts of ten tokens whose losses differ between texts, and by the same amount between adapters."""
    texts = np.random.default_rng(0).normal(0, 0.5, EXAMPLES)
    frame = {
        "example_id": [f"test:{i}" for i in range(EXAMPLES)], "split": "test", "step": 0,
        "nll_sum": 10 * (loss + texts - texts.mean()), "tokens": 10,
    }  # fmt: skip
    folder.write_outcomes(name, pd.DataFrame(frame))


def judged(run: RunFolder) -> Validation:
    found = read_validation(run, RECOMMENDATION)
    assert found is not None
    return found


def test_better_needs_uniform_and_permuted_to_be_worse(make_validation: MakeValidation) -> None:
    validation = judged(make_validation(uniform=2.2, recommended=2.0, permuted=2.3, svd=2.0))
    assert validation.verdict == "better"
    effect = validation.effects["uniform"]
    assert effect is not None and effect.mean == pytest.approx(0.2)
    # Student's interval over three seeds: the examples do the same to all adapters
    half = 4.303 * 0.004 / math.sqrt(3)
    assert effect.bounds == pytest.approx((0.2 - half, 0.2 + half), abs=1e-6)
    assert effect.detectable == pytest.approx(half + 1.061 * 0.004 / math.sqrt(3), abs=1e-6)
    sentences = validation_sentences(validation)
    assert sentences[0].startswith("Verdict: better.") and sentences[0].endswith("use them.")


@pytest.mark.parametrize(
    ("means", "verdict", "reason"),
    [
        ({"permuted": 2.0}, "inconclusive", "where they stand was not shown to matter"),
        ({"uniform": 2.005, "permuted": 2.1}, "inconclusive", "holds 0"),
        ({"uniform": 1.9, "permuted": 2.1}, "inconclusive", "worse than uniform"),
    ],
)
def test_anything_else_says_uniform(make_validation: Any, means: Any, verdict: str, reason: str) -> None:
    run = make_validation(**{"uniform": 2.2, "recommended": 2.0, "permuted": 2.2, "svd": 2.0, **means})
    validation = judged(run)
    assert validation.verdict == verdict
    told = validation_sentences(validation)[0]
    assert "Use uniform ranks" in told and reason in told


def test_equivalent_is_within_the_margin(make_validation: MakeValidation) -> None:
    run = make_validation(margin=0.05, uniform=2.005, recommended=2.0, permuted=2.1, svd=2.0)
    validation = judged(run)
    assert validation.verdict == "equivalent"
    assert validation_sentences(validation)[0] == "Verdict: equivalent within 0.05. Use uniform ranks."


def test_seeds_that_the_recommended_arm_lost_do_not_speak_for_it(make_validation: MakeValidation) -> None:
    run = make_validation((-1e-3, 0, 1e-3), lost=["recommended"], uniform=2.5, recommended=2.0, permuted=2.5, svd=2.0)
    validation = judged(run)
    effect = validation.effects["uniform"]
    assert effect is not None and len(effect.gains) == 2 and effect.bounds[0] > 0
    assert validation.verdict == "inconclusive"
    assert any("Trials that failed: 1 of recommended." in one for one in validation_sentences(validation))


def test_one_seed_gives_no_interval(make_validation: MakeValidation) -> None:
    validation = judged(make_validation((0.0,), uniform=2.5, recommended=2.0, permuted=2.5, svd=2.0))
    assert validation.effects["uniform"] is None and validation.verdict == "inconclusive"


def test_a_validation_of_other_ranks_does_not_count(make_validation: MakeValidation) -> None:
    run = make_validation(uniform=2.2, recommended=2.0, permuted=2.3, svd=2.0)
    changed = {**RECOMMENDATION, "layers": [{**one, "rank": 2} for one in LAYERS]}
    assert read_validation(run, changed) is None
    run.write_analysis("recommendation", changed)
    found = read_recommendation(run)
    assert found is not None
    assert recommendation_sentences(*found)[0] == "Not validated: use uniform ranks unless --validate says better."


def test_layers_that_do_not_differ_are_left_uniform() -> None:
    check = {"gain": 0.1, "bounds": [-0.05, 0.25], "differs": False}
    told = recommendation_sentences({**RECOMMENDATION, "check": check}, None)
    assert "do not differ by more than the noise of the examples, so use uniform ranks" in told[2]


def test_the_report_shows_ranks_arms_and_verdict(make_validation: MakeValidation) -> None:
    run = make_validation(uniform=2.2, recommended=2.0, permuted=2.3, svd=2.0)
    assert recommendation_sentences(*read_recommendation(run))[0].startswith("Verdict: better.")
    target = page.write_report(run)
    text = target.read_text(encoding="utf-8")
    assert "Verdict: better." in text and 'id="figure-recommended-ranks"' in text and "permuted-1" in text
    table = pd.read_csv(run.path / "tables" / "recommendation.csv")
    assert dict(zip(table["name"], table["rank"], strict=True)) == RANKS
    folder = RunFolder(run.path / "validation")
    assert read_recommendation(read_results(run)) is not None and folder.analysis("recommendation") is None


def test_the_interval_covers_what_seeds_and_examples_do() -> None:
    """400 simulated validations of three seeds: about 95 % of intervals hold the true effect."""
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(400):
        examples = rng.normal(0, 1, (300, 1)) * 0.3 + rng.normal(0, 1, (300, 3)) * 0.3
        differences = 0.1 + rng.normal(0, 0.02, 3) + examples
        draws = rng.multinomial(300, np.full(300, 1 / 300), size=300) / 300
        effect = effect_over_seeds(differences.mean(axis=0), draws @ differences)
        assert effect is not None
        covered += effect.bounds[0] <= 0.1 <= effect.bounds[1]
    assert 0.92 <= covered / 400 <= 0.99


def test_paths(tmp_path: Path) -> None:
    assert read_validation(RunFolder.create(tmp_path / "run")) is None
