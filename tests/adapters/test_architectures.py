"""Heads and layouts of other architectures: saved adapters load in PEFT, merged models answer alike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers

from lora_sweep.adapters import AdaptedModel, save_adapter
from lora_sweep.config import ModelConfig
from lora_sweep.errors import TargetError
from lora_sweep.models import load_base
from lora_sweep.records import AdapterSpec

SMALL = {"vocab_size": 32, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
PADDED = torch.tensor([[3, 7, 9, 11, 12, 8], [5, 6, 10, 14, 1, 1]])


def configs() -> dict[str, Any]:
    return {
        "roberta": transformers.RobertaConfig(**SMALL, max_position_embeddings=40, pad_token_id=1),
        "electra": transformers.ElectraConfig(**SMALL, embedding_size=16, pad_token_id=1),
        "distilbert": transformers.DistilBertConfig(
            vocab_size=32, dim=32, n_layers=2, n_heads=4, hidden_dim=64, pad_token_id=1
        ),
        "gpt2": transformers.GPT2Config(
            vocab_size=32, n_embd=32, n_layer=2, n_head=4, pad_token_id=1, bos_token_id=2, eos_token_id=2
        ),
        "modernbert": transformers.ModernBertConfig(
            **SMALL, pad_token_id=1, bos_token_id=2, eos_token_id=2, cls_token_id=2, sep_token_id=2
        ),
    }


@pytest.fixture(params=["roberta", "electra", "distilbert", "gpt2", "modernbert"])
def checkpoint(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A body without a classification head."""
    torch.manual_seed(0)
    transformers.AutoModel.from_config(configs()[request.param]).save_pretrained(tmp_path / "base")
    return tmp_path / "base"


def test_classifiers_load_in_peft_and_merge(checkpoint: Path, tmp_path: Path) -> None:
    base = load_base(ModelConfig(name=str(checkpoint), dtype="float32"), "classification", ("no", "yes"))
    adapted = AdaptedModel(base.model, base.trained, base.new, base.called)
    weights = adapted.add(0, AdapterSpec(rank=3, target_modules="attention"), seed=1)
    with torch.no_grad():
        generator = torch.Generator().manual_seed(0)
        for values in weights.named.values():
            values.add_(torch.randn(values.shape, generator=generator) * 0.1)
    weights.refresh()
    mask = (PADDED != 1).long()
    with adapted.routing.whole(0), torch.no_grad():
        ours = adapted.model(input_ids=PADDED, attention_mask=mask).logits
    save_adapter(adapted, 0, tmp_path / "adapter", str(checkpoint), "SEQ_CLS")
    kind = transformers.AutoModelForSequenceClassification
    theirs = peft.PeftModel.from_pretrained(kind.from_pretrained(checkpoint, num_labels=2), tmp_path / "adapter").eval()
    with torch.no_grad():
        logits = theirs(input_ids=PADDED, attention_mask=mask).logits
    torch.testing.assert_close(ours, logits, rtol=1e-4, atol=1e-5)
    adapted.merge(0)
    adapted.unwrap().save_pretrained(tmp_path / "merged")
    merged = kind.from_pretrained(tmp_path / "merged").eval()
    with torch.no_grad():
        logits = merged(input_ids=PADDED, attention_mask=mask).logits
    torch.testing.assert_close(ours, logits, rtol=1e-4, atol=1e-5)


def test_layers_that_do_not_see_rows_in_front_are_no_targets(tmp_path: Path) -> None:
    """DeBERTa's shared projections also see position embeddings, which all rows share: they cannot be packed."""
    config = transformers.DebertaV2Config(
        **SMALL, relative_attention=True, pos_att_type=["p2c", "c2p"], share_att_key=True, position_buckets=8,
        max_position_embeddings=40,
    )  # fmt: skip
    transformers.AutoModel.from_config(config).save_pretrained(tmp_path)
    base = load_base(ModelConfig(name=str(tmp_path), dtype="float32"), "classification", ("no", "yes"))
    adapted = AdaptedModel(base.model, base.trained, base.new, base.called)
    assert all("query_proj" not in name for name in adapted.targets(AdapterSpec(target_modules="all-linear")))
    with pytest.raises(TargetError, match="must be layers that a forward pass calls with the batch's rows"):
        adapted.targets(AdapterSpec(target_modules=("query_proj",)))
