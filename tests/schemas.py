"""Schemas by the hundred: such as programs send, made by a seeded generator, and such as attackers would."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

Schema = dict[str, Any]

_WORDS = [
    "name",
    "city",
    "street",
    "amount",
    "date",
    "item",
    "price",
    "open",
    "note",
    "kind",
    "form",
    "size",
    "tag",
    "code",
    "unit",
    "state",
]
_PATTERNS = [
    r"^[A-Z]{2}[0-9]{3,6}$",
    r"^\d{5}(-\d{4})?$",
    r"^[a-z]+(_[a-z]+){0,3}$",
    r"^(red|green|blue)$",
    r"^\+?[0-9 ]{5,15}$",
    r"^#[0-9a-fA-F]{6}$",
    "[aeiou]",
    r"^\w{1,8}\.\w{2,3}$",
]
_FORMATS = ["date", "time", "date-time", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri"]


class Maker:
    """One schema after the other, the same for the same seed."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)
        self._defs: Schema = {}

    def schema(self) -> Schema:
        """An object at the root, as most programs ask for, with definitions where it refers to some."""
        self._defs = {}
        made = self._object(self._chance.randrange(1, 4)) if self._chance.random() < 0.9 else self._any(3)
        if self._defs:
            made["$defs"] = self._defs
        if self._chance.random() < 0.3:
            made["$schema"] = "https://json-schema.org/draft/2020-12/schema"
        return made

    def _any(self, depth: int) -> Schema:
        leaves: list[Callable[[], Schema]] = [
            self._text,
            self._text,
            self._number,
            self._integer,
            self._enum,
            lambda: {"type": "boolean"},
            lambda: {"type": "null"},
            lambda: {"const": self._chance.choice(["fixed", 7, None, True, [1, "a"], {"k": 1}])},
        ]
        nested: list[Callable[[], Schema]] = [
            lambda: self._object(depth - 1),
            lambda: self._array(depth - 1),
            lambda: {"anyOf": [self._any(depth - 1) for _ in range(self._chance.randrange(2, 4))]},
            lambda: {"anyOf": [self._any(depth - 1), {"type": "null"}]},
            lambda: self._reference(depth - 1),
            lambda: self._tuple(depth - 1),
            lambda: self._map(depth - 1),
        ]
        made = self._chance.choice(leaves + (nested if depth > 0 else []))()
        if "$ref" not in made and self._chance.random() < 0.2:
            made |= {"title": self._word(), "description": "What is meant: «that», “this” or ↯."}
        return made

    def _object(self, depth: int) -> Schema:
        names = self._chance.sample(_WORDS, self._chance.randrange(1, 6))
        made: Schema = {"type": "object", "properties": {name: self._any(depth) for name in names}}
        required = [name for name in names if self._chance.random() < 0.8]
        if required or self._chance.random() < 0.5:
            made["required"] = required
        if self._chance.random() < 0.8:
            made["additionalProperties"] = False
        return made

    def _array(self, depth: int) -> Schema:
        least = self._chance.randrange(3)
        made: Schema = {
            "type": "array",
            "items": self._any(depth),
            "maxItems": least + self._chance.randrange(4),
        }
        return made | ({"minItems": least} if least else {})

    def _tuple(self, depth: int) -> Schema:
        prefix = [self._any(depth) for _ in range(self._chance.randrange(1, 4))]
        return {"type": "array", "prefixItems": prefix, "items": False, "minItems": len(prefix)}

    def _map(self, depth: int) -> Schema:
        if self._chance.random() < 0.5:
            return {"type": "object", "additionalProperties": self._any(depth), "maxProperties": 3}
        return {
            "type": "object",
            "patternProperties": {"^[a-z]{1,5}$": self._any(depth)},
            "additionalProperties": False,
        }

    def _reference(self, depth: int) -> Schema:
        name = f"Def{len(self._defs)}"
        self._defs[name] = {}
        made = self._object(depth)
        if self._chance.random() < 0.3:  # a tree, or a list
            child: Schema = {"$ref": f"#/$defs/{name}"}
            made["properties"]["next"] = self._chance.choice(
                [{"anyOf": [child, {"type": "null"}]}, {"type": "array", "items": child, "maxItems": 2}]
            )
        self._defs[name] = made
        return {"$ref": f"#/$defs/{name}"}

    def _text(self) -> Schema:
        made: Schema = {"type": "string"}
        kind = self._chance.randrange(4)
        if kind == 0:
            made["pattern"] = self._chance.choice(_PATTERNS)
        elif kind == 1:
            made["format"] = self._chance.choice(_FORMATS)
        elif kind == 2:
            made["minLength"] = self._chance.randrange(5)
            made["maxLength"] = made["minLength"] + self._chance.randrange(1, 20)
        return made

    def _number(self) -> Schema:
        low = round(self._chance.uniform(-1000, 1000), self._chance.randrange(3))
        made: Schema = {"type": "number", self._chance.choice(["minimum", "exclusiveMinimum"]): low}
        if self._chance.random() < 0.7:
            made[self._chance.choice(["maximum", "exclusiveMaximum"])] = low + self._chance.randrange(1, 500)
        return made

    def _integer(self) -> Schema:
        made: Schema = {"type": "integer"}
        if self._chance.random() < 0.6:
            made["minimum"] = self._chance.randrange(-100, 100)
            made["maximum"] = made["minimum"] + self._chance.randrange(30, 1000)
        if self._chance.random() < 0.2:
            made["multipleOf"] = self._chance.choice([2, 3, 5, 7, 10])
        return made

    def _enum(self) -> Schema:
        values = [self._word(), "ß€𝄞", 'quo"te\\', 1, -2.5, None, True, [], {"a": [1]}]
        return {"enum": self._chance.sample(values, self._chance.randrange(1, 6))}

    def _word(self) -> str:
        return self._chance.choice(_WORDS)


