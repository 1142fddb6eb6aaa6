"""Schemas before they are compiled: a closed list of keywords, one dialect, bounds on everything."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.engine.worker import schemas, trial
from appliance.engine.worker.grammar import GrammarError, Grammars, Source
from appliance.engine.worker.patterns import PatternError, translate
from appliance.engine.worker.schemas import SchemaError, check
from appliance.engine.worker.trial import KeeperGoneError, Pipes, Trial, Vocabulary
from tests.engines import LOAD
from tests.fakes.fake_backend import FakeBackend

# What llguidance 1.9 ignores without a word, or does not implement: each is refused by its name.
NOT_KEPT_TO: dict[str, Any] = {
    "not": {"type": "string"},
    "if": {},
    "then": {},
    "else": {},
    "dependentSchemas": {},
    "dependentRequired": {},
    "dependencies": {},
    "unevaluatedProperties": False,
    "unevaluatedItems": False,
    "propertyNames": {},
    "uniqueItems": True,
    "contains": {},
    "minContains": 1,
    "maxContains": 1,
    "additionalItems": False,
    "contentEncoding": "base64",
    "contentMediaType": "text/html",
    "contentSchema": {},
    "nullable": True,
    "divisibleBy": 2,
    "disallow": "string",
    "extends": {},
    "strict": True,
    "madeUp": 1,
    "id": "x",
    "$dynamicRef": "#x",
    "$dynamicAnchor": "x",
    "$recursiveRef": "#",
    "$vocabulary": {},
    "x-guidance": {"lenient": True},
}
WRONG: list[dict[str, Any]] = [
    {"type": "strin"},
    {"type": []},
    {"type": 5},
    {"enum": []},
    {"enum": 5},
    {"anyOf": []},
    {"anyOf": {}},
    {"allOf": [5]},
    {"items": [{"type": "string"}]},
    {"items": 5},
    {"exclusiveMinimum": True},
    {"minimum": "1"},
    {"maximum": 1e300},
    {"minimum": (1 << 53) + 1},
    {"minLength": -1},
    {"minLength": 1.5},
    {"maxItems": 10**7},
    {"multipleOf": 0},
    {"multipleOf": -5},
    {"multipleOf": 999_999_937},
    {"multipleOf": 1e-300},
    {"anyOf": [{"multipleOf": each} for each in (997, 991, 983, 977)]},
    {"format": "regex"},
    {"format": "unknown"},  # the compiler would take any text
    {"pattern": 5},
    {"pattern": "a" * 1001},
    {"patternProperties": {"(?=a)": {}}},
    {"patternProperties": []},
    {"required": "a"},
    {"required": [5]},
    {"properties": []},
    {"properties": {"a": 5}},
    {"properties": {"x" * 257: {}}},
    {"properties": {str(each): {} for each in range(401)}},
    {"anyOf": [{}] * 401},
    {"enum": list(range(5001))},
    {"type": "object", "minProperties": 2, "additionalProperties": {}},
    {"$ref": "http://example.org/x"},
    {"$ref": "file:///etc/passwd"},
    {"$ref": "other.json#/a"},
    {"$ref": "#anchor"},
    {"$ref": "#/$defs/none"},
    {"$ref": "#/default", "default": {"not": {}}},
    {"$ref": "#/enum/0", "enum": [{}]},
    {"$ref": "#/anyOf/7", "anyOf": [{}]},
    {"$ref": 5},
    {"$defs": []},
    {"properties": {"a": {"$id": "http://example.org"}}},
    {"properties": {"a": {"$schema": "http://example.org"}}},
    {"$ref": "#/$defs/a", "$defs": {"a": {"not": {}}}},
]
ENDLESS: list[dict[str, Any]] = [
    {"$ref": "#"},
    {"anyOf": [{"$ref": "#"}, {"$ref": "#"}]},
    {"allOf": [{"$ref": "#"}, {"type": "object"}]},
    {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}},
    {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]},
    {"type": "array", "items": {"$ref": "#"}, "minItems": 1},
    {"type": "array", "prefixItems": [{"$ref": "#"}], "minItems": 1},
]
FINE: list[dict[str, Any]] = [
    {},
    {"type": ["string", "null"], "title": "x", "description": "y", "default": 1, "examples": [1]},
    {"$schema": "http://json-schema.org/draft-07/schema#", "$id": "http://e.org/s", "$comment": "c"},
    {"type": "object", "properties": {"not": {"type": "string"}, "if": {}, "$id": {}}},
    {"const": {"not": 5, "$ref": "http://example.org", "multipleOf": 999_999_937}},
    {"type": "object", "properties": {"a": {"$ref": "#"}}},
    {"type": "array", "items": {"$ref": "#"}},
    {"anyOf": [{"$ref": "#/$defs/a%20b~1c"}], "$defs": {"a b/c": {"type": "string"}}},
    {"$ref": "#/properties/a/items", "properties": {"a": {"items": {"type": "string"}}}},
    {"type": "object", "properties": {"a": {}, "b": {}}, "required": ["a", "b"], "minProperties": 2},
    {"oneOf": [{"type": "string"}, {"type": "integer"}], "discriminator": {}, "x-order": 5},
    {"$defs": {"unused": {"not": {}}}, "type": "string"},
    {"type": "number", "multipleOf": 0.01, "minimum": -(1 << 53)},
]


@pytest.mark.parametrize("keyword", NOT_KEPT_TO)
def test_keywords_that_can_not_be_kept_to_are_named(keyword: str) -> None:
    """With the path to them; nothing is ignored in silence."""
    schema = {"type": "object", "properties": {"a": {keyword: NOT_KEPT_TO[keyword]}}}
    with pytest.raises(SchemaError, match=re.escape(f"'{keyword}'") + ".* at #/properties/a"):
        check(json.dumps(schema))


@pytest.mark.parametrize("schema", WRONG, ids=[json.dumps(each)[:50] for each in WRONG])
def test_what_is_wrong_or_too_much_is_refused(schema: dict[str, Any]) -> None:
    """Before anything is compiled."""
    with pytest.raises(SchemaError):
        check(json.dumps(schema))


@pytest.mark.parametrize("schema", ENDLESS, ids=[json.dumps(each)[:50] for each in ENDLESS])
def test_schemas_without_a_finite_answer_are_refused(schema: dict[str, Any]) -> None:
    """A model that kept to one of them would write until its limit."""
    with pytest.raises(SchemaError, match="could ever end"):
        check(json.dumps(schema))


@pytest.mark.parametrize("schema", FINE, ids=[json.dumps(each)[:50] for each in FINE])
def test_what_can_be_kept_to_compiles(schema: dict[str, Any]) -> None:
    """Annotations, drafts' names, names of properties that are keywords elsewhere."""
    assert Grammars(FakeBackend(LOAD)).compile(Source("schema", json.dumps(schema))).mask().any()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hello",
        "[]",
        "true",
        "5",
        "null",
        "{",
        '{"type": "string", "type": "integer"}',
        '{"minimum": NaN}',
        '{"minimum": 1e400}',
        '{"minimum": ' + "9" * 5000 + "}",
        '{"const": "\\ud800"}',
        "[" * 100_000,
        '{"a":' * 100_000 + "1" + "}" * 100_000,
        '{"anyOf":[' * 90 + "{}" + "]}" * 90,
        '{"const": "' + "x" * (256 * 1024) + '"}',
        '"' + "\\" * 1000,
    ],
    ids=range(17),
)
def test_what_is_no_schema_is_refused(text: str) -> None:
    """Whatever stands there, as a refusal and in no time."""
    with pytest.raises(SchemaError):
        check(text)


