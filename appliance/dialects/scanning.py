"""Reading a text that comes in pieces, as if it lay there whole.

A reader is a generator that asks for characters and yields where there are none yet. What it decides
hangs on the characters alone, so the same text gives the same parts wherever its pieces end.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator
from functools import cache

from appliance.core import CallPart, Part, ReasoningPart, TextPart

Waits = Generator[None, None, None]
MAX_HEAD = 64 * 1024  # characters of a call that are held until it is one, or is none
MAX_SPACE = 4096  # characters of white space that are held because a mark may follow


class Scanner(ABC):
    """One answer being read. It holds back only what may still become a mark or the head of a call."""

    def __init__(self, *, holds_space: bool = True) -> None:
        self._holds_space = holds_space
        self._text = ""
        self._at = 0
        self._has_ended = False
        self._parts: list[Part] = []
        self._space = ""  # at the end of what was said: dropped where a mark follows
        self._is_long_space = False
        self._head: list[str] | None = None  # what was read of a call that may turn out to be none
        self._num_head = 0
        self._num_calls = 0
        self._steps = self._read()

    def feed(self, text: str) -> list[Part]:
        """The parts that are sure after this piece."""
        self._text = self._text[self._at :] + text
        self._at = 0
        return self._go_on()

    def finish(self) -> list[Part]:
        """The rest, whatever it has become."""
        self._has_ended = True
        self._go_on()
        self.keep_space()
        return self._take()

    @abstractmethod
    def _read(self) -> Waits:
        """The whole answer, from its first character to its last one."""

    def _go_on(self) -> list[Part]:
        next(self._steps, None)
        return [] if self._has_ended else self._take()

    def _take(self) -> list[Part]:
        parts, self._parts = self._parts, []
        return parts

    # --- what is said -----------------------------------------------------------------------

    def say(self, text: str) -> None:
        """Text for the caller. White space at its end waits for what follows, where a mark may."""
        if not self._holds_space:
            self._add_text(text)
            return
        kept = text.rstrip()
        if kept:
            self.keep_space()
            self._is_long_space = False
            self._add_text(kept)
        self._space += text[len(kept) :]
        if self._is_long_space or len(self._space) > MAX_SPACE:
            self.keep_space()
            self._is_long_space = True

    def keep_space(self) -> None:
        """The white space that was held is text."""
        if self._space:
            self._add_text(self._space)
            self._space = ""

    def drop_space(self) -> None:
        """The white space that was held belonged to the mark behind it."""
        self._space = ""
        self._is_long_space = False

    def think(self, text: str) -> None:
        """A piece of the reasoning."""
        last = self._parts[-1] if self._parts else None
        if isinstance(last, ReasoningPart):
            self._parts[-1] = ReasoningPart(last.text + text)
        elif text:
            self._parts.append(ReasoningPart(text))

    def call(self, name: str) -> None:
        """A call begins; what was held of its head is no text any more."""
        self.drop_space()
        self._head = None
        self._parts.append(CallPart(self._num_calls, name))
        self._num_calls += 1

    def argue(self, text: str) -> None:
        """A piece of the arguments of the call that began last."""
        last = self._parts[-1] if self._parts else None
        if isinstance(last, CallPart):
            self._parts[-1] = CallPart(last.index, last.name, last.arguments + text)
        elif text:
            self._parts.append(CallPart(self._num_calls - 1, "", text))

    def _add_text(self, text: str) -> None:
        if not text:
            return
        last = self._parts[-1] if self._parts else None
        if isinstance(last, TextPart):
            self._parts[-1] = TextPart(last.text + text)
        else:
            self._parts.append(TextPart(text))

    # --- what is read -----------------------------------------------------------------------

    def peek(self) -> Generator[None, None, str]:
        """The next character, which stays; empty at the end."""
        while self._at >= len(self._text):
            if self._has_ended:
                return ""
            yield
        return self._text[self._at]

    def take(self) -> Generator[None, None, str]:
        """The next character; empty at the end, and where a head has grown too long."""
        character = yield from self.peek()
        if not character:
            return ""
        if self._head is not None:
            if self._num_head >= MAX_HEAD:
                return ""
            self._head.append(character)
            self._num_head += 1
        self._at += 1
        return character

    def space(self) -> Generator[None, None, str]:
        """The white space that comes next, at most MAX_SPACE of it."""
        found: list[str] = []
        while len(found) < MAX_SPACE:
            character = yield from self.peek()
            if not character.isspace():
                break
            if not (yield from self.take()):
                break
            found.append(character)
        return "".join(found)

    def accept(self, mark: str) -> Generator[None, None, bool]:
        """Whether exactly this comes next; it is taken where it does."""
        while True:
            ahead = self._text[self._at : self._at + len(mark)]
            if ahead == mark or not mark.startswith(ahead) or self._has_ended:
                break
            yield
        if ahead != mark:
            return False
        if self._head is not None:
            self._head.append(mark)
            self._num_head += len(mark)
        self._at += len(mark)
        return True

    def until(self, marks: tuple[str, ...], say: Callable[[str], None]) -> Generator[None, None, str]:
        """Hand on everything before the first of the marks, and take that one; empty at the end.

        No mark may stand inside another one.
        """
        pattern = _pattern(marks)
        while True:
            found = pattern.search(self._text, self._at) if marks else None
            if found is not None:
                self._hand_on(found.start(), say)
                self._at = found.end()
                return found[0]
            rest = len(self._text) - self._at
            kept = (
                0 if self._has_ended else max((_overlap(self._text, each, rest) for each in marks), default=0)
            )
            self._hand_on(len(self._text) - kept, say)
            if self._has_ended:
                return ""
            yield

    def _hand_on(self, end: int, say: Callable[[str], None]) -> None:
        if end > self._at:
            say(self._text[self._at : end])
            self._at = end

    # --- heads ------------------------------------------------------------------------------

    def open_head(self, mark: str) -> None:
        """From here on what is read may be the head of a call: it becomes text where it is none."""
        self._head = [mark]
        self._num_head = 0

    @property
    def head(self) -> str:
        """What is held."""
        return "".join(self._head or ())

    def take_head(self) -> str:
        """What was held, to be said in another way or not at all."""
        held = self.head
        self._head = None
        return held

    def say_head(self) -> None:
        """There is no call, or none any more: what was held is text, the white space before it too."""
        held = self.take_head()
        if held.strip():
            self.say(held)


@cache
def _pattern(marks: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(map(re.escape, marks)))


def _overlap(text: str, mark: str, most: int) -> int:
    """How many characters at the end of the text are a proper beginning of the mark."""
    for size in range(min(len(mark) - 1, most), 0, -1):
        if text.endswith(mark[:size]):
            return size
    return 0
