from __future__ import annotations

import math

import pytest
import torch

from lora_sweep.analysis.layers import depth_of, kind_of
from lora_sweep.analysis.session import AnalysisSession
from lora_sweep.analysis.spectra import measure_spectra
from lora_sweep.analysis.spectrum import LayerSpectrum


def layer(*values: float) -> LayerSpectrum:
    return LayerSpectrum("l", (9, 9), len(values), 1.0, 1.0, math.hypot(*values), values)


def test_effective_rank_is_that_of_roy_and_vetterli() -> None:
    assert layer(3.0, 3.0, 3.0).effective_rank == pytest.approx(3)
    assert layer(5.0, 0.0).effective_rank == pytest.approx(1)
    shares = (0.5, 0.25, 0.25)
    assert layer(4.0, 2.0, 2.0).effective_rank == pytest.approx(math.exp(-sum(p * math.log(p) for p in shares)))


def test_energy_and_error_by_rank() -> None:
    one = layer(4.0, 2.0, 1.0)
    assert one.energy == pytest.approx((16 / 21, 20 / 21, 1))
    assert one.errors == pytest.approx((math.sqrt(5 / 21), math.sqrt(1 / 21), 0))
    faint = layer(1.0, 1e-9)  # 1 - energy would be 0
    assert faint.errors == pytest.approx((1e-9, 0))


def test_a_zero_update() -> None:
    zero = layer(0.0, 0.0)
    assert (zero.effective_rank, zero.energy, zero.errors) == (0.0, (1.0, 1.0), (0.0, 0.0))


def test_spectra_of_a_run(session: AnalysisSession) -> None:
    measured = measure_spectra(session.run, session.leading(2))
    assert session.run.analysis("spectra") == measured
    trial = next(one for one in measured["trials"] if one["trial_id"] == "all")
    assert len(trial["layers"]) == 12 and {row["depth"] for row in trial["layers"]} == {0, 1}
    assert [point["step"] for point in trial["norms"]] == [10, 20]
    adapter = session.adapter("all")
    for row in trial["layers"]:
        a, b = (adapter.tensors[f"{row['name']}.lora_{part}.weight"].double() for part in "AB")
        whole = adapter.spec.scaling_of(row["name"]) * (b @ a)
        u, values, vh = torch.linalg.svd(whole, full_matrices=False)
        for k in range(1, row["rank"] + 1):
            error = (whole - (u[:, :k] * values[:k]) @ vh[:k]).norm() / whole.norm()
            assert row["error"][k - 1] == pytest.approx(float(error), abs=1e-6)
            assert row["energy"][k - 1] + row["error"][k - 1] ** 2 == pytest.approx(1)
    assert sum(row["energy_share"] for row in trial["layers"]) == pytest.approx(1)


@pytest.mark.parametrize(
    ("name", "depth", "kind"),
    [
        ("bert.encoder.layer.11.attention.self.query", 11, "attention.self.query"),
        ("model.layers.0.mlp.experts.7.up_proj", 0, "mlp.experts.7.up_proj"),
        ("lm_head", None, "lm_head"),
    ],
)
def test_depth_and_kind(name: str, depth: int | None, kind: str) -> None:
    assert (depth_of(name), kind_of(name)) == (depth, kind)
