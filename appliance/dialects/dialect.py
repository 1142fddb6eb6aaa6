"""What a dialect is: how it is known in a chat template, how it is read, and what grammar it keeps to."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

from appliance.core import Part, Tool, Tooling
from appliance.dialects.lark import Lark, either, literal, regex
from appliance.dialects.scanning import Scanner, Waits


class Reader(Protocol):
    """Reads one answer. The parts depend on the whole text only, never on where its pieces end."""

    def feed(self, text: str) -> list[Part]:
        """The parts that are sure after this piece; what may still become a mark is held back."""
        ...

    def finish(self) -> list[Part]:
        """The rest, whatever it has become."""
        ...


@dataclass(frozen=True, slots=True)
class Thoughts:
    """What stands around the reasoning."""

    opens: str
    closes: str
    word: str = ""  # behind the opening mark, and part of it


THINK_TAGS = Thoughts("<think>", "</think>")
THINK_BRACKETS = Thoughts("[THINK]", "[/THINK]")


class Dialect(ABC):
    """One way of writing. No state: one object serves all models that speak it."""

    name: ClassVar[str]
    thoughts: ClassVar[Thoughts | None] = THINK_TAGS
    openers: ClassVar[tuple[str, ...]]  # marks with which a call begins
    marks: ClassVar[tuple[str, ...]] = ()  # the others that stand around calls
    reasoning_key: ClassVar[str] = "reasoning_content"  # where its templates look for earlier thoughts
    has_single_calls: ClassVar[bool] = False  # its templates know one call in a turn

    @abstractmethod
    def is_spoken_in(self, template: str) -> bool:
        """Whether a chat template has the marks of this dialect."""

    @abstractmethod
    def call(self, lark: Lark, tool: Tool) -> str:
        """The rule of one call. ValueError where the tool's schema is no JSON object."""

    @abstractmethod
    def read_call(self, scanner: Tagged, mark: str) -> Waits:
        """Read what follows an opener, which stands in the scanner's head."""

    def read_beginning(self, scanner: Tagged) -> Waits:
        """What may stand at the beginning of an answer only."""
        del scanner
        yield from ()

    def call_id(self, asked: str) -> str:
        """An earlier call's id as the templates want it."""
        return asked

    def spelt(self, *, calls: bool) -> tuple[str, ...]:
        """Marks whose control tokens have to be spelt into the answer's text."""
        thoughts = (self.thoughts.opens, self.thoughts.closes) if self.thoughts else ()
        return (*thoughts, *self.openers, *self.marks) if calls else thoughts

    def reader(self, *, calls: bool, begins_thinking: bool, tools: Sequence[Tool] = ()) -> Reader:
        """A reader of one answer. `calls`: tools were offered, so calls may stand there."""
        return Tagged(self, calls=calls, begins_thinking=begins_thinking, tools=tools)

    def grammar(
        self, lark: Lark, tooling: Tooling | None, schema: str = "", *, begins_thinking: bool = False
    ) -> str:
        """What an answer with tools, within a schema, or both, keeps to. ValueError as in `Lark`."""
        bodies: list[str] = []
        if schema and (tooling is None or tooling.choice == "auto"):
            bodies.append(f"{lark.space()} {lark.schema(schema)}")
        if tooling is not None:
            bodies += self.bodies(lark, tooling, has_prose=tooling.choice == "auto" and not schema)
        lark.rule("start", f"{self._thought(lark, begins_thinking=begins_thinking)}{either(bodies)}")
        return lark.text()

    def bodies(self, lark: Lark, tooling: Tooling, *, has_prose: bool) -> list[str]:
        """Answers with calls; with prose, that before them too, and answers without calls."""
        row = self.row(lark, self.calls(lark, tooling), several=self.may_be_several(tooling))
        if not has_prose:
            return [f"{lark.space()} {lark.mark(self.openers[0])} {row}"]
        return [
            lark.free(*self.openers, begins_not=self.begins_not),
            f"{lark.up_to(self.openers[0], begins_not=self.begins_not)} {row}",
        ]

    def row(self, lark: Lark, call: str, *, several: bool) -> str:
        """What follows the opener: a call, or several."""
        return f"{call} ({lark.space()} {lark.mark(self.openers[0])} {call})*" if several else call

    def calls(self, lark: Lark, tooling: Tooling) -> str:
        """A call of any tool that may be called."""
        tools = tooling.tools[:1] if tooling.choice == "named" else tooling.tools
        return lark.named("call", either([self.call(lark, each) for each in tools]))

    def may_be_several(self, tooling: Tooling) -> bool:
        """Whether an answer may hold more than one call."""
        return tooling.parallel and tooling.choice != "named" and not self.has_single_calls

    @property
    def begins_not(self) -> str:
        """How prose does not begin, as a regular expression: thoughts have a rule of their own."""
        return rf"\s*{regex(self.thoughts.opens + self.thoughts.word)}" if self.thoughts else ""

    def _thought(self, lark: Lark, *, begins_thinking: bool) -> str:
        if self.thoughts is None:
            return ""
        rest = lark.up_to(self.thoughts.closes)
        if begins_thinking:
            return f"{lark.named('thought', rest)} {lark.space()} "
        word = f" {literal(self.thoughts.word)}" if self.thoughts.word else ""
        opened = f"{lark.space()} {lark.mark(self.thoughts.opens)}{word} {rest} {lark.space()}"
        return f"{lark.named('thought', opened)}? "


class Tagged(Scanner):
    """Thoughts first, between their marks; then text and calls, each behind its opener."""

    def __init__(
        self, dialect: Dialect, *, calls: bool, begins_thinking: bool, tools: Sequence[Tool] = ()
    ) -> None:
        super().__init__(holds_space=calls)
        self._dialect = dialect
        self._openers = dialect.openers if calls else ()
        self.has_calls = calls
        self._is_thinking = begins_thinking
        self._num_before = 0  # calls, when the mark was met
        self.tools = tools

    @property
    def was_told(self) -> bool:
        """Whether there was a call behind this mark."""
        return self._num_calls > self._num_before

    def _read(self) -> Waits:
        yield from self._thoughts()
        yield from self._dialect.read_beginning(self)
        while mark := (yield from self.until(self._openers, self.say)):
            self.open_head(mark)
            yield from self.read_call(mark)

    def read_call(self, mark: str) -> Waits:
        """A call behind a mark, or text that looked like one."""
        self._num_before = self._num_calls
        yield from self._dialect.read_call(self, mark)
        self.say_head()
        if self.was_told:
            yield from self.space()

    def _thoughts(self) -> Waits:
        thoughts = self._dialect.thoughts
        if thoughts is None:
            return
        if not self._is_thinking:
            before = yield from self.space()
            if not (yield from self.accept(thoughts.opens + thoughts.word)):
                self.say(before)
                return
        yield from self.space()
        held = ""

        def think(text: str) -> None:
            nonlocal held
            kept = text.rstrip()
            if kept:
                self.think(held + kept)
                held = ""
            held += text[len(kept) :]

        yield from self.until((thoughts.closes,), think)
        yield from self.space()
