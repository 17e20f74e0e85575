from __future__ import annotations

import pytest

from lora_sweep.errors import DataError
from lora_sweep.tasks.chat import ChatFormat

TURNS = [
    {"role": "system", "content": "be kind"},
    {"role": "user", "content": " how are you "},
    {"role": "assistant", "content": "fine"},
    {"role": "user", "content": "assistant"},
    {"role": "assistant", "content": "what?"},
]

LLAMA_2 = (
    "{{ '<s>' }}{% for m in messages %}{% if m['role'] == 'user' %}[INST] {{ m['content'] | trim }} [/INST]"
    "{% elif m['role'] == 'assistant' %} {{ m['content'] | trim }} <|endoftext|>"
    "{% else %}{{ raise_exception('no system messages here') }}{% endif %}{% endfor %}"
)
THINKING = (  # like Qwen3: an empty thought in the last answer only
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% if m['role'] == 'assistant' and loop.last %}<think>\n\n</think>\n\n{% endif %}{{ m['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
BARE = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"


def rendered(tokenizer, messages) -> str:
    return tokenizer.apply_chat_template(messages, tokenize=False)


def test_turns_of_the_assistant_are_scored(chat_tokenizer):
    chat = ChatFormat(chat_tokenizer)
    assert chat.close == "<|im_end|>"
    pieces = chat.pieces("here", TURNS)
    assert [tuple(piece) for piece in pieces] == [
        (
            "<|im_start|>system\nbe kind<|im_end|>\n<|im_start|>user\n how are you <|im_end|>\n<|im_start|>assistant\n",
            False,
        ),
        ("fine<|im_end|>", True),
        ("\n<|im_start|>user\nassistant<|im_end|>\n<|im_start|>assistant\n", False),
        ("what?<|im_end|>", True),
    ]
    assert "".join(piece.text for piece in pieces) + "\n" == rendered(chat_tokenizer, TURNS)


def test_the_first_unscored_piece_is_the_prompt_at_generation(chat_tokenizer):
    prompt = chat_tokenizer.apply_chat_template(TURNS[:2], tokenize=False, add_generation_prompt=True)
    assert ChatFormat(chat_tokenizer).pieces("here", TURNS)[0].text == prompt


def test_what_follows_the_last_answer_is_left_out(chat_tokenizer):
    chat = ChatFormat(chat_tokenizer)
    assert chat.pieces("here", [*TURNS, {"role": "user", "content": "bye"}]) == chat.pieces("here", TURNS)


def test_templates_that_strip_and_write_blanks_before_answers(chat_tokenizer):
    chat_tokenizer.chat_template = LLAMA_2
    chat = ChatFormat(chat_tokenizer)
    assert chat.close == " <|endoftext|>"
    assert [tuple(piece) for piece in chat.pieces("here", TURNS[1:])] == [
        ("<s>[INST] how are you [/INST]", False),
        (" fine <|endoftext|>", True),
        ("[INST] assistant [/INST]", False),
        (" what? <|endoftext|>", True),
    ]


def test_templates_that_treat_the_last_answer_differently(chat_tokenizer):
    chat_tokenizer.chat_template = THINKING
    pieces = ChatFormat(chat_tokenizer).pieces("here", TURNS)
    assert [piece.text for piece in pieces if piece.scored] == ["fine<|im_end|>", "what?<|im_end|>"]
    assert "".join(piece.text for piece in pieces) + "\n" == rendered(chat_tokenizer, TURNS)


def test_templates_that_close_turns_with_nothing(chat_tokenizer):
    chat_tokenizer.chat_template = BARE
    chat = ChatFormat(chat_tokenizer)
    assert chat.close == ""
    assert [tuple(piece) for piece in chat.pieces("here", TURNS[3:])] == [
        ("user: assistant\nassistant:", False),
        (" what?", True),
    ]


def test_conversations_that_the_template_refuses(chat_tokenizer):
    chat_tokenizer.chat_template = LLAMA_2
    with pytest.raises(DataError) as caught:
        ChatFormat(chat_tokenizer).pieces("f.jsonl: row 3 (line 3), column messages", TURNS[:3])
    assert str(caught.value) == (
        "f.jsonl: row 3 (line 3), column messages: must be a conversation that the chat template takes "
        "(no system messages here), got ['system', 'user', 'assistant']"
    )


def test_contents_that_the_template_alters(chat_tokenizer):
    chat_tokenizer.chat_template = "{% for m in messages %}{{ m['content'] | upper }};{% endfor %}"
    chat = ChatFormat(chat_tokenizer)
    with pytest.raises(DataError) as caught:
        chat.pieces("f.jsonl: row 1", TURNS)
    assert str(caught.value) == (
        "f.jsonl: row 1: must stand unchanged in what the chat template writes. "
        "Prepare the texts yourself and give them as task.text, or as prompt and response."
    )
    chat_tokenizer.chat_template = "{{ messages[-1]['content'] }};"
    with pytest.raises(DataError, match=r"must be written whole and in order by the chat template, got \['user', 'a"):
        ChatFormat(chat_tokenizer)
