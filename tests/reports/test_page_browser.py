"""The page in a real browser: figures, tables, keyboard, files that it saves, paper, narrow windows, hostile texts."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from lora_sweep.store import RunFolder
from reports import write_report

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
from chromium import Chromium, find_chromium  # noqa: E402  the path must be there before
from simulated_runs import write_run  # noqa: E402

needs_chromium = pytest.mark.skipif(find_chromium() is None, reason="needs a chromium")
pytestmark = needs_chromium

HOSTILE = (
    "</script><script>window.harmed = 1</script>",
    '"><img src=x onerror="window.harmed = 1">',
    "'; window.harmed = 1; //",
    "=HYPERLINK(\"http://x\", 'a, b')",
    "{{ 7 * 7 }} &lt;b&gt; <!-- ",
    "one\u2028two\u2029three",
    "javascript:window.harmed=1",
)
# a frame at each step, however slow the machine: the page sees what is near at the end of a frame
SCROLL_THROUGH = """(async () => {
  const frame = () => new Promise((done) => requestAnimationFrame(done));
  for (let y = 0; y < document.body.scrollHeight; y += 400) {
    scrollTo({ top: y, behavior: "instant" });
    await frame();
    await frame();
  }
})()"""
DRAWN = "document.querySelectorAll('.plot .plot-container').length"
FIGURES = "document.querySelectorAll('[data-figure]').length"
ON_PAPER = """matchMedia("print").addEventListener("change", (event) => {
  if (!event.matches) return;
  window.paper = {
    drawn: document.querySelectorAll(".plot .plot-container").length,
    background: getComputedStyle(document.body).backgroundColor,
    nav: getComputedStyle(document.querySelector("nav")).display,
    text: getComputedStyle(document.querySelector(".plot .xtick text")).fill,
    widths: [...document.querySelectorAll(".plot .main-svg")].map((e) => e.clientWidth),
  };
})"""
NEXT = "[...document.querySelectorAll('#trials .tools button')].find(e => e.innerText === 'Next')"


@pytest.fixture(scope="module")
def downloads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("browser")


@pytest.fixture(scope="module")
def one_browser(downloads: Path) -> Iterator[Chromium]:
    with Chromium(downloads) as browser:
        yield browser


@pytest.fixture
def browser(one_browser: Chromium) -> Iterator[Chromium]:
    """A desktop window; the console must stay empty."""
    one_browser.resize(1280, 900)
    one_browser.prefer("light")
    one_browser.messages.clear()
    yield one_browser
    assert one_browser.messages == []


@pytest.fixture
def long_run(make_run: Any, make_record: Any) -> RunFolder:
    """120 complete trials, 30 stopped ones, 2 failed ones."""
    records = [make_record(f"c{i:03d}", 0.5 + i / 500, rank=2 ** (i % 6), parameters=1000 + i) for i in range(120)]
    records += [make_record(f"s{i:03d}", 0.4 + i / 500, status="stopped", reached=50) for i in range(30)]
    records += [make_record(f"f{i}", None, status="failed", error="out of memory") for i in range(2)]
    run: RunFolder = make_run(records)
    return run


@pytest.fixture(scope="module")
def pages(tmp_path_factory: Any) -> Callable[[str, Callable[[], RunFolder]], Path]:
    """Writes the report of a run once for all tests that only look at it."""
    folder = tmp_path_factory.mktemp("pages")

    def page(name: str, run: Callable[[], RunFolder]) -> Path:
        file: Path = folder / f"{name}.html"
        if not file.exists():
            shutil.copy(write_report(run()), file)
        return file

    return page


@pytest.fixture
def long_page(pages: Any, request: Any) -> Path:
    written: Path = pages("long", lambda: request.getfixturevalue("long_run"))
    return written


@pytest.fixture
def full_page(pages: Any, request: Any) -> Path:
    written: Path = pages("full", lambda: request.getfixturevalue("full_run"))
    return written


def names(browser: Chromium) -> list[str]:
    found = browser.evaluate(
        "[...document.querySelectorAll('#trials-table tbody th[scope=row]')].map(e => e.innerText)"
    )
    return [str(name).split()[0] for name in found]


def press_heading(browser: Chromium, title: str) -> None:
    """Press Enter on a heading's button, as one without a mouse does."""
    browser.evaluate(
        f"[...document.querySelectorAll('#trials-table thead button')].find(e => e.textContent === '{title}').focus()"
    )
    browser.press("Enter")


def type_filter(browser: Chromium, words: str) -> None:
    browser.evaluate("document.querySelector('#trials input').focus()")
    browser.evaluate("document.querySelector('#trials input').select()")
    browser.send("Input.insertText", text=words)


def status(browser: Chromium) -> str:
    return str(browser.evaluate("document.querySelector('#trials [role=status]').textContent"))


def save(browser: Chromium, label: str, file: Path) -> pd.DataFrame:
    browser.evaluate(f"document.querySelector('[aria-label=\"Save as CSV: {label}\"]').click()")
    end = time.monotonic() + 20
    while not file.exists():
        assert time.monotonic() < end, f"{file} was not saved"
        time.sleep(0.05)
    return pd.read_csv(file)


