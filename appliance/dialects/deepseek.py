"""DeepSeek: a row of calls between marks, each with its name and arguments; in R1 and V3 in a fence."""

from __future__ import annotations

from collections.abc import Generator

from appliance.core import Tool
from appliance.dialects.dialect import Dialect, Tagged
from appliance.dialects.hermes import close
from appliance.dialects.lark import Lark, literal
from appliance.dialects.objects import MAX_NAME, arguments
from appliance.dialects.scanning import Waits

_CALLS, _CALLS_END = "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"
_CALL, _CALL_END = "<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>"
_SEPARATOR = "<｜tool▁sep｜>"
_FENCE = "```json"


class DeepSeek(Dialect):
    """V3.1 and later: `name`, the separator, the arguments."""

    name = "deepseek"
    openers = (_CALLS,)
    marks = (_CALLS_END, _CALL, _CALL_END, _SEPARATOR)

    def is_spoken_in(self, template: str) -> bool:
        return _CALLS in template and _FENCE not in template

    def call(self, lark: Lark, tool: Tool) -> str:
        return (
            f"{lark.mark(_CALL)} {literal(tool.name)} {lark.mark(_SEPARATOR)}"
            f" {lark.object(tool.parameters)} {lark.mark(_CALL_END)}"
        )

    def row(self, lark: Lark, call: str, *, several: bool) -> str:
        more = f" ({lark.space()} {call})*" if several else ""
        return f"{lark.space()} {call}{more} {lark.space()} {lark.mark(_CALLS_END)}"

    def read_call(self, scanner: Tagged, mark: str) -> Waits:
        del mark
        while True:
            yield from scanner.space()
            if not (yield from scanner.accept(_CALL)):
                break
            if not (yield from _one(scanner)):
                return
            scanner.open_head("")
        if scanner.was_told:
            yield from close(scanner, _CALLS_END)
            if scanner.head.strip() == _CALLS_END:
                scanner.take_head()


class DeepSeekFenced(DeepSeek):
    """R1 and V3: `function`, the separator, the name, the arguments in a fence."""

    name = "deepseek-fenced"

    def is_spoken_in(self, template: str) -> bool:
        return _CALLS in template and _FENCE in template

    def call(self, lark: Lark, tool: Tool) -> str:
        head = literal(f"{tool.name}\n{_FENCE}\n")
        return (
            f'{lark.mark(_CALL)} "function" {lark.mark(_SEPARATOR)} {head}'
            f' {lark.object(tool.parameters)} "\\n```" {lark.space()} {lark.mark(_CALL_END)}'
        )


def _one(scanner: Tagged) -> Generator[None, None, bool]:
    """One call in either form, behind its mark."""
    name = yield from _word(scanner, "<")
    if not (yield from scanner.accept(_SEPARATOR)):
        return False
    yield from scanner.space()
    is_fenced = (yield from scanner.peek()) != "{"
    if is_fenced:
        name = yield from _word(scanner, "\n`{")
        yield from scanner.space()
        yield from scanner.accept(_FENCE)
        yield from scanner.space()
    if not name or (yield from scanner.peek()) != "{":
        return False
    scanner.call(name)
    yield from arguments(scanner)
    if is_fenced:
        yield from close(scanner, "```")
    yield from close(scanner, _CALL_END)
    return True


def _word(scanner: Tagged, ends: str) -> Generator[None, None, str]:
    """Characters up to one of the ends, stripped."""
    word = ""
    while (character := (yield from scanner.peek())) and character not in ends and len(word) < MAX_NAME:
        word += yield from scanner.take()
    return word.strip()
