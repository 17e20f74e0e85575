"""Tiny random models with real tokenizers and real architectures; small data; nothing is downloaded."""

from __future__ import annotations

import os

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what its deterministic algorithms ask for
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import csv
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

WORDS = [
    "good", "bad", "fine", "poor", "great", "awful", "movie", "plot", "actor", "scene", "the", "a", "was", "is",
    "very", "not", "quite", "and", "but", "so",
]  # fmt: skip


def word_tokenizer(chat: bool = False) -> Any:
    """A whole-word tokenizer over WORDS."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    special = ["[PAD]", "[UNK]", "[EOS]", "user", "assistant", ":"]
    vocabulary = {word: number for number, word in enumerate([*special, *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", eos_token="[EOS]", model_max_length=64
    )
    if chat:
        fast.chat_template = (
            "{% for m in messages %}{{ m['role'] }} : {{ m['content'] }} {{ eos_token }} {% endfor %}"
            "{% if add_generation_prompt %}assistant : {% endif %}"
        )
    return fast


@pytest.fixture(scope="session")
def models_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


def _save(model: Any, folder: Path, chat: bool = False) -> Path:
    model.save_pretrained(folder)
    word_tokenizer(chat).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def bert_dir(models_dir: Path) -> Path:
    """A BertModel checkpoint without pooler and head, so that both are new."""
    import torch
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=32, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
        max_position_embeddings=64, pad_token_id=0,
    )  # fmt: skip
    return _save(BertModel(config, add_pooling_layer=False), models_dir / "bert")


@pytest.fixture(scope="session")
def albert_dir(models_dir: Path) -> Path:
    """Each linear layer of the body is called three times in a pass: three layers share their weights."""
    import torch
    from transformers import AlbertConfig, AlbertModel

    torch.manual_seed(0)
    config = AlbertConfig(
        vocab_size=32, embedding_size=16, hidden_size=32, num_hidden_layers=3, num_attention_heads=4,
        intermediate_size=64, max_position_embeddings=64, pad_token_id=0,
    )  # fmt: skip
    return _save(AlbertModel(config), models_dir / "albert")


@pytest.fixture(scope="session")
def wide_bert_dir(models_dir: Path) -> Path:
    """One layer wide enough for rank 256, its weights large enough that attention differs from an average."""
    import torch
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=32, hidden_size=256, num_hidden_layers=1, num_attention_heads=4, intermediate_size=256,
        max_position_embeddings=64, pad_token_id=0, initializer_range=1 / 16,
    )  # fmt: skip
    return _save(BertModel(config, add_pooling_layer=False), models_dir / "wide-bert")


@pytest.fixture(scope="session")
def llama_dir(models_dir: Path) -> Path:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=32, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        intermediate_size=64, max_position_embeddings=64, pad_token_id=0, bos_token_id=None, eos_token_id=2,
    )  # fmt: skip
    return _save(LlamaForCausalLM(config), models_dir / "llama", chat=True)


@pytest.fixture(scope="session")
def gpt2_dir(models_dir: Path) -> Path:
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    config = GPT2Config(vocab_size=32, n_embd=32, n_layer=2, n_head=4, n_positions=64, bos_token_id=2, eos_token_id=2)
    return _save(GPT2LMHeadModel(config), models_dir / "gpt2")


def write_sentiment(file: Path, rows: int, seed: int) -> Path:
    """Rows of random words; the label says whether the good words outnumber the bad ones."""
    rng = random.Random(seed)
    good, bad = {"good", "fine", "great"}, {"bad", "poor", "awful"}
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["text", "label"])
        for _ in range(rows):
            words = [rng.choice(WORDS) for _ in range(rng.randint(3, 30))]
            score = sum(w in good for w in words) - sum(w in bad for w in words)
            writer.writerow([" ".join(words), "positive" if score > 0 else "negative"])
    return file


@pytest.fixture(scope="session")
def sentiment_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("sentiment")
    sizes = {"train": 240, "eval": 80, "test": 80}
    return {
        part: write_sentiment(folder / f"{part}.csv", rows, seed) for seed, (part, rows) in enumerate(sizes.items())
    }


@pytest.fixture(scope="session")
def text_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Prompts answered by a fixed phrase each: a causal model can learn them."""
    import json

    folder = tmp_path_factory.mktemp("text")
    files = {}
    for seed, (part, rows) in enumerate({"train": 160, "eval": 40, "test": 40}.items()):
        rng = random.Random(seed)
        file = folder / f"{part}.jsonl"
        lines = []
        for _ in range(rows):
            word = rng.choice(WORDS[:6])
            prompt = " ".join(rng.choice(WORDS[6:]) for _ in range(rng.randint(2, 12))) + " " + word
            lines.append(json.dumps({"prompt": prompt, "response": f"{word} {word} the plot was {word}"}))
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")
        files[part] = file
    return files


