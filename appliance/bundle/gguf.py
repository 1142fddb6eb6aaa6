"""A model file's own words about itself: the few keys of a GGUF header that a bundle tells.

Format: ggml's docs/gguf.md, versions 2 and 3, little-endian. Lengths are bounded before anything is read.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from appliance.errors import RequestError

_MAX_KEYS: Final = 10_000
_MAX_TEXT_BYTES: Final = 16 * 1024 * 1024
_MAX_ITEMS: Final = 16 * 1024 * 1024
_NUMBERS: Final = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?"} | {
    10: "<Q",
    11: "<q",
    12: "<d",
}
_TEXT, _ARRAY = 8, 9
# llama.h, enum llama_ftype
_QUANTS: Final = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K", 11: "Q3_K_S",
    12: "Q3_K_M", 13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S", 17: "Q5_K_M", 18: "Q6_K",
    19: "IQ2_XXS", 20: "IQ2_XS", 21: "Q2_K_S", 22: "IQ3_XS", 23: "IQ3_XXS", 24: "IQ1_S", 25: "IQ4_NL",
    26: "IQ3_S", 27: "IQ3_M", 28: "IQ2_S", 29: "IQ2_M", 30: "IQ4_XS", 31: "IQ1_M", 32: "BF16",
    36: "TQ1_0", 37: "TQ2_0", 38: "MXFP4_MOE",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Header:
    """`arch` as llama.cpp names it, the quantization of most weights."""

    arch: str
    quant: str


def read(path: Path) -> Header:
    """The header. RequestError where the file is no GGUF, or its header ends early."""
    try:
        with path.open("rb") as file:
            found = _keys(file)
    except (struct.error, ValueError, OverflowError) as error:
        raise RequestError(f"{path.name} is not a GGUF file: {error}", code="bad_model") from error
    kind = found.get("general.file_type")
    quant = _QUANTS.get(kind, f"file type {kind}") if isinstance(kind, int) else "unknown"
    return Header(arch=str(found.get("general.architecture", "unknown"))[:100], quant=quant)


def _keys(file: BinaryIO) -> dict[str, object]:
    magic, version, _, count = struct.unpack("<4sIQQ", file.read(24))
    if magic != b"GGUF" or version not in {2, 3} or count > _MAX_KEYS:
        raise ValueError("another magic, version or number of keys")
    found: dict[str, object] = {}
    for _ in range(count):
        key = _text(file)
        (kind,) = struct.unpack("<I", file.read(4))
        found[key] = _value(file, kind)
    return found


def _value(file: BinaryIO, kind: int) -> object:
    """A number or a text; nothing for an array, which is passed over."""
    if kind == _TEXT:
        return _text(file)
    if kind != _ARRAY:
        return _number(file, kind)
    item, count = struct.unpack("<IQ", file.read(12))
    if count > _MAX_ITEMS or item == _ARRAY:
        raise ValueError("an array of arrays, or a very long one")
    if item == _TEXT:
        for _ in range(count):
            _text(file)
    elif item in _NUMBERS:
        file.seek(count * struct.calcsize(_NUMBERS[item]), 1)
    else:
        raise ValueError("an unknown type")
    return None


def _number(file: BinaryIO, kind: int) -> object:
    if kind not in _NUMBERS:
        raise ValueError("an unknown type")
    form = _NUMBERS[kind]
    return struct.unpack(form, file.read(struct.calcsize(form)))[0]


def _text(file: BinaryIO) -> str:
    (length,) = struct.unpack("<Q", file.read(8))
    if length > _MAX_TEXT_BYTES:
        raise ValueError("a very long text")
    data = file.read(length)
    if len(data) != length:
        raise ValueError("it ends early")
    return data.decode("utf-8", "replace")
