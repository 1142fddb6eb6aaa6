"""The values of a GGUF header, one behind the other, each length bounded before anything is read.

Format: ggml's docs/gguf.md, versions 2 and 3, little-endian. What is longer than its bound is refused, what
is only long (a vocabulary) is passed over and counted: nothing of a file's choosing fills our memory.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import BinaryIO, Final

MAX_TEXT_BYTES: Final = 16 * 1024 * 1024  # chat templates are the longest that exist: some 20 KiB
MAX_ITEMS: Final = 16 * 1024 * 1024  # of an array: the merges of the largest vocabularies are a million
MAX_KEPT_ITEMS: Final = 4096  # of an array of numbers: one for each layer, and not a token's score
MAX_HEADER_BYTES: Final = 512 * 1024 * 1024
TEXT: Final = 8
ARRAY: Final = 9
NUMBERS: Final = {
    0: struct.Struct("<B"),
    1: struct.Struct("<b"),
    2: struct.Struct("<H"),
    3: struct.Struct("<h"),
    4: struct.Struct("<I"),
    5: struct.Struct("<i"),
    6: struct.Struct("<f"),
    7: struct.Struct("<B"),  # a truth value: 0 or 1, and nothing else
    10: struct.Struct("<Q"),
    11: struct.Struct("<q"),
    12: struct.Struct("<d"),
}
_TRUTH: Final = 7


class Malformed(ValueError):
    """The bytes are no header of a GGUF file that may be loaded; the text says what is wrong."""


@dataclass(frozen=True, slots=True)
class Array:
    """A value of many items: `items` where they are numbers and not too many, else only their number."""

    kind: int
    count: int
    items: tuple[int | float | bool, ...] = ()


Value = int | float | bool | str | Array


class Reader:
    """Reads on from where the file stands. Malformed where it ends early or a length is out of bounds."""

    def __init__(self, file: BinaryIO, size_bytes: int) -> None:
        self._file = file
        self._size = min(size_bytes, MAX_HEADER_BYTES)
        self.at = 0  # bytes from the file's beginning

    def bytes(self, count: int) -> bytes:
        """Exactly so many."""
        if count > self._size - self.at:
            raise Malformed("the header ends early, or is too long")
        data = self._file.read(count)
        if len(data) != count:
            raise Malformed("the file ends in its header")
        self.at += count
        return data

    def number(self, kind: int) -> int | float | bool:
        """One number of a type of the format."""
        form = NUMBERS.get(kind)
        if form is None:
            raise Malformed(f"a value of type {kind}, which the format does not have")
        found: int | float = form.unpack(self.bytes(form.size))[0]
        if kind != _TRUTH:
            return found
        if found not in (0, 1):
            raise Malformed("a truth value that is neither 0 nor 1")
        return bool(found)

    def count(self, what: str, most: int) -> int:
        """A length or a number of things, 64 bits."""
        found = int(self.number(10))
        if found > most:
            raise Malformed(f"{found} {what}, where {most} are the most")
        return found

    def text(self, what: str, most: int = MAX_TEXT_BYTES) -> str:
        """UTF-8 behind its length."""
        try:
            return self.bytes(self.count(f"bytes in {what}", most)).decode("utf-8")
        except UnicodeDecodeError as error:
            raise Malformed(f"{what} is not UTF-8") from error

    def value(self) -> Value:
        """What follows a key: its type, then the value."""
        kind = int(self.number(4))
        if kind == TEXT:
            return self.text("a text")
        if kind == ARRAY:
            return self._array()
        return self.number(kind)

    def _array(self) -> Array:
        kind = int(self.number(4))
        count = self.count("items in an array", MAX_ITEMS)
        if kind == TEXT:
            self._skip_texts(count)
            return Array(kind, count)
        form = NUMBERS.get(kind)
        if form is None:
            raise Malformed("an array of arrays, or of a type that the format does not have")
        if count > MAX_KEPT_ITEMS:
            self._skip(count * form.size)
            return Array(kind, count)
        return Array(kind, count, tuple(self.number(kind) for _ in range(count)))

    def _skip_texts(self, count: int) -> None:
        """A vocabulary: tokens are bytes, so that nobody asks whether they are UTF-8."""
        for _ in range(count):
            self._skip(self.count("bytes in a token", MAX_TEXT_BYTES))

    def _skip(self, count: int) -> None:
        if count > self._size - self.at:
            raise Malformed("the header ends early, or is too long")
        self._file.seek(count, 1)
        self.at += count
