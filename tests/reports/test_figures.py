import pytest

from reports import figures
from reports.figure_info import get_front_info
from reports.frame import NO_TARGETS
from reports.front_labels import names_with_room
from reports.style import interval_bars, log_ticks, rank_colours, target_marks


def test_front_info(make_run, make_record, baselines) -> None:
    records = [
        make_record("small", 0.7, parameters=100),
        make_record("worse", 0.6, parameters=200),
        make_record("large", 0.9, parameters=300),
        make_record("stopped", 0.99, parameters=50, status="stopped", reached=50),
        make_record("failed", None, status="failed", error="x"),
    ]
    info = get_front_info(make_run(records, baselines=baselines))
    assert [point.trial_id for point in info.front] == ["small", "large"]
    assert {point.trial_id for point in info.points} == {"small", "worse", "large", "stopped"}
    assert dict(info.baselines)["head only"] == 0.742


def test_front_by_device_time_for_a_loss(make_run, make_record, make_info) -> None:
    info = make_info(task={"type": "causal-lm"}, metric={"name": "loss", "mode": "min"})
    records = [
        make_record(name, 0.5, metric="loss", cost={"device_seconds": seconds}).model_copy(
            update={"metrics": {"loss": loss}}
        )
        for name, seconds, loss in (("slow", 20.0, 1.0), ("fast", 10.0, 2.0), ("bad", 30.0, 3.0), ("unknown", 0.0, 0.1))
    ]
    front = get_front_info(make_run(records, info), "device_seconds").front
    assert [point.trial_id for point in front] == ["fast", "slow"]


def test_rank_info_medians_leave_out_stopped_and_head_only(make_run, make_record) -> None:
    records = [
        make_record("a", 0.6, rank=4),
        make_record("b", 0.8, rank=4),
        make_record("c", 0.9, rank=16),
        make_record("d", 0.1, rank=16, status="stopped", reached=50),
        make_record("e", 0.5, rank=64, target_label="", target_modules=()),
    ]
    info = figures.get_rank_info(make_run(records))
    assert info.medians == ((4, pytest.approx(0.7)), (16, 0.9)) and info.ranks == (4, 16)
    assert NO_TARGETS not in {point.target_label for point in info.points}


def test_curves_info(full_run) -> None:
    info = figures.get_learning_curves_info(full_run)
    stopped = next(curve for curve in info.curves if curve.status == "stopped")
    assert len(info.curves) == 15 and stopped.steps[-1] < 200
    assert all(
        curve.values[0] > curve.values[-1]
        for curve in figures.get_loss_curves_info(full_run).curves
        if len(curve.steps) > 1
    )


@pytest.mark.parametrize("name", ["front", "rank", "learning_rate", "learning_curves", "loss_curves"])
def test_every_info_can_be_drawn(full_run, make_run, name) -> None:
    for run in (full_run, make_run(name="empty")):
        info = getattr(figures, f"get_{name}_info")(run)
        figure = getattr(figures, f"plot_{name}")(info)
        assert figure.to_json()
    assert len(figure.data) == 0


def test_ended_early_is_marked_and_hollow(full_run) -> None:
    curves = figures.plot_learning_curves(figures.get_learning_curves_info(full_run))
    assert "ended early" in {trace.name for trace in curves.data}
    front = figures.plot_front(figures.get_front_info(full_run))
    hollow = [trace for trace in front.data if str(trace.marker.symbol).endswith("-open")]
    assert sum(len(trace.x) for trace in hollow) == 3


def test_names_on_a_crowded_front_do_not_cover_each_other(make_run, make_record) -> None:
    crowd = [make_record(f"crowded-{i}", 0.7 + i / 1000, parameters=10_000 + 100 * i) for i in range(9)]
    ends = [make_record("cheapest", 0.6, parameters=100), make_record("best", 0.9, parameters=10**6)]
    info = get_front_info(make_run([*crowd, *ends]))
    assert len(info.front) == 11
    named = names_with_room(info)
    assert named["cheapest"] == "top right" and named["best"] == "top left"
    assert len(named) == 3 and "crowded-8" in named
    line = next(trace for trace in figures.plot_front(info).data if trace.name == "Pareto front")
    assert [name for name in line.text if name] == ["cheapest", "crowded-8", "best"]
    far = [make_record(f"far-{i}", 0.5 + i / 10, parameters=10**i) for i in range(1, 5)]
    assert len(names_with_room(get_front_info(make_run(far, name="far")))) == 4


def test_a_baseline_far_away_does_not_squash_the_trials(full_run) -> None:
    figure = figures.plot_front(figures.get_front_info(full_run))
    assert [shape.y0 for shape in figure.layout.shapes] == [0.742]
    assert "↓ majority class 41.0 %" in figure.layout.annotations[-1].text


def test_markup_in_labels_is_text(make_run, make_record) -> None:
    figure = figures.plot_front(figures.get_front_info(make_run([make_record("<b>x</b>", target_label="<i>y</i>")])))
    assert figure.data[0].name == "&lt;i&gt;y&lt;/i&gt;" and "&lt;b&gt;x" in figure.data[0].hovertext[0]


def test_style() -> None:
    assert len(set(rank_colours([1, 2, 4, 8, 16, 32, 64, 128]).values())) == 8
    assert len({target_marks(map(str, range(8)))[str(i)] for i in range(8)}) == 8
    assert log_ticks([30, 200], str)["ticktext"] == [
        "10.0",
        "20.0",
        "50.0",
        "100.0",
        "200.0",
        "500.0",
        "1000.0",
        "2000.0",
        "5000.0",
    ]
    assert log_ticks([], str) == {}


def test_bars_end_where_the_intervals_do() -> None:
    bars = interval_bars([0.5, 0.7, 0.9], [(0.4, 0.8), None, (0.95, 0.97)])
    assert bars["array"] == pytest.approx([0.3, 0, 0.07]) and bars["arrayminus"] == pytest.approx([0.1, 0, 0])
    assert interval_bars([0.5], [None]) == {"visible": False}
