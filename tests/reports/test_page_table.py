"""What stands in the table's HTML and what in its JSON."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from reports import pick, render_page
from reports.configurations import label
from reports.page_parts import pick_facts
from reports.page_table import PAGE_ROWS, Cell, Column, DataTable, Row, constants, failure_kinds, trials_table
from reports.results import read_results
from reports.table import table_rows


def table_of(*sizes: int) -> DataTable:
    def rows(group: int, size: int) -> tuple[Row, ...]:
        return tuple(Row("k", (Cell(f"{group}.{i}", ""),)) for i in range(size))

    groups = tuple((f"group {group}", rows(group, size)) for group, size in enumerate(sizes))
    return DataTable("key", "label", (Column("a", "A"),), groups)


@pytest.mark.parametrize("sizes", [(0,), (3, 2), (99, 1), (100, 1), (60, 60), (150, 30), (10, 250)])
def test_the_html_and_the_rest_hold_every_row_once_and_in_order(sizes: tuple[int, ...]) -> None:
    table = table_of(*sizes)
    rest = json.loads(table.rest)
    for group, (_, rows) in enumerate(table.groups):
        static = [row.cells[0].text for row in table.first[group][1]]
        later = [texts[0] for at, _, _, _, texts, _ in rest if at == group]
        assert static + later == [row.cells[0].text for row in rows]
    assert sum(len(rows) for _, rows in table.first) == table.shown == min(PAGE_ROWS, sum(sizes))


def test_columns_that_say_nothing_are_left_out(full_run: Any) -> None:
    results = read_results(full_run)
    table = trials_table(table_rows(results), results, "t03")
    keys = [column.key for column in table.columns]
    assert keys[:2] == ["place", "name"] and "batch_size" not in keys and "test" in keys
    picked = [row for _, rows in table.groups for row in rows if "pick" in row.tags]
    assert [row.cells[1].text for row in picked] == ["t03"] and picked[0].kind == "complete picked"


@pytest.mark.parametrize("trained", [(), (1,), (0, 1, 2)])
def test_biases_are_told_where_they_are_trained(make_run: Any, make_record: Any, trained: tuple[int, ...]) -> None:
    records = [make_record(f"t{i}", 0.5 + i / 9, bias="lora_only" if i in trained else "none") for i in range(3)]
    results = read_results(make_run(records))
    assert list(results.trials["bias"]) == ["lora_only" if i in trained else "none" for i in range(3)]
    rows = table_rows(results)
    assert {row.name: row.texts["bias"] for row in rows} == {
        f"t{i}": "trained" if i in trained else "–" for i in range(3)
    }
    columns = {column.key for column in trials_table(rows, results, "t2").columns}
    assert ("bias" in columns) == (len(trained) == 1)  # one that all share stands above the table
    assert (("bias", "trained") in constants(rows)) == (len(trained) == 3)
    page = render_page(make_run(records, name="page"))
    assert ("biases trained" in label(results.trials.iloc[0])) == (0 in trained)
    assert ("Biases" in page) == bool(trained)


def test_a_long_table_says_what_it_shows(make_run: Any, make_record: Any) -> None:
    page = render_page(make_run([make_record(f"t{i:03d}", 0.5 + i / 1000) for i in range(130)]))
    assert page.count('<th scope="row" data-v="t') == PAGE_ROWS
    assert "<span>Rows 1 to 100 of 130</span>; all of them lie in <code>tables/trials.csv</code>" in page
    block = re.search(r'id="trials-table-rest" data-rows="30">(.*?)</script>', page)
    assert block is not None and len(json.loads(block[1])) == 30


def test_many_failures_are_a_table_in_pages_too(make_run: Any, make_record: Any) -> None:
    records = [make_record(f"t{i:03d}", None, status="failed", error=f"</script><b>{i}") for i in range(130)]
    page = render_page(make_run(records))
    block = re.search(r'id="failed-table-rest" data-rows="30">(.*?)</script>', page)
    assert block is not None and json.loads(block[1])[-1][4][-1] == "</script><b>129"


def test_kinds_of_failures_are_counted() -> None:
    errors = [*["OutOfMemoryError: no room"] * 3, "ValueError: a: b", None, *[f"Kind{i}: x" for i in range(5)]]
    said = failure_kinds([{"error": error} for error in errors])
    assert said.startswith("OutOfMemoryError (3), ValueError (1), no reason on record (1), Kind0 (1)")
    assert said.endswith(" and 2 other kinds")


def test_the_kept_step_stands_beside_the_last_one_where_they_differ(make_run: Any, make_record: Any) -> None:
    last, early = make_record("last", 0.8), make_record("early", 0.9).model_copy(update={"step": 150})
    results = read_results(make_run([last]))
    assert "kept_step" not in [column.key for column in trials_table(table_rows(results), results, None).columns]
    assert dict(pick_facts(pick(results)))["Kept step"] == "200 of 200"
    results = read_results(make_run([last, early], name="other"))
    table = trials_table(table_rows(results), results, None)
    places = [[column.key for column in table.columns].index(key) for key in ("kept_step", "step")]
    (_, rows), *_ = table.groups
    assert [tuple(row.cells[place].text for place in places) for row in rows] == [
        ("150", "200 of 200"),
        ("200", "200 of 200"),
    ]
    assert dict(pick_facts(pick(results)))["Kept step"] == "150 of 200 (its best evaluation; trained to 200)"
