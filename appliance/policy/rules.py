"""Rule sets: what an operator writes in TOML, and what becomes of it. Pure.

Everything is checked when it is read: a rule set that was taken can not fail on a text.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from appliance.errors import RequestError
from appliance.policy import identifiers, regexes
from appliance.policy.folding import fold
from appliance.policy.matching import Anywhere, Matcher, Words
from appliance.policy.regexes import Chain, Choice, One, Pattern
from appliance.policy.verdicts import Action, Rule

MAX_RULES: Final = 500
MAX_TERMS: Final = 5000  # of one rule
MAX_SHOWN: Final = 2000  # characters of a message or a replacement
WINDOW: Final = 256
_HEADER: Final = re.compile(r"\s*\[\[\s*rules\s*\]\]")
_PLACE: Final = re.compile(r"\$\.rules\[(\d+)\](?:\.(\w+))?")
_MATCHERS: Final = ("pattern", "identifier", "terms", "max_characters")
_Id = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
_Term = Annotated[str, Meta(min_length=1, max_length=100)]


class _Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    id: _Id
    on: Literal["input", "output", "both"]
    action: Action
    pattern: str | None = None
    identifier: str | None = None
    shape: str | None = None
    terms: Annotated[list[_Term], Meta(min_length=1, max_length=MAX_TERMS)] | None = None
    whole_words: bool = True
    max_characters: Annotated[int, Meta(ge=1, le=100_000_000)] | None = None
    replacement: Annotated[str, Meta(max_length=MAX_SHOWN)] | None = None
    message: Annotated[str, Meta(max_length=MAX_SHOWN)] = ""


class _Rules(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    rules: Annotated[list[_Rule], Meta(min_length=1, max_length=MAX_RULES)]
    description: Annotated[str, Meta(max_length=MAX_SHOWN)] = ""
    window_characters: Annotated[int, Meta(ge=16, le=1000)] = WINDOW


@dataclass(frozen=True, slots=True)
class RuleSet:
    """The rules of one document, in their order, for each side."""

    input: tuple[Rule, ...]
    output: tuple[Rule, ...]
    notes: tuple[str, ...] = ()  # what is allowed, and may not be meant

    @property
    def ids(self) -> frozenset[str]:
        return frozenset(each.id for each in (*self.input, *self.output))


def parse(text: str) -> RuleSet:
    """A rule set. RequestError says what is wrong, and in which line."""
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _wrong(f"this is no TOML: {str(error)[:200]}") from None
    try:
        written = msgspec.convert(raw, _Rules)
    except msgspec.ValidationError as error:
        found = _PLACE.search(str(error))
        where = _where(text, int(found[1]), found[2] or "id") if found else ""
        raise _wrong(f"{where}{str(error)[:300]}") from None
    rules: list[tuple[str, Rule]] = []
    notes: list[str] = []
    known: set[str] = set()
    for number, each in enumerate(written.rules):
        if each.id in known:
            raise _wrong(f"{_where(text, number, 'id')}two rules have this id")
        known.add(each.id)
        for key, problem in _problems(each):
            raise _wrong(f"{_where(text, number, key)}{problem}")
        matcher = _matcher(text, number, each, written.window_characters)
        rules.append((each.on, _rule(each, matcher)))
        notes += [f"{_where(text, number, 'id')}{note}" for note in _notes(each, matcher)]
    return RuleSet(
        input=tuple(rule for on, rule in rules if on != "output"),
        output=tuple(rule for on, rule in rules if on != "input"),
        notes=tuple(notes),
    )


def _problems(rule: _Rule) -> Iterator[tuple[str, str]]:
    """What a rule's keys say against each other, with the key that says it."""
    given = [name for name in _MATCHERS if getattr(rule, name) is not None]
    if len(given) != 1:
        yield "id", f"a rule has exactly one of {', '.join(_MATCHERS)}"
    if rule.shape is not None and rule.identifier is None:
        yield "shape", "a shape belongs to an identifier"
    if not rule.whole_words and rule.terms is None:
        yield "whole_words", "whole_words belongs to terms"
    if rule.replacement is not None and rule.action is not Action.REDACT:
        yield "replacement", "a replacement belongs to the action redact"
    if rule.replacement is not None and not _is_shown(rule.replacement):
        yield "replacement", "a replacement has no control characters"
    if rule.message and rule.action is not Action.REFUSE:
        yield "message", "a message belongs to the action refuse"
    if not _is_shown(rule.message):
        yield "message", "a message has no control characters"
    if rule.max_characters is not None and rule.action not in {Action.FLAG, Action.REFUSE}:
        yield "action", "what is too long is flagged or refused"


