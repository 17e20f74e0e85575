"""A run's own tables, imported: the same ranking, figures and pick. And the page of what knows almost nothing."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from lora_sweep.importing import import_table
from lora_sweep.store import RunFolder
from reports import figures, pick, read_results, render_page, table_rows, write_report

EVIL = "<script>alert('x')</script>"
SIZES = "examples: {eval: 512, test: 600}\n"


@pytest.fixture
def copied(full_run: RunFolder, tmp_path) -> RunFolder:
    """`full_run` by way of its own tables/trials.csv."""
    write_report(full_run)
    (tmp_path / "map.yaml").write_text(SIZES)
    return import_table(full_run.path / "tables" / "trials.csv", columns=tmp_path / "map.yaml", into=tmp_path / "copy")


def test_the_same_ranking(full_run, copied) -> None:
    mine, theirs = table_rows(full_run), table_rows(copied)
    known = [row for row in mine if row.kind != "baseline"]
    # the table does not say whether a time alone was probed, nor how large the base is in words of its own
    silent = {"solo_time"}
    assert [(row.kind, row.name, row.place) for row in known] == [(row.kind, row.name, row.place) for row in theirs]
    for one, other in zip(known, theirs, strict=True):
        assert {key: text for key, text in one.texts.items() if key not in silent} == {
            key: text for key, text in other.texts.items() if key not in silent
        }
        assert one.bounds == other.bounds and one.test_bounds == other.test_bounds


def test_the_same_figures(full_run, copied) -> None:
    for get in (
        figures.get_front_info,
        lambda run: figures.get_front_info(run, "device_seconds"),
        figures.get_rank_info,
        figures.get_learning_rate_info,
    ):
        mine, theirs = get(full_run), get(copied)
        assert mine.points == theirs.points and mine.points
        assert getattr(mine, "front", ()) == getattr(theirs, "front", ())
        assert getattr(mine, "medians", ()) == getattr(theirs, "medians", ())


def test_the_same_pick(full_run, copied) -> None:
    mine, theirs = pick(full_run), pick(copied)
    assert mine.trial_id == theirs.trial_id
    assert mine.tied == theirs.tied and mine.against_runner_up == theirs.against_runner_up


def test_the_same_tie_set_with_outcomes(make_run, make_record, tmp_path) -> None:
    labels = np.arange(400) % 3
    rights = {"a": (340, 9000, 0), "b": (334, 500, 20), "c": (250, 100, 0)}
    records = [make_record(name, right / 400, parameters=size) for name, (right, size, _) in rights.items()]
    run, frames = make_run(records), []
    for name, (right, _, shift) in rights.items():
        predicted = np.where(np.roll(np.arange(400) < right, shift), labels, (labels + 1) % 3)
        frame = pd.DataFrame({"example_id": [f"eval:{i}" for i in range(400)], "split": "eval", "step": 200})
        frame = frame.assign(label=labels, prediction=predicted)
        run.write_outcomes(name, frame.assign(logits=list(np.eye(3, dtype=np.float32)[predicted])))
        frames.append(frame.assign(trial_id=name))
    write_report(run)
    outcomes = tmp_path / "outcomes.parquet"
    pd.concat(frames).to_parquet(outcomes)
    copy = import_table(run.path / "tables" / "trials.csv", outcomes=outcomes, into=tmp_path / "copy")
    assert read_results(copy).tied == read_results(run).tied == {"a", "b"}
    mine, theirs = pick(run), pick(copy)
    assert mine.why == theirs.why and mine.trial_id == "b"


def test_the_page_tells_where_it_comes_from_and_offers_no_export(copied) -> None:
    page = render_page(copied)
    assert "This run was imported from trials.csv (16 rows, 16 trials)" in page
    assert "accuracy: eval_accuracy" in page and "How to use the pick" not in page
    first = page[page.index('id="doubt"') :]
    assert first.index("imported from") < first.index("The scheduler stopped")


def test_free_text_is_escaped(tmp_path) -> None:
    table = tmp_path / "evil.csv"
    table.write_text(
        f'trial_id,target_modules,state,error,accuracy,"{EVIL}"\n"{EVIL}","{EVIL}",finished,,0.8,1\n'
        f'"2{EVIL}",q,crashed,"{EVIL}",,1\n'
    )
    (tmp_path / "map.yaml").write_text(f'model: "{EVIL}"')
    page = render_page(import_table(table, columns=tmp_path / "map.yaml", name=EVIL))
    assert "alert('x')</script>" not in page and "&lt;script&gt;alert(" in page


def test_nothing_but_figures(tmp_path) -> None:
    table = tmp_path / "bare.csv"
    table.write_text("accuracy\n0.7\n0.8\n0.75\n")
    run = import_table(table)
    page = write_report(run).read_text(encoding="utf-8")
    assert "Trial row-2 has the best figure" in page
    trials = pd.read_csv(run.path / "tables" / "trials.csv")
    assert trials["rank"].isna().all() and trials["device_seconds"].isna().all()
    assert not any(math.isfinite(one.cost) for one in figures.get_front_info(run).points)
