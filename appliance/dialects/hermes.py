"""Hermes, Qwen 2.5, Qwen 3: `<tool_call>` around `{"name": …, "arguments": …}`, one for each call."""

from __future__ import annotations

import re
from collections.abc import Generator
from typing import ClassVar

from appliance.core import Tool
from appliance.dialects.dialect import THINK_BRACKETS, Dialect, Tagged
from appliance.dialects.lark import Lark, literal
from appliance.dialects.objects import call_object
from appliance.dialects.scanning import Waits

OPENS, CLOSES = "<tool_call>", "</tool_call>"
# In a template, its quotes and braces between. Others put lists, keys, or functions between the same marks.
_AN_OBJECT = re.compile(re.escape(OPENS) + r"""(?:\\n|[\s'"{}~+-])*\{\\?"(?:name|arguments)""")


class Hermes(Dialect):
    """Also what tools that are told in words ask for."""

    name = "hermes"
    openers: ClassVar[tuple[str, ...]] = (OPENS,)
    marks = (CLOSES,)

    def is_spoken_in(self, template: str) -> bool:
        return _AN_OBJECT.search(template) is not None

    def call(self, lark: Lark, tool: Tool) -> str:
        return f"{lark.space()} {object_call(lark, tool, 'arguments')} {lark.space()} {lark.mark(CLOSES)}"

    def read_call(self, scanner: Tagged, mark: str) -> Waits:
        del mark
        if (yield from call_object(scanner)):
            yield from close(scanner, CLOSES)


class Plain(Hermes):
    """A model that does not think, and a template that knows no tools, or knows them in its own way."""

    name = "plain"
    thoughts = None

    def is_spoken_in(self, template: str) -> bool:
        del template
        return True


class Bracketed(Hermes):
    """Thoughts between `[THINK]` and `[/THINK]`, and a template that knows no tools."""

    name = "bracketed"
    thoughts = THINK_BRACKETS

    def is_spoken_in(self, template: str) -> bool:
        return THINK_BRACKETS.opens in template


def object_call(lark: Lark, tool: Tool, arguments: str) -> str:
    """The rule of a call as an object, its arguments under this key."""
    head = f'{{"name": {literal(tool.name)}, "{arguments}": '
    return f"{literal(head)} {lark.object(tool.parameters)} {lark.space()} {literal('}')}"


def close(scanner: Tagged, mark: str) -> Generator[None, None, None]:
    """The mark behind a call, where there is one."""
    yield from scanner.space()
    yield from scanner.accept(mark)
