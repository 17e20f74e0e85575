from __future__ import annotations

from typing import Any

import pytest
import torch

from lora_sweep.adapters.layer import LoraWeights
from lora_sweep.analysis.latency import VARIANTS, Plan, measure_latency, summary
from lora_sweep.analysis.session import AnalysisSession, open_session

QUICK = Plan(batch_sizes=(1, 4), rounds=2, passes=3, warm_up=1)


def test_latency_of_every_variant(session: AnalysisSession) -> None:
    before = {name: p.clone() for name, p in session.engine.base.model.named_parameters()}
    measured = measure_latency(session, session.leading(1), QUICK)
    assert session.run.analysis("latency") == measured and measured["device"].startswith("cpu (")
    assert measured["passes"] == 6
    rows = measured["trials"][0]["rows"]
    assert [(row["batch_size"], row["variant"]) for row in rows] == [(size, v) for size in (1, 4) for v in VARIANTS]
    for row in rows:
        times = [row[f"{name}_seconds"] for name in ("min", "quartile_1", "median", "quartile_3", "max")]
        assert times == sorted(times) and times[0] > 0
        assert row["examples_per_second"] == pytest.approx(row["batch_size"] / row["median_seconds"])
        assert row["tokens_per_second"] == pytest.approx(row["examples_per_second"] * row["length"])
    assert not session.engine.adapted.slots
    for name, parameter in session.engine.base.model.named_parameters():
        assert torch.equal(parameter, before[name])


def test_the_median_and_the_spread() -> None:
    assert summary([3.0, 1.0, 2.0, 5.0, 4.0]) == {
        "median_seconds": 3.0, "quartile_1_seconds": 2.0, "quartile_3_seconds": 4.0, "min_seconds": 1.0,
        "max_seconds": 5.0,
    }  # fmt: skip


def test_a_merge_that_fails_half_way_leaves_the_base_as_it_was(
    session: AnalysisSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {name: p.clone() for name, p in session.engine.base.model.named_parameters()}
    delta, calls = LoraWeights.delta, []

    def fails_at_the_third(self: LoraWeights) -> torch.Tensor:
        calls.append(self)
        if len(calls) == 3:
            raise torch.OutOfMemoryError("injected")
        return delta(self)

    monkeypatch.setattr(LoraWeights, "delta", fails_at_the_third)
    with pytest.raises(torch.OutOfMemoryError):
        measure_latency(session, session.leading(1), QUICK)
    assert session.engine.adapted.merged is None and not session.engine.adapted.slots
    for name, parameter in session.engine.base.model.named_parameters():
        assert torch.equal(parameter, before[name])


def test_a_language_model_gives_the_last_logits_alone(make_run: Any, causal_raw: Any, llama_dir: Any) -> None:
    run = make_run({"t": {"rank": 4, "target_modules": "attention"}}, **causal_raw(llama_dir))
    session = open_session(run, "cpu", holdout_examples=8)
    shapes = set()
    model = session.engine.base.model
    handle = model.register_forward_hook(lambda _module, _inputs, output: shapes.add(output.logits.shape[:2]))
    measure_latency(session, session.leading(1), QUICK)
    handle.remove()
    assert shapes == {(1, 1), (4, 1)}
