from __future__ import annotations

from lora_sweep.sweep.leases import LeaseTable


def test_the_emptiest_engine_is_leased_first_and_no_slot_twice():
    table = LeaseTable([2, 2])
    engines = [table.grant(trial).engine for trial in "abcd"]
    assert sorted(engines) == [0, 0, 1, 1] and engines[:2] == [0, 1]
    assert table.grant("e") is None


def test_epochs_rise():
    table = LeaseTable([3])
    epochs = [table.grant(trial).epoch for trial in "abc"]
    assert epochs == sorted(set(epochs))


def test_a_closing_lease_is_nobodys_but_keeps_its_slot():
    table = LeaseTable([1])
    lease = table.grant("a")
    lease.closing = True
    assert table.held_by("a") is None
    assert table.grant("b") is None
    table.drop(lease)
    assert table.grant("b").trial_id == "b"


def test_nothing_is_granted_on_a_suspended_engine():
    table = LeaseTable([1, 1])
    table.suspend(0)
    assert table.grant("a").engine == 1
    assert table.grant("b") is None
    table.resume(0)
    assert table.grant("b").engine == 0


def test_adopted_leases_count():
    table = LeaseTable([2])
    table.adopt(0, {"old": 7})
    assert table.held_by("old").epoch == 7
    assert table.grant("a") is not None
    assert table.grant("b") is None
