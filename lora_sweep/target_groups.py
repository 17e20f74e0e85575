"""Groups of target modules and the names that they match, as data: loads without torch."""

from __future__ import annotations

# Endings of full module names by role, over the architectures of transformers: Llama-like (q_proj), BERT-like (query),
# DistilBERT (q_lin), DeBERTa (query_proj), T5 (q), GPT-2 (c_attn), Phi-3 (qkv_proj), GPT-NeoX, Falcon and BLOOM
# (query_key_value), ModernBERT and MPT (Wqkv).
ROLES: dict[str, tuple[str, ...]] = {
    "query": (
        "q_proj", "query", "q_lin", "query_proj", "attention.q",
        "attn.q", "SelfAttention.q", "EncDecAttention.q",
    ),
    "key": (
        "k_proj", "key", "k_lin", "key_proj", "attention.k",
        "attn.k", "SelfAttention.k", "EncDecAttention.k",
    ),
    "value": (
        "v_proj", "value", "v_lin", "value_proj", "attention.v",
        "attn.v", "SelfAttention.v", "EncDecAttention.v",
    ),
    "query-key-value": ("c_attn", "qkv_proj", "query_key_value", "Wqkv", "attn.qkv"),
    "attention-output": (
        "o_proj", "out_lin", "attention.output.dense", "attn.c_proj", "attention.dense", "self_attention.dense",
        "attn.Wo", "self_attn.out_proj", "attn.out_proj", "SelfAttention.o", "attn.o", "EncDecAttention.o",
        "self_attn.dense",
    ),
    "mlp": (
        "gate_proj", "up_proj", "down_proj", "gate_up_proj", "intermediate.dense", "output.dense", "c_fc",
        "mlp.c_proj", "fc1", "fc2", "ffn.lin1", "ffn.lin2", "dense_h_to_4h", "dense_4h_to_h", "mlp.Wi", "mlp.Wo",
        "DenseReluDense.wi", "DenseReluDense.wi_0", "DenseReluDense.wi_1", "DenseReluDense.wo",
    ),
}  # fmt: skip

GROUPS: dict[str, tuple[str, ...]] = {
    "attention-qv": ("query", "value", "query-key-value"),
    "attention": ("query", "key", "value", "query-key-value", "attention-output"),
    "mlp": ("mlp",),
    "attention-mlp": ("query", "key", "value", "query-key-value", "attention-output", "mlp"),
}
"""Group to roles. A fused projection counts as query, key and value at once: it cannot be adapted in part."""

ALL_LINEAR = "all-linear"
