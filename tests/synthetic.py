"""A model of any shape, made on the spot: its weights are noise, so it says nothing and computes everything.

Llama's architecture, four bits a weight (Q4_0). The vocabulary spells bytes; the rest of it is never written.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from random import Random

from tests.ggufs import ALIGNMENT, Signed, Value, Weights, write

_F32, _Q4_0 = 0, 2
_BLOCK_BYTES = 18  # of 32 weights: a scale of 16 bits, and 4 bits each
_NOISE_BLOCKS = 1 << 18
_UNKNOWN, _CONTROL, _NORMAL, _BYTE = 2, 3, 1, 6  # types of tokens


@dataclass(frozen=True)
class Shape:
    """Sizes as in a model's card; every layer is the same."""

    layers: int
    width: int
    feed_forward: int
    heads: int
    kv_heads: int
    vocabulary: int
    n_ctx: int = 8192

    @property
    def kv_width(self) -> int:
        return self.width // self.heads * self.kv_heads


EIGHT_BILLION = Shape(32, 4096, 14336, 32, 8, 128_256)
TINY = Shape(2, 64, 128, 4, 2, 320, 512)


def make(path: Path, shape: Shape) -> Path:
    """The whole file: the header, then noise for matrices and ones for norms."""
    tensors = _tensors(shape)
    write(path, _keys(shape), tensors)
    sizes = [-(-each.num_bytes // ALIGNMENT) * ALIGNMENT for each in tensors]
    at = path.stat().st_size - (sum(sizes[:-1]) + tensors[-1].num_bytes)
    noise = _noise(shape.width)
    with path.open("r+b") as file:
        for each, size in zip(tensors, sizes, strict=True):
            file.seek(at)
            if each.type == _F32:
                file.write(struct.pack("<f", 1.0) * each.shape[0])
            else:
                for begin in range(0, each.num_bytes, len(noise)):
                    file.write(noise[: each.num_bytes - begin])
            at += size
    return path


def _noise(width: int) -> bytes:
    """Blocks with one scale, so that a row's sum neither vanishes nor overflows."""
    random = Random(1)
    scale = struct.pack("<e", 0.25 / width**0.5)
    return b"".join(scale + random.randbytes(_BLOCK_BYTES - 2) for _ in range(_NOISE_BLOCKS))


def _tensors(shape: Shape) -> list[Weights]:
    width, kv, inner = shape.width, shape.kv_width, shape.feed_forward
    found = [Weights("token_embd.weight", (width, shape.vocabulary), _Q4_0)]
    for number in range(shape.layers):
        for name, sizes in (
            ("attn_norm", (width,)),
            ("attn_q", (width, width)),
            ("attn_k", (width, kv)),
            ("attn_v", (width, kv)),
            ("attn_output", (width, width)),
            ("ffn_norm", (width,)),
            ("ffn_gate", (width, inner)),
            ("ffn_up", (width, inner)),
            ("ffn_down", (inner, width)),
        ):
            kind = _F32 if len(sizes) == 1 else _Q4_0
            found.append(Weights(f"blk.{number}.{name}.weight", sizes, kind))
    found.append(Weights("output_norm.weight", (width,), _F32))
    return [*found, Weights("output.weight", (width, shape.vocabulary), _Q4_0)]


def _keys(shape: Shape) -> dict[str, Value]:
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{each:02X}>" for each in range(256))]
    kinds = [_UNKNOWN, _CONTROL, _CONTROL, *([_BYTE] * 256)]
    others = shape.vocabulary - len(tokens)
    return {
        "general.architecture": "llama",
        "general.name": "noise",
        "general.file_type": 2,
        "llama.block_count": shape.layers,
        "llama.context_length": shape.n_ctx,
        "llama.embedding_length": shape.width,
        "llama.feed_forward_length": shape.feed_forward,
        "llama.attention.head_count": shape.heads,
        "llama.attention.head_count_kv": shape.kv_heads,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "llama.rope.dimension_count": shape.width // shape.heads,
        "llama.vocab_size": shape.vocabulary,
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": [*tokens, *(f" word{each}" for each in range(others))],
        "tokenizer.ggml.scores": [0.0] * shape.vocabulary,
        "tokenizer.ggml.token_type": Signed([*kinds, *([_NORMAL] * others)]),
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.unknown_token_id": 0,
        "tokenizer.chat_template": "{% for message in messages %}{{ message.content }}{% endfor %}",
    }
