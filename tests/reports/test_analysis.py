"""The page's part on what was measured after training."""

from __future__ import annotations

import re
from typing import Any

import pandas as pd
import pytest

from reports import analysis_figures, render_page, write_report
from reports.analysis_info import (
    get_heat_info,
    get_importance_info,
    get_norms_info,
    get_rank_curves_info,
    get_spectra_info,
)

EVIL = "<script>alert('x')</script>"
MEASURED = {"rank-curves", "stable-rank", "energy", "spectra", "norms", "importance"}


def shown(page: str) -> set[str]:
    """The keys of the page's figures."""
    return set(re.findall('data-figure="([^"]+)"', page))


def cut(name: str, method: str, amount: float, quality: float, parameters: int) -> dict[str, Any]:
    return {
        "name": name, "method": method, "amount": amount, "energy": 0.9, "ranks": {"l": 2}, "parameters": parameters,
        "metrics": {"accuracy": quality, "loss": 1 - quality}, "adapter_parameters": parameters,
        "adapter_bytes": 4 * parameters,
    }  # fmt: skip


def layer(depth: int | None, kind: str, norm: float = 1.0) -> dict[str, Any]:
    return {
        "name": kind if depth is None else f"model.{depth}.{kind}", "depth": depth, "kind": kind, "rank": 2,
        "norm_update": norm, "energy_share": 0.1, "stable_rank": 1.5, "effective_rank": 1.7,
        "singular_values": [norm, 0.0], "energy": [1.0, 1.0], "error": [0.0, 0.0], "norm_a": 1.0, "norm_b": 1.0,
    }  # fmt: skip


def important(depth: int, kind: str, lost: float) -> dict[str, Any]:
    return layer(depth, kind) | {
        "gradient_squared": 0.2, "sensitivity": 0.1, "loss_lost": lost, "quality_lost": lost / 2,
    }  # fmt: skip


@pytest.fixture
def analysed(full_run: Any) -> Any:
    """A run with every analysis, with markup in its names."""
    cuts = [
        cut("t12", "whole", 8, 0.88, 400), cut("t12@rank1", "uniform", 1, 0.80, 50),
        cut("t12@rank4", "uniform", 4, 0.87, 200), cut(f"t12@{EVIL}", "global-energy", 0.9, 0.85, 90),
    ]  # fmt: skip
    full_run.write_analysis(
        "rank_curves", {"metric": "accuracy", "examples": 512, "trials": [{"trial_id": "t12", "cuts": cuts}]}
    )
    layers = [layer(0, "q"), layer(0, EVIL), layer(1, "q", 3.0), layer(None, "projector")]
    norms = [{"step": step, "a": 1.0, "b": step / 100, "update": step / 50} for step in (50, 100)]
    full_run.write_analysis("spectra", {"trials": [{"trial_id": "t12", "layers": layers, "norms": norms}]})
    rows = [important(0, "q", 0.01), important(1, "q", 0.5), important(0, EVIL, -0.1)]
    full_run.write_analysis("importance", {"trials": [{"trial_id": "t12", "layers": rows}]})
    times = {f"{name}_seconds": 0.01 for name in ("median", "quartile_1", "quartile_3", "min", "max")}
    row = {"variant": "merged", "batch_size": 32, "length": 40, "examples_per_second": 3200.0, **times}
    full_run.write_analysis(
        "latency",
        {"device": EVIL, "dtype": "float32", "passes": 30, "trials": [{"trial_id": "t12", "rows": [row]}]},
    )
    return full_run


def test_rank_curves(analysed: Any) -> None:
    info = get_rank_curves_info(analysed)
    assert info is not None
    uniform, energy = info.curves
    assert [point.name for point in uniform.points] == ["t12@rank1", "t12@rank4", "t12"]
    assert (
        uniform.points[-1].label == "rank 8, not cut" and energy.points[0].label == "largest values, 90 % of the energy"
    )
    low, high = uniform.points[0].interval
    assert low < 0.80 < high and high - low == pytest.approx(0.0693, abs=1e-3)  # Wilson at 512 examples
    assert {trial for trial, *_ in info.trained} == set(
        record.trial_id for record in analysed.records() if record.status == "complete"
    )


def test_a_heat_map_has_a_hole_where_a_block_lacks_a_layer(analysed: Any) -> None:
    info = get_heat_info(analysed, "stable_rank")
    assert info is not None
    assert (info.depths, info.kinds, info.values) == ((0, 1), (EVIL, "q"), ((1.5, 1.5), (None, 1.5)))


def test_spectra_leave_out_zeros_and_small_layers(analysed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reports.analysis_info.MOST_LINES", 1)
    info = get_spectra_info(analysed)
    assert info is not None
    assert info.layers == (("model.1.q", "q", 1, (3.0,)),) and info.left_out == 3


def test_importance_dearest_first(analysed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    info = get_importance_info(analysed)
    assert info is not None
    assert info.layers == ("1 · q", "0 · q", f"0 · {EVIL}") and info.values[0][3:] == (0.5, 0.25)
    figure = analysis_figures.plot_importance(info)
    assert figure.data[0].z[0][3] == 1.0 and figure.data[0].z[2][3] == 0.0  # what removing helps has no colour
    monkeypatch.setattr("reports.analysis_info.MOST_ROWS", 2)
    shorter = get_importance_info(analysed)
    assert shorter is not None and shorter.left_out == 1


def test_norms(analysed: Any) -> None:
    info = get_norms_info(analysed)
    assert info is not None and (info.steps, info.b) == ((50, 100), (0.5, 1.0))
    assert [line.name for line in analysis_figures.plot_norms(info).data] == ["A", "B", "update"]


def test_the_page_shows_what_was_measured(analysed: Any) -> None:
    page = write_report(analysed).read_text(encoding="utf-8")
    assert shown(page) >= MEASURED and 'href="#layers"' in page
    assert "10 ms to 10 ms" in page and "3.2k" in page
    assert EVIL not in page.replace("<script>", "", 2) and "alert('x')</script>" not in page
    tables = analysed.path / "tables"
    curves = pd.read_csv(tables / "rank_curves.csv")
    assert list(curves["accuracy"]) == [0.88, 0.80, 0.87, 0.85] and "ranks" not in curves
    assert pd.read_csv(tables / "spectra.csv")["singular_values"][0] == "1.0 0.0"
    assert {file.stem for file in tables.iterdir()} >= {"norms", "importance", "latency"}


def test_nothing_measured_nothing_shown(full_run: Any) -> None:
    page = render_page(full_run)
    assert 'id="layers"' not in page and 'href="#layers"' not in page
    assert get_rank_curves_info(full_run) is None and get_norms_info(full_run) is None


def test_one_analysis_alone(full_run: Any, analysed: Any) -> None:
    for name in ("rank_curves", "spectra", "importance"):
        (full_run.path / "analysis" / f"{name}.json").unlink()
    page = render_page(full_run)
    assert 'id="layers"' in page and not shown(page) & MEASURED
