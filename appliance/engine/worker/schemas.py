"""Which JSON Schemas an answer can be kept to: looked at before anything is compiled. Pure.

The compiler (llguidance) ignores keywords that it does not know, some that it does, and reads old
drafts by old rules. Here the list is closed: what is neither kept to nor a mere annotation is refused
by name, and so is what would cost too much. What comes out is one dialect, 2020-12, without `$schema`
and `$id`, its patterns translated, and every `$ref` within it.

The bounds are of what was measured: beyond them the compiler takes seconds, or gives up in the middle
of an answer (DESIGN.md, "Schemas").
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from math import gcd, isfinite
from typing import Any
from urllib.parse import unquote

from appliance.engine.worker.patterns import PatternError, translate
from appliance.engine.worker.productive import can_end

MAX_BYTES = 256 * 1024
MAX_DEPTH = 100  # of JSON; the compiler's own reader stops at 128
MAX_NODES = 5000  # schemas in a schema
MAX_PROPERTIES = 400  # of one object: each that may be left out is a way to go on
MAX_NAME = 256  # characters of a property's name
MAX_CHOICES = 5000  # of one enum
MAX_ALTERNATIVES = 400
MAX_PATTERN_PROPERTIES = 20
MAX_COUNT = 1_000_000  # lengths and numbers of items
MAX_NUMBER = float(1 << 53)  # beyond it the compiler's numbers are not exact
MAX_MULTIPLES = 1_000_000  # least common multiple of all `multipleOf`: so many states has their automaton

TYPES = frozenset({"null", "boolean", "integer", "number", "string", "array", "object"})
FORMATS = frozenset(
    {"date", "time", "date-time", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri"}
)
# They say nothing about which values are valid.
ANNOTATIONS = frozenset(
    {
        "title",
        "description",
        "default",
        "examples",
        "example",
        "deprecated",
        "readOnly",
        "writeOnly",
        "$comment",
        "$anchor",
        "discriminator",  # a hint beside oneOf or anyOf
    }
)
_AT_ROOT = frozenset({"$schema", "$id"})
_MAPS = ("properties", "patternProperties", "$defs", "definitions")
_LISTS = ("anyOf", "oneOf", "allOf", "prefixItems")
_SINGLES = ("items", "additionalProperties")
_BRACKETS = re.compile(r'"(?:[^"\\]|\\.)*"?|[\[{]|[\]}]', re.DOTALL)


class SchemaError(Exception):
    """This schema can not be kept to. The message names a keyword and where it stands, and no value."""

    def __init__(self, why: str, path: str = "#") -> None:
        super().__init__(f"{why} at {path[:200]}" if path != "#" else why)


Node = dict[str, Any]


def check(text: str) -> str:
    """The same schema for the compiler. SchemaError where it can not be kept to."""
    root = _parse(text)
    for name in _AT_ROOT:
        root.pop(name, None)
    nodes = list(_Walk(root))
    if not can_end(nodes, lambda ref: resolve(root, ref, "#")):
        raise SchemaError("no answer that fits it could ever end: what it requires holds itself")
    return json.dumps(root)


def _parse(text: str) -> Node:
    if len(text) > MAX_BYTES or len(text.encode("utf-8", "replace")) > MAX_BYTES:
        raise SchemaError(f"it has more than {MAX_BYTES} bytes")
    depth = 0
    for each in _BRACKETS.finditer(text):  # before any reader that calls itself
        depth += (each[0] in "[{") - (each[0] in "]}")
        if depth > MAX_DEPTH:
            raise SchemaError(f"it is nested more than {MAX_DEPTH} deep")
    try:
        root = json.loads(text, object_pairs_hook=_once, parse_constant=_no_constant)
        json.dumps(root, ensure_ascii=False, allow_nan=False).encode()
    except SchemaError:
        raise
    except (ValueError, RecursionError) as error:  # not JSON, half a character, a number without a size
        raise SchemaError("it is no JSON") from error
    if not isinstance(root, dict):
        raise SchemaError("it is no JSON object")
    return root


def _once(pairs: list[tuple[str, Any]]) -> Node:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise SchemaError("it names something twice in one object")
    return found


def _no_constant(_: str) -> None:
    raise SchemaError("it is no JSON")


def resolve(root: Node, ref: object, path: str) -> Node | bool:
    """What a `$ref` points to. SchemaError where that is no schema within this one."""
    if not isinstance(ref, str) or not (ref == "#" or ref.startswith("#/")):
        raise SchemaError("'$ref' to anything but a place within the schema", path)
    found: Any = root
    names = [unquote(each).replace("~1", "/").replace("~0", "~") for each in ref.split("/")[1:]]
    at = 0
    while at < len(names):
        keyword = names[at]
        inner = found.get(keyword) if isinstance(found, dict) else None
        at += 1
        if keyword in _MAPS and isinstance(inner, dict) and at < len(names):
            found = inner.get(names[at])
            at += 1
        elif keyword in _LISTS and isinstance(inner, list) and at < len(names):
            index = names[at]
            is_there = index.isascii() and index.isdigit() and len(index) < 6 and int(index) < len(inner)
            found = inner[int(index)] if is_there else None
            at += 1
        else:
            found = inner if keyword in _SINGLES else None
    if not isinstance(found, dict | bool):
        raise SchemaError("'$ref' to a schema that is not there", path)
    return found


class _Walk:
    """Every schema that takes part, once; each is checked as it comes, and its patterns translated."""

    def __init__(self, root: Node) -> None:
        self._root = root
        self._todo: list[tuple[Any, str]] = [(root, "#")]
        self._seen: set[int] = set()
        self._multiple = 1

    def __iter__(self) -> Iterator[Node]:
        while self._todo:
            node, path = self._todo.pop()
            if isinstance(node, bool) or id(node) in self._seen:
                continue
            if not isinstance(node, dict):
                raise SchemaError("something that is no schema", path)
            self._seen.add(id(node))
            if len(self._seen) > MAX_NODES:
                raise SchemaError(f"it holds more than {MAX_NODES} schemas")
            self._node(node, path)
            yield node

    def _node(self, node: Node, path: str) -> None:
        for keyword in list(node):
            handler = _KEYWORDS.get(keyword)
            if handler is not None:
                handler(self, node, keyword, f"{path}/{keyword}")
            elif keyword not in ANNOTATIONS and (not keyword.startswith("x-") or keyword == "x-guidance"):
                raise SchemaError(f"'{keyword[:40]}' is not supported:", f"{path}/{keyword}")
        least = node.get("minProperties", 0)
        if least > max(1, len(set(node.get("required", ())))):
            # A name that comes twice would be counted twice by the compiler.
            raise SchemaError("'minProperties' above 1 and above what is required", path)

    def later(self, node: object, path: str) -> None:
        self._todo.append((node, path))

    def ref(self, node: Node, keyword: str, path: str) -> None:
        self.later(resolve(self._root, node[keyword], path), path)

    def multiple(self, node: Node, keyword: str, path: str) -> None:
        value = _number(node, keyword, path)
        if value <= 0:
            raise SchemaError("'multipleOf' must be above 0", path)
        digits = f"{value:.15f}"
        if float(digits) != value:
            raise SchemaError("'multipleOf' has too many digits", path)
        factor = int(value) if value.is_integer() else int(digits.replace(".", "").rstrip("0"))
        self._multiple = self._multiple * factor // gcd(self._multiple, factor)
        if self._multiple > MAX_MULTIPLES:
            raise SchemaError("'multipleOf' is too large, alone or with the others", path)


Handler = Callable[[_Walk, Node, str, str], object]


def _number(node: Node, keyword: str, path: str) -> float:
    value = node[keyword]
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        raise SchemaError(f"'{keyword}' must be a number", path)
    if abs(value) > MAX_NUMBER:
        raise SchemaError(f"'{keyword}' must be a number within 2**53", path)
    return float(value)


def _bound(_: _Walk, node: Node, keyword: str, path: str) -> None:
    _number(node, keyword, path)


def _count(_: _Walk, node: Node, keyword: str, path: str) -> None:
    value = node[keyword]
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_COUNT:
        raise SchemaError(f"'{keyword}' must be a whole number from 0 to {MAX_COUNT}", path)


def _type(_: _Walk, node: Node, keyword: str, path: str) -> None:
    value = node[keyword]
    names = value if isinstance(value, list) and value else [value]
    if not all(isinstance(each, str) and each in TYPES for each in names):
        raise SchemaError("'type' must name types", path)


def _enum(_: _Walk, node: Node, keyword: str, path: str) -> None:
    value = node[keyword]
    if not isinstance(value, list) or not 0 < len(value) <= MAX_CHOICES:
        raise SchemaError(f"'enum' must hold 1 to {MAX_CHOICES} values", path)


def _const(_: _Walk, node: Node, keyword: str, path: str) -> None:
    """Any value will do."""
    del node, keyword, path


def _names(_: _Walk, node: Node, keyword: str, path: str) -> None:
    value = node[keyword]
    if (
        not isinstance(value, list)
        or len(value) > MAX_PROPERTIES
        or not all(isinstance(each, str) and len(each) <= MAX_NAME for each in value)
    ):
        raise SchemaError(
            f"'{keyword}' must hold at most {MAX_PROPERTIES} names of at most {MAX_NAME} characters", path
        )


def _map(walk: _Walk, node: Node, keyword: str, path: str) -> None:
    value = node[keyword]
    if not isinstance(value, dict):
        raise SchemaError(f"'{keyword}' must hold schemas by name", path)
    if len(value) > MAX_PROPERTIES or any(len(each) > MAX_NAME for each in value):
        raise SchemaError(
            f"'{keyword}' must hold at most {MAX_PROPERTIES} names of at most {MAX_NAME} characters", path
        )
    for name, each in value.items():
        walk.later(each, f"{path}/{name}")


def _definitions(_: _Walk, node: Node, keyword: str, path: str) -> None:
    """Looked at where something refers to them."""
    if not isinstance(node[keyword], dict):
        raise SchemaError(f"'{keyword}' must hold schemas by name", path)


def _pattern_map(walk: _Walk, node: Node, keyword: str, path: str) -> None:
    value = node[keyword]
    if not isinstance(value, dict) or len(value) > MAX_PATTERN_PROPERTIES:
        raise SchemaError(f"'{keyword}' must hold at most {MAX_PATTERN_PROPERTIES} schemas", path)
    node[keyword] = {_translated(pattern, keyword, path): each for pattern, each in value.items()}
    for each in value.values():
        walk.later(each, path)


def _list(walk: _Walk, node: Node, keyword: str, path: str) -> None:
    value = node[keyword]
    if not isinstance(value, list) or not 0 < len(value) <= MAX_ALTERNATIVES:
        raise SchemaError(f"'{keyword}' must hold 1 to {MAX_ALTERNATIVES} schemas", path)
    for at, each in enumerate(value):
        walk.later(each, f"{path}/{at}")


def _single(walk: _Walk, node: Node, keyword: str, path: str) -> None:
    if isinstance(node[keyword], list):
        raise SchemaError(f"'{keyword}' with a list: use 'prefixItems'", path)
    walk.later(node[keyword], path)


def _pattern(_: _Walk, node: Node, keyword: str, path: str) -> None:
    if not isinstance(node[keyword], str):
        raise SchemaError(f"'{keyword}' must be a text", path)
    node[keyword] = _translated(node[keyword], keyword, path)


def _translated(pattern: str, keyword: str, path: str) -> str:
    try:
        return translate(pattern)
    except PatternError as error:
        raise SchemaError(f"'{keyword}' with what can not be kept to ({error})", path) from error


def _format(_: _Walk, node: Node, keyword: str, path: str) -> None:
    if not isinstance(node[keyword], str) or node[keyword] not in FORMATS:
        raise SchemaError(f"'format' must be one of {', '.join(sorted(FORMATS))}", path)


_KEYWORDS: dict[str, Handler] = {
    "$ref": _Walk.ref,
    "type": _type,
    "enum": _enum,
    "const": _const,
    "required": _names,
    "properties": _map,
    "patternProperties": _pattern_map,
    "$defs": _definitions,
    "definitions": _definitions,
    "pattern": _pattern,
    "format": _format,
    "multipleOf": _Walk.multiple,
    **dict.fromkeys(_LISTS, _list),
    **dict.fromkeys(_SINGLES, _single),
    **dict.fromkeys(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"), _bound),
    **dict.fromkeys(
        ("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"), _count
    ),
}
