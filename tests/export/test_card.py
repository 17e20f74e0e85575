"""The model card: what it tells, and that no text of the user's becomes Markdown, HTML or YAML."""

from __future__ import annotations

import csv
import re
import shutil
from html import unescape
from pathlib import Path

import pytest
import yaml
from markdown_it import MarkdownIt

from lora_sweep.adapters import read_adapter
from lora_sweep.export import export_trial
from lora_sweep.export.base_call import BaseCall
from lora_sweep.export.markdown import escaped, fenced
from lora_sweep.export.serving import serving
from lora_sweep.export.subject import read_subject
from lora_sweep.records import TrialConfig

HOSTILE = [
    "a|b", "`tick`", "```", "<script>alert(1)</script>", "*bold* _it_ ~~no~~", "[link](http://x)", "![i](x)", "&lt;",
    "# heading", "- item", "line\nbreak\u2028more", "$x$", "\\", "{{ 7 * 7 }}", "{% raw %}", "---\nkey: value",
]  # fmt: skip


def to_html(markdown):
    return MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(markdown)


def plain(html):
    return unescape(re.sub(r"<[^>]*>", "", html)).strip()


@pytest.mark.parametrize("text", HOSTILE)
def test_a_text_stays_text(text):
    line = " ".join(text.replace("\u2028", " ").split())
    assert to_html(f"It is {escaped(text)}.") == to_html(f"It is {escaped(line)}.")
    html = to_html(f"It is {escaped(text)}.")
    assert plain(html) == f"It is {line}." and re.findall("<[^>]*>", html) == ["<p>", "</p>"]
    table = to_html(f"| a | b |\n|---|---|\n| {escaped(text)} | end |\n")
    cells = re.findall(r"<td>(.*?)</td>", table, re.S)
    assert [plain(cell) for cell in cells] == [line, "end"]
    assert not re.search("<(?!/?(table|thead|tbody|tr|th|td)>)", table)


@pytest.mark.parametrize("code", ["x = 1", "x = '```'", "````\n```"])
def test_code_ends_where_it_should(code):
    html = to_html(f"{fenced(code, 'python')}\n\nafter")
    assert html.endswith("</code></pre>\n<p>after</p>\n") and plain(html) == f"{code}\n\nafter"


@pytest.fixture
def card(make_run, tmp_path):
    run = make_run({"dropout": 0.1})
    export_trial(run, "000-t", tmp_path / "out", merge=False, chosen=("It is | the best.", "It beat *none*."))
    return run, (tmp_path / "out" / "README.md").read_text(encoding="utf-8")


def parts_of(text):
    _, front, body = text.split("---\n", 2)
    return yaml.safe_load(front), body


def test_the_front_matter(card):
    run, text = card
    front, _ = parts_of(text)
    # a base in a folder has no name that the Hub knows, and the licence is not known at all
    assert front.keys() == {"library_name", "pipeline_tag", "tags", "metrics", "model-index"}
    assert (front["library_name"], front["pipeline_tag"]) == ("peft", "text-classification")
    assert front["tags"] == ["lora", "peft"] and front["metrics"] == ["accuracy", "f1", "loss"]
    (entry,) = front["model-index"]
    assert entry["name"] == "tiny-000-t"
    (result,) = entry["results"]
    assert result["dataset"] == {"type": "csv", "name": "test.csv", "split": "test"}
    found = run.analysis("exports")["rows"][0]["metrics"]["test"]
    assert {one["name"]: one["value"] for one in result["metrics"]} == found


def test_what_the_card_tells(card, sentiment_files):
    run, text = card
    _, body = parts_of(text)
    record, (row,) = run.records()[0], run.analysis("exports")["rows"]
    told = plain(to_html(body))
    for name in TrialConfig.model_fields:
        assert re.search(rf"^{name}$", told, re.M), name
    for value in (record.config.learning_rate, record.config.seed, record.config.dropout):
        assert re.search(rf"^{re.escape(str(value))}$", told, re.M)
    for part, file in sentiment_files.items():
        assert str(file) in told and run.info()["data"]["parts"][part]["sha256"] in told
    examples = run.info()["data"]["parts"]["holdout"]["examples"]
    assert f"| holdout | set aside from train | {examples} | – |" in body
    assert "with another seed" not in told.split("What to doubt")[0]
    low, high = row["intervals"]["test"]["accuracy"]
    figure = f"{100 * row['metrics']['test']['accuracy']:.1f} % ({100 * low:.1f} to {100 * high:.1f} %)"
    rows = [line for line in body.splitlines() if line.startswith("| test, through PEFT")]
    assert len(rows) == 1 and figure in rows[0] and rows[0].endswith("| 80 |")
    own = [line for line in body.splitlines() if line.startswith("| test, in the run (float32)")]
    assert len(own) == 1 and figure in own[0]
    assert "0 of 80 answers on test differ from the run's own" in told
    assert "It is | the best." in told and "It beat *none*." in told
    assert "Adapted layers: 2 layers query, 2 layers value; their full names" in told
    assert "vLLM does not serve this adapter as it is" in told and "modules_to_save" in told


