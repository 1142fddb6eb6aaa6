"""Calls that are written as a JSON object: `{"name": …, "arguments": {…}}`.

Arguments are handed on as they come, as the model wrote them. Nothing here goes deeper with the text:
brackets are counted, so no nesting can end the process.
"""

from __future__ import annotations

import json
from collections.abc import Generator

from appliance.dialects.scanning import Scanner

_ARGUMENTS = ("arguments", "parameters")
_BESIDE = ("id", "type", "index")
MAX_NAME = 256  # characters


def call_object(scanner: Scanner) -> Generator[None, None, bool]:
    """Read one call, and say so as soon as its name is known. False where there is none.

    Behind a call that was told, what does not belong to one stays in the scanner's head.
    """
    name = ""
    waiting = ""  # arguments whose name is not known yet
    was_told = False
    yield from scanner.space()
    if (yield from scanner.take()) != "{":
        return False
    while True:
        yield from scanner.space()
        key = yield from _string(scanner)
        yield from scanner.space()
        if key is None or (yield from scanner.take()) != ":":
            return was_told
        yield from scanner.space()
        if key == "name" and not name:
            name = (yield from _string(scanner)) or ""
            if not 0 < len(name) <= MAX_NAME:
                return was_told
        elif key in _ARGUMENTS and name and not was_told:
            scanner.call(name)
            was_told = True
            yield from _arguments(scanner)
            scanner.open_head("")
        elif was_told or key in _ARGUMENTS or key in _BESIDE:
            value = yield from _value(scanner)
            if value is None:
                return was_told
            if key in _ARGUMENTS:
                waiting = value
        else:  # an answer in JSON, which is no call
            return was_told
        yield from scanner.space()
        match (yield from scanner.take()):
            case ",":
                continue
            case "}" if was_told:
                scanner.take_head()
                return True
            case "}" if name:
                scanner.call(name)
                scanner.argue(_as_object(waiting))
                return True
            case _:
                return was_told


def arguments(scanner: Scanner, *, depth: int = 0, begun: str = "") -> Generator[None, None, bool]:
    """Hand on an object as it comes, from so many open brackets on; False where it does not end."""
    in_string = False
    scanner.argue(begun)
    while True:
        character = yield from scanner.take()
        if not character:
            return False
        scanner.argue(character)
        if in_string:
            if character == "\\":
                scanner.argue((yield from scanner.take()))
            elif character == '"':
                in_string = False
        elif character == '"':
            in_string = True
        elif character in "{[":
            depth += 1
        elif character in "}]":
            depth -= 1
            if depth <= 0:
                return True


def _arguments(scanner: Scanner) -> Generator[None, None, None]:
    """Whatever stands where arguments belong: an object, one in a string, or nothing."""
    if (yield from scanner.peek()) == "{":
        yield from arguments(scanner)
        return
    scanner.open_head("")
    value = yield from _value(scanner)
    held = scanner.take_head()
    scanner.argue(held if value is None else _as_object(value))


def _as_object(value: str) -> str:
    """Arguments as callers know them: some models write them as a string, or as null."""
    if value.startswith('"'):
        return decoded(value) or "{}"
    return "{}" if value in {"", "null"} else value


def decoded(raw: str) -> str | None:
    """What a JSON string says; None where it is none. Half a character is U+FFFD."""
    try:
        return (
            str(json.loads(raw, strict=False)).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        )
    except ValueError:
        return None


def _string(scanner: Scanner) -> Generator[None, None, str | None]:
    """A JSON string, decoded; None where there is none."""
    raw = yield from _raw_string(scanner)
    if raw is None:
        return None
    return decoded(raw)


def _raw_string(scanner: Scanner) -> Generator[None, None, str | None]:
    if (yield from scanner.peek()) != '"':
        return None
    found = [(yield from scanner.take())]
    while True:
        character = yield from scanner.take()
        if not character:
            return None
        found.append(character)
        if character == "\\":
            found.append((yield from scanner.take()))
        elif character == '"':
            return "".join(found)


def _value(scanner: Scanner) -> Generator[None, None, str | None]:
    """Any JSON value as it is written; None where it does not end."""
    first = yield from scanner.peek()
    if first == '"':
        return (yield from _raw_string(scanner))
    found: list[str] = []
    if first not in "{[" or not first:
        while (
            (following := (yield from scanner.peek())) and following not in ",}]" and not following.isspace()
        ):
            if not (yield from scanner.take()):
                return None
            found.append(following)
        return "".join(found) or None
    depth = 0
    while True:
        if (yield from scanner.peek()) == '"':
            inner = yield from _raw_string(scanner)
            if inner is None:
                return None
            found.append(inner)
            continue
        character = yield from scanner.take()
        if not character:
            return None
        found.append(character)
        depth += {"{": 1, "[": 1, "}": -1, "]": -1}.get(character, 0)
        if depth == 0:
            return "".join(found)
