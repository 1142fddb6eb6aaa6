"""Readers: from the text that a model writes, in pieces as they come, to the parts that callers get."""

from __future__ import annotations

from typing import Protocol

from appliance.core import Part, TextPart


class Reader(Protocol):
    """Reads one answer. The parts depend on the whole text only, never on where its pieces end."""

    def feed(self, text: str) -> list[Part]:
        """The parts that are sure after this piece; what may still become a mark is held back."""
        ...

    def finish(self) -> list[Part]:
        """The rest, whatever it has become."""
        ...


def reader(dialect: str, *, calls: bool, begins_thinking: bool) -> Reader:
    """A reader of one answer in a dialect. `calls`: tools were offered, so calls may stand there."""
    del dialect, calls, begins_thinking
    return Plain()


class Plain:
    """Text is text."""

    def feed(self, text: str) -> list[Part]:
        return [TextPart(text)] if text else []

    def finish(self) -> list[Part]:
        return []
