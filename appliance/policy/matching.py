"""Where a rule's words stand in a folded text: patterns, deny lists and checksummed numbers. Pure.

A matcher says two things of a text that may go on: which matches it holds behind a byte, and from which byte
on a match may be on its way (`unfinished`). A match that begins before that byte is final, whatever comes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Final, Protocol

from appliance.policy import regexes
from appliance.policy.regexes import Border, Chain, Choice, One, Pattern

Data = bytes | bytearray
_OTHER: Final = r"[^\pL\pM\pN_]"  # what stands between words
_GAP: Final = re.compile(rb"[ ./-]")


class Matcher(Protocol):
    """One rule's eyes."""

    @property
    def width(self) -> int:
        """The most characters of a match, and of the borders that it asks for."""
        ...

    def find(self, data: Data, at: int) -> Iterator[tuple[int, int]]:
        """The matches that begin at `at` or behind it, from left to right; none overlaps another."""
        ...

    def unfinished(self, data: Data, at: int) -> int:
        """From which byte on a match may be on its way at the text's end; the end itself for none."""
        ...


class Anywhere:
    """A pattern, wherever it is found."""

    def __init__(self, pattern: Pattern) -> None:
        self.width = pattern.widths[1]
        self._whole = regexes.compiled(pattern.source)
        self._begun = regexes.compiled(f"(?:{pattern.unfinished})\\z")

    def find(self, data: Data, at: int) -> Iterator[tuple[int, int]]:
        while (found := self._whole.search(data, at)) is not None:
            begin, at = found.span()
            yield begin, at

    def unfinished(self, data: Data, at: int) -> int:
        found = self._begun.search(data, at)
        return len(data) if found is None else found.span()[0]


class Words:
    """A pattern between the borders of words, of every script that has any.

    `is_genuine` is asked about each candidate: a checksum. One that ends in words that are none of it is
    tried without them.
    """

    def __init__(self, pattern: Pattern, is_genuine: Callable[[str], bool] | None = None) -> None:
        other = Chain((One(_OTHER),))
        # The beginning of a text is a border as well; at its end nothing is known of what follows.
        framed = Chain((Choice((Border("\\A"), other)), pattern.node, other))
        self.width = pattern.widths[1] + 2
        core = Pattern(pattern.node, pattern.flags)
        self._whole = regexes.compiled(
            f"{pattern.flags}(?:\\A|{_OTHER})({core.source.removeprefix(pattern.flags)})(?:\\z|{_OTHER})"
        )
        self._core = regexes.compiled(core.source)
        self._begun = regexes.compiled(f"(?:{Pattern(framed, pattern.flags).unfinished})\\z")
        self._is_genuine = is_genuine

    def find(self, data: Data, at: int) -> Iterator[tuple[int, int]]:
        while (found := self._whole.search(data, at)) is not None:
            begin, end = found.span(1)
            if self._is_genuine is None or (end := self._genuine(bytes(data[begin:end]), begin)):
                yield begin, end
                at = end
            else:
                at = begin + 1

    def unfinished(self, data: Data, at: int) -> int:
        found = self._begun.search(data, at)
        return len(data) if found is None else found.span()[0]

    def _genuine(self, said: bytes, begin: int) -> int:
        """Where the number that begins at `begin` ends, 0 where none does."""
        cuts = [len(said), *(gap.start() for gap in reversed(list(_GAP.finditer(said))))]
        for cut in cuts:
            candidate = said[:cut]
            is_whole = cut == len(said) or self._core.fullmatch(candidate) is not None
            if is_whole and self._is_genuine is not None and self._is_genuine(candidate.decode("utf-8")):
                return begin + cut
        return 0