def test_many_schemas_in_one_are_refused() -> None:
    """And so is a long way around in circles, at once."""
    many = {"anyOf": [{"anyOf": [{"type": "string"}] * 100}] * 100}
    chain = {f"d{at}": {"$ref": f"#/$defs/d{at - 1}"} for at in range(1, 4000)} | {
        "d0": {"$ref": "#/$defs/d3999"}
    }
    for schema in (json.loads(json.dumps(many)), {"$ref": "#/$defs/d3999", "$defs": chain}):
        with pytest.raises(SchemaError):
            check(json.dumps(schema))


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        lambda each: (
            st.lists(each) | st.dictionaries(st.sampled_from([*sorted(schemas._KEYWORDS), "x"]), each)
        ),
    )
)
def test_nothing_else_comes_of_anything(value: Any) -> None:
    """Any JSON is refused, or comes out as JSON with the same keywords but for those of its root."""
    try:
        checked = check(json.dumps(value))
    except SchemaError:
        return
    assert json.loads(checked).keys() == value.keys() - {"$schema", "$id"}


@pytest.mark.parametrize(
    "pattern",
    [
        "(?=a)b",
        "(?!a)b",
        "(?<=a)b",
        "(?<!a)b",
        r"(a)\1",
        r"(?<x>a)\k<x>",
        "(?i)a",
        "(?i:a)",
        r"\bfoo\b",
        r"\B",
        r"\Aa\z",
        r"\Z",
        r"\Qa\E",
        r"\cJ",
        "[a[bc]]",
        "[a&&b]",
        "[a--b]",
        "[a~~b]",
        "[[:alpha:]]",
        "[]a]",
        "[^]a]",
        r"[\W]",
        r"[\b]",
        "a{,5}",
        "{",
        "a{1,100000}",
        "a++",
        "a*+",
        "a?+",
        "a{2}+",
        r"\ud800",
        r"\u{110000}",
        r"\x4",
        "\\",
        r"\é",
    ],
)
def test_patterns_that_are_not_the_same_everywhere_are_refused(pattern: str) -> None:
    """What Rust, Python and ECMAScript read differently, or what is no regular expression."""
    with pytest.raises(PatternError):
        translate(pattern)


