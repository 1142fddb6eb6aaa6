"""Gemma 4 and FunctionGemma: `call:name{key:value}`, strings between marks instead of quotes."""

from __future__ import annotations

import json
from collections.abc import Generator
from typing import Any, ClassVar

from appliance.core import Tool
from appliance.dialects import values
from appliance.dialects.dialect import Dialect, Tagged, Thoughts
from appliance.dialects.hermes import close
from appliance.dialects.lark import Lark, either, literal
from appliance.dialects.objects import MAX_NAME, arguments
from appliance.dialects.scanning import Waits

MAX_DEPTH = 64


class Gemma(Dialect):
    """Gemma 4. Arguments whose schema has no bare form are asked for as JSON, and read so."""

    name = "gemma"
    thoughts: ClassVar[Thoughts | None] = Thoughts("<|channel>", "<channel|>", "thought")
    openers: ClassVar[tuple[str, ...]] = ("<|tool_call>",)
    closes = "<tool_call|>"
    quote = '<|"|>'
    marks = ("<tool_call|>", '<|"|>')

    def is_spoken_in(self, template: str) -> bool:
        return self.openers[0] in template and "call:" in template

    def call(self, lark: Lark, tool: Tool) -> str:
        asked = values.parameters(tool)
        body = self._object(lark, asked, 0) or lark.object(tool.parameters)
        return f"{literal(f'call:{tool.name}')} {body} {lark.mark(self.closes)}"

    def read_call(self, scanner: Tagged, mark: str) -> Waits:
        del mark
        yield from scanner.space()
        if not (yield from scanner.accept("call:")):
            return
        name = ""
        while (yield from scanner.peek()) not in {"", "{"} and len(name) < MAX_NAME:
            name += yield from scanner.take()
        if not name.strip() or (yield from scanner.peek()) != "{":
            return
        scanner.call(name.strip())
        yield from _translated(scanner, self.quote)
        yield from close(scanner, self.closes)

    def _object(self, lark: Lark, schema: Any, depth: int) -> str:
        """The rule of a bare object, its keys in order; empty where there is none."""
        members = values.members(schema)
        if members is None or depth > MAX_DEPTH or not all(map(_is_bare, members)):
            return ""
        rest = {True: '"}"', False: '"}"'}  # behind a member, by whether it would be the first one
        in_order = sorted(members.items(), key=lambda item: item[0].lower(), reverse=True)
        for name, (each, is_required) in in_order:
            value = self._value(lark, each, depth + 1)
            if not value:
                return ""
            here = {}
            for is_first in (True, False):
                head = literal(f"{name}:" if is_first else f",{name}:")
                ways = [f"{head} {value} {rest[False]}"]
                if not is_required:
                    ways.append(rest[is_first])
                here[is_first] = lark.named("member", either(ways))
            rest = here
        return f'"{{" {rest[True]}'

    def _value(self, lark: Lark, schema: Any, depth: int) -> str:
        quote = lark.mark(self.quote)
        if values.is_free_text(schema):
            return f"{quote} {lark.up_to(self.quote)}"
        if found := values.choices(schema):
            return f"{quote} {either([literal(each) for each in found])} {quote}"
        match schema.get("type"):
            case "object":
                return self._object(lark, schema, depth)
            case "integer" | "number" | "boolean" | "null":
                return lark.schema(json.dumps(schema))
            case "array" if not schema.keys() - {"type", "items", "description", "title"}:
                item = (
                    self._value(lark, schema.get("items"), depth)
                    if isinstance(schema.get("items"), dict)
                    else ""
                )
                return f'"[" ({item} ("," {item})*)? "]"' if item else ""
        return ""


class FunctionGemma(Gemma):
    """The small model for calls alone. It does not think."""

    name = "function-gemma"
    thoughts = None
    openers = ("<start_function_call>",)
    closes = "<end_function_call>"
    quote = "<escape>"
    marks = ("<end_function_call>", "<escape>")


def _is_bare(name: str) -> bool:
    return name.isascii() and name.replace("_", "a").replace("-", "a").isalnum()


def _translated(scanner: Tagged, quote: str) -> Waits:
    """An object in marks, handed on as JSON; one that is JSON already, as it stands."""
    yield from scanner.take()
    yield from scanner.space()
    if (yield from scanner.peek()) == '"':
        yield from arguments(scanner, depth=1, begun="{")
        return
    scanner.argue("{")
    stack = ["}"]
    while stack and len(stack) <= MAX_DEPTH:
        yield from scanner.space()
        character = yield from scanner.peek()
        if not character:
            return
        if character in "}]":
            yield from scanner.take()
            scanner.argue(stack.pop())
        elif character == ",":
            yield from scanner.take()
            scanner.argue(", ")
        else:
            if stack[-1] == "}":
                key = yield from _key(scanner, quote)
                scanner.argue(f"{json.dumps(key, ensure_ascii=False)}: ")
                yield from scanner.space()
            opened = yield from _begin(scanner, quote)
            if opened:
                stack.append(opened)


def _key(scanner: Tagged, quote: str) -> Generator[None, None, str]:
    found: list[str] = []
    if (yield from scanner.accept(quote)):
        yield from scanner.until((quote,), found.append)
        yield from scanner.accept(":")
        return "".join(found)
    while (character := (yield from scanner.take())) and character != ":" and len(found) < MAX_NAME:
        found.append(character)
    return "".join(found).strip()


def _begin(scanner: Tagged, quote: str) -> Generator[None, None, str]:
    """A value, or the beginning of one that has others inside: what will close it."""
    if (yield from scanner.accept(quote)):
        scanner.argue('"')
        if (yield from scanner.until((quote,), lambda text: scanner.argue(values.quoted(text)))):
            scanner.argue('"')
        return ""
    first = yield from scanner.peek()
    if first in "{[" and first:
        yield from scanner.take()
        scanner.argue(first)
        return "}" if first == "{" else "]"
    bare: list[str] = []
    while (character := (yield from scanner.peek())) and character not in ",}]":
        bare.append((yield from scanner.take()))
    scanner.argue(values.as_json("".join(bare).strip()))
    return ""
