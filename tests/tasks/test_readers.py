from __future__ import annotations

import csv
import io
import json

import pandas as pd
import pytest

from lora_sweep.errors import DataError
from lora_sweep.tasks.readers import read_columns

WANTED = {"text": "text", "label": "label"}


def read(path: str, content: str | bytes, **options: str) -> dict[str, list[object]]:
    raw = content.encode() if isinstance(content, str) else content
    return dict(read_columns(path, raw, WANTED, **options).values)


def test_csv_cells_stay_text():
    values = read("d.csv", 'text,label,x\nnull,1,\nNA,01,\n"a, ""b""\nc",1.0,9\n')
    assert values == {"text": ["null", "NA", 'a, "b"\nc'], "label": ["1", "01", "1.0"]}


def test_csv_lines_count_line_breaks_in_fields_and_blank_lines():
    columns = read_columns("d.csv", b'text,label\n"a\nb",x\n\nc,y\n', WANTED)
    assert columns.lines == [2, 5]


def test_tsv_separator_and_byte_order_mark():
    assert read("d.tsv", b"\xef\xbb\xbftext\tlabel\na,b\tx\n") == {"text": ["a,b"], "label": ["x"]}
    assert read("d.csv", "text;label\na,b;x\n", separator=";") == {"text": ["a,b"], "label": ["x"]}


def test_long_field_is_read_and_the_process_wide_limit_is_left_alone():
    before = csv.field_size_limit()
    assert len(str(read("d.csv", f"text,label\n{'a' * 200_000},x\n")["text"][0])) == 200_000
    assert csv.field_size_limit() == before


def test_jsonl_keeps_types_and_unusual_line_breaks_inside_strings():
    lines = [{"text": "a\u2028b", "label": 1}, {"text": "b", "label": "x", "more": []}]
    text = "\n".join(json.dumps(line, ensure_ascii=False) for line in lines) + "\n\n"
    columns = read_columns("d.jsonl", text.encode(), WANTED)
    assert columns.values == {"text": ["a\u2028b", "b"], "label": [1, "x"]}
    assert columns.lines == [1, 2]


def test_parquet_keeps_types():
    buffer = io.BytesIO()
    frame = pd.DataFrame({"text": ["a", None], "label": [1, 2], "more": [0.5, 0.25]})
    frame.to_parquet(buffer)
    assert read("d.parquet", buffer.getvalue()) == {"text": ["a", None], "label": [1, 2]}


@pytest.mark.parametrize(
    ("path", "content", "options", "message"),
    [
        (
            "d.txt",
            "x",
            {},
            "d.txt: must be one of .csv, .tsv, .jsonl, .parquet, got '.txt'. "
            "Convert the file, or rename it to say what it holds.",
        ),
        (
            "d.csv",
            "\n",
            {},
            "d.csv: must not be empty. The first line names the columns, each further line is an example.",
        ),
        (
            "d.csv",
            "Txt,label\n",
            {},
            "d.csv: column text: must exist (columns found: Txt, label). Did you mean `Txt`? Set task.text to it.",
        ),
        (
            "d.csv",
            "TEXT,label\n",
            {},
            "d.csv: column text: must exist (columns found: TEXT, label). Did you mean `TEXT`? Set task.text to it.",
        ),
        (
            "d.csv",
            "body,label\n",
            {},
            "d.csv: column text: must exist (columns found: body, label). Set task.text to one of them.",
        ),
        (
            "d.csv",
            "text;label\n",
            {},
            "d.csv: column text: must exist (columns found: text;label). The header is one single field: "
            "set task.data.separator to what separates the columns.",
        ),
        (
            "d.csv",
            "text,text,label\n",
            {},
            "d.csv: column text: must stand in the header once. Rename one of them.",
        ),
        (
            "d.csv",
            "text,label\na,x\nb,c,x\n",
            {},
            "d.csv: row 2 (line 3): must have 2 fields like the header, got 3. "
            "Put fields that hold separators, quotes or line breaks in double quotes.",
        ),
        (
            "d.csv",
            'text,label\na,x\n"b,x\nc,y\n',
            {},
            "d.csv: line 3: must be well-formed csv (unexpected end of data, read up to line 4). A field that begins "
            "with a double quote must end with one, and quotes inside are doubled.",
        ),
        (
            "d.csv",
            "text,label\na,x\ncaf\xe9,x\n".encode("latin-1"),
            {},
            "d.csv: line 3: must be utf-8 text (byte offset 18), got b'\\xe9'. Set task.data.encoding to the file's, "
            "often `encoding: latin-1` or `encoding: cp1252`.",
        ),
        (
            "d.csv",
            "text,label\n",
            {"encoding": "latin-99"},
            "task.data.encoding: must be an encoding that Python knows, got 'latin-99'. "
            "Use for example utf-8 or latin-1.",
        ),
        ("d.csv", "text,label\n", {"separator": "::"}, "task.data.separator: must be one character, got '::'"),
        (
            "d.jsonl",
            '{"text": "a", "label": 1}\n{"text": }\n',
            {},
            "d.jsonl: line 2: must be one JSON object (Expecting value, character 10), got '{\"text\": }'",
        ),
        ("d.jsonl", "[1]\n", {}, "d.jsonl: line 1: must be one JSON object, got [1]"),
        (
            "d.jsonl",
            '{"text": "a", "lable": 1}\n',
            {},
            "d.jsonl: column label: must exist (columns found: text, lable). Did you mean `lable`? "
            "Set task.label to it.",
        ),
    ],
)
def test_errors(path: str, content: str | bytes, options: dict[str, str], message: str):
    with pytest.raises(DataError) as caught:
        read(path, content, **options)
    assert str(caught.value) == message


def test_parquet_errors():
    with pytest.raises(DataError, match="d.parquet: must be a parquet file"):
        read("d.parquet", b"not parquet at all")
    buffer = io.BytesIO()
    pd.DataFrame({"text": ["a"]}).to_parquet(buffer)
    with pytest.raises(DataError, match=r"d.parquet: column label: must exist \(columns found: text\)"):
        read("d.parquet", buffer.getvalue())
