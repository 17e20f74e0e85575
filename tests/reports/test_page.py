import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest

from reports import read_results, render_page, write_report
from reports.page_parts import cost_facts, device_facts, device_seconds_of_all
from reports.units import MISSING

EVIL = "<script>alert('x')</script>"


def visible(page: str) -> str:
    """The page's text outside of scripts and styles."""

    class Reader(HTMLParser):
        skip, parts = 0, []

        def handle_starttag(self, tag, attrs):
            self.skip += tag in ("script", "style")

        def handle_endtag(self, tag):
            self.skip -= tag in ("script", "style")

        def handle_data(self, data):
            if not self.skip:
                self.parts.append(data)

    reader = Reader()
    reader.parts = []
    reader.feed(page)
    return " ".join(" ".join(reader.parts).split())


def test_reads_as_an_answer(full_run) -> None:
    text = visible(render_page(full_run))
    order = ["Which LoRA?", "What to doubt", "Efficiency and quality", "What quality costs", "Accuracy over rank",
             "Accuracy over steps", "Cost Wall", "Failed trials Trial", "How it was run Model",
             "How to use the pick"]  # fmt: skip
    places = [text.index(part) for part in order]
    assert places == sorted(places)
    for fact in ("Trial t03", "87.8 %", "95 % interval", "512 examples", "one seed", "3 of 16 trials early",
                 "NaN at step 57", "3 examples stand in both", "torch 2.11.0", "1" * 64, "space: attention",
                 f"lora-sweep pick {full_run.path} --trial t03 --export"):  # fmt: skip
        assert fact in text, fact


def test_writes_the_page_and_the_tables(full_run, tmp_path) -> None:
    assert write_report(full_run) == full_run.path / "report.html"
    other = write_report(full_run, tmp_path / "new" / "page.html")
    assert other.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    tables = {file.stem: pd.read_csv(file) for file in (full_run.path / "tables").iterdir()}
    assert set(tables) == {"trials", "curves", "pareto", "baselines"}
    assert len(tables["trials"]) == 16 and len(tables["baselines"]) == 3
    assert set(tables["pareto"]["trial_id"]) >= {"t03", "t12"} and tables["pareto"]["front_parameters"].any()


def test_nothing_comes_from_the_network(full_run) -> None:
    page = render_page(full_run)
    assert page.count("Plotly.newPlot(plot") == 1
    assert 'src="' not in re.split("<script[ >]", page)[0] and '<link rel="stylesheet"' not in page
    assert "default-src 'none'" in page


def test_free_text_is_escaped(make_run, make_record, make_info) -> None:
    records = [
        make_record("t1", target_label=EVIL),
        make_record("t2", None, status="failed", error=f"ValueError: {EVIL}"),
    ]
    info = make_info(name=EVIL, command=EVIL, model={"name": EVIL})
    info["data"]["notes"] = [EVIL]
    baselines = {
        "rows": [{"name": EVIL, "metrics": {"eval": {"accuracy": 0.79}}, "note": '"><script>alert(1)</script>'}]
    }
    run = make_run(records, info, baselines)
    run.sweep_file.write_text(f"# </pre></code>{EVIL}")
    page = render_page(run)
    assert "alert('x')</script>" not in page and "<script>alert" not in page
    assert EVIL in visible(page)


@pytest.mark.parametrize("status", ["running", "complete"])
def test_no_trial_yet(make_run, status) -> None:
    run = make_run(info={"status": status})
    text = visible(render_page(run))
    assert "No trial has ended yet" in text and "There is nothing to draw yet" in text
    assert ("still running: 0 trials so far" in text) == (status == "running")
    assert write_report(run).stat().st_size > 1_000_000


def test_the_sections_that_a_run_lacks_are_not_in_the_navigation(make_run, make_record, full_run) -> None:
    def anchors(run):
        page = render_page(run)
        linked = re.findall(r'<a href="#([a-z]+)">', page.split("</header>")[0])
        assert all(f'id="{anchor}"' in page for anchor in linked)
        return linked

    assert anchors(make_run([], name="empty")) == ["pick", "doubt", "trials", "figures", "cost", "run"]
    assert anchors(full_run) == [
        "pick", "doubt", "trials", "figures", "mattered", "advice", "cost", "failed", "run", "use"
    ]  # fmt: skip


