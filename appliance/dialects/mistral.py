"""Mistral: `[TOOL_CALLS]` before a list of objects (older), or before each `name[ARGS]{…}` (newer)."""

from __future__ import annotations

import hashlib
from collections.abc import Generator

from appliance.core import Tool
from appliance.dialects.dialect import THINK_BRACKETS, Dialect, Tagged
from appliance.dialects.hermes import object_call
from appliance.dialects.lark import Lark, literal
from appliance.dialects.objects import MAX_NAME, arguments, call_object
from appliance.dialects.scanning import Waits

_CALLS, _ARGS, _ID = "[TOOL_CALLS]", "[ARGS]", "[CALL_ID]"
ID_LENGTH = 9


class Mistral(Dialect):
    """The newer form. Thoughts stand between `[THINK]` and `[/THINK]`."""

    name = "mistral"
    thoughts = THINK_BRACKETS
    openers = (_CALLS,)
    marks = (_ARGS, _ID)

    def is_spoken_in(self, template: str) -> bool:
        return _CALLS in template and _ARGS in template

    def call_id(self, asked: str) -> str:
        """Nine letters and digits, the same each time: their templates take no other ids."""
        if len(asked) == ID_LENGTH and asked.isascii() and asked.isalnum():
            return asked
        return hashlib.sha256(asked.encode()).hexdigest()[:ID_LENGTH]

    def call(self, lark: Lark, tool: Tool) -> str:
        return f"{literal(tool.name)} {lark.mark(_ARGS)} {lark.object(tool.parameters)}"

    def read_call(self, scanner: Tagged, mark: str) -> Waits:
        del mark
        yield from scanner.space()
        match (yield from scanner.peek()):
            case "[":
                yield from scanner.take()
                yield from rest_of_list(scanner)
            case "{":
                yield from call_object(scanner)
            case _:
                yield from _named(scanner)


class MistralList(Mistral):
    """The older form."""

    name = "mistral-list"

    def is_spoken_in(self, template: str) -> bool:
        return _CALLS in template and _ARGS not in template

    def call(self, lark: Lark, tool: Tool) -> str:
        number = rf'(", \"id\": \"" /[a-zA-Z0-9]{{{ID_LENGTH}}}/ "\"")?'
        head, end = object_call(lark, tool, "arguments").rsplit(" ", 1)
        return f"{head} {number} {end}"

    def row(self, lark: Lark, call: str, *, several: bool) -> str:
        return list_of(lark, call, several=several)


def list_of(lark: Lark, call: str, *, several: bool) -> str:
    """The rule of a JSON list of calls."""
    space = lark.space()
    more = f' ({space} "," {space} {call})*' if several else ""
    return f'{space} "[" {space} {call}{more} {space} "]"'


def rest_of_list(scanner: Tagged) -> Waits:
    """Calls as objects, up to the bracket that closes their list."""
    while (yield from call_object(scanner)):
        scanner.open_head("")
        yield from scanner.space()
        match (yield from scanner.take()):
            case ",":
                scanner.open_head("")
            case "]":
                scanner.take_head()
                return
            case _:
                return


def _named(scanner: Tagged) -> Generator[None, None, None]:
    name = ""
    while (character := (yield from scanner.peek())) and character not in "[{" and len(name) < MAX_NAME:
        name += yield from scanner.take()
    if (yield from scanner.accept(_ID)):
        while (character := (yield from scanner.peek())) and character.isalnum():
            if not (yield from scanner.take()):
                return
    yield from scanner.accept(_ARGS)
    yield from scanner.space()
    name = name.strip()
    if name and (yield from scanner.peek()) == "{":
        scanner.call(name)
        yield from arguments(scanner)
