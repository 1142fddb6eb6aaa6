"""Models that llama.cpp really loads, of shapes that the starter model does not have, and made of zeros."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tests.ggufs import Value, Weights, write

F32, F16, Q8_0, Q4_K, Q6_K = 0, 1, 8, 12, 14
TEMPLATE = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
_MARKS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
Made = tuple[Mapping[str, Value], Sequence[Weights]]


def vocabulary(size: int) -> dict[str, Value]:
    """Sentence pieces: control tokens, bytes, and so many pieces that nobody meets."""
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    tokens += [f"\u2581piece{number}" for number in range(size - len(tokens))]
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.scores": [-float(at) for at in range(size)],
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.chat_template": TEMPLATE,
    }


def grouped_queries() -> Made:
    """Llama with 16 heads over 4, a head of its own, K-quants."""
    return _decoder("llama", n_embd=1024, layers=6, heads=16, heads_kv=4, n_ff=2816, n_vocab=32000, kind=Q4_K)


def biased() -> Made:
    """Qwen2: biases, one matrix for input and output, 8 bits."""
    return _decoder(
        "qwen2", n_embd=896, layers=8, heads=14, heads_kv=2, n_ff=4864, n_vocab=20000, kind=Q8_0,
        bias=True, tied=True,
    )  # fmt: skip


def experts() -> Made:
    """Qwen3-MoE: 16 experts of which 4 answer, heads wider than the model's width says."""
    keys, tensors = _decoder(
        "qwen3moe", n_embd=512, layers=4, heads=16, heads_kv=4, n_ff=2048, n_vocab=16000, kind=Q8_0, head=64,
        feed_forward=False,
    )  # fmt: skip
    found = [*tensors]
    for at in range(4):
        found += [
            Weights(f"blk.{at}.attn_q_norm.weight", (64,)),
            Weights(f"blk.{at}.attn_k_norm.weight", (64,)),
            Weights(f"blk.{at}.ffn_gate_inp.weight", (512, 16)),
            Weights(f"blk.{at}.ffn_gate_exps.weight", (512, 384, 16), Q8_0),
            Weights(f"blk.{at}.ffn_up_exps.weight", (512, 384, 16), Q8_0),
            Weights(f"blk.{at}.ffn_down_exps.weight", (384, 512, 16), Q8_0),
        ]
    more: dict[str, Value] = {
        "qwen3moe.expert_count": 16,
        "qwen3moe.expert_used_count": 4,
        "qwen3moe.expert_feed_forward_length": 384,
    }
    return {**keys, **more}, found


def windowed() -> Made:
    """Gemma 3: a window in five of six layers, its cells kept in full; a large vocabulary."""
    keys, tensors = _decoder(
        "gemma3", n_embd=640, layers=6, heads=4, heads_kv=1, n_ff=2048, n_vocab=64000, kind=Q8_0, head=256,
        tied=True,
    )  # fmt: skip
    found = [*tensors]
    for at in range(6):
        found += [
            Weights(f"blk.{at}.attn_q_norm.weight", (256,)),
            Weights(f"blk.{at}.attn_k_norm.weight", (256,)),
            Weights(f"blk.{at}.post_attention_norm.weight", (640,)),
            Weights(f"blk.{at}.post_ffw_norm.weight", (640,)),
        ]
    return {**keys, "gemma3.attention.sliding_window": 512}, found


def encoder() -> Made:
    """Bert, which sees an input as a whole and keeps no cells."""
    width, n_ff, layers, size = 384, 1536, 6, 8000
    keys: dict[str, Value] = {
        "general.architecture": "bert",
        "bert.block_count": layers,
        "bert.context_length": 512,
        "bert.embedding_length": width,
        "bert.feed_forward_length": n_ff,
        "bert.attention.head_count": 12,
        "bert.attention.layer_norm_epsilon": 1e-12,
        "bert.attention.causal": False,
        "bert.pooling_type": 1,
        "tokenizer.ggml.model": "bert",
        "tokenizer.ggml.tokens": [
            "[PAD]",
            "[UNK]",
            "[CLS]",
            "[SEP]",
            *(f"\u2581w{n}" for n in range(size - 4)),
        ],
        "tokenizer.ggml.token_type_count": 2,
        "tokenizer.ggml.bos_token_id": 2,
        "tokenizer.ggml.eos_token_id": 3,
        "tokenizer.ggml.unknown_token_id": 1,
        "tokenizer.ggml.seperator_token_id": 3,
        "tokenizer.ggml.padding_token_id": 0,
    }
    found = [
        Weights("token_embd.weight", (width, size), F16),
        Weights("token_types.weight", (width, 2)),
        Weights("position_embd.weight", (width, 512)),
        Weights("token_embd_norm.weight", (width,)),
        Weights("token_embd_norm.bias", (width,)),
    ]
    for at in range(layers):
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            found += _linear(f"blk.{at}.{name}", width, width)
        found += _linear(f"blk.{at}.ffn_up", width, n_ff) + _linear(f"blk.{at}.ffn_down", n_ff, width)
        for name in ("attn_output_norm", "layer_output_norm"):
            found += [Weights(f"blk.{at}.{name}.{part}", (width,)) for part in ("weight", "bias")]
    return keys, found


