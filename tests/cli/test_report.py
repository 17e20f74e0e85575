"""`lora-sweep report` with a table, with several runs, and with what does not go together."""

from __future__ import annotations

import sys

import pytest

from lora_sweep import cli
from lora_sweep.store import RunFolder

TABLE = "trial_id,lora_r,lr,accuracy\na,8,1e-3,0.80\nb,16,1e-4,0.75\n"


@pytest.fixture
def call(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sweep.csv").write_text(TABLE)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["lora-sweep", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        return ended.value.code, out, err

    return run


def test_import(call, tmp_path) -> None:
    assert call("report", "--import", "sweep.csv") == (0, "sweep-run/report.html\n", "imported: sweep-run\n")
    assert call("report", "sweep-run")[:2] == (0, "sweep-run/report.html\n")
    code, out, _ = call("pick", "sweep-run")
    assert code == 0 and out.startswith("Trial a has the best figure")


def test_import_with_everything(call, tmp_path) -> None:
    (tmp_path / "map.yaml").write_text("columns: {rank: null}\nexamples: {eval: 100}\n")
    (tmp_path / "answers.csv").write_text("trial_id,example_id,correct\na,1,1\na,2,0\nb,1,1\nb,2,1\n")
    options = ("--columns", "map.yaml", "--outcomes", "answers.csv", "--into", "mine", "--name", "theirs")
    assert call("report", "--import", "sweep.csv", *options, "--output", "page.html")[:2] == (0, "page.html\n")
    run = RunFolder.open(tmp_path / "mine")
    assert run.info()["name"] == "theirs" and run.info()["data"]["parts"]["eval"]["examples"] == 100
    assert "rank" in run.records()[0].unknown and run.outcomes("a") is not None


def test_several_runs(call) -> None:
    call("report", "--import", "sweep.csv")
    call("report", "--import", "sweep.csv", "--into", "other", "--name", "other")
    assert call("report", "sweep-run", "other") == (0, "comparison.html\n", "")
    assert call("report", "sweep-run", "other", "--output", "x.html")[:2] == (0, "x.html\n")


@pytest.mark.parametrize(
    "command", [("pick", "--export", "adapter"), ("analyze",), ("resume",), ("recommend",)], ids=lambda one: one[0]
)
def test_an_imported_run_has_nothing_to_load(call, tmp_path, command) -> None:
    call("report", "--import", "sweep.csv")
    name, *options = command
    code, out, err = call(name, "sweep-run", *options)
    assert (code, out) == (2, "") and not (tmp_path / "adapter").exists()
    assert err == (
        f"error: sweep-run: this run was imported from {tmp_path / 'sweep.csv'}; it has no adapters and no base. "
        "`report` and `pick` without --export work on it.\n"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("report",), "RUN: must be a run folder, or several. Or import a table: --import TABLE."),
        (("report", "x", "--import", "sweep.csv"), "--import: must stand without a RUN, got 'x'."),
        (("report", "x", "--columns", "map.yaml"), "--columns: must go with --import."),
        (("report", "x", "y"), "x: must be a run folder (with a run.json inside)."),
        (("report", "--import", "gone.csv"), "gone.csv: must be a file that can be read (No such file or directory)"),
        (("report", "--import", "sweep.csv", "--columns", "gone.yaml"), "gone.yaml: must be a YAML file that can be"),
        (("report", "--import", "sweep.csv", "--into", "sweep.csv"), "sweep.csv: must be free, or a run that was"),
    ],
)
def test_what_does_not_go_together(call, arguments, message) -> None:
    code, out, err = call(*arguments)
    assert (code, out) == (2, "") and err.startswith(f"error: {message}") and err.count("\n") == 1


def test_one_run_twice(call) -> None:
    call("report", "--import", "sweep.csv")
    code, _, err = call("report", "sweep-run", "./sweep-run")
    assert code == 2 and "RUN: must be given once" in err
