"""Model files with numbers in them, made on the spot: LoRA files, split models, small encoders."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from appliance.gguf import header
from appliance.gguf.header import Header
from appliance.gguf.reading import Reader
from tests import ggufs

Numbers = npt.NDArray[np.float32]
Pair = tuple[tuple[int, ...], tuple[int, ...]]
WORDS = ("the", "cat", "sits", "on", "a", "mat", "dog", "runs", "tax", "form", "office", "is", "open")
VOCABULARY = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"\u2581{each}" for each in WORDS))


def write(path: Path, keys: Mapping[str, ggufs.Value], tensors: Mapping[str, Numbers]) -> Path:
    """A GGUF file of 32-bit floats. An array's last dimension is the format's first."""
    shapes = [ggufs.Weights(name, tuple(reversed(each.shape))) for name, each in tensors.items()]
    made = bytearray(ggufs.make(keys, shapes).data)
    at = len(made) - _laid(tensors)
    for each in tensors.values():
        made[at : at + each.nbytes] = each.tobytes()
        at += _aligned(each.nbytes)
    path.write_bytes(made)
    return path


def adapter(
    path: Path,
    base: Path,
    *,
    seed: int,
    strength: float = 0.05,
    rank: int = 4,
    endings: Sequence[str] = ("attn_q.weight", "attn_v.weight"),
    keys: Mapping[str, ggufs.Value] | None = None,
    shapes: Mapping[str, Pair] | None = None,
) -> Path:
    """A LoRA file for a model, of random numbers. `shapes` takes the place of the fitting ones, `keys`
    stands behind the usual ones.
    """
    model = header.read(base)
    chance = np.random.default_rng(seed)
    wanted = shapes or {
        each.name: ((each.shape[0], rank), (rank, each.shape[1]))
        for each in model.tensors
        if each.name.endswith(tuple(endings))
    }
    tensors = {
        f"{name}.lora_{half}": _random(chance, shape, weight)
        for name, pair in wanted.items()
        for half, shape, weight in zip("ab", pair, (1.0, strength), strict=True)
    }
    said: dict[str, ggufs.Value] = {
        "general.architecture": model.arch,
        "general.type": "adapter",
        "adapter.type": "lora",
        "adapter.lora.alpha": float(rank),
    }
    return write(path, {**said, **(keys or {})}, tensors)


def split(
    base: Path, folder: Path, *, count: int, named: str = "model-{at:05}-of-{count:05}.gguf"
) -> list[Path]:
    """The same model in several files, as llama.cpp's own tool cuts it: all keys stand in the first."""
    model = header.read(base)
    data = base.read_bytes()
    with base.open("rb") as file:
        reader = Reader(file, len(data))
        reader.bytes(4 + 4 + 8)
        num_keys = reader.count("keys", header.MAX_KEYS)
        begin = reader.at
        for _ in range(num_keys):
            reader.text("a key")
            reader.value()
        keys = data[begin : reader.at]
    size = -(-len(model.tensors) // count)
    paths = []
    for at in range(count):
        path = folder / named.format(at=at + 1, count=count)
        path.write_bytes(_part(model, data, at, count, size, (num_keys, keys) if at == 0 else (0, b"")))
        paths.append(path)
    return paths


def encoder(path: Path, *, ranks: bool = False, n_embd: int = 32, n_layer: int = 2, n_ctx: int = 64) -> Path:
    """A small BERT of random numbers that knows a few words; with a ranking head where it `ranks`."""
    chance = np.random.default_rng(7)
    n_ff = 2 * n_embd
    tensors: dict[str, Numbers] = {
        "token_embd.weight": _random(chance, (n_embd, len(VOCABULARY))),
        "token_types.weight": _random(chance, (n_embd, 2), 0.1),
        "position_embd.weight": _random(chance, (n_embd, n_ctx), 0.1),
    }
    for name in ("token_embd_norm", *(f"blk.{n}.{each}" for n in range(n_layer) for each in _NORMS)):
        tensors |= {
            f"{name}.weight": np.ones(n_embd, np.float32),
            f"{name}.bias": np.zeros(n_embd, np.float32),
        }
    for layer in range(n_layer):
        sizes = dict.fromkeys(("attn_q", "attn_k", "attn_v", "attn_output"), (n_embd, n_embd))
        for name, (into, out) in {**sizes, "ffn_up": (n_embd, n_ff), "ffn_down": (n_ff, n_embd)}.items():
            tensors[f"blk.{layer}.{name}.weight"] = _random(chance, (into, out), 0.2)
            tensors[f"blk.{layer}.{name}.bias"] = np.zeros(out, np.float32)
    if ranks:
        tensors |= {
            "cls.weight": _random(chance, (n_embd, n_embd), 0.3),
            "cls.bias": np.zeros(n_embd, np.float32),
            "cls.output.weight": _random(chance, (n_embd, 1), 0.3),
            "cls.output.bias": np.zeros(1, np.float32),
        }
    return write(
        path,
        {
            "general.architecture": "bert",
            "general.name": "a small encoder",
            "bert.context_length": n_ctx,
            "bert.embedding_length": n_embd,
            "bert.feed_forward_length": n_ff,
            "bert.block_count": n_layer,
            "bert.attention.head_count": 4,
            "bert.attention.layer_norm_epsilon": 1e-6,
            "bert.attention.causal": False,
            "bert.pooling_type": 4 if ranks else 1,
            "tokenizer.ggml.model": "bert",
            "tokenizer.ggml.tokens": VOCABULARY,
            "tokenizer.ggml.token_type_count": 2,
            "tokenizer.ggml.bos_token_id": 2,
            "tokenizer.ggml.seperator_token_id": 3,  # as llama.cpp spells it
            "tokenizer.ggml.unknown_token_id": 1,
            "tokenizer.ggml.padding_token_id": 0,
            "tokenizer.ggml.mask_token_id": 4,
        },
        tensors,
    )


_NORMS = ("attn_output_norm", "layer_output_norm")


def _random(chance: np.random.Generator, shape: tuple[int, ...], weight: float = 1.0) -> Numbers:
    return (weight * chance.standard_normal(tuple(reversed(shape)))).astype(np.float32)


def _aligned(size: int) -> int:
    return -(-size // ggufs.ALIGNMENT) * ggufs.ALIGNMENT


def _laid(tensors: Mapping[str, Numbers]) -> int:
    """Bytes from the first tensor's beginning to the last one's end."""
    sizes = [each.nbytes for each in tensors.values()]
    return sum(map(_aligned, sizes[:-1])) + sizes[-1]


def _part(model: Header, data: bytes, at: int, count: int, size: int, kept: tuple[int, bytes]) -> bytes:
    own = model.tensors[at * size : (at + 1) * size]
    made = ggufs.File()
    made.data += b"GGUF"
    made.put("<I", 3, "version")
    made.put("<Q", len(own), "count")
    made.put("<Q", kept[0] + 3, "count")
    made.data += kept[1]
    for key, kind, form, value in (
        ("split.no", 2, "<H", at),
        ("split.count", 2, "<H", count),
        ("split.tensors.count", 5, "<i", len(model.tensors)),
    ):
        made.text(key)
        made.put("<I", kind, "kind")
        made.put(form, value, "number")
    offset = 0
    for each in own:
        made.text(each.name)
        made.data += struct.pack(f"<I{len(each.shape)}Q", len(each.shape), *each.shape)
        made.data += struct.pack("<IQ", each.type, offset)
        offset += _aligned(each.num_bytes)
    for each in own:
        made.data += bytes(-len(made.data) % ggufs.ALIGNMENT)
        begin = model.data_at + each.offset
        made.data += data[begin : begin + each.num_bytes]
    return bytes(made.data)