def recurrent() -> Made:
    """Mamba: a state for each sequence and no cells."""
    width, inner, state, rank, size = 512, 1024, 16, 32, 8000
    keys: dict[str, Value] = {
        "general.architecture": "mamba",
        "mamba.block_count": 6,
        "mamba.context_length": 4096,
        "mamba.embedding_length": width,
        "mamba.feed_forward_length": 0,
        "mamba.attention.head_count": 0,
        "mamba.attention.layer_norm_rms_epsilon": 1e-5,
        "mamba.ssm.conv_kernel": 4,
        "mamba.ssm.inner_size": inner,
        "mamba.ssm.state_size": state,
        "mamba.ssm.time_step_rank": rank,
        **vocabulary(size),
    }
    found = [Weights("token_embd.weight", (width, size), F16), Weights("output_norm.weight", (width,))]
    for at in range(6):
        found += [
            Weights(f"blk.{at}.attn_norm.weight", (width,)),
            Weights(f"blk.{at}.ssm_in.weight", (width, 2 * inner), F16),
            Weights(f"blk.{at}.ssm_conv1d.weight", (4, inner)),
            Weights(f"blk.{at}.ssm_conv1d.bias", (inner,)),
            Weights(f"blk.{at}.ssm_x.weight", (inner, rank + 2 * state), F16),
            Weights(f"blk.{at}.ssm_dt.weight", (rank, inner)),
            Weights(f"blk.{at}.ssm_dt.bias", (inner,)),
            Weights(f"blk.{at}.ssm_a", (state, inner)),
            Weights(f"blk.{at}.ssm_d", (inner,)),
            Weights(f"blk.{at}.ssm_out.weight", (inner, width), F16),
        ]
    return keys, found


SHAPES: Mapping[str, Callable[[], Made]] = {
    each.__name__: each for each in (grouped_queries, biased, experts, windowed, encoder, recurrent)
}


def place(name: str, folder: Path) -> Path:
    """The model of this shape, as a file."""
    keys, tensors = SHAPES[name]()
    return write(folder / f"{name}.gguf", keys, tensors)


def _decoder(
    arch: str,
    *,
    n_embd: int,
    layers: int,
    heads: int,
    heads_kv: int,
    n_ff: int,
    n_vocab: int,
    kind: int,
    head: int = 0,
    bias: bool = False,
    tied: bool = False,
    feed_forward: bool = True,
) -> Made:
    size = head or n_embd // heads
    keys: dict[str, Value] = {
        "general.architecture": arch,
        "general.name": f"zeros in the shape of {arch}",
        "general.file_type": 7,
        f"{arch}.block_count": layers,
        f"{arch}.context_length": 8192,
        f"{arch}.embedding_length": n_embd,
        f"{arch}.feed_forward_length": n_ff,
        f"{arch}.attention.head_count": heads,
        f"{arch}.attention.head_count_kv": heads_kv,
        f"{arch}.attention.key_length": size,
        f"{arch}.attention.value_length": size,
        f"{arch}.attention.layer_norm_rms_epsilon": 1e-5,
        f"{arch}.rope.dimension_count": size,
        **vocabulary(n_vocab),
    }
    found = [Weights("token_embd.weight", (n_embd, n_vocab), kind), Weights("output_norm.weight", (n_embd,))]
    if not tied:
        found.append(Weights("output.weight", (n_embd, n_vocab), Q6_K if kind == Q4_K else kind))
    for at in range(layers):
        parts = [("attn_q", n_embd, heads * size), ("attn_k", n_embd, heads_kv * size)]
        parts += [("attn_v", n_embd, heads_kv * size), ("attn_output", heads * size, n_embd)]
        if feed_forward:
            parts += [("ffn_gate", n_embd, n_ff), ("ffn_up", n_embd, n_ff), ("ffn_down", n_ff, n_embd)]
        found += [Weights(f"blk.{at}.{norm}.weight", (n_embd,)) for norm in ("attn_norm", "ffn_norm")]
        for name, rows, columns in parts:
            found.append(Weights(f"blk.{at}.{name}.weight", (rows, columns), kind))
            if bias and name in {"attn_q", "attn_k", "attn_v"}:
                found.append(Weights(f"blk.{at}.{name}.bias", (columns,)))
    return keys, found


def _linear(name: str, rows: int, columns: int) -> list[Weights]:
    return [Weights(f"{name}.weight", (rows, columns), F16), Weights(f"{name}.bias", (columns,))]
