"""Contents for a third party: parts are withheld, and for each it says which and why. Pure.

What is left is vouched for by whoever signs the evidence, and proved by nothing: the header commits to the
whole content, and only its key would show that the rest is as it was. Only what this file knows by name is
left: a field that it does not know is withheld whole. Words are looked for in every string that is left,
also across the pieces of a stream, with upper and lower case alike; a person reads the result before it goes.
"""

from __future__ import annotations

import itertools
import json
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from appliance.errors import RequestError, VerificationError

VERSION: Final = 1
MARK: Final = "[withheld]"
MAX_WORDS: Final = 100
MAX_WORD_CHARACTERS: Final = 200
MAX_REASON_CHARACTERS: Final = 300
_UNKNOWN: Final = "this release does not know this field, and so does not show it"


class Part(StrEnum):
    """What can be withheld of an exchange."""

    QUESTION = "question"
    ANSWER = "answer"
    WHO = "who"
    ADDRESS = "address"


# Every field that an exchange's content can have, by what it tells.
PARTS: Final[Mapping[str, Part | None]] = {
    "messages": Part.QUESTION,
    "inputs": Part.QUESTION,
    "query": Part.QUESTION,
    "documents": Part.QUESTION,
    "prompts": Part.QUESTION,
    "tooling": Part.QUESTION,
    "schema": Part.QUESTION,
    "sampling": None,
    "n": None,
    "effort": None,
    "timeout_seconds": None,
    "dimensions": None,
    "add_special": None,
    "parse_special": None,
    "setup": None,
    "annotations": Part.WHO,
    "capture_basis": Part.WHO,
    "principal": Part.WHO,
    "caller": Part.ADDRESS,
    "text": Part.ANSWER,
    "output": Part.ANSWER,
    "outputs": Part.ANSWER,
    "choice": None,
    "logprobs": Part.ANSWER,
    "tokens": Part.ANSWER,
    "logits": Part.ANSWER,
}
# Words of the question, among numbers: texts, and tokens by their ids.
_STOP, _BIAS = ("sampling", "stop"), ("sampling", "logit_bias")
# What was said once more, in numbers or in pieces of words: no word matches there.
_ENCODED: Final = frozenset({"tokens", "logits", "logprobs"})


@dataclass(frozen=True, slots=True)
class Redaction:
    """What is withheld, and why. RequestError where it says nothing."""

    parts: frozenset[Part] = frozenset()
    words: tuple[str, ...] = field(default=(), repr=False)
    reason: str = ""

    def __post_init__(self) -> None:
        if not self.parts and not self.words:
            raise _invalid("a redaction names what it withholds")
        if len(self.words) > MAX_WORDS or not all(
            2 <= len(each.strip()) <= len(each) <= MAX_WORD_CHARACTERS for each in self.words
        ):
            raise _invalid(f"at most {MAX_WORDS} words of 2 to {MAX_WORD_CHARACTERS} characters")
        if not 3 <= len(self.reason.strip()) <= len(self.reason) <= MAX_REASON_CHARACTERS or not (
            self.reason.isprintable()
        ):
            raise _invalid(f"a redaction gives its reason, 3 to {MAX_REASON_CHARACTERS} characters")


def redact(
    records: Sequence[tuple[int, str, str, Mapping[str, Any]]], redaction: Redaction
) -> dict[int, bytes]:
    """What is left of each record: (seq, request id, digest of the ciphertext, content), by seq.

    Records of one request are read as one stream, so give all of them, in order.
    """
    pattern = _pattern(redaction.words)
    spans = _across_pieces(records, pattern) if pattern else {}
    found = {}
    for seq, _, sha256, content in records:
        work = _Work(redaction, pattern, spans.get(seq, {}))
        left = work.content(content)
        told = {"v": VERSION, "seq": seq, "ct_sha256": sha256, "content": left, "withheld": work.withheld}
        found[seq] = _json(told)
    return found


def check(data: bytes, seq: int, ct_sha256: str) -> None:
    """That a redacted file is in its form and about this record. VerificationError otherwise."""
    try:
        told = json.loads(data)
        good = (
            isinstance(told, dict)
            and told.keys() == {"v", "seq", "ct_sha256", "content", "withheld"}
            and (told["v"], told["seq"], told["ct_sha256"]) == (VERSION, seq, ct_sha256)
            and isinstance(told["content"], dict)
            and isinstance(told["withheld"], list)
            and all(
                isinstance(each, dict)
                and each.keys() == {"at", "reason"}
                and all(isinstance(value, str) for value in each.values())
                for each in told["withheld"]
            )
            and _json(told) == data
        )
    except (ValueError, RecursionError) as error:
        raise VerificationError("a redacted content is malformed") from error
    if not good:
        raise VerificationError("a redacted content is not of this record, or not in its form")


