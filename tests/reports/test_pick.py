import pytest

from lora_sweep.errors import ConfigError, InputError, RunFolderError
from reports import Limits, pick


def test_best_complete_trial_by_evaluation(make_run, make_record) -> None:
    records = [make_record("a", 0.80), make_record("b", 0.88), make_record("c", 0.95, status="stopped", reached=50)]
    found = pick(make_run(records, tested={"b": 0.86, "a": 0.90}))
    assert found.trial_id == "b" and found.runner_up["trial_id"] == "a"
    assert found.quality_given_up == 0 and found.parameters_saved == 0
    assert "Test accuracy: 86.0 % on 600 test examples, 95 % interval 83.0 to 88.5 %." in found.text
    assert "one seed" in found.text


def test_ties_go_to_fewer_parameters(make_run, make_record) -> None:
    found = pick(make_run([make_record("a", 0.8, parameters=900), make_record("b", 0.8, parameters=500)]))
    assert found.trial_id == "b"
    assert "equal on the evaluation data" in found.text


def test_noise_is_said(make_run, make_record) -> None:
    records = [make_record("a", 0.82, parameters=900), make_record("b", 0.81, parameters=500), make_record("c", 0.5)]
    found = pick(make_run(records))
    assert found.tied == 1 and found.smaller["trial_id"] == "b" and found.candidates == 3
    assert "cannot be told apart" in found.text and "900" not in found.why[0]
    assert "was not measured on the test data" in found.text


def test_a_limit_on_parameters_and_what_it_costs(make_run, make_record) -> None:
    run = make_run([make_record("a", 0.9, parameters=90_000), make_record("b", 0.7, parameters=5_000)])
    found = pick(run, limits=Limits(max_parameters=10_000))
    assert found.trial_id == "b" and found.runner_up is None
    assert found.quality_given_up == pytest.approx(0.2) and found.parameters_saved == 85_000
    assert "20.0 points behind the best figure, that of a (95 % interval +" in found.text
    assert "not paired), with 85k fewer parameters." in found.text


def test_only_stopped_trials(make_run, make_record) -> None:
    found = pick(make_run([make_record("a", 0.7, status="stopped", reached=50)]))
    assert "No trial trained to the end. It was stopped after 50 of 200 steps" in found.text


def test_a_trial_by_name(make_run, make_record) -> None:
    run = make_run([make_record("a", 0.9), make_record("b", 0.7), make_record("s", 0.5, status="stopped", reached=50)])
    assert pick(run, trial="b").runner_up["trial_id"] == "a"
    assert pick(run, trial="s").text.startswith(
        "Trial s was asked for by its id: 50.0 % accuracy on the evaluation data. It was stopped after 50 of 200 "
        "steps, so its figure is not comparable with that of a finished trial."
    )


def test_loss_lower_is_better(make_run, make_record, make_info) -> None:
    info = make_info(task={"type": "causal-lm"}, metric={"name": "loss", "mode": "min"})
    records = [make_record(name, value, metric="loss") for name, value in (("a", 2.5), ("b", 2.1), ("c", 2.2))]
    found = pick(make_run(records, info))
    assert found.trial_id == "b" and found.runner_up["trial_id"] == "c"
    assert found.tied is None and found.against_best.half_width is None
    assert "was not tested" in found.text and "%" not in found.why[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"trial": "trial-O1"}, "--trial: must be a trial of .*, got 'trial-O1'. Close to it: trial-01"),
        ({"trial": "broken"}, "--trial: must be a trial that did not fail, got 'broken'. It failed: it broke"),
        (
            {"limits": Limits(max_parameters=10)},
            "--max-parameters: must leave at least one candidate, got 10. The nearest is trial-02 with 500 parameters.",
        ),
        (
            {"limits": Limits(max_parameters=600), "trial": "trial-01"},
            "--max-parameters: must have room for trial-01 with 50,000 parameters, got 600",
        ),
    ],
)
def test_bad_requests(make_run, make_record, arguments, message) -> None:
    # it failed late: the evaluations before that are on record, and better than the others'
    failed = make_record("broken", 0.99, status="failed", error="it broke", parameters=0)
    run = make_run([make_record("trial-01"), make_record("trial-02", 0.7, parameters=500), failed])
    with pytest.raises(ConfigError, match=message):
        pick(run, **arguments)


def test_nothing_to_pick(make_run, make_record) -> None:
    run = make_run([make_record("a", None, status="failed", error="x")])
    with pytest.raises(
        RunFolderError, match="must hold a trial with an evaluation of accuracy, got '1 trial, 1 failed'"
    ):
        pick(run)
    with pytest.raises(InputError, match="0 trials"):
        pick(make_run(name="empty"))


def test_a_baseline_that_is_no_worse_is_named(make_run, make_record) -> None:
    row = {"name": "head-only", "trainable_parameters": 10, "adapter_bytes": 40, "device_seconds": 1.0, "note": ""}
    rows = {"rows": [row | {"metrics": {"eval": {"accuracy": 0.6}, "test": {"accuracy": 0.72}}}]}
    run = make_run([make_record("a", 0.7), make_record("b", 0.5)], baselines=rows, tested={"a": 0.7})
    assert "The baseline head-only is no worse: 72.0 % on the test data." in pick(run).text
    assert "The baseline head-only is no worse: 60.0 % on the evaluation data." in pick(run, trial="b").text
    better = make_run([make_record("a", 0.9)], baselines=rows, tested={"a": 0.9}, name="better")
    assert "no worse" not in pick(better).text