def test_hostile_labels_and_columns(make_run, tmp_path):
    files, labels = {}, ["<b>|`x`</b>", "*{{ 7 }}*"]
    for part, rows in {"train": 16, "eval": 8, "test": 8}.items():
        files[part] = str(tmp_path / f"{part}|`.csv")
        with Path(files[part]).open("w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream)
            writer.writerow(["te|xt", "<i>`"])
            writer.writerows(["good bad fine"[: 4 + row % 9], labels[row % 2]] for row in range(rows))
    task = {"type": "classification", "data": files, "text": "te|xt", "label": "<i>`", "max_length": 32}
    run = make_run({"steps": 2, "eval_every": 2, "target_label": "a|b <u>"}, task=task)
    exported = export_trial(run, "000-t", tmp_path / "out", merge=False)
    assert not exported.warnings and not exported.errors
    _, body = parts_of((tmp_path / "out" / "README.md").read_text(encoding="utf-8"))
    html = to_html(body)
    allowed = 'h1|h2|p|pre|code( class="language-\\w+")?|table|thead|tbody|tr|th|td|ul|li|a( href="[^"]*")?'
    assert not re.search(f"<(?!/?({allowed})>)", html)
    told = plain(html)
    assert "0 *{{ 7 }}*, 1 <b>|`x`</b>." in told
    assert "Columns: text: te|xt, label: <i>`." in told
    assert f"\n{files['test']}\n" in told and "\na|b <u>\n" in told
    compile((tmp_path / "out" / "train.py").read_text(encoding="utf-8"), "train.py", "exec")


def test_serving_with_vllm(make_run, causal, llama_dir, tmp_path):
    run = make_run({"rank": 12, "target_modules": "attention-qv"}, **causal(llama_dir))
    subject = read_subject(run, "000-t")
    call, adapter = BaseCall.of(subject), read_adapter(subject.adapter)
    served = serving(adapter, call, "tiny", merged=False)
    assert served.command == (
        f"vllm serve {llama_dir} --enable-lora --max-lora-rank 16 \\\n    --lora-modules tiny=PATH_OF_THIS_FOLDER"
    )
    first = adapter.spec.target_modules[0]
    uneven = adapter.spec.model_copy(update={"rank_pattern": {first: 6}})
    refused = serving(type(adapter)(uneven, adapter.tensors, (), None), call, "tiny", merged=True)
    assert "one alpha / rank for all layers" in refused.text
    assert refused.command == "vllm serve PATH_OF_THIS_FOLDER/merged"
    even = uneven.model_copy(update={"alpha_pattern": {first: adapter.spec.alpha / 2}})
    assert serving(type(adapter)(even, adapter.tensors, (), None), call, "tiny", merged=True).command == served.command
    export_trial(run, "000-t", tmp_path / "out", merge=False)
    assert "--lora-modules tiny-000-t=PATH_OF_THIS_FOLDER" in (tmp_path / "out" / "README.md").read_text()


def test_a_repeat_names_the_trial_that_it_repeats(make_run, tmp_path):
    run = make_run({"steps": 2, "eval_every": 2})
    run.append_record(run.records()[0].model_copy(update={"trial_id": "000-t-seed1", "repeat_of": "000-t"}))
    shutil.copytree(run.adapter_dir("000-t"), run.adapter_dir("000-t-seed1"))
    export_trial(run, "000-t-seed1", tmp_path / "out", merge=False, check=False)
    told = plain(to_html((tmp_path / "out" / "README.md").read_text(encoding="utf-8")))
    assert "It repeats trial 000-t's configuration with another seed." in told