@pytest.mark.parametrize(
    ("pattern", "translated"),
    [
        (r"^\d{3}-\d{4}$", "^[0-9]{3}-[0-9]{4}$"),
        (r"^[\d\w.-]+$", "^[0-9A-Za-z0-9_.-]+$"),
        (r"a.b\.c", r"a[^\n\r\x{2028}\x{2029}]b\.c"),
        (r"\u0041\x42\/\-", r"\x{41}\x{42}\/\-"),
        (r"(?:a|b)(?<n>c)*?", r"(?:a|b)(?<n>c)*?"),
        (r"[^a-z\]]{2,}", r"[^a-z\]]{2,}"),
        (r"\p{L}\D\S", r"\p{L}[^0-9][^\s\x1c-\x1f\x{85}\x{feff}]"),
    ],
)
def test_patterns_are_written_out(pattern: str, translated: str) -> None:
    """Classes mean what they mean in ECMAScript."""
    assert translate(pattern) == translated


@contextmanager
def kept() -> Iterator[tuple[subprocess.Popen[bytes], Pipes]]:
    """A keeper as a worker forks one, and the worker's ends."""
    program = (
        "from appliance.engine.worker import keeper\n"
        "from appliance.engine.worker.sandbox import Sandbox\n"
        "keeper.keep(0, 1, Sandbox())\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield process, Pipes(process.stdin.fileno(), process.stdout.fileno())
        finally:
            process.kill()


HANGS = {
    "type": "array",
    "items": {"anyOf": [{"type": "integer", "multipleOf": n} for n in (997, 991, 983, 977)]},
}


def test_what_compiles_for_ever_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a process of its own: the next one's is compiled, and who sends such again is refused untried."""
    monkeypatch.setattr(trial, "MAX_DEATHS", 1)
    hangs = Source("lark", "start: x\nx: %json " + json.dumps(HANGS))
    with kept() as (_, pipes):
        grammars = Grammars(FakeBackend(LOAD), pipes)
        with pytest.raises(GrammarError, match="too much time or memory"):
            grammars.compile(hangs, tenant="hostile")
        with pytest.raises(GrammarError, match="too many"):
            grammars.compile(hangs, tenant="hostile")
        assert grammars.compile(Source("schema", '{"type": "integer"}'), tenant="kind").mask().any()


def test_what_was_compiled_is_kept() -> None:
    """Two answers to one tenant share what was compiled, and each has its own place in it."""
    grammars = Grammars(FakeBackend(LOAD))
    one, two = (grammars.compile(Source("schema", '{"const": "ab"}')) for _ in range(2))
    one.accept(ord('"'))

    assert one._shared is two._shared
    assert (one.allows(ord("a")), two.allows(ord("a"))) == (True, False)
    assert grammars.find(Source("schema", '{"const": "ab"}')) is not None
    assert grammars.find(Source("schema", '{"const": "ab"}'), tenant="another") is None
    for number in range(100):
        grammars.compile(Source("schema", json.dumps({"const": number})))
    assert grammars.find(Source("schema", '{"const": "ab"}')) is None
    assert len(grammars._kept) == 64


def test_a_trial_that_can_not_be_had_is_an_error() -> None:
    """No keeper, no grammar: nothing is compiled untried, and a worker without its keeper is none."""
    with kept() as (process, pipes):
        tried = Trial(lambda: Vocabulary([b"a"], [], [0]), pipes)
        tried.try_out("start: /a/", "")
        process.kill()
        process.wait()
        for _ in range(2):
            with pytest.raises(KeeperGoneError):
                tried.try_out("start: /a/", "")