def test_figures_are_drawn_when_they_come_near(full_page: Path, browser: Chromium) -> None:
    browser.open(full_page)
    assert browser.evaluate(DRAWN) < browser.evaluate(FIGURES) > 6
    browser.evaluate(SCROLL_THROUGH)
    browser.wait_for(f"{DRAWN} === {FIGURES}")


def test_sorting_keeps_the_filter_and_groups_stay_apart(full_page: Path, browser: Chromium) -> None:
    browser.open(full_page)
    before = names(browser)
    type_filter(browser, "ALL-linear")
    filtered = names(browser)
    assert 0 < len(filtered) < len(before) and f"of {len(filtered)}, filtered from {len(before)}" in status(browser)
    press_heading(browser, "Parameters")
    browser.wait_for("document.querySelector('[aria-sort=ascending]') !== null")
    assert sorted(names(browser)) == sorted(filtered)
    sizes = browser.evaluate(
        "[...document.querySelectorAll('#trials-table tbody:not(.group)')].map(body => [...body.rows].map(row =>"
        " Number(row.cells[[...document.querySelectorAll('#trials-table thead th')]"
        ".findIndex(e => e.ariaSort)].dataset.v)))"
    )
    assert len(sizes) == 2 and all(body == sorted(body) for body in sizes)
    press_heading(browser, "Parameters")
    browser.wait_for("document.querySelector('[aria-sort=descending]') !== null")
    type_filter(browser, "")
    assert sorted(names(browser)) == sorted(before) and status(browser) == ""


def test_pages_search_all_rows(long_page: Path, browser: Chromium) -> None:
    browser.open(long_page)
    assert names(browser)[0] == "c119" and len(names(browser)) == 100
    browser.evaluate(f"{NEXT}.focus()")
    browser.press("Enter")
    assert status(browser) == "Rows 101 to 150 of 150"
    assert names(browser) == [f"c{i:03d}" for i in range(19, -1, -1)] + [f"s{i:03d}" for i in range(29, -1, -1)]
    assert browser.evaluate("document.activeElement.innerText") == "Next"
    browser.press("Enter")
    assert status(browser) == "Rows 101 to 150 of 150"
    type_filter(browser, "stopped s007")
    assert names(browser) == ["s007"] and status(browser) == "Rows 1 to 1 of 1, filtered from 150"
    type_filter(browser, "nothing-like-it")
    assert names(browser) == [] and status(browser).startswith("No row")


def test_a_table_is_saved_with_its_numbers(long_run: Any, browser: Chromium, downloads: Path) -> None:
    browser.open(write_report(long_run))
    type_filter(browser, "c0")
    table = save(browser, "Trials and baselines", downloads / "trials-and-baselines.csv")
    truth = pd.read_csv(long_run.path / "tables" / "trials.csv").set_index("trial_id")
    assert list(table["Trial"]) == [f"c{i:03d}" for i in range(99, -1, -1)]
    pairs = {
        "Eval accuracy": "quality",
        "Parameters": "trainable_parameters",
        "Rank": "rank",
        "Device time (seconds)": "device_seconds",
        "Adapter (bytes)": "adapter_bytes",
    }
    for column, known in pairs.items():
        assert list(table[column]) == list(truth.loc[table["Trial"], known]), column
    assert table["95 % interval"][0].endswith("%")


def test_a_figure_is_saved_with_its_data(full_run: Any, browser: Chromium, downloads: Path) -> None:
    browser.open(write_report(full_run))
    truth = pd.read_csv(full_run.path / "tables" / "trials.csv").set_index("trial_id")
    table = save(browser, "Accuracy over rank", downloads / "accuracy-over-rank.csv").dropna(subset="id")
    assert set(table["id"]) == set(truth[truth["status"] != "failed"].index)
    assert list(table["rank"]) == list(truth.loc[table["id"], "rank"])
    assert list(table["accuracy on evaluation data"]) == list(truth.loc[table["id"], "quality"])
    assert list(table["low"]) == pytest.approx(list(truth.loc[table["id"], "quality_low"]))
    curves = save(browser, "Accuracy over steps", downloads / "accuracy-over-steps.csv")
    curves = curves[curves["series"] != "ended early"]
    points = pd.read_csv(full_run.path / "tables" / "curves.csv")
    assert len(curves) == len(points) and set(curves["optimizer steps"]) == set(points["step"])


def test_paper_is_light_and_has_every_figure(full_page: Path, browser: Chromium, tmp_path: Path) -> None:
    browser.prefer("dark")
    browser.open(full_page)
    browser.evaluate(ON_PAPER)
    browser.print(tmp_path / "page.pdf")
    paper = browser.evaluate("window.paper")
    assert paper["drawn"] == browser.evaluate(FIGURES) and set(paper["widths"]) == {680}
    assert (paper["background"], paper["nav"], paper["text"]) == ("rgb(255, 255, 255)", "none", "rgb(68, 68, 68)")
    assert (tmp_path / "page.pdf").stat().st_size > 50_000
    browser.wait_for("[...document.querySelectorAll('.plot .main-svg')].some((e) => e.clientWidth !== 680)")


