"""The engine's benchmarks on tiny models: what they count and write. How fast anything is, is not tested."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))
from packing import everything, floor, memory, profile_step, throughput  # noqa: E402
from packing.bare import BareBase, count_flops, lora_flops, padded_tokens  # noqa: E402
from packing.cells import GRIDS, Cell  # noqa: E402
from packing.data import synthetic_task  # noqa: E402
from packing.ours import make_engine, opened, step_batches, trial_config  # noqa: E402
from packing.results import Report  # noqa: E402
from packing.shapes import SHAPES, build_base, same_weights  # noqa: E402
from packing.theirs import AUTOCAST, PLAIN, PURE, peft_step  # noqa: E402
from packing.timing import interleave  # noqa: E402
from packing.workers import PeftPool, WorkerFailed  # noqa: E402

CPU = torch.device("cpu")
QUICK = ["--device", "cpu", "--threads", "1", "--turn", "0.001", "--rounds", "3"]


def options(module: Any, *words: str) -> argparse.Namespace:
    return module.parse([*QUICK, *words])


@pytest.mark.parametrize("targets", ["attention-qv", "all-linear", "mlp"])
def test_base_and_lora_flops_add_up_to_those_of_a_step_with_an_adapter(targets: str) -> None:
    base = build_base("tiny-bert", "cpu", torch.float32)
    task = synthetic_task(base.task, 64, 8)
    engine = make_engine(same_weights(base), task, 1)
    config = trial_config(4, targets, 0.0, 4, seed=0)
    with opened(engine, [config]) as slots:
        batches = step_batches(engine, slots)
        adapted = engine.adapted.targets(config)
    bare = BareBase(same_weights(base), adapted, batches)
    ours = bare.flops(batches) + lora_flops(base, adapted, bare.lowest, 4, padded_tokens(batches))
    theirs = count_flops(peft_step(same_weights(base), task, config, adapted, PLAIN))
    # PEFT's step also has the gradient of the classifier, 32 x 3 for 4 rows
    assert theirs - ours == 2 * 4 * 32 * 3


def test_lowest_layers_are_those_below_which_nothing_needs_a_gradient() -> None:
    base = build_base("tiny-llama", "cpu", torch.float32)
    engine = make_engine(same_weights(base), synthetic_task(base.task, 64, 8), 1)
    config = trial_config(4, "mlp", 0.0, 2, seed=0)
    with opened(engine, [config]) as slots:
        batches = step_batches(engine, slots)
        bare = BareBase(base, engine.adapted.targets(config), batches)
    assert bare.lowest == ("model.layers.0.mlp.gate_proj", "model.layers.0.mlp.up_proj")
    bare.close()
    assert not base.model.get_submodule(bare.lowest[0])._forward_hooks


def test_floor_of_a_tiny_model() -> None:
    arguments = options(
        floor, "--models", "tiny-bert", "--packs", "2", "4", "--dropouts", "0", "--adapters", "attention-qv:4"
    )
    ((two, four),) = floor.measure_model("tiny-bert", arguments, time.monotonic() + 60)
    assert (two["pack"], four["pack"]) == (2, 4)
    assert four["base_flops"] == 2 * two["base_flops"] and four["lora_flops"] == 2 * two["lora_flops"]
    for result in (two, four):
        assert result["rounds"] == 3
        assert result["padded_tokens"] == result["pack"] * 4 * 8
        assert result["floor_seconds"] > result["base_seconds"]["median"]
        # far below what can be: the base is a part of the packed step
        assert result["packed_over_floor"]["max"] > 0.5
        assert len(floor.row(result)) == len(floor.HEADER)


def test_what_there_is_no_time_for_is_named() -> None:
    arguments = options(floor, "--models", "tiny-bert", "--dropouts", "0")
    results = [one for some in floor.measure_model("tiny-bert", arguments, time.monotonic() - 1) for one in some]
    assert [result["skipped"] for result in results] == ["no time left"] * 3
    cells = GRIDS["tiny"]
    skipped = list(throughput.measured(cells, options(throughput), time.monotonic() - 1))
    assert [(result["model"], result["skipped"]) for result in skipped] == [(c.model, "no time left") for c in cells]
    assert throughput.lines(skipped[0])[0][3] == "no time left"


def test_throughput_of_tiny_models(tmp_path: Path) -> None:
    arguments = options(throughput, "--grid", "tiny", "--packs", "1", "2", "--concurrent", "0", "--dtype", "bfloat16")
    results = list(throughput.measured(GRIDS["tiny"], arguments, time.monotonic() + 60))
    report = Report("throughput", "cpu", {}, tmp_path / "out.json")
    for result in results:
        report.add(result)
        assert set(result["peft"]) == {AUTOCAST, PURE} and result["baseline"] in result["peft"]
        for figures in result["packs"].values():
            ratio = figures["over_sequential"]
            assert 0 < ratio["min"] <= ratio["median"] <= ratio["max"]
        assert len(throughput.lines(result)) == 4
    content = json.loads((tmp_path / "out.json").read_text())
    assert [cell["model"] for cell in content["cells"]] == ["tiny-bert", "tiny-llama"]
    assert {"device", "when", "commit", "versions", "settings"} <= content.keys()


def test_peft_trains_in_the_dtypes_that_its_variants_name() -> None:
    base = build_base("tiny-llama", "cpu", torch.bfloat16)
    task = synthetic_task(base.task, 64, 8)
    for variant, dtype in ((AUTOCAST, torch.float32), (PURE, torch.bfloat16)):
        copied = same_weights(base)
        step = peft_step(copied, task, trial_config(4, "q_proj", 0.1, 2, seed=0), ["q_proj"], variant)
        before = [p.detach().clone() for p in copied.model.parameters() if p.requires_grad]
        assert step() == 2 * 8
        after = [p for p in copied.model.parameters() if p.requires_grad]
        assert {p.dtype for p in after} == {dtype}
        assert any(not torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert all(not p.requires_grad for p in base.model.parameters())


def test_who_runs_out_of_memory_leaves_the_others_running() -> None:
    def greedy() -> int:
        return len(torch.empty(2**60, dtype=torch.uint8))

    timed = interleave({"modest": lambda: 1, "greedy": greedy}, CPU, 0.0, 3, time.monotonic() + 60)
    assert "out of memory in greedy" in timed.failed["greedy"]
    assert [turn.tokens for turn in timed.turns["modest"]] == [1, 1, 1]


def test_memory_of_a_tiny_model() -> None:
    cell = Cell("tiny-llama", 2, 16, mixed=True)
    for who in (2, PLAIN):
        assert memory.peak_of(cell, who, "cpu", torch.float32, 1) > 2**20
    result = {"peft_bytes": {PLAIN: 100}, "pack_bytes": {2: 150, 4: "out of memory in a step"}}
    assert [line[2:] for line in memory.lines(cell, result)] == [
        ["0.00 GB", "0.00 GB", "0.00 GB", "0.75"],
        ["out of memory", "0.00 GB", "0.00 GB", ""],
    ]


def test_profile_of_a_tiny_model() -> None:
    (cell,) = profile_step.CELLS["tiny"]
    arguments = options(profile_step, "--grid", "tiny", "--pack", "2")
    result = profile_step.profiled(cell, arguments) | {"pack": 2}
    assert len(result["top"]) == 12 and 0 < sum(one["share"] for one in result["top"]) <= 1
    assert "aten::" in profile_step.text(cell, result)


def test_union_counts_what_overlaps_once() -> None:
    assert profile_step.union([(5, 6), (0, 2), (1, 3), (1, 2)]) == 4


@pytest.mark.parametrize(("mixed", "buckets"), [(False, (32,)), (True, (16, 32))])
def test_synthetic_lengths(mixed: bool, buckets: tuple[int, ...]) -> None:
    task = synthetic_task("causal-lm", 50, 32, mixed)
    lengths = task.splits["train"].lengths
    assert (lengths.min(), lengths.max()) == ((8, 32) if mixed else (32, 32))
    assert task.buckets == buckets


def test_every_grid_names_known_shapes_and_no_cell_twice() -> None:
    for cells in GRIDS.values():
        assert {cell.model for cell in cells} <= SHAPES.keys()
        assert len(set(cells)) == len(cells)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_everything_runs_commands_that_exist(device: str) -> None:
    modules = {module.__name__.rsplit(".", 1)[-1]: module for module in (floor, memory, profile_step, throughput)}
    for part in everything.parts(device, None):
        if part.words[0] != "-m":
            modules[Path(part.words[0]).stem].parse([*part.words[1:], "--seconds", "5"])


def test_nothing_is_loaded_that_a_gpu_machine_may_lack() -> None:
    code = (
        "import sys; sys.modules.update(dict.fromkeys(['ray', 'datasets', 'optuna', 'plotly', 'typer', 'hypothesis']));"
        "import packing.everything, packing.floor, packing.memory, packing.profile_step, packing.throughput"
    )
    paths = os.pathsep.join([str(ROOT / "benchmarks"), str(ROOT)])
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": paths})


@pytest.mark.slow
def test_processes_train_side_by_side() -> None:
    with PeftPool(2, Cell("tiny-bert", 4, 8), "cpu", torch.float32, PLAIN) as pool:
        turn = pool.turn(0.1)
        assert len(pool.peaks) == 2 and turn.calls >= 2 and turn.tokens > 0
    with pytest.raises(WorkerFailed, match="must match a linear layer"):
        PeftPool(1, Cell("tiny-bert", 4, 8, targets="nowhere"), "cpu", torch.float32, PLAIN)
