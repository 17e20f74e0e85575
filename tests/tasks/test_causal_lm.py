from __future__ import annotations

import json

import pandas as pd
import pytest

from lora_sweep.errors import DataError
from lora_sweep.tasks.causal_lm import chat_format, encode_causal_lm, read_causal_lm
from lora_sweep.tasks.data import read_tables

TURNS = [
    {"role": "user", "content": "how are you"},
    {"role": "assistant", "content": "I am fine"},
    {"role": "user", "content": "what is the weather"},
    {"role": "assistant", "content": "fine"},
]


def encode(config, tokenizer, max_length=64):
    chat = chat_format(config, tokenizer)
    examples = read_causal_lm(read_tables(config), config, chat)["train"]
    return encode_causal_lm(examples, "train", tokenizer, max_length, chat)


def stretches(split, tokenizer, index=0) -> list[tuple[str, bool]]:
    """Decoded runs of tokens that are all scored or all not."""
    span = slice(split.offsets[index], split.offsets[index + 1])
    runs: list[tuple[list[int], bool]] = []
    for token, scored in zip(split.token_ids[span].tolist(), split.scored[span].tolist(), strict=True):
        if not runs or runs[-1][1] != scored:
            runs.append(([], scored))
        runs[-1][0].append(token)
    return [(tokenizer.decode(tokens), scored) for tokens, scored in runs]


def test_text_is_scored_but_for_its_first_token(write, model_language, plain_tokenizer):
    config = model_language({"text": "body"}, train=write("t.jsonl", [{"body": "how are you"}]))
    split, notes = encode(config, plain_tokenizer)
    tokens = plain_tokenizer("how are you")["input_ids"]
    assert split.token_ids.tolist() == [*tokens, plain_tokenizer.eos_token_id]
    assert split.scored.tolist() == [False] + [True] * len(tokens)
    assert split.labels is None and notes == ()


def test_text_begins_with_bos_where_the_tokenizer_writes_one(write, model_language, bos_tokenizer):
    config = model_language({"text": "body"}, train=write("t.jsonl", [{"body": "how are you"}]))
    split, _ = encode(config, bos_tokenizer)
    assert stretches(split, bos_tokenizer) == [("<s>", False), ("how are you<|endoftext|>", True)]


def test_prompt_and_response_without_template(write, model_language, bos_tokenizer):
    columns = {"prompt": "q", "response": "a"}
    config = model_language(columns, train=write("t.csv", "q,a\nhow are you,fine\n"))
    split, _ = encode(config, bos_tokenizer)
    assert stretches(split, bos_tokenizer) == [("<s>how are you\n", False), ("fine<|endoftext|>", True)]
    prompt = bos_tokenizer("how are you\n")["input_ids"]
    assert split.token_ids[: len(prompt)].tolist() == prompt


def test_prompt_and_response_with_template(write, model_language, chat_tokenizer):
    columns = {"prompt": "q", "response": "a"}
    config = model_language(columns, train=write("t.csv", "q,a\nhow are you,fine\n"))
    split, _ = encode(config, chat_tokenizer)
    prompt = "<|im_start|>user\nhow are you<|im_end|>\n<|im_start|>assistant\n"
    assert stretches(split, chat_tokenizer) == [(prompt, False), ("fine<|im_end|>", True)]
    generation = chat_tokenizer(prompt)["input_ids"]
    assert split.token_ids[: len(generation)].tolist() == generation


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_every_turn_of_the_assistant_is_scored(write, model_language, chat_tokenizer, tmp_path, kind):
    if kind == "jsonl":
        path = write("t.jsonl", [{"messages": TURNS}])
    elif kind == "csv":
        path = str(tmp_path / "t.csv")
        pd.DataFrame({"messages": [json.dumps(TURNS)]}).to_csv(path, index=False)
    else:
        path = str(tmp_path / "t.parquet")
        with_name = [{**TURNS[0], "name": "Ann"}, *TURNS[1:]]  # other rows of a struct column get None
        pd.DataFrame({"messages": [with_name]}).to_parquet(path)
    split, _ = encode(model_language({"messages": "messages"}, train=path), chat_tokenizer)
    assert stretches(split, chat_tokenizer) == [
        ("<|im_start|>user\nhow are you<|im_end|>\n<|im_start|>assistant\n", False),
        ("I am fine<|im_end|>", True),
        ("\n<|im_start|>user\nwhat is the weather<|im_end|>\n<|im_start|>assistant\n", False),
        ("fine<|im_end|>", True),
    ]