@pytest.mark.parametrize("width", [320, 390])
def test_a_narrow_window_scrolls_tables_and_not_the_page(long_page: Path, browser: Chromium, width: int) -> None:
    browser.resize(width, 800, mobile=True)
    browser.open(long_page)
    browser.evaluate(SCROLL_THROUGH)
    browser.wait_for(f"{DRAWN} === {FIGURES}")
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    assert browser.evaluate("document.querySelector('#trials .scroll').scrollWidth") > width


def test_the_skip_link_comes_first_and_the_theme_turns(full_page: Path, browser: Chromium) -> None:
    browser.open(full_page)
    browser.press("Tab")
    assert browser.evaluate("document.activeElement.className") == "skip"
    assert browser.evaluate("document.activeElement.getBoundingClientRect().left") >= 0
    colour = "getComputedStyle(document.body).backgroundColor"
    light = browser.evaluate(colour)
    browser.evaluate("document.querySelector('.theme').focus()")
    browser.press("Enter")
    assert browser.evaluate(colour) == "rgb(22, 24, 28)" != light
    assert browser.evaluate("document.querySelector('.theme').textContent") == "Light theme"


def test_hostile_texts_are_shown_and_not_run(
    make_run: Any, make_record: Any, make_info: Any, browser: Chromium, downloads: Path
) -> None:
    records = [make_record(f"t{i:03d}", 0.5 + i / 500, target_label=HOSTILE[i % len(HOSTILE)]) for i in range(130)]
    records += [make_record(f"f{i}", None, status="failed", error=text) for i, text in enumerate(HOSTILE)]
    mixed = " ".join(HOSTILE)
    info = make_info(name=mixed, command=mixed, model={"name": mixed}, versions={mixed: mixed})
    info["task"] |= {"labels": list(HOSTILE)}
    info["data"] = {"notes": list(HOSTILE), "parts": {mixed: {"path": mixed, "examples": 512, "sha256": mixed}}}
    info["devices"] = [{"device": mixed}]
    rows = [{"name": text, "metrics": {"eval": {"accuracy": 0.6}}, "note": text} for text in HOSTILE]
    run = make_run(records, info, {"rows": rows})
    run.sweep_file.write_text("".join(f"# {text}\n" for text in HOSTILE), encoding="utf-8")
    browser.open(write_report(run))
    browser.evaluate(SCROLL_THROUGH)
    browser.wait_for(f"{DRAWN} === {FIGURES}")
    browser.evaluate(f"{NEXT}.click()")
    assert browser.evaluate("window.harmed === undefined && document.images.length === 0")
    body = browser.evaluate("document.body.textContent")
    for text in HOSTILE:
        assert body.count(text) >= 5, text
    labels = set(browser.evaluate("[...document.querySelectorAll('#trials-table td.text')].map(e => e.textContent)"))
    assert labels >= set(HOSTILE)
    table = save(browser, "Failed trials", downloads / "failed-trials.csv")
    quoted = [f"'{text}" if text.startswith("=") else text for text in HOSTILE]
    assert list(table["Reason"]) == quoted
    written = pd.read_csv(run.path / "tables" / "trials.csv")
    assert list(written["error"].dropna()) == quoted
    points = save(browser, "Accuracy against trainable parameters",
                  downloads / "accuracy-against-trainable-parameters.csv")  # fmt: skip
    assert set(points["series"].dropna()) >= set(quoted) - {HOSTILE[4]}


@pytest.mark.slow
def test_ten_thousand_trials(browser: Chromium, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", 10_000)
    page = write_report(run)
    table = pd.read_csv(run.path / "tables" / "trials.csv")
    assert len(table) == 10_000 and table["trial_id"].is_unique
    assert (table["status"].value_counts()).to_dict() == {"stopped": 7500, "complete": 2000, "failed": 500}
    browser.open(page)
    browser.evaluate(SCROLL_THROUGH)
    browser.wait_for(f"{DRAWN} === {FIGURES}")
    assert status(browser) == "Rows 1 to 100 of 9,501"
    stored = json.loads(browser.evaluate("document.getElementById('trials-table-rest').textContent"))
    shown = names(browser)
    assert {*shown, *(row[4][1] for row in stored)} == {*table[table["status"] != "failed"]["trial_id"], "majority"}
    complete = table[table["status"] == "complete"].sort_values("quality", ascending=False)
    assert set(shown[:20]) <= set(complete["trial_id"].head(40))
    type_filter(browser, "stopped")
    assert status(browser) == "Rows 1 to 100 of 7,500, filtered from 9,501"
    captions = browser.evaluate("[...document.querySelectorAll('figcaption')].map(e => e.textContent)")
    assert sum("of 9,500 trials" in caption or "all 9,500 trials" in caption for caption in captions) == 6