def _object(properties: Schema) -> Schema:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _text(pattern: str, **options: Any) -> Schema:
    return {"type": "string", "pattern": pattern, **options}


def hostile() -> dict[str, str]:
    """What an attacker sends, as text, by what it tries."""
    long_or = "^(a|b)*a(a|b){%d}$"
    found: dict[str, Any] = {
        "deep lists": "[" * 100_000 + "]" * 100_000,
        "deep objects": '{"a":' * 100_000 + "1" + "}" * 100_000,
        "deep schemas": '{"properties":{"a":' * 5000 + "{}" + "}}" * 5000,
        "deep alternatives": '{"anyOf":[' * 49 + "{}" + "]}" * 49,
        "deep arrays": '{"type":"array","maxItems":1,"items":' * 95 + "{}" + "}" * 95,
        "open string": '{"a": "' + "\\" * 99_999,
        "no JSON": "hello",
        "a number": "5",
        "twice": '{"type":"string","type":"integer"}',
        "half a character": '{"const":"\\ud800"}',
        "huge number": '{"type":"integer","minimum":' + "9" * 5000 + "}",
        "circle": {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}},
        "circle of choices": {"anyOf": [{"$ref": "#"}, {"allOf": [{"$ref": "#"}]}]},
        "endless object": {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]},
        "tree": {"$ref": "#/$defs/d30", "$defs": {"d0": {"type": "null"}} | {
            f"d{at}": _object({"l": {"$ref": f"#/$defs/d{at - 1}"}, "r": {"$ref": f"#/$defs/d{at - 1}"}})
            for at in range(1, 31)}},
        "tree of choices": {"$ref": "#/$defs/d30", "$defs": {"d0": {"type": "null"}} | {
            f"d{at}": {"allOf": [{"$ref": f"#/$defs/d{at - 1}"}] * 2} for at in range(1, 31)}},
        "from the network": {"$ref": "http://127.0.0.1:9/schema"},
        "from a file": {"$ref": "file:///etc/passwd"},
        "huge enum": {"enum": [f"value {at}" for at in range(100_000)]},
        "large enum": {"enum": [f"{at * 7919 % 100_003}" for at in range(5000)]},
        "objects in an enum": {"enum": [{"a": at, "b": [at] * 3} for at in range(1000)]},
        "many names": {"type": "object", "properties": {f"p{at}": {} for at in range(10_000)}},
        "many optional names": {"properties": {f"p{at}": {"type": "null"} for at in range(400)}},
        "many schemas": _object({f"o{at}": {"type": "object", "properties": {
            f"p{at}_{each}": {"type": "integer"} for each in range(60)}} for at in range(60)}),
        "long name": _object({"x" * 100_000: {}}),
        "nested repeats": _text("^(a+)+$"),
        "big repeat": _text("^[a-z]{1,100000}$"),
        "repeated repeats": _text("^((((.?){0,99}a?){0,99}b?){0,99}c?){0,99}$"),
        "many states": _text(long_or % 40),
        "many patterns": _object({f"p{at}": _text(long_or % (20 + at)) for at in range(100)}),
        "any of many patterns": {"anyOf": [_text(f"^.*{chr(97 + at % 26)}.{{{at}}}$") for at in range(200)]},
        "all of many patterns": {"allOf": [_text(f"^(.{{{at}}})*$") for at in (7, 11, 13, 17, 19, 23)]},
        "letters": _text(r"^(\p{L}|\p{N}|\w|\s){0,2000}$", minLength=1000),
        "look ahead": _text("^(?=a)b$"),
        "back": _text(r"^(a)\1$"),
        "brackets": _text("(" * 400 + "a" + ")" * 400),
        "long pattern": _text("(" + "|".join(f"{chr(97 + at % 26)}.{{{at}}}z" for at in range(90)) + ")"),
        "keys by patterns": {"type": "object", "additionalProperties": {"type": "null"},
            "patternProperties": {long_or % 30: {"type": "integer"}, "^(a|b)*b(a|b){30}$": {"type": "null"}}},
        "long text": {"type": "string", "minLength": 10**9},
        "long list": {"type": "array", "items": {"type": "null"}, "minItems": 10**6},
        "list of lists": {"type": "array", "minItems": 10**6, "items": {"type": "array", "minItems": 10**6,
            "items": {"type": "array", "minItems": 10**6, "items": {"type": "null"}}}},
        "alike": {"anyOf": [{"type": "array", "items": {"type": "string", "maxLength": 100 + at}}
            for at in range(400)]},
        "explosion": {"allOf": [
            {"anyOf": [{"type": "object", "properties": {f"a{one}_{two}": {}}} for two in range(4)]}
            for one in range(12)]},
        "explosion by one": {"allOf": [{"oneOf": [
            {"type": "object", "properties": {f"a{one}": {"const": two}}, "required": [f"a{one}"]}
            for two in range(4)]} for one in range(10)]},
        "nothing fits": {"allOf": [{"type": "string"}, {"type": "integer"}]},
        "nothing is so long": _text("^a$", minLength=2),
        "large multiple": {"type": "integer", "multipleOf": 999_999_937},
        "multiples": {"type": "array", "items": {"anyOf": [{"type": "integer", "multipleOf": each}
            for each in (997, 991, 983, 977)]}},
        "bounded multiple": {"type": "integer", "multipleOf": 9973, "minimum": 0, "maximum": 10**15},
        "tiny multiple": {"type": "number", "multipleOf": 1e-300},
        "far bounds": {"type": "number", "minimum": -1e308, "maximum": 1e308},
        "the compiler's options": {"type": "string", "format": "regex", "x-guidance": {"lenient": True}},
        "a negation": {"not": {"type": "string"}},
        "marks of writing": _object({"\u202e\u0000\ud7ff": {"const": "\U0010ffff<|end|>"}}),
    }  # fmt: skip
    return {name: each if isinstance(each, str) else json.dumps(each) for name, each in found.items()}
