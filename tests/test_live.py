from __future__ import annotations

import io

import pytest
from rich.console import Console

from lora_sweep.live import LiveProgress
from lora_sweep.records import EvalPoint, TrialConfig, TrialRecord


def config(label="attention-qv", **more):
    return TrialConfig(**({"rank": 8, "target_label": label, "learning_rate": 2e-3, "steps": 40} | more))


def record(trial_id, status="complete", step=20, value=0.75, **more):
    point = EvalPoint(step=step, metrics={"accuracy": value})
    return TrialRecord(
        trial_id=trial_id, status=status, config=config(**more), metrics={"accuracy": value}, step=step,
        history=(point,),
    )  # fmt: skip


@pytest.fixture
def terminal():
    return Console(force_terminal=True, record=True, width=120, height=30, file=io.StringIO(), color_system=None)


def drawn(live, console):
    console.print(live._render())
    return console.export_text()


def line_of(text, word):
    (line,) = (line for line in text.splitlines() if word in line)
    return line.split()


def test_a_line_for_every_trial_and_the_bar(terminal):
    live = LiveProgress(terminal, "accuracy")
    live.stage("training")
    live.planned(4)
    for trial_id in ("000-a", "001-b", "002-c"):
        live.started(trial_id, config())
    live.reported(record("001-b", value=0.5))
    live.ended(record("002-c", step=40, value=0.875))
    text = drawn(live, terminal)
    assert line_of(text, "trial ") == ["trial", "state", "step", "accuracy", "rank", "targets", "learning", "rate"]
    assert line_of(text, "000-a") == ["000-a", "running", "0/40", "8", "attention-qv", "0.002"]
    assert line_of(text, "001-b") == ["001-b", "running", "20/40", "0.5000", "8", "attention-qv", "0.002"]
    assert line_of(text, "002-c") == ["002-c", "complete", "40/40", "0.8750", "8", "attention-qv", "0.002"]
    assert "training" in text and "1/4 trials" in text and "left:" in text


def test_stopped_and_failed_trials(terminal):
    live = LiveProgress(terminal, "accuracy")
    live.planned(2)
    live.ended(record("000-a", "stopped"))
    live.ended(TrialRecord(trial_id="001-b", status="failed", config=config(), error="boom"))
    text = drawn(live, terminal)
    assert line_of(text, "000-a")[:4] == ["000-a", "stopped", "20/40", "0.7500"]
    assert line_of(text, "001-b")[:3] == ["001-b", "failed", "0/40"]
    assert "2/2 trials" in text


def test_new_seeds_make_the_bar_longer(terminal):
    live = LiveProgress(terminal, "accuracy")
    live.planned(1)
    live.ended(record("000-a"))
    live.stage("training 2 new seeds of each finalist")
    live.planned(3)
    live.started("000-a-seed2", config())
    text = drawn(live, terminal)
    assert "1/3 trials" in text and "training 2 new seeds of each finalist" in text
    assert line_of(text, "000-a-seed2")[:3] == ["000-a-seed2", "running", "0/40"]


@pytest.mark.parametrize("odd", ["[red]x[/", "[/]", "[bold]", "x\\", "[link=y]z[/link]", ":smile:"])
def test_names_that_look_like_markup_stand_as_they_are(terminal, odd):
    live = LiveProgress(terminal, "accuracy")
    live.stage("[red]starting[/")
    live.note(f"note {odd} end")
    live.started(f"id{odd}", config(label=f"label{odd}"))
    live.ended(record(f"id{odd}", label=f"label{odd}"))
    text = drawn(live, terminal)
    assert f"id{odd}" in text and f"label{odd}" in text and f"note {odd} end" in text
    assert "[red]starting[/" in text


def test_more_trials_than_the_terminal_has_lines(terminal):
    live = LiveProgress(terminal, "accuracy")
    for number in range(40):
        live.started(f"{number:03d}-x", config())
        if number < 30:
            live.ended(record(f"{number:03d}-x"))
    text = drawn(live, terminal)
    assert "(18 more trials)" in text
    assert all(f"{number:03d}-x" in text for number in range(30, 40))  # the running ones are shown
    assert "029-x" in text and "000-x" not in text


def test_drawing_on_a_terminal_leaves_nothing_behind(terminal):
    with LiveProgress(terminal, "accuracy").drawing() as live:
        live.started("000-a", config())
    assert not live._live.is_started


def test_silent_when_it_is_no_terminal():
    out = io.StringIO()
    with LiveProgress(Console(file=out, force_terminal=False), "accuracy").drawing() as live:
        live.stage("training")
        live.planned(1)
        live.started("000-a", config())
        live.note("a note")
        live.ended(record("000-a"))
    assert out.getvalue() == ""
