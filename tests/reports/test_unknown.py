"""What a run does not know is shown as unknown: nowhere does a default stand in for it."""

from __future__ import annotations

import math

import pytest

from reports import figures, pick, points_frame, render_page, table_rows, trial_frame
from reports.frame import UNKNOWN_TARGETS

CONFIG = ("rank", "alpha", "dropout", "target_modules", "learning_rate", "batch_size", "seed", "steps")
COSTS = ("trainable_parameters", "adapter_parameters", "base_parameters", "adapter_bytes", "tokens", "device_seconds",
         "solo_seconds", "wall_seconds", "state_bytes", "peak_memory_bytes")  # fmt: skip


@pytest.fixture
def bare_run(make_run, make_record):
    """Trials of which nothing but the name, the status and one figure is known."""
    records = [
        make_record("a", 0.80),
        make_record("b", 0.78),
        make_record("c", 0.70, status="stopped"),
        make_record("d", None, status="failed", error="crashed"),
    ]
    unknown = {"unknown": (*CONFIG, *COSTS, "step"), "history": ()}
    info = {"name": "bare", "metric": {"name": "accuracy", "mode": "max"}}
    return make_run([record.model_copy(update=unknown) for record in records], info)


def test_the_file_holds_no_placeholder(bare_run) -> None:
    text = (bare_run.path / "trials.jsonl").read_text()
    assert '"rank":' not in text and '"device_seconds":' not in text and '"tokens":' not in text
    assert all(set(record.unknown) == {*CONFIG, *COSTS, "step"} for record in bare_run.records())


def test_the_frame_has_no_placeholder(bare_run) -> None:
    frame = trial_frame(bare_run)
    names = [*set(CONFIG) - {"target_modules"}, *COSTS, "alpha_over_rank", "share", "share_of_budget", "reached_step"]
    assert frame[names].isna().all(axis=None)
    assert set(frame["target_label"]) == {UNKNOWN_TARGETS}


def test_one_trial_may_know_what_another_does_not(make_run, make_record) -> None:
    other = make_record("b", rank=4).model_copy(update={"unknown": ("rank", "device_seconds")})
    run = make_run([make_record("a", rank=8), other])
    frame = trial_frame(run).set_index("trial_id")
    assert frame.loc["a", "rank"] == 8 and math.isnan(frame.loc["b", "rank"])
    points = points_frame(run)
    assert points[points["trial_id"] == "b"][["rank", "device_seconds"]].isna().all(axis=None)
    assert points[points["trial_id"] == "a"]["device_seconds"].notna().all()
    assert figures.get_rank_info(run).ranks == (8,)
    names = {trace.name for trace in figures.plot_learning_rate(figures.get_learning_rate_info(run)).data}
    assert names == {"rank 8", "unknown rank"}
    assert {trace.name for trace in figures.plot_learning_curves(figures.get_learning_curves_info(run)).data} == names


def test_table_and_pick_say_nothing_that_is_not_known(bare_run) -> None:
    for row in table_rows(bare_run):
        known = {name for name, text in row.texts.items() if text not in ("–", "")}
        assert known <= {"quality"}
    choice = pick(bare_run)
    assert choice.trial_id == "a" and choice.parameters_saved == 0
    assert "nan" not in choice.text and "– parameters" not in choice.text
    assert "over seeds, is not known" in choice.text


def test_the_page_says_nothing_that_is_not_known(bare_run) -> None:
    body = render_page(bare_run).split('<script type="text/plain"')[0]
    visible = body.split("<body>")[1].replace(str(bare_run.path), "")
    for default in ("nan", "all-linear", "0.001", "16 (", "32", "0 s", "None"):
        assert default not in visible, default
    assert "crashed" in visible


def test_ids_that_are_paths_stay_in_the_run(make_run, make_record, tmp_path) -> None:
    import pandas as pd

    run = make_run([make_record("../../x")])
    for name in ("../../x", "..", "a/b"):
        run.write_outcomes(name, pd.DataFrame({"example_id": ["eval:0"], "split": "eval", "step": 0}))
        assert run.outcomes(name) is not None
        assert run.path in run.adapter_dir(name).resolve().parents
    assert len(list((run.path / "outcomes").iterdir())) == 3
    assert run.adapter_dir("009-a1df30@rank4").name == "009-a1df30@rank4"
