"""Patterns of cases: RE2, as in rules, but over a whole answer, so with `^`, `$`, `*` and `+`. Pure."""

from __future__ import annotations

from typing import Final, Protocol

import re2

MAX_PATTERN: Final = 4000  # characters


class Pattern(Protocol):
    """A compiled pattern."""

    def search(self, text: bytes) -> object: ...


class PatternError(Exception):
    """RE2 does not take this pattern."""


def compiled(source: str) -> Pattern:
    """For searches in UTF-8, linear in the text's length. PatternError says why there is none."""
    if len(source) > MAX_PATTERN:
        raise PatternError(f"a pattern has at most {MAX_PATTERN} characters")
    options = re2.Options()
    options.log_errors = False
    try:
        found: Pattern = re2.compile(source.encode("utf-8"), options)
    except re2.error as error:
        said = error.args[0] if error.args else b""
        told = said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)
        raise PatternError(f"the pattern is not understood: {told}") from None
    return found