def test_eos_ends_what_the_template_leaves_open(write, model_language, chat_tokenizer):
    chat_tokenizer.chat_template = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
    split, _ = encode(model_language({"messages": "m"}, train=write("t.jsonl", [{"m": TURNS[:2]}])), chat_tokenizer)
    assert stretches(split, chat_tokenizer) == [
        ("user: how are you\nassistant:", False),
        (" I am fine<|endoftext|>", True),
    ]


def test_examples_without_anything_left_to_score_are_dropped(write, model_language, plain_tokenizer):
    rows = [{"q": "you", "a": "fine"}, {"q": "what is the weather " * 9, "a": "fine"}, {"q": "you", "a": "fine " * 40}]
    config = model_language({"prompt": "q", "response": "a"}, train=write("t.jsonl", rows))
    split, notes = encode(config, plain_tokenizer, max_length=20)
    assert split.example_ids.tolist() == ["t:1", "t:3"]
    assert split.lengths.max() == 20
    assert notes == (
        "2 of 3 train examples were cut at 20 tokens (task.max_length).",
        "1 of 3 train examples were dropped: nothing to score in 20 tokens.",
    )


def test_more_than_half_dropped(write, model_language, plain_tokenizer):
    path = write("t.jsonl", [{"q": "what is the weather " * 9, "a": "fine"}])
    with pytest.raises(DataError) as caught:
        encode(model_language({"prompt": "q", "response": "a"}, train=path), plain_tokenizer, max_length=20)
    assert str(caught.value) == (
        f"{path}: must keep tokens to score within task.max_length = 20, "
        "got '1 of 1 train examples without any'. Raise task.max_length."
    )


def test_messages_need_a_template(write, model_language, plain_tokenizer):
    with pytest.raises(DataError) as caught:
        encode(model_language({"messages": "m"}, train=write("t.jsonl", [{"m": TURNS}])), plain_tokenizer)
    assert str(caught.value) == (
        "task.messages: needs a chat template, and the tokenizer has none. "
        "Use an instruction-tuned model, or give task.prompt and task.response instead."
    )


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("[{", ": must be a JSON list of messages (Expecting property name enclosed in double quotes: line 1 column 3"),
        ([], ": must be a list of messages, each with role and content, got []"),
        (None, ": must be a list of messages, each with role and content"),
        ([{"role": "user"}], ", message 1: must have role and content, got {'role': 'user'}"),
        ([TURNS[0], {"role": "assistant", "content": ""}], ", message 2, content: must not be empty, got ''"),
        ([{"role": "user", "content": [1]}], ", message 1, content: must be text, got [1]"),
        ([TURNS[0]], ": must have at least one assistant message to learn from, got ['user']. Remove the row."),
    ],
)
def test_bad_messages(write, model_language, chat_tokenizer, value, message):
    path = write("t.jsonl", [{"m": TURNS}, {"m": value}])
    with pytest.raises(DataError) as caught:
        encode(model_language({"messages": "m"}, train=path), chat_tokenizer)
    assert str(caught.value).startswith(f"{path}: row 2 (line 2), column m{message}")


def test_empty_response(write, model_language, chat_tokenizer):
    path = write("t.csv", "q,a\nhow are you,\n")
    with pytest.raises(DataError, match=r"row 1 \(line 2\), column a: must not be empty"):
        encode(model_language({"prompt": "q", "response": "a"}, train=path), chat_tokenizer)
