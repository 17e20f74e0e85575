from __future__ import annotations

import pytest

from lora_sweep.errors import ConfigError
from lora_sweep.sweep.layout import TRIAL_CPUS, Node, choose_slots, place_engines


def test_one_engine_per_gpu():
    placements = place_engines([Node("a", 8, 2), Node("b", 8, 1), Node("head", 4, 0)], "auto")
    assert len(placements) == 3
    assert {placement.device for placement in placements} == {"cuda"}
    assert choose_slots(placements, "auto", 100) == 8


def test_one_engine_per_cpu_node_that_leaves_room_for_trials():
    nodes = [Node("a", 8, 0), Node("b", 2, 0)]
    placements = place_engines(nodes, "auto")
    assert [(p.node_id, p.threads) for p in placements] == [("a", 8), ("b", 2)]
    for node, placement in zip(nodes, placements, strict=True):
        assert node.cpus - placement.cpus >= 4 * TRIAL_CPUS
    assert choose_slots(placements, "auto", 100) == 4
    assert choose_slots(placements, "auto", 2) == 2
    assert choose_slots(placements, 6, 2) == 6


def test_a_cpu_gets_as_many_slots_as_fill_it():
    placements = place_engines([Node("a", 2, 0)], "auto")
    slots = {tokens: choose_slots(placements, "auto", 100, tokens) for tokens in (64.0, 300.0, 500.0, 5000.0)}
    assert slots == {64.0: 4, 300.0: 3, 500.0: 2, 5000.0: 2}
    assert choose_slots(place_engines([Node("a", 8, 0)], "auto"), "auto", 100, 500.0) == 4
    assert choose_slots(placements, "auto", 1, 500.0) == 1
    assert choose_slots(placements, 8, 100, 500.0) == 8


def test_engines_on_one_node_share_its_cores():
    placements = place_engines([Node("a", 8, 0)], 2)
    assert [p.threads for p in placements] == [4, 4]
    assert sum(p.cpus for p in placements) < 8


def test_a_single_core_is_enough():
    (placement,) = place_engines([Node("a", 1, 0)], "auto")
    assert placement.threads == 1 and placement.cpus == 0.5


def test_more_engines_than_gpus_are_refused():
    with pytest.raises(ConfigError, match="GPUs in the cluster"):
        place_engines([Node("a", 8, 1)], 2)
