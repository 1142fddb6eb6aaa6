"""Qwen3-Coder: `<function=…>` with a `<parameter=…>` for each argument, in `<tool_call>`.

Values stand there bare. Which of them are strings is known from the tools that were offered.
"""

from __future__ import annotations

import json
from collections.abc import Generator
from typing import Any

from appliance.core import Tool
from appliance.dialects import values
from appliance.dialects.dialect import Tagged
from appliance.dialects.hermes import CLOSES, OPENS, Hermes, close
from appliance.dialects.lark import Lark, either, literal
from appliance.dialects.objects import MAX_NAME
from appliance.dialects.scanning import Waits

_FUNCTION, _FUNCTION_END = "<function=", "</function>"
_PARAMETER, _PARAMETER_END = "<parameter=", "</parameter>"


class QwenCoder(Hermes):
    """Arguments whose schema has no bare form are asked for as Hermes has them, and read so."""

    name = "qwen-coder"
    openers = (OPENS, _FUNCTION)

    def is_spoken_in(self, template: str) -> bool:
        return OPENS in template and _FUNCTION in template and _PARAMETER in template

    def call(self, lark: Lark, tool: Tool) -> str:
        members = values.members(values.parameters(tool))
        if members is None or not all(_is_bare(schema) for schema, _ in members.values()):
            return super().call(lark, tool)
        head = f"{lark.space()} {literal(f'{_FUNCTION}{tool.name}>')} {literal(chr(10))}"
        inner = ""
        for name, (schema, is_required) in members.items():
            begin, end = literal(f"{_PARAMETER}{name}>\n"), f"\n{_PARAMETER_END}"
            if values.is_free_text(schema):
                value = lark.up_to(end)
            elif found := values.choices(schema):
                value = f"{either([literal(each) for each in found])} {literal(end)}"
            else:
                value = f"{lark.schema(json.dumps(schema))} {literal(end)}"
            inner += f" ({begin} {value} {literal(chr(10))}){'' if is_required else '?'}"
        return f"{head}{inner} {literal(_FUNCTION_END)} {lark.space()} {lark.mark(CLOSES)}"

    def read_call(self, scanner: Tagged, mark: str) -> Waits:
        yield from scanner.space()
        if mark == OPENS and not (yield from scanner.accept(_FUNCTION)):
            yield from super().read_call(scanner, mark)
            return
        name = yield from _up_to_bracket(scanner)
        if not name:
            return
        scanner.call(name)
        schemas = values.types_of(scanner.tools).get(name, {})
        scanner.argue("{")
        yield from scanner.space()
        separator = ""
        while (yield from scanner.accept(_PARAMETER)):
            key = yield from _up_to_bracket(scanner)
            scanner.argue(f"{separator}{json.dumps(key, ensure_ascii=False)}: ")
            yield from _value(scanner, is_text=values.is_text(schemas.get(key)))
            yield from scanner.space()
            separator = ", "
        if (yield from scanner.peek()):
            scanner.argue("}")
        yield from scanner.accept(_FUNCTION_END)
        yield from close(scanner, CLOSES)


def _is_bare(schema: Any) -> bool:
    """Strings stand without quotes, so those of a particular form have none that can be asked for."""
    return not values.is_text(schema) or values.is_free_text(schema) or values.choices(schema) is not None


def _up_to_bracket(scanner: Tagged) -> Generator[None, None, str]:
    name = ""
    while len(name) < MAX_NAME and (character := (yield from scanner.take())) and character != ">":
        name += character
    return name.strip()


def _value(scanner: Tagged, *, is_text: bool) -> Waits:
    """A value between line breaks that are not its own. Strings are handed on as they come."""
    yield from scanner.accept("\n")
    held = ""

    def say(text: str) -> None:
        nonlocal held
        held += text
        if is_text:
            ready = held.removesuffix("\n")
            held = held[len(ready) :]
            scanner.argue(values.quoted(ready))

    if is_text:
        scanner.argue('"')
    has_end = yield from scanner.until((_PARAMETER_END,), say)
    if not is_text:
        scanner.argue(values.as_json(held.removesuffix("\n")))
    elif has_end:
        scanner.argue('"')
