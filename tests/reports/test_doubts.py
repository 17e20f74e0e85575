from reports import pick
from reports.doubts import doubts
from reports.results import read_results


def selection(run) -> str:
    results = read_results(run)
    return next(text for text in doubts(results, pick(results)) if "evaluation data chose" in text)


def test_trials_that_the_scheduler_stopped_were_open_to_choice_too(make_run, make_record) -> None:
    stopped = [make_record(f"s{i}", 0.5, status="stopped", reached=50) for i in range(4)]
    failed = make_record("f", None, status="failed", error="x")
    complete = [make_record("a", 0.90), make_record("b", 0.80), make_record("c", 0.70)]
    text = selection(make_run([*stopped, failed, *complete], tested={"a": 0.88}))
    assert text == (
        "The evaluation data chose it among 7 (4 of them stopped by the scheduler, on the same data), so its "
        "90.0 % there flatters; the test figure, 88.0 %, had no part in the choice."
    )
    assert "chose it among 7 (4 of them stopped" in selection(make_run([*stopped, *complete], name="untested"))


def test_one_survivor_of_the_scheduler_is_a_choice(make_run, make_record) -> None:
    records = [make_record("s", 0.5, status="stopped", reached=50), make_record("a", 0.9)]
    assert "chose it among 2 (1 of them stopped" in selection(make_run(records, tested={"a": 0.88}))


def test_without_a_scheduler(make_run, make_record) -> None:
    run = make_run([make_record("a", 0.9), make_record("b", 0.8)], tested={"a": 0.88})
    assert "chose it among 2, so its 90.0 % there flatters" in selection(run)


def test_no_interval_is_drawn_around_a_figure_that_chose(make_run, make_record) -> None:
    from reports import pick
    from reports.page_parts import comparison_bars
    from reports.results import read_results

    chosen = read_results(make_run([make_record("a", 0.8)]))
    tested = read_results(make_run([make_record("a", 0.8)], tested={"a": 0.7}, name="tested"))
    assert [bar.whisker for bar in comparison_bars(chosen, pick(chosen))[1]] == [None]
    assert comparison_bars(tested, pick(tested))[1][0].whisker is not None
