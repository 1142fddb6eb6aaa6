"""Phi-4-mini: a JSON list of calls between `<|tool_call|>` and `<|/tool_call|>`."""

from __future__ import annotations

from appliance.core import Tool
from appliance.dialects.dialect import Dialect, Tagged
from appliance.dialects.hermes import close, object_call
from appliance.dialects.lark import Lark
from appliance.dialects.mistral import list_of, rest_of_list
from appliance.dialects.objects import call_object
from appliance.dialects.scanning import Waits

_OPENS, _CLOSES = "<|tool_call|>", "<|/tool_call|>"


class Phi(Dialect):
    """Some templates show one object instead of a list: both are read, lists are asked for."""

    name = "phi"
    openers = (_OPENS,)
    marks = (_CLOSES,)

    def is_spoken_in(self, template: str) -> bool:
        return "<|tool|>" in template and "<|/tool|>" in template

    def call(self, lark: Lark, tool: Tool) -> str:
        return object_call(lark, tool, "arguments")

    def row(self, lark: Lark, call: str, *, several: bool) -> str:
        return f"{list_of(lark, call, several=several)} {lark.space()} {lark.mark(_CLOSES)}"

    def read_call(self, scanner: Tagged, mark: str) -> Waits:
        del mark
        yield from scanner.space()
        if (yield from scanner.peek()) == "[":
            yield from scanner.take()
            yield from rest_of_list(scanner)
        else:
            yield from call_object(scanner)
        if scanner.was_told:
            yield from close(scanner, _CLOSES)
