import numpy as np
import pytest

from reports.metric import Metric
from reports.statistics import estimates, gather, read_outcomes

LABELS = np.arange(40) % 3


@pytest.fixture
def hits():
    return np.random.default_rng(0).random((4, 40)) < 0.7


def test_a_matrix_of_trials_and_examples(make_run, make_outcomes, hits) -> None:
    run = make_run()
    order = np.random.default_rng(1).permutation(40)
    for name, row in zip("ab", hits, strict=False):
        frame = make_outcomes(row, LABELS)
        run.write_outcomes(name, frame if name == "a" else frame.iloc[order])
        run.write_outcomes(name, make_outcomes(~row, LABELS, "test", 0))
    found = read_outcomes(run, ["b", "a"], "eval")
    assert found.trial_ids == ("b", "a") and found.dropped == 0 and not found.left_out
    np.testing.assert_array_equal(found.predictions == found.labels, hits[[1, 0]][:, order])
    assert estimates(found.sample("accuracy")) == pytest.approx(hits[[1, 0]].mean(axis=1))
    logits = np.eye(3) * 2.0
    right, wrong = (np.log(np.exp(logits[0]).sum()) - logits[0, k] for k in (0, 1))
    np.testing.assert_allclose(found.nll, np.where(found.predictions == found.labels, right, wrong), rtol=1e-6)
    assert found.sample("perplexity") is None and found.sample("macro_f1") is not None


def test_language_models(make_run, make_language) -> None:
    run, tokens = make_run(), np.array([3, 0, 5, 2])
    for name, factor in (("a", 1.0), ("b", 2.0)):
        run.write_outcomes(name, make_language(tokens * factor, tokens))
    found = read_outcomes(run, ["a", "b"], "eval")
    # the example without a scored token says nothing and is not missed
    assert found.nll.shape == (2, 3) and found.dropped == 0
    assert estimates(found.sample("loss")) == pytest.approx([1.0, 2.0])
    assert estimates(found.sample("perplexity")) == pytest.approx(np.exp([1.0, 2.0]))
    assert found.sample("accuracy") is None


def test_what_does_not_fit_is_left_out_with_its_reason(make_run, make_outcomes, make_language, hits) -> None:
    run = make_run()
    good = make_outcomes(hits[0], LABELS)
    frames = {
        "good": good,
        "also": make_outcomes(hits[1], LABELS),
        "few": good.head(20),
        "stale": good.assign(step=50),
        "twice": good.iloc[[*range(40), 0]],
        "labels": make_outcomes(hits[0], (LABELS + 1) % 3),
        "other": make_language(np.ones(40), np.ones(40, dtype=int)),
        "foreign": good.assign(example_id=[f"x:{i}" for i in range(40)]),
        "test": make_outcomes(hits[0], LABELS, "test"),
        "columns": good.drop(columns=["logits", "prediction"]),
        "nan": good.assign(logits=[np.array([np.nan, 0, 0], dtype=np.float32)] * 40),
    }
    for name, frame in frames.items():
        run.write_outcomes(name, frame)
    (run.path / "outcomes" / "broken.parquet").write_bytes(b"PAR1")
    names = [*frames, "broken", "none"]
    found = read_outcomes(run, names, "eval", dict.fromkeys(names, 200))
    assert found.trial_ids == ("good", "also") and found.dropped == 0
    assert found.left_out == {
        "few": "it has outcomes on 20 of 40 examples of eval",
        "stale": "its outcomes are of step 50, its record of step 200",
        "twice": "its outcomes on eval hold an example twice",
        "labels": "its labels differ from those of the others",
        "other": "its tokens differ from those of the others",
        "foreign": "it has outcomes on 0 of 40 examples of eval",
        "test": "it has no outcomes on eval",
        "columns": "its outcomes lack columns",
        "nan": "its outcomes on eval are not finite",
        "broken": "its outcomes cannot be read (ArrowInvalid)",
        "none": "it has no outcomes",
    }


def test_strange_figures_are_left_out_with_their_reason(make_run, make_outcomes, hits) -> None:
    run, good = make_run(), make_outcomes(hits[0], LABELS)
    beyond, below, missing, ragged = (good.copy() for _ in range(4))
    beyond.loc[3, "label"], below.loc[3, "label"] = 5, -1
    missing["label"] = missing["label"].astype(float).where(missing.index > 0)
    ragged["logits"] = [*good["logits"][:-1], np.zeros(2, dtype=np.float32)]
    frames = {"beyond": beyond, "below": below, "missing": missing, "ragged": ragged, "good": good}
    for name, frame in frames.items():
        run.write_outcomes(name, frame)
    found = read_outcomes(run, list(frames), "eval")
    assert found.trial_ids == ("good",) and found.classes == 3
    outside = "its outcomes on eval name a class outside 0 to 2, of which there are logits"
    assert found.left_out == {
        "beyond": outside,
        "below": outside,
        "missing": "its outcomes on eval are not finite",
        "ragged": "its outcomes on eval hold 2 to 3 logits an example",
    }


def test_the_majority_says_what_the_labels_are(make_run, make_outcomes, hits) -> None:
    run = make_run()
    run.write_outcomes("a", make_outcomes(hits[0], (LABELS + 1) % 3))
    for name, row in zip("bc", hits, strict=False):
        run.write_outcomes(name, make_outcomes(row, LABELS))
    found = read_outcomes(run, ["a", "b", "c"], "eval")
    assert found.trial_ids == ("b", "c") and found.left_out == {"a": "its labels differ from those of the others"}


def test_only_shared_examples_are_kept(make_run, make_outcomes, hits) -> None:
    run = make_run()
    run.write_outcomes("a", make_outcomes(hits[0], LABELS).iloc[2:])
    run.write_outcomes("b", make_outcomes(hits[1], LABELS).iloc[:-1])
    found = read_outcomes(run, ["a", "b"], "eval")
    assert found.dropped == 3 and list(found.example_ids) == [f"eval:{i}" for i in range(2, 39)]
    np.testing.assert_array_equal(found.predictions == found.labels, hits[:2, 2:39])


def test_outcomes_at_odds_with_the_record_are_left_out(make_run, make_outcomes, hits) -> None:
    run = make_run()
    for name, row in zip("abc", hits, strict=False):
        run.write_outcomes(name, make_outcomes(row, LABELS))
    recorded = dict(zip("abc", hits.mean(axis=1), strict=False)) | {"b": 0.1}
    evidence, outcomes = gather(run, recorded, "eval", Metric("accuracy"))
    assert evidence is not None and evidence.trial_ids == ("a", "c")
    assert outcomes.left_out == {"b": "its outcomes give another accuracy than its record"}
    assert evidence.values == pytest.approx(hits[[0, 2]].mean(axis=1))


def test_evidence_on_unknown_trials_is_none(make_run, make_outcomes, hits) -> None:
    run = make_run()
    run.write_outcomes("a", make_outcomes(hits[0], LABELS))
    evidence, _ = gather(run, {"a": float("nan")}, "eval", Metric("accuracy"))
    assert evidence is not None and evidence.examples == 40
    assert evidence.interval("z") is None and evidence.compare("a", "z") is None and evidence.ties(["z"]) is None
    assert evidence.covariance(["a", "z"]) is None and evidence.simultaneous([]) == {}
    assert gather(run, {"a": 0.5}, "eval", Metric("f2"))[0] is None
    assert gather(make_run(name="empty"), {}, "eval", Metric("accuracy"))[0] is None
