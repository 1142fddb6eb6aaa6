"""Texts as rules see them: what looks alike is alike, what nobody sees is gone. Pure.

NFKC (UAX #15), every digit of every script as ASCII, every dash as `-`, every space as one; on demand folded
to one case. Dropped are controls, format characters (zero width, bidirectional, soft hyphens, tags),
variation selectors and fillers. Not covered: letters of two scripts that look alike (a Latin and a Cyrillic
a), letters written as digits, words spelt with spaces between their letters.

The folded text is UTF-8, and every byte of it knows where in the original it came from. It comes in pieces,
and is the same wherever the pieces end: what a later character may still change waits.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from functools import cache, lru_cache
from typing import Final

MAX_CLUSTER: Final = 32  # characters that are folded together: more marks on one letter fold apart
_CONTROLS: Final = "\x00-\x08\x0b\x0c\x0e-\x1f\x7f"
_PLAIN: Final = re.compile(f"[^{_CONTROLS}\x80-\U0010ffff]+")
# Default-ignorable (UAX #44) and of no format category: fillers, variation selectors, joiners.
_FILLERS: Final = frozenset(
    map(chr, (0x34F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x3164, 0xFFA0, *range(0x180B, 0x1810)))
) | frozenset(map(chr, (*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0))))
_LAST_COMPOSED: Final = 0x17000  # behind it no two characters compose
_SPACES: Final = frozenset("\t\n\r ")


class Folded:
    """One text, folded as it comes. `data` only grows; what waits for its next character is not in it."""

    __slots__ = ("_is_cased", "_marks", "_num_read", "_origins", "_waiting", "data")

    def __init__(self, *, is_cased: bool = True) -> None:
        self.data = bytearray()
        self._is_cased = is_cased  # False: folded to one case besides
        self._marks: list[int] = []  # where in `data` a stretch begins
        # Its beginning in the original, and its end there; an end of -1: one byte for each character.
        self._origins: list[tuple[int, int]] = []
        self._waiting = ""
        self._num_read = 0  # characters of the original that are in `data`, or were dropped

    @property
    def num_sure(self) -> int:
        """How many characters of the original no later one changes."""
        return self._num_read

    def feed(self, text: str) -> None:
        """More of the text."""
        self._fold(self._waiting + text, is_all=False)

    def finish(self) -> None:
        """There is no more."""
        self._fold(self._waiting, is_all=True)

    def start_of(self, at: int) -> int:
        """Where in the original the byte at `at` comes from; behind the last byte: where that ends."""
        if at >= len(self.data):
            return self._num_read
        number = bisect_right(self._marks, at) - 1
        begin, end = self._origins[number]
        return begin + at - self._marks[number] if end < 0 else begin

    def end_of(self, at: int) -> int:
        """Where in the original that ends which the byte before `at` comes from."""
        number = bisect_right(self._marks, at - 1) - 1
        begin, end = self._origins[number]
        return begin + at - self._marks[number] if end < 0 else end

    def _fold(self, text: str, *, is_all: bool) -> None:
        at, size = 0, len(text)
        while at < size:
            run = _PLAIN.match(text, at)
            if run is not None:
                # The last one may be a letter that a mark follows.
                end = run.end() if is_all and run.end() == size else run.end() - 1
                if end > at:
                    said = text[at:end] if self._is_cased else text[at:end].lower()
                    self._put(said.encode("ascii"), at, end, is_plain=True)
                    at = end
                    continue
            end = at + 1
            while end < size and end - at < MAX_CLUSTER and _joins(text[end]):
                end += 1
            if end == size and end - at < MAX_CLUSTER and not is_all:
                break
            folded = _folded(text[at:end], is_cased=self._is_cased)
            self._put(folded.encode("utf-8", "replace"), at, end, is_plain=False)
            at = end
        self._num_read += at
        self._waiting = text[at:]

    def _put(self, data: bytes, at: int, end: int, *, is_plain: bool) -> None:
        if data:
            self._marks.append(len(self.data))
            self._origins.append((self._num_read + at, -1 if is_plain else self._num_read + end))
            self.data += data


def fold(text: str, *, is_cased: bool = True) -> str:
    """A whole text, folded."""
    folded = Folded(is_cased=is_cased)
    folded.feed(text)
    folded.finish()
    return folded.data.decode("utf-8")


@lru_cache(maxsize=8192)
def _folded(cluster: str, *, is_cased: bool) -> str:
    said = unicodedata.normalize("NFKC", "".join(each for each in cluster if not _is_dropped(each)))
    if not is_cased:
        said = unicodedata.normalize("NFKC", said.casefold())
    return "".join(_plain(each) for each in said if not _is_dropped(each))


def _plain(character: str) -> str:
    if character.isascii():
        return character
    if (digit := unicodedata.decimal(character, None)) is not None:
        return str(digit)
    match unicodedata.category(character):
        case "Pd":
            return "-"
        case "Zs":
            return " "
        case _:
            return "-" if character == "\u2212" else character  # the minus sign


def _is_dropped(character: str) -> bool:
    if character in _FILLERS:
        return True
    category = unicodedata.category(character)
    return category == "Cf" or (category == "Cc" and character not in _SPACES)


def _joins(character: str) -> bool:
    """Whether it may become one character with what stands before it, or is dropped behind it."""
    if character.isascii():
        return False
    return unicodedata.combining(character) != 0 or character in _seconds() or _is_dropped(character)


@cache
def _seconds() -> frozenset[str]:
    """Characters of combining class 0 that compose with the one before them, or fold to one that does."""
    found = set(map(chr, (*range(0x1161, 0x1176), *range(0x11A8, 0x11C3))))  # Hangul: vowels and finals
    for number in range(0x80, _LAST_COMPOSED):
        pair = unicodedata.decomposition(chr(number))
        if pair and not pair.startswith("<"):
            second = chr(int(pair.split()[-1], 16))
            if unicodedata.combining(second) == 0 and " " in pair:
                found.add(second)
    compatible = (chr(number) for number in (*range(0x3131, 0x318F), *range(0xFF61, 0xFFDD)))
    found |= {
        each
        for each in compatible
        if (first := unicodedata.normalize("NFKD", each)[0]) in found or unicodedata.combining(first)
    }
    return frozenset(found)
