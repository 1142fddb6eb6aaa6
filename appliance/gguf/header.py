"""What a model file says of itself, believed as far as it agrees with itself and with its own length.

`read` refuses a file whose tensors do not lie where the format puts them: behind the header, aligned, one
behind the other, none beyond the end. llama.cpp checks most of it again; here nothing native has run yet.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import BinaryIO, Final

from appliance.errors import RequestError
from appliance.gguf.reading import Array, Malformed, Reader, Value
from appliance.gguf.types import QUANTIZATIONS, TENSOR_TYPES

MAX_KEYS: Final = 10_000
MAX_TENSORS: Final = 65_536
MAX_KEY_BYTES: Final = 65_535  # the format's own
MAX_NAME_BYTES: Final = 63  # ggml's GGML_MAX_NAME, with its zero byte
MAX_DIMENSIONS: Final = 4
MAX_ALIGNMENT: Final = 1 << 20
DEFAULT_ALIGNMENT: Final = 32
_MAGIC: Final = b"GGUF"
_VERSIONS: Final = (2, 3)


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor. `shape`: the innermost dimension first, as in ggml. `offset`: from the data's beginning."""

    name: str
    shape: tuple[int, ...]
    type: int
    offset: int

    @property
    def num_elements(self) -> int:
        return prod(self.shape)

    @property
    def num_bytes(self) -> int:
        known = TENSOR_TYPES[self.type]
        return self.num_elements // known.block * known.num_bytes


@dataclass(frozen=True, slots=True)
class Header:
    """Keys and tensors, in the order of the file. `data_at`: where the first tensor may begin."""

    version: int
    keys: Mapping[str, Value] = field(repr=False)
    tensors: tuple[Tensor, ...] = field(repr=False)
    alignment: int
    data_at: int

    @property
    def arch(self) -> str:
        """As llama.cpp names it."""
        return self.text("general.architecture")[:100] or "unknown"

    @property
    def quant(self) -> str:
        """The quantization of most weights."""
        kind = self.integer("general.file_type")
        if kind is None:
            return "unknown"
        return QUANTIZATIONS.get(kind, f"file type {kind}")

    def text(self, key: str) -> str:
        """A text; empty where there is none."""
        found = self.keys.get(key)
        return found if isinstance(found, str) else ""

    def integer(self, key: str) -> int | None:
        """A whole number."""
        found = self.keys.get(key)
        return found if isinstance(found, int) and not isinstance(found, bool) else None

    def own(self, key: str) -> int | None:
        """A whole number of this architecture: `llama.block_count` for `block_count`."""
        return self.integer(f"{self.arch}.{key}")

    def length(self, key: str) -> int | None:
        """How many items an array has."""
        found = self.keys.get(key)
        return found.count if isinstance(found, Array) else None


def read(path: Path) -> Header:
    """The header. RequestError `bad_model` says what is wrong with a file that can not be believed."""
    try:
        with path.open("rb") as file:
            return parse(file, os.fstat(file.fileno()).st_size)
    except Malformed as error:
        raise RequestError(f"{path.name} is not a whole GGUF file: {error}", code="bad_model") from error
    except OSError as error:
        raise RequestError(f"{path.name} can not be read: {error.strerror}", code="bad_model") from error


def parse(file: BinaryIO, size_bytes: int) -> Header:
    """The header of an open file of this length. Malformed where it is none that can be believed."""
    reader = Reader(file, size_bytes)
    if reader.bytes(4) != _MAGIC:
        raise Malformed("it does not begin with GGUF")
    version = int(reader.number(4))
    if version not in _VERSIONS:
        raise Malformed(
            "it is big-endian, which this machine is not" if version & 0xFFFF == 0 else f"version {version}"
        )
    num_tensors = reader.count("tensors", MAX_TENSORS)
    keys = _keys(reader, reader.count("keys", MAX_KEYS))
    tensors = tuple(_tensor(reader) for _ in range(num_tensors))
    alignment = _alignment(keys)
    data_at = _aligned(reader.at, alignment)
    _check_places(tensors, alignment, size_bytes - data_at)
    return Header(version, keys, tensors, alignment, data_at)


def _keys(reader: Reader, count: int) -> dict[str, Value]:
    found: dict[str, Value] = {}
    for _ in range(count):
        key = reader.text("a key", MAX_KEY_BYTES)
        if not key or not key.isascii() or not key.isprintable():
            raise Malformed("a key that is not made of printable ASCII characters")
        if key in found:
            raise Malformed(f"the key {key} twice")
        found[key] = reader.value()
    return found


def _tensor(reader: Reader) -> Tensor:
    name = reader.text("a tensor's name", MAX_NAME_BYTES)
    if not name or not name.isprintable():
        raise Malformed("a tensor without a printable name")
    num_dimensions = int(reader.number(4))
    if not 1 <= num_dimensions <= MAX_DIMENSIONS:
        raise Malformed(f"the tensor {name} has {num_dimensions} dimensions")
    shape = tuple(int(reader.number(10)) for _ in range(num_dimensions))
    kind = int(reader.number(4))
    known = TENSOR_TYPES.get(kind)
    if known is None:
        raise Malformed(f"the tensor {name} has type {kind}, which is not known here")
    if 0 in shape or shape[0] % known.block:
        raise Malformed(f"a row of the tensor {name} is not made of whole blocks of {known.name}")
    return Tensor(name, shape, kind, int(reader.number(10)))


def _alignment(keys: Mapping[str, Value]) -> int:
    found = keys.get("general.alignment", DEFAULT_ALIGNMENT)
    if isinstance(found, bool) or not isinstance(found, int):
        raise Malformed("general.alignment is not a number")
    if not 8 <= found <= MAX_ALIGNMENT or found & (found - 1):
        raise Malformed("general.alignment is not a power of two between 8 and 2**20")
    return found


def _check_places(tensors: tuple[Tensor, ...], alignment: int, data_bytes: int) -> None:
    """One behind the other, as the writer of the format lays them, and none beyond the end."""
    names = {each.name for each in tensors}
    if len(names) != len(tensors):
        raise Malformed("two tensors have one name")
    expected = 0
    for each in tensors:
        if each.offset != expected:
            raise Malformed(f"the tensor {each.name} does not lie behind the one before it")
        expected = _aligned(each.offset + each.num_bytes, alignment)
        if each.offset + each.num_bytes > data_bytes:
            raise Malformed(f"the tensor {each.name} ends behind the end of the file")


def _aligned(at: int, alignment: int) -> int:
    return -(-at // alignment) * alignment
