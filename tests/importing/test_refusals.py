"""Bad maps and bad tables: one message with the place, the rule, the value and the fix."""

from __future__ import annotations

import pytest

from lora_sweep.errors import ConfigError, InputError
from lora_sweep.importing import parse_map

GOOD = "id,rank,accuracy\na,8,0.8\n"

MAPS = [
    ("colums: {rank: r}", "map.yaml: colums: is not a known key. Did you mean 'columns'?"),
    ("columns: {rang: r}", "map.yaml: columns.rang: is not a known key. Did you mean 'rank'?"),
    ("columns: {bleu: b}", "Another metric is known once metric.name says it."),
    ("metric: {mode: up}", "map.yaml: metric.mode: must be 'max' or 'min', got 'up'"),
    ("metric: {name: a b}", "map.yaml: metric.name: "),
    ("examples: {eval: 0}", "map.yaml: examples.eval: must be at least 1, got 0"),
    ("scale: {accuracy: permille}", "map.yaml: scale.accuracy: must be 'fraction' or 'percent', got 'permille'"),
    ("scale: {rank: percent}", "map.yaml: scale.rank: is not a known key."),
    ("status: {dead: [x]}", "map.yaml: status.dead: is not a known key."),
    ("outcomes: {hit: x}", "map.yaml: outcomes.hit: is not a known key."),
    ("- a", "map.yaml: must hold keys such as `columns:`"),
    ("a: [", "map.yaml: line 1, column 5: must be valid YAML"),
    ("columns: {rank: r}\ncolumns: {}", "the key 'columns' stands twice"),
]


@pytest.mark.parametrize(("text", "message"), MAPS, ids=[text for text, _ in MAPS])
def test_a_map_is_refused(text, message) -> None:
    with pytest.raises(ConfigError) as refused:
        parse_map(text, "map.yaml")
    assert message in str(refused.value)


TABLES = [
    ("a rank of zero", "id,rank,accuracy\na,8,0.8\nb,0,0.7\n", None,
     "column rank, row 2 (line 3): must be a whole number of at least 1, got '0'"),
    ("a rank in words", "id,rank,accuracy\na,eight,0.8\n", None, "column rank, row 1 (line 2): must be a number"),
    ("half a rank", "id,rank,accuracy\na,8.5,0.8\n", None, "must be a whole number of at least 1, got '8.5'"),
    ("an infinite rate", "id,lr,accuracy\na,inf,0.8\n", None, "column lr, row 1 (line 2): must be a number above 0"),
    ("dropout of one", "id,dropout,accuracy\na,1,0.8\n", None, "must be a number of at least 0 and below 1, got '1'"),
    ("percent", "id,rank,accuracy\na,8,73.5\n", None,
     "column accuracy, row 1 (line 2): must be a share from 0 to 1, got 73.5. If it is in percent, say "
     "`scale: {accuracy: percent}` in the map."),
    ("percent on test", "id,accuracy,test_accuracy\na,0.7,71\n", None, "say `scale: {test_accuracy: percent}`"),
    ("percent that is none", GOOD, "scale: {accuracy: percent}", "must be in percent, but no value is above 1"),
    ("more than all", "id,accuracy\na,735\n", None, "must be a share from 0 to 1, got 735.0"),
    ("decimal commas", "id;accuracy\na;0,735\n", None, 'Where the comma is the decimal mark, say `decimal: ","`'),
    ("an unknown status", "id,state,accuracy\na,odd,0.8\n", None,
     "column state, row 1 (line 2): must be a known status: complete, stopped, failed or left_out, got 'odd'. Say in "
     "the map what it means, for example `status: {failed: [odd]}`."),
    ("a trial twice", "id,rank,accuracy\na,8,0.8\na,8,0.7\n", None,
     "column id, row 2 (line 3): must be a trial's own, or come with a column of steps that differ, got 'a'"),
    ("a step twice", "id,step,accuracy\na,5,0.8\na,5,0.7\n", None, "column id, row 2 (line 3): must be a trial's own"),
    ("two ranks", "id,step,rank,accuracy\na,5,8,0.8\na,6,4,0.7\n", None,
     "column rank, row 2 (line 3): must be the same in every row of trial a (row 1 has 8), got 4"),
    ("a column twice", "id,rank,rank,accuracy\na,8,8,0.8\n", None, "column rank: must stand in the header once"),
    ("too few fields", "id,rank,accuracy\na,8,0.8\nb,4\n", None,
     "row 2 (line 3): must have 3 fields like the header, got 2"),
    ("an open quote", 'id,rank,accuracy\n"a,8,0.8\n', None, "must be well-formed csv"),
    ("no rows", "id,rank,accuracy\n", None, "must hold at least one row of results"),
    ("nothing", "", None, "must hold at least one row of results"),
    ("no metric", "id,rank\na,8\n", None, "must have a column with accuracy or macro_f1 or loss or perplexity"),
    ("a metric without a name", "id,value\na,0.8\n", None,
     "column value: must have a name that says what it measures. Name it in the map"),
    ("a metric without a direction", "id,bleu\na,0.8\n", "metric: {name: bleu}", "metric.mode: is required for bleu"),
    ("a column that is not there", GOOD, "columns: {alpha: lora_alpha}",
     "columns.alpha: must be a column of"),
    ("another encoding", "id,accuracy\né,0.8\n".encode("latin-1"), None, "line 2: must be utf-8 text"),
    ("only running trials", "id,state,accuracy\na,running,0.5\n", None, "must hold a trial that has ended"),
]  # fmt: skip


@pytest.mark.parametrize(("table", "map_text", "message"), [one[1:] for one in TABLES], ids=[one[0] for one in TABLES])
def test_a_table_is_refused(imported, tmp_path, table, map_text, message) -> None:
    with pytest.raises(InputError) as refused:
        imported(table, map_text)
    assert message in str(refused.value)
    assert not list(tmp_path.glob("sweep-run*"))


@pytest.mark.parametrize(
    ("kind", "content", "message"),
    [
        ("jsonl", '{"id": 1}\n{oops}\n', "line 2: must be one JSON object"),
        ("jsonl", "[1]\n", "line 1: must be one JSON object, got [1]"),
        ("parquet", "no parquet", "must be a parquet file"),
        ("xlsx", "x", "must be one of .csv, .tsv, .jsonl, .parquet, got '.xlsx'"),
    ],
)
def test_a_file_is_refused(imported, kind, content, message) -> None:
    with pytest.raises(InputError) as refused:
        imported(content, kind=kind)
    assert message in str(refused.value)
