"""Harmony, of gpt-oss: messages on channels. What is analysed is the reasoning, what is final the answer,
and a comment to a function is a call.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Sequence

from appliance.core import Tool, Tooling
from appliance.dialects.dialect import Dialect, Reader, Tagged
from appliance.dialects.lark import Lark, either, literal
from appliance.dialects.scanning import Scanner, Waits

_START, _CHANNEL, _MESSAGE, _CONSTRAIN = "<|start|>", "<|channel|>", "<|message|>", "<|constrain|>"
_END, _CALL, _RETURN = "<|end|>", "<|call|>", "<|return|>"
_ENDS = (_END, _CALL, _RETURN, _START, _CHANNEL)
# The recipient stands on either side of the channel.
_HEADER = re.compile(
    rf"(?:{re.escape(_START)})?\s*(?:assistant)?\s*(?:to=(?P<first>[^\s<]+))?\s*"
    rf"(?:{re.escape(_CHANNEL)}\s*(?P<channel>analysis|commentary|final)?)?\s*(?:to=(?P<second>[^\s<]+))?\s*"
    rf"(?:{re.escape(_CONSTRAIN)})?\s*(?:json)?\s*{re.escape(_MESSAGE)}"
)
_FUNCTIONS = "functions."
MAX_HEADER = 512  # characters


class Harmony(Dialect):
    """Its marks stand in every answer, so they are always spelt."""

    name = "harmony"
    thoughts = None
    openers = ()
    marks = (_START, _CHANNEL, _MESSAGE, _CONSTRAIN, _END)
    reasoning_key = "thinking"
    has_single_calls = True

    def is_spoken_in(self, template: str) -> bool:
        return _CHANNEL in template and _MESSAGE in template

    def spelt(self, *, calls: bool) -> tuple[str, ...]:
        del calls
        return self.marks

    def reader(self, *, calls: bool, begins_thinking: bool, tools: Sequence[Tool] = ()) -> Reader:
        del begins_thinking, tools
        return _Channels(calls=calls)

    def grammar(
        self, lark: Lark, tooling: Tooling | None, schema: str = "", *, begins_thinking: bool = False
    ) -> str:
        del begins_thinking
        channel, message = lark.mark(_CHANNEL), lark.mark(_MESSAGE)
        next_one = f'{lark.up_to(_END)} {lark.mark(_START)} "assistant"'
        before = [lark.named("analysis", f'{channel} "analysis" {message} {next_one}')]
        lasts: list[str] = []
        if schema:
            lasts.append(f'{channel} "final" {message} {lark.space()} {lark.schema(schema)}')
        elif tooling is None or tooling.choice == "auto":
            before.append(lark.named("preamble", f'{channel} "commentary" {message} {next_one}'))
            lasts.append(f'{channel} "final" {message} {lark.free(*self.marks)}')
        if tooling is not None:
            lasts = lasts if tooling.choice == "auto" else []
            lasts.append(self.calls(lark, tooling))
        lark.rule("start", f"{either(before)}* {either(lasts)}")
        return lark.text()

    def call(self, lark: Lark, tool: Tool) -> str:
        """The recipient stands on either side of the channel."""
        channel = lark.mark(_CHANNEL)
        to = f"to=functions.{tool.name}"
        heads = [
            f"{channel} {literal(f'commentary {to} ')}",
            f'{literal(f" {to}")} {channel} "commentary "',
        ]
        return (
            f'{either(heads)} {lark.mark(_CONSTRAIN)}? "json" {lark.mark(_MESSAGE)}'
            f" {lark.object(tool.parameters)}"
        )

    def read_call(self, scanner: Tagged, mark: str) -> Waits:
        """Calls are messages here: `_Channels` reads them."""
        raise NotImplementedError


class _Channels(Scanner):
    """Headers and bodies, one after the other. The prompt has opened the first header."""

    def __init__(self, *, calls: bool) -> None:
        super().__init__(holds_space=calls)
        self._calls = calls

    def _read(self) -> Waits:
        before = yield from self.space()
        is_header = yield from self.accept("to=")
        if is_header:
            self.open_head(f"{before}to=")
            mark = yield from self._message()
        else:
            self.say(before)
            mark = yield from self.until(_ENDS, self.say)
        while mark:
            if mark in {_START, _CHANNEL}:
                self.open_head(mark)
                mark = yield from self._message()
            else:
                mark = yield from self.until(_ENDS, self.say)

    def _message(self) -> Generator[None, None, str]:
        """A header up to its mark, and the body behind it; the mark that ended the body."""
        size = 0
        while not (yield from self.accept(_MESSAGE)):
            size += 1
            if size > MAX_HEADER or not (yield from self.take()):
                self.say_head()
                return (yield from self.until(_ENDS, self.say))
        header = _HEADER.fullmatch(self.head.strip())
        recipient = (header["first"] or header["second"] or "") if header is not None else ""
        if recipient.startswith(_FUNCTIONS) and recipient != _FUNCTIONS and self._calls:
            self.call(recipient.removeprefix(_FUNCTIONS))
            return (yield from self.until(_ENDS, self.argue))
        if header is None or recipient:
            self.say_head()
            return (yield from self.until(_ENDS, self.say))
        self.take_head()
        say = self.think if header["channel"] == "analysis" else self.say
        return (yield from self.until(_ENDS, say))