PLANTED = ("model.layers.1.self_attn.o_proj", "model.layers.2.mlp.gate_proj")
PLANTED_RANK = 8


@pytest.fixture(scope="session")
def planted_raw(tmp_path_factory: pytest.TempPathFactory) -> Callable[[float], dict[str, Any]]:
    """A sweep on texts of a teacher: the base with random changes of rank PLANTED_RANK in the layers PLANTED.

    Called with the size of the changes, as a share of the weights' norms; 0 plants nothing.
    """

    def make(size: float) -> dict[str, Any]:
        folder = tmp_path_factory.mktemp("planted")
        teacher = _planted_base(folder / "model")
        for name in PLANTED:
            _plant(teacher.get_submodule(name).weight, size)
        files = {
            part: str(_sample_texts(teacher, folder / f"{part}.jsonl", rows, seed))
            for seed, (part, rows) in enumerate({"train": 2000, "eval": 300, "test": 600}.items())
        }
        return {
            "model": {"name": str(folder / "model"), "dtype": "float32"},
            "task": {"type": "causal-lm", "text": "text", "max_length": 16, "data": {**files, "holdout": 0.12}},
            "space": "quick",
            "budget": {"steps": 200},
        }

    return make


def _planted_base(folder: Path) -> Any:
    """A Llama whose weights are large enough that its answers depend on its inputs."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=48, hidden_size=48, num_hidden_layers=4, num_attention_heads=4, intermediate_size=96,
        max_position_embeddings=64, initializer_range=0.12, tie_word_embeddings=False,
        pad_token_id=0, bos_token_id=None, eos_token_id=2,
    )  # fmt: skip
    model: Any = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        model.lm_head.weight *= 2
    model.save_pretrained(folder)
    words = {word: number for number, word in enumerate(["[PAD]", "[UNK]", "[EOS]", *(f"w{i}" for i in range(45))])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", eos_token="[EOS]", model_max_length=64
    )
    fast.save_pretrained(folder)
    return model


def _plant(weight: Any, size: float) -> None:
    import torch

    rng = torch.Generator().manual_seed(weight.shape[0])
    u, v = (torch.linalg.qr(torch.randn(side, PLANTED_RANK, generator=rng))[0] for side in weight.shape)
    with torch.no_grad():
        weight += size * weight.norm() / PLANTED_RANK**0.5 * (u @ v.T)


def _sample_texts(teacher: Any, file: Path, rows: int, seed: int) -> Path:
    """Texts of 16 words, drawn from the teacher."""
    import json

    import torch

    rng = torch.Generator().manual_seed(seed)
    ids = torch.randint(3, 48, (rows, 1), generator=rng)
    with torch.no_grad():
        while ids.shape[1] < 16:
            likely = teacher(input_ids=ids).logits[:, -1, 3:].softmax(-1)
            ids = torch.cat([ids, 3 + torch.multinomial(likely, 1, generator=rng)], dim=1)
    lines = [json.dumps({"text": " ".join(f"w{one - 3}" for one in row)}) for row in ids.tolist()]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


@pytest.fixture
def sweep_folder(tmp_path: Path) -> Path:
    """What plain_sweep.yaml names, empty: for configurations that are read and not run."""
    (tmp_path / "base").mkdir()
    for name in ("train", "eval", "test"):
        (tmp_path / f"{name}.csv").write_text("text,label\na,b\n")
    return tmp_path


@pytest.fixture
def sweep_raw(bert_dir: Path, sentiment_files: dict[str, Path]) -> Callable[..., dict[str, Any]]:
    """A small SWEEP.yaml as a mapping; keyword arguments replace top-level keys."""

    def make(**changes: Any) -> dict[str, Any]:
        raw: dict[str, Any] = {
            "model": {"name": str(bert_dir), "dtype": "float32"},
            "task": {
                "type": "classification",
                "data": {part: str(file) for part, file in sentiment_files.items()},
                "text": "text",
                "label": "label",
                "max_length": 32,
            },
            "space": {
                "rank": [2, 4, 8],
                "alpha": {"times_rank": 2},
                "target_modules": {"qv": "attention-qv", "all": "all-linear"},
                "learning_rate": {"log_uniform": [1e-3, 1e-2]},
                "batch_size": 8,
            },
            "search": {"algorithm": "random", "trials": 4, "seed": 0},
            "scheduler": {"type": "fifo"},
            "budget": {"steps": 12, "eval_every": 4},
            "finalists": {"seeds": 0},
        }
        return raw | changes

    return make
