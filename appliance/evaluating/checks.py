"""What an answer must be, and whether it is. A failure has the name of its check, never the answer's words.

Pure.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import jsonschema  # type: ignore[import-untyped]
from jsonschema import Draft202012Validator
from jsonschema.protocols import Validator  # type: ignore[import-untyped]
from referencing import Registry
from referencing.exceptions import Unresolvable

from appliance.evaluating.matching import Pattern, PatternError, compiled
from appliance.evaluating.questions import Reply

MAX_SCHEMA_CHARACTERS: Final = 64 * 1024  # as of structured outputs


class SchemaError(Exception):
    """This is no JSON Schema that answers can be held against."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What holds of a good answer; what is empty is not asked."""

    exact: tuple[str, ...] = field(default=(), repr=False)
    patterns: tuple[Pattern, ...] = ()
    absent: tuple[Pattern, ...] = ()
    schema: str = field(default="", repr=False)
    similar: tuple[str, ...] = field(default=(), repr=False)
    at_least: float = 0.0
    refused: bool = False


def failures(expected: Expected, reply: Reply, cosine: float | None = None) -> tuple[str, ...]:
    """The checks that do not hold, by their names; nothing where all do. `cosine`: the highest one."""
    if expected.refused:
        return () if reply.refused else ("refused",)
    if reply.refused:
        return ("answered (it was refused)",)
    if reply.error:
        return (f"answered ({reply.error})",)
    return tuple(_failed(expected, reply.text, cosine))


def _failed(expected: Expected, said: str, cosine: float | None) -> Iterator[str]:
    text, data = said.strip(), said.encode("utf-8", "replace")
    if expected.exact and text not in {each.strip() for each in expected.exact}:
        yield "exact"
    for name, patterns, wanted in (("regex", expected.patterns, True), ("no_regex", expected.absent, False)):
        for number, pattern in enumerate(patterns, 1):
            if (pattern.search(data) is not None) != wanted:
                yield name if len(patterns) == 1 else f"{name} {number}"
    if expected.schema and not keeps_to(text, expected.schema):
        yield "schema"
    if expected.similar and (cosine is None or cosine < expected.at_least):
        measured = "nothing to compare" if cosine is None else f"{cosine:.2f}"
        yield f"similarity ({measured}, at least {expected.at_least:.2f})"


def schema_text(schema: Mapping[str, Any]) -> str:
    """A schema as compact JSON. SchemaError where answers can not be held against it."""
    try:
        text = json.dumps(schema, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        if len(text) > MAX_SCHEMA_CHARACTERS:
            raise SchemaError(f"the schema is longer than {MAX_SCHEMA_CHARACTERS} characters")
        Draft202012Validator.check_schema(schema, format_checker=_PATTERNS)
        _require_own_references(schema)
        validator(text).is_valid(None)  # a reference that leads nowhere
    except jsonschema.SchemaError as error:
        raise SchemaError(f"no JSON Schema: {error.message[:200]}") from None
    except (Unresolvable, ValueError, RecursionError) as error:
        raise SchemaError(f"no JSON Schema: {str(error)[:200]}") from None
    return text


def keeps_to(text: str, schema: str) -> bool:
    """Whether this text is one JSON value that the schema allows."""
    try:
        value = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return False
    try:
        return bool(validator(schema).is_valid(value))
    except (Unresolvable, RecursionError):  # a reference that only this value comes to
        return False


def validator(schema: str) -> Validator:
    """2020-12, with patterns of RE2, and without anything that fetches what a `$ref` names."""
    checker = Draft202012Validator.FORMAT_CHECKER
    made: Validator = _Validator(json.loads(schema), registry=Registry(), format_checker=checker)
    return made


def _require_own_references(schema: object) -> None:
    """SchemaError where a `$ref` leads out of the schema: nothing is fetched."""
    if isinstance(schema, dict):
        reference = schema.get("$ref")
        if isinstance(reference, str) and not reference.startswith("#"):
            raise SchemaError("'$ref' to anything but a place within the schema")
    for each in schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ():
        _require_own_references(each)


def _no_constant(_: str) -> None:
    raise ValueError


_Errors = Iterator[jsonschema.ValidationError]
_Keyword = Callable[[Validator, Any, Any, Mapping[str, Any]], _Errors]


def _pattern(_: Validator, source: str, instance: Any, __: Mapping[str, Any]) -> _Errors:
    if isinstance(instance, str) and not _is_found(source, instance):
        yield jsonschema.ValidationError("pattern")


def _pattern_properties(
    checker: Validator, given: Mapping[str, Any], instance: Any, _: Mapping[str, Any]
) -> _Errors:
    if not isinstance(instance, dict):
        return
    for source, schema in given.items():
        for name, value in instance.items():
            if _is_found(source, name):
                yield from checker.descend(value, schema, path=name, schema_path=source)


def _additional_properties(
    checker: Validator, allowed: Any, instance: Any, schema: Mapping[str, Any]
) -> _Errors:
    if not isinstance(instance, dict):
        return
    for name, value in instance.items():
        if name in schema.get("properties", {}):
            continue
        if any(_is_found(each, name) for each in schema.get("patternProperties", {})):
            continue
        if allowed is False:
            yield jsonschema.ValidationError("additionalProperties")
        else:
            yield from checker.descend(value, allowed, path=name)


def _is_found(source: str, text: str) -> bool:
    """RE2 searches in linear time; the library's own patterns are Python's, which need not."""
    return compiled(source).search(text.encode("utf-8", "replace")) is not None


_PATTERNS: Final = jsonschema.FormatChecker(formats=())
_PATTERNS.checks("regex", raises=PatternError)(lambda given: not isinstance(given, str) or compiled(given))
_OURS: Final[Mapping[str, _Keyword]] = {
    "pattern": _pattern,
    "patternProperties": _pattern_properties,
    "additionalProperties": _additional_properties,
}
_Validator = jsonschema.validators.extend(Draft202012Validator, _OURS)
