from reports import SUMMARY_COLUMNS, summary_table, table_rows


def test_complete_and_baselines_by_quality_then_stopped(full_run) -> None:
    rows = table_rows(full_run)
    kinds = [row.kind for row in rows]
    first_stopped = kinds.index("stopped")
    assert set(kinds[first_stopped:]) == {"stopped"} and len(kinds) == 12 + 3 + 3
    ranked = [row.quality for row in rows[:first_stopped]]
    assert ranked == sorted(ranked, reverse=True)
    assert [row.place for row in rows if row.kind == "complete"] == list(range(1, 13))
    assert all(row.place is None for row in rows if row.kind != "complete")


def test_a_better_stopped_trial_is_not_ranked(make_run, make_record) -> None:
    run = make_run([make_record("a", 0.7), make_record("b", 0.9, status="stopped", reached=100)])
    a, b = table_rows(run)
    assert (a.name, a.place, b.name, b.place) == ("a", 1, "b", None)
    assert b.note == "stopped by the scheduler after step 100 of 200"


def test_texts_for_people(make_run, make_record) -> None:
    cost = {"device_seconds": 200.0, "solo_seconds": 240.0, "solo_source": "modelled", "wall_seconds": 9999.0}
    (row,) = table_rows(make_run([make_record(cost=cost, parameters=149_000, learning_rate=3e-4)]))
    assert row.texts["parameters"] == "149k" and row.texts["adapter"] == "596 kB"
    assert row.texts["device_time"] == "3 min 20 s" and row.texts["solo_time"] == "4 min (modelled)"
    assert row.texts["alpha"] == "16 (2r)" and row.texts["learning_rate"] == "3e-4"
    assert not any("9999" in text or "2 h 46" in text for text in row.texts.values())


def test_lower_is_better(make_run, make_record, make_info) -> None:
    info = make_info(task={"type": "causal-lm"}, metric={"name": "perplexity", "mode": "min", "keep": "best"})
    records = [make_record(name, value, metric="perplexity") for name, value in (("a", 12.0), ("b", 9.5), ("c", 30.0))]
    baselines = {"rows": [{"name": "untouched base", "metrics": {"eval": {"perplexity": 20.25}}}]}
    rows = table_rows(make_run(records, info, baselines))
    assert [row.name for row in rows] == ["b", "a", "untouched base", "c"]
    assert rows[2].texts["quality"] == "20.25" and rows[2].texts["test"] == "–"


def test_equal_quality_goes_to_fewer_parameters(make_run, make_record) -> None:
    run = make_run([make_record("a", 0.8, parameters=900), make_record("b", 0.8, parameters=500)])
    assert [row.name for row in table_rows(run)] == ["b", "a"]


def test_summary_has_the_top_and_the_baselines(full_run) -> None:
    rows = summary_table(full_run, top=2)
    assert [row.kind for row in rows] == ["complete"] * 2 + ["baseline"] * 3
    assert all(len(row.summary) == len(SUMMARY_COLUMNS) for row in rows)


def test_only_stopped_trials_stand_in_the_summary(make_run, make_record, baselines) -> None:
    run = make_run([make_record("a", status="stopped", reached=50)], baselines=baselines)
    assert "a" in [row.name for row in summary_table(run)]


def test_nothing_yet(make_run) -> None:
    assert table_rows(make_run()) == summary_table(make_run(name="other")) == []
