import math

from reports import baseline_frame, points_frame, trial_frame
from reports.frame import NO_TARGETS


def test_one_row_a_trial_with_all_columns(full_run) -> None:
    frame = trial_frame(full_run).set_index("trial_id")
    assert len(frame) == 16
    row = frame.loc["t03"]
    assert row["alpha_over_rank"] == row["alpha"] / row["rank"]
    assert row["share"] == row["trainable_parameters"] / 22_700_000
    assert row["quality"] == row["eval_accuracy"] and row["test_quality"] == row["test_accuracy"]
    assert row["test_examples"] == 600 and row["solo_source"] == "probed"
    assert frame["test_quality"].notna().sum() == 3


def test_a_stopped_and_a_failed_trial(full_run) -> None:
    frame = trial_frame(full_run).set_index("trial_id")
    stopped, failed = frame[frame["status"] == "stopped"].iloc[0], frame.loc["t13"]
    assert stopped["share_of_budget"] == stopped["reached_step"] / 200 < 1
    assert math.isnan(failed["quality"]) and "NaN at step 57" in failed["error"]


def test_targets_without_a_label(make_run, make_record) -> None:
    records = [
        make_record("a", target_label="", target_modules=("q_proj", "v_proj")),
        make_record("b", target_label="", target_modules=()),
    ]
    assert trial_frame(make_run(records))["target_label"].tolist() == ["q_proj, v_proj", NO_TARGETS]


def test_points_are_long(full_run) -> None:
    points = points_frame(full_run)
    complete = points[points["trial_id"] == "t03"]
    assert complete["step"].tolist() == [50, 100, 150, 200]
    assert complete["quality"].tolist() == complete["eval_accuracy"].tolist()


def test_empty_run_has_the_same_columns(make_run, full_run) -> None:
    empty = make_run(name="empty")
    assert set(trial_frame(empty).columns) <= set(trial_frame(full_run).columns)
    assert len(trial_frame(empty)) == len(points_frame(empty)) == len(baseline_frame(empty)) == 0


def test_baselines(full_run) -> None:
    frame = baseline_frame(full_run).set_index("name")
    assert frame.loc["head only", "test_quality"] == 0.735
    assert math.isnan(frame.loc["majority class", "adapter_bytes"])


def test_no_run_json(make_run, make_record) -> None:
    run = make_run([make_record()])
    (run.path / "run.json").unlink()
    assert trial_frame(run)["quality"].tolist() == [0.8]