def _matcher(text: str, number: int, rule: _Rule, window: int) -> Matcher | None:
    try:
        if rule.pattern is not None:
            found: Matcher = Anywhere(regexes.parse(rule.pattern))
            least = regexes.parse(rule.pattern).widths[0]
        elif rule.identifier is not None:
            check = identifiers.check_of(rule.identifier)
            shape = rule.shape or identifiers.SHAPES.get(rule.identifier)
            if shape is None:
                raise _wrong('no shape of such a number is known: give one, such as shape = "[0-9]{9}"')
            pattern = regexes.parse(f"(?i){shape}")
            found, least = Words(pattern, check), pattern.widths[0]
        elif rule.terms is not None:
            listed = _listed(rule.terms)
            found, least = Words(listed) if rule.whole_words else Anywhere(listed), listed.widths[0]
        else:
            return None
    except RequestError as error:
        key = next(name for name in ("shape", *_MATCHERS) if getattr(rule, name) is not None)
        raise RequestError(
            f"{_where(text, number, key)}{error.message}", code=error.code, hint=error.hint
        ) from None
    key = next(name for name in _MATCHERS if getattr(rule, name) is not None)
    if least == 0:
        raise _wrong(f"{_where(text, number, key)}this matches where nothing stands")
    if found.width > window:
        raise _wrong(
            f"{_where(text, number, key)}this matches up to {found.width} characters, more than "
            f"window_characters = {window}: an answer is held back no further than that"
        )
    return found


def _listed(terms: list[str]) -> Pattern:
    """Any of the terms, longer ones first, folded as the texts are."""
    folded = sorted(
        {" ".join(fold(each, is_cased=False).split()) for each in terms}, key=lambda t: (-len(t), t)
    )
    if "" in folded:
        raise _wrong("a term has nothing in it that can be seen")
    space = One(r"[ \t\n\r]")
    parts = []
    for each in folded:
        literal = regexes.literal(each).node
        spelt = literal.parts if isinstance(literal, Chain) else (literal,)
        parts.append(
            Chain(tuple(space if said == " " else one for said, one in zip(each, spelt, strict=True)))
        )
    pattern = Pattern(Choice(tuple(parts)))
    regexes.compiled(pattern.source)
    return pattern


def _rule(rule: _Rule, matcher: Matcher | None) -> Rule:
    return Rule(
        id=rule.id,
        action=rule.action,
        matcher=matcher,
        is_cased=rule.terms is None,
        max_characters=rule.max_characters,
        replacement="[removed]" if rule.replacement is None else rule.replacement,
        message=rule.message,
    )


def _notes(rule: _Rule, matcher: Matcher | None) -> Iterator[str]:
    if (
        matcher is not None
        and rule.replacement is not None
        and next(matcher.find(fold(rule.replacement).encode("utf-8"), 0), None)
    ):
        yield "its replacement is found by the rule itself"
    if rule.action is Action.REFUSE and rule.on != "output" and not rule.message:
        yield "it refuses without a message: callers are told only the rule's id"


def _is_shown(text: str) -> bool:
    return all(each.isprintable() or each == "\n" for each in text)


def _where(text: str, number: int, key: str) -> str:
    """`line 12, column 3: `, of a key in the rule with this number."""
    lines = text.splitlines()
    headers = [at for at, line in enumerate(lines) if _HEADER.match(line)]
    if number >= len(headers):
        return f"rule {number + 1}: "
    end = headers[number + 1] if number + 1 < len(headers) else len(lines)
    for at in range(headers[number], end):
        stripped = lines[at].lstrip()
        if re.match(rf"{re.escape(key)}\s*=", stripped):
            return f"line {at + 1}, column {len(lines[at]) - len(stripped) + 1}: "
    return f"line {headers[number] + 1}: "


def _wrong(problem: str) -> RequestError:
    return RequestError(problem, code="invalid_guardrails")
