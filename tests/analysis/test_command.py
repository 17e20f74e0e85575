"""`lora-sweep analyze` as its user meets it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from lora_sweep import cli
from lora_sweep.store import RunFolder


def call(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["lora-sweep", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)


def test_analyze(finished: RunFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("--top", 1, "--skip", "importance", "--skip", "latency", "--device", "cpu")
    assert call(monkeypatch, "analyze", finished.path, *arguments) == 0
    out, err = capsys.readouterr()
    assert out.splitlines() == [str(finished.path / "analysis" / f"{name}.json") for name in ("spectra", "rank_curves")]
    assert all(Path(line).is_file() for line in out.splitlines())
    assert err.splitlines() == [
        "measuring spectra ...", "measuring rank curves ...", f"show it: lora-sweep report {finished.path}"
    ]  # fmt: skip


def test_a_cut_can_be_picked_and_exported(
    finished: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("--top", 1, "--skip", "importance", "--skip", "latency", "--skip", "spectra", "--device", "cpu")
    assert call(monkeypatch, "analyze", finished.path, *arguments) == 0
    curves = finished.analysis("rank_curves")
    assert curves is not None
    name = curves["trials"][0]["cuts"][1]["name"]
    assert call(monkeypatch, "pick", finished.path, "--trial", name, "--export", tmp_path / "out") == 0
    assert f"Cut {name} was asked for by its id" in capsys.readouterr().out
    for file in ("adapter_config.json", "adapter_model.safetensors"):
        assert (tmp_path / "out" / file).read_bytes() == (finished.adapter_dir(name) / file).read_bytes()
    assert call(monkeypatch, "pick", finished.path, "--trial", name + "0") == 2
    assert f"Close to it: {name}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--skip", "speed"), "error: --skip: must be of spectra, rank_curves, importance, latency, got 'speed'\n"),
        (("--device", "tpu"), "error: --device: must be auto, cpu or cuda, got 'tpu'\n"),
    ],
)
def test_bad_input(
    finished: RunFolder,
    arguments: tuple[str, ...],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert call(monkeypatch, "analyze", finished.path, *arguments) == 2
    assert capsys.readouterr().err == message


def test_recommend(finished: RunFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(monkeypatch, "recommend", finished.path, "--trial", "all", "--device", "cpu") == 0
    out, err = capsys.readouterr()
    verdict, *_ = out.splitlines()
    assert verdict == "Not validated: use uniform ranks unless --validate says better."
    (head,) = (line for line in out.splitlines() if line.split()[:1] == ["block"])
    assert "attention.self.query" in head
    assert out.splitlines()[-1] == f"sweep around them: lora-sweep run {finished.path / 'recommended.yaml'}"
    assert err == "measuring layers ...\n"
    space = finished.path.parent / "space.yaml"
    assert call(monkeypatch, "recommend", finished.path, "--json", "--device", "cpu", "--output", space) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["validation"] is None and told["space"] == str(space) and space.is_file()
    assert told["adapter"]["r"] >= 1 and told["trial_id"] in {"qv", "all"}
    assert call(monkeypatch, "recommend", finished.path, "--seeds", 1) == 2
