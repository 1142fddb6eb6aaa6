"""GGUF files made for tests, with a map of where each field lies, so that each can be made wrong."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from appliance.gguf.types import TENSOR_TYPES


@dataclass(frozen=True)
class Typed:
    """A number of exactly this type of the format, packed as `struct` says."""

    kind: int
    form: str
    value: int


Value = str | int | float | bool | Typed | Sequence[str] | Sequence[float] | Sequence[int]
ALIGNMENT = 32


class Signed(tuple[int, ...]):
    """Numbers of an array that are signed, as the types of tokens are."""

    __slots__ = ()


@dataclass(frozen=True)
class Field:
    """A field's place, and what it is: `count`, `length`, `kind`, `text`, `number`, `dimension`, `offset`."""

    at: int
    size: int
    what: str
    of: str = ""


@dataclass
class File:
    """The bytes so far, and their map."""

    data: bytearray = field(default_factory=bytearray)
    fields: list[Field] = field(default_factory=list)

    def put(self, form: str, value: float, what: str, of: str = "") -> None:
        packed = struct.pack(form, value)
        self.fields.append(Field(len(self.data), len(packed), what, of))
        self.data += packed

    def text(self, text: str, of: str = "") -> None:
        encoded = text.encode()
        self.put("<Q", len(encoded), "length", of)
        self.fields.append(Field(len(self.data), len(encoded), "text", of))
        self.data += encoded

    def value(self, key: str, value: Value) -> None:
        match value:
            case Typed():
                self.put("<I", value.kind, "kind", key)
                self.put(value.form, value.value, "number", key)
            case bool():
                self.put("<I", 7, "kind", key)
                self.put("<B", value, "truth", key)
            case int():
                self.put("<I", 4, "kind", key)
                self.put("<I", value, "number", key)
            case float():
                self.put("<I", 6, "kind", key)
                self.put("<f", value, "number", key)
            case str():
                self.put("<I", 8, "kind", key)
                self.text(value, key)
            case _:
                self._array(key, value)

    def _array(self, key: str, items: Sequence[str] | Sequence[float] | Sequence[int]) -> None:
        self.put("<I", 9, "kind", key)
        first = items[0] if items else 0
        kind = 8 if isinstance(first, str) else 6 if isinstance(first, float) else 4
        if isinstance(items, Signed):
            kind = 5
        self.put("<I", kind, "item kind", key)
        self.put("<Q", len(items), "count", key)
        for each in items:
            if isinstance(each, str):
                self.text(each, f"{key}, an item")
            else:
                self.put("<f" if isinstance(each, float) else "<I", each, "number", key)


@dataclass(frozen=True)
class Weights:
    """A tensor of zeros."""

    name: str
    shape: tuple[int, ...]
    type: int = 0

    @property
    def num_bytes(self) -> int:
        known = TENSOR_TYPES[self.type]
        size = known.num_bytes
        for at, each in enumerate(self.shape):
            size *= each // known.block if at == 0 else each
        return size


SMALL: Mapping[str, Value] = {
    "general.architecture": "llama",
    "general.name": "made for a test",
    "general.file_type": 3,
    "llama.block_count": 2,
    "llama.attention.head_count_kv": [1, 1],
    "llama.rope.freq_base": 10000.0,
    "tokenizer.ggml.tokens": ["a", "b", "c"],
    "tokenizer.ggml.scores": [0.0, 0.5, 1.0],
    "tokenizer.ggml.add_bos_token": True,
    "tokenizer.chat_template": "{{ messages }}",
}
TENSORS = (
    Weights("token_embd.weight", (32, 3)),
    Weights("blk.0.attn_q.weight", (32, 32), 3),
    Weights("output_norm.weight", (33,)),
    Weights("blk.1.attn_q.weight", (32, 32), 3),
)


def make(
    keys: Mapping[str, Value] = SMALL, tensors: Sequence[Weights] = TENSORS, *, version: int = 3
) -> File:
    """A whole file: header, padding, and zeros for every tensor."""
    made, size = _headed(keys, tensors, version)
    made.data += bytes(size - len(made.data))
    return made


def write(path: Path, keys: Mapping[str, Value], tensors: Sequence[Weights]) -> Path:
    """A whole file on a disk that keeps no zeros: as large a model as a test wants."""
    made, size = _headed(keys, tensors, 3)
    with path.open("wb") as file:
        file.write(made.data)
        file.truncate(size)
    return path


def _headed(keys: Mapping[str, Value], tensors: Sequence[Weights], version: int) -> tuple[File, int]:
    """Everything before the tensors' numbers, and how long the whole file is."""
    made = File()
    made.data += b"GGUF"
    made.put("<I", version, "version")
    made.put("<Q", len(tensors), "count", "tensors")
    made.put("<Q", len(keys), "count", "keys")
    for key, value in keys.items():
        made.text(key, "a key")
        made.value(key, value)
    offset = 0
    for each in tensors:
        made.text(each.name, "a tensor")
        made.put("<I", len(each.shape), "dimensions", each.name)
        for size in each.shape:
            made.put("<Q", size, "dimension", each.name)
        made.put("<I", each.type, "tensor type", each.name)
        made.put("<Q", offset, "offset", each.name)
        offset += -(-each.num_bytes // ALIGNMENT) * ALIGNMENT
    if not tensors:
        return made, len(made.data)
    last = tensors[-1].num_bytes
    made.data += bytes(-len(made.data) % ALIGNMENT)
    return made, len(made.data) + offset - (-(-last // ALIGNMENT) * ALIGNMENT) + last