class _Work:
    """One record's content, part by part."""

    def __init__(
        self,
        redaction: Redaction,
        pattern: re.Pattern[str] | None,
        spans: Mapping[str, list[tuple[int, int]]],
    ) -> None:
        self._redaction = redaction
        self._pattern = pattern
        self._spans = spans
        self.withheld: list[dict[str, str]] = []

    def content(self, content: Mapping[str, Any]) -> dict[str, Any]:
        left: dict[str, Any] = {}
        for name, value in content.items():
            if name not in PARTS:
                left[MARK if self._matches(name) else name] = self._mark(f"/{name}", _UNKNOWN)
            elif PARTS[name] in self._redaction.parts or (self._pattern and name in _ENCODED):
                left[name] = self._mark(f"/{name}")
            else:
                left[name] = self._value(f"/{name}", value)
        for one, other in (_STOP, _BIAS):
            among = left.get(one)
            is_asked = Part.QUESTION in self._redaction.parts or ((one, other) == _BIAS and self._pattern)
            if is_asked and isinstance(among, dict) and other in among:
                left[one] = {**among, other: self._mark(f"/{one}/{other}")}
        return left

    def _value(self, at: str, value: Any) -> Any:
        match value:
            case str():
                return self._cut(at, value, self._spans.get(at) or self._found(value))
            case Mapping():
                return dict(self._item(at, name, each) for name, each in value.items())
            case list() | tuple() if self._pattern and _is_tokens(at, value):
                return self._mark(at)
            case list() | tuple():
                return [self._value(f"{at}/{number}", each) for number, each in enumerate(value)]
            case int() | float() if not isinstance(value, bool) and self._matches(str(value)):
                return self._mark(at)
        return value

    def _item(self, at: str, name: str, value: Any) -> tuple[str, Any]:
        if self._pattern and name in _ENCODED and at.startswith("/outputs/"):
            return name, self._mark(f"{at}/{name}")
        if self._matches(name):
            number = len(self.withheld)
            return f"{MARK} {number}", self._mark(f"{at}/{MARK} {number}")
        return name, self._value(f"{at}/{name}", value)

    def _matches(self, text: str) -> bool:
        return self._pattern is not None and self._pattern.search(text) is not None

    def _found(self, text: str) -> list[tuple[int, int]]:
        return [match.span() for match in self._pattern.finditer(text)] if self._pattern else []

    def _cut(self, at: str, text: Any, spans: Sequence[tuple[int, int]]) -> Any:
        if not spans or not isinstance(text, str):
            return text
        parts, last = [], 0
        for begin, end in spans:
            parts += [text[last:begin], MARK]
            last = end
        self._mark(at)
        return "".join([*parts, text[last:]])

    def _mark(self, at: str, reason: str = "") -> str:
        self.withheld.append({"at": at, "reason": reason or self._redaction.reason})
        return MARK


def _across_pieces(
    records: Iterable[tuple[int, str, str, Mapping[str, Any]]], pattern: re.Pattern[str]
) -> dict[int, dict[str, list[tuple[int, int]]]]:
    """Where words lie in the answers' pieces: a word may begin in one and end in another."""
    pieces: dict[tuple[str, int], list[tuple[int, str, str]]] = {}  # by request and choice
    for seq, request, _, content in records:
        for choice, at, text in _pieces(content):
            pieces.setdefault((request, choice), []).append((seq, at, text))
    found: dict[int, dict[str, list[tuple[int, int]]]] = {}
    for several in pieces.values():
        ends = list(itertools.accumulate(len(text) for _, _, text in several))
        spans = [match.span() for match in pattern.finditer("".join(text for _, _, text in several))]
        for (seq, at, text), end in zip(several, ends, strict=True):
            start = end - len(text)
            inside = [
                (max(one, start) - start, min(other, end) - start)
                for one, other in spans
                if one < end and other > start
            ]
            found.setdefault(seq, {})[at] = inside
    return found


def _pieces(content: Mapping[str, Any]) -> Iterator[tuple[int, str, str]]:
    """(choice, path, text) of what a content holds of answers."""
    for name in ("text", "output"):
        if isinstance(content.get(name), str):
            yield int(content.get("choice", 0)), f"/{name}", content[name]
    for number, each in enumerate(content.get("outputs", ())):
        yield int(each["choice"]), f"/outputs/{number}/text", each["text"]


def _is_tokens(at: str, value: Sequence[Any]) -> bool:
    """Whether this is a text in the ids of its tokens: nobody can look for words in it here."""
    return at.startswith(("/inputs/", "/prompts/")) and all(isinstance(each, int) for each in value)


def _pattern(words: Sequence[str]) -> re.Pattern[str] | None:
    """Any of the words, longest first, in each form that Unicode gives the same letters."""
    forms = {unicodedata.normalize(form, each) for each in words for form in ("NFC", "NFD", "NFKC")} | {
        *words
    }
    if not forms:
        return None
    return re.compile(
        "|".join(map(re.escape, sorted(forms, key=lambda each: (-len(each), each)))), re.IGNORECASE
    )


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode() + b"\n"


def _invalid(message: str) -> RequestError:
    return RequestError(message, code="invalid_redaction", param="redact")
