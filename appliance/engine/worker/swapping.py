"""Callers' texts on their way through a template: control tokens belong to the template alone.

Where a caller's text contains the text of one, it is swapped for a placeholder before rendering and
tokenised as plain text afterwards, so that nobody can write the end of their own turn and the
beginning of a system turn. Names and values inside of tools and arguments are put between brackets and
quotes of the template's, which could complete a control token that they begin: those pieces go too.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

# Supplementary private-use characters: assigned to nobody, so no text means them.
OPEN, CLOSE = "\U0010fff0", "\U0010fff1"
PLACEHOLDER = re.compile(f"{OPEN}([0-9]+){CLOSE}")
_OURS = re.compile(f"[{OPEN}{CLOSE}]")
MAX_DEPTH = 200  # of values; JSON that is deeper is refused
# What templates look for by its name. None of these words alone ends a turn anywhere.
_WORDS = frozenset(
    (
        *("type", "properties", "description", "required", "enum", "items", "name", "parameters", "title"),
        *("default", "format", "const", "anyOf", "oneOf", "allOf", "additionalProperties", "nullable"),
        *("string", "integer", "number", "boolean", "array", "object", "null", "function"),
    )
)


class TooDeepError(Exception):
    """A value is nested too deeply to be read."""


class Controls:
    """The control tokens' texts of one vocabulary, and the pieces that they begin and end with."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.pattern = re.compile("|".join(map(re.escape, texts))) if texts else None
        self._longest = max(map(len, texts), default=0)
        self._heads = frozenset(each[:size] for each in texts for size in range(1, len(each)))
        self._tails = frozenset(each[-size:] for each in texts for size in range(1, len(each)))
        self._all = "\0".join(texts)

    def edges(self, text: str) -> tuple[int, int]:
        """How much of the beginning and of the end of a text could be a piece of a control token."""
        most = min(self._longest, len(text))
        if not most or text in _WORDS:
            return 0, 0
        if text in self._all:
            return len(text), 0
        sizes = range(most, 0, -1)
        head = next((size for size in sizes if text[:size] in self._tails), 0)
        tail = next((size for size in sizes if text[-size:] in self._heads), 0)
        return head, min(tail, len(text) - head)


class Swapper:
    """The texts of one prompt."""

    def __init__(self, controls: Controls) -> None:
        self._controls = controls
        self._numbers: dict[str, int] = {}
        self.swapped: list[str] = []

    def text(self, content: str) -> str:
        """A text with placeholders for the control tokens in it. The same text stays the same."""
        content = _OURS.sub(lambda found: self._placeholder(found[0]), content)
        if self._controls.pattern is None:
            return content
        # Placeholders hold digits only, which no control token's text consists of.
        return self._controls.pattern.sub(lambda found: self._placeholder(found[0]), content)

    def piece(self, content: str) -> str:
        """A text that a template puts between signs of its own."""
        head, tail = self._controls.edges(content)
        end = len(content) - tail
        return "".join(
            [
                self._placeholder(content[:head]) if head else "",
                self.text(content[head:end]),
                self._placeholder(content[end:]) if tail else "",
            ]
        )

    def value(self, value: Any, depth: int = 0) -> Any:
        """A JSON value, all texts in it swapped, keys too. TooDeepError where it has no end in sight."""
        if depth > MAX_DEPTH:
            raise TooDeepError
        if isinstance(value, str):
            return self.piece(value)
        if isinstance(value, dict):
            return {self.piece(str(key)): self.value(each, depth + 1) for key, each in value.items()}
        if isinstance(value, list):
            return [self.value(each, depth + 1) for each in value]
        return value

    def _placeholder(self, text: str) -> str:
        if text not in self._numbers:
            self._numbers[text] = len(self.swapped)
            self.swapped.append(text)
        return f"{OPEN}{self._numbers[text]}{CLOSE}"