def test_every_figure_has_a_text_that_says_its_main_fact(make_run, make_record) -> None:
    records = [
        make_record("small", 0.7, parameters=1000, rank=4, learning_rate=1e-3),
        make_record("worse", 0.6, parameters=2000, rank=4, learning_rate=1e-2),
        make_record("large", 0.9, parameters=3000, rank=16, learning_rate=3e-3),
    ]
    page = render_page(make_run(records))
    captions = dict(re.findall(r'<figcaption id="(.*?)-caption">(.*?)</figcaption>', page))
    assert re.findall(r'aria-describedby="(.*?)-caption"', page) == list(captions)
    assert "2 trials are on the front, from small (70.0 %, 1k) to large (90.0 %, 3k)." in captions["front"]
    assert "The medians are 65.0 % at rank 4, 90.0 % at rank 16." in captions["rank"]
    assert "The best, large, was trained at 3e-3; rates from 1e-3 to 0.01 were tried." in captions["rate"]
    assert "Trial large: 78.3 % at step 50, 89.0 % at step 200." in captions["curves"]
    assert "large (90.0 %, 20 s) alone is on the front." in captions["cost"]
    assert not any("Drawn are" in caption or "band" in caption for caption in captions.values())


def test_only_failed_trials(make_run, make_record) -> None:
    text = visible(render_page(make_run([make_record("a", None, status="failed", error="out of memory")])))
    assert "Every trial failed" in text and "out of memory" in text and "How to use" not in text


def test_one_trial_and_no_analysis(make_run, make_record) -> None:
    text = visible(render_page(make_run([make_record("only", 0.9)])))
    assert "Only one trial could be compared" in text and "Accuracy on evaluation data" in text


def test_causal_lm_with_lower_is_better(make_run, make_record, make_info) -> None:
    info = make_info(task={"type": "causal-lm"}, metric={"name": "perplexity", "mode": "min"})
    records = [make_record(name, value, metric="perplexity") for name, value in (("a", 12.0), ("b", 9.5))]
    baselines = {
        "rows": [{"name": "untouched base", "metrics": {"eval": {"perplexity": 31}, "test": {"perplexity": 30}}}]
    }
    text = visible(render_page(make_run(records, info, baselines, tested={"b": 9.8, "a": 12.2})))
    assert "Perplexity on test data lower is better b 9.800 untouched base 30.00" in text
    assert "Test perplexity: 9.800 on 600 test examples." in text
    assert "how large a difference they can tell apart was not tested" in text


def test_a_bare_run_json(make_run, make_record) -> None:
    text = visible(render_page(make_run([make_record("a", 0.8), make_record("b", 0.7)], info={})))
    assert "Trial a" in text and "examples of unknown number" in text


def test_a_pick_that_does_not_beat_the_head(make_run, make_record, baselines) -> None:
    text = visible(render_page(make_run([make_record("a", 0.75)], baselines=baselines, tested={"a": 0.74})))
    assert "the pick cannot be told apart from the baseline “head only”: 0.5 points better" in text
    text = visible(render_page(make_run([make_record("a", 0.75)], None, baselines, {"a": 0.70}, name="other")))
    assert "no better than the baseline “head only” (by 3.5 points)" in text


def test_importing_reports_loads_nothing_heavy() -> None:
    check = (
        "import sys, reports; heavy = {'plotly', 'jinja2', 'torch', 'transformers', 'ray'} & set(sys.modules); "
        "assert not heavy, heavy; assert reports.__all__ == sorted(reports.__all__); "
        "[getattr(reports, name) for name in reports.__all__]; "
        "heavy = {'torch', 'transformers', 'ray'} & set(sys.modules); assert not heavy, heavy"
    )
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", check], check=True, cwd=root)


def test_the_device_time_of_all_trials_is_one_figure(make_run, make_record) -> None:
    again = make_record("a-seed2", 0.7, cost={"device_seconds": 40.0}).model_copy(update={"repeat_of": "a"})
    run = make_run([make_record("a", 0.8, cost={"device_seconds": 20.0}), again])
    results = read_results(run)
    assert device_seconds_of_all(results) == 60
    assert dict(cost_facts(results, None))["Device time of all trials"] == "1 min"


def test_devices_say_how_much_was_padding(make_run, make_record, make_info) -> None:
    known, unknown = {"engine": 0, "tokens": 78, "padded_tokens": 100}, {"engine": 1, "tokens": 0, "padded_tokens": 0}
    results = read_results(make_run([make_record("a", 0.5)], make_info() | {"devices": [known, unknown]}))
    assert [row[-1] for row in device_facts(results)] == ["22 %", MISSING]
