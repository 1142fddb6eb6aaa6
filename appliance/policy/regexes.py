r"""Patterns: what is taken of RE2's syntax, how long a match can be, and what may still become one. Pure.

RE2 searches in time linear in the text, whatever the pattern: no rule can hang the gateway. Beyond its syntax
a pattern here has a longest match, since a stream is held back only so far, and names neither the beginning
nor the end of a text, which a stream does not know. So there is no `^`, `$`, `\A`, `\z`, `*`, `+` or `{n,}`:
`{0,64}` says how far.

A pattern is parsed into a small tree. From that come its widths, the pattern that is searched for, and the
one of its beginnings: `unfinished` finds from where on, at a text's end, a match may be on its way.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Protocol

import re2

from appliance.errors import RequestError

MAX_PATTERN: Final = 4000  # characters
_MAX_DEPTH: Final = 20
_FLAGS: Final = re.compile(r"\(\?([is]+)\)")
_ESCAPE: Final = re.compile(
    r"\\(?:[dDwWsStnrfva]|[pP](?:[A-Za-z]|\{\^?[A-Za-z_]+\})|x[0-9A-Fa-f]{2}|x\{[0-9A-Fa-f]{1,6}\}"
    r"|[^A-Za-z0-9\s])"
)
_CLASS: Final = re.compile(
    r"\[\^?\]?(?:\[:\^?[a-z]+:\]|\\[pP](?:[A-Za-z]|\{\^?[A-Za-z_]+\})|\\.|[^\]\\])*\]", re.DOTALL
)
_GROUP: Final = re.compile(r"\((?:\?:|\?P?<[A-Za-z_][A-Za-z0-9_]*>)?")
_COUNT: Final = re.compile(r"\{([0-9]{1,4})(?:,([0-9]{0,4}))?\}")


class Found(Protocol):
    """Where a match lies, in bytes."""

    def span(self, group: int = 0) -> tuple[int, int]: ...


class Search(Protocol):
    """A compiled pattern. What lies before `pos` counts as context only."""

    def search(self, text: bytes | bytearray, pos: int = 0) -> Found | None: ...

    def fullmatch(self, text: bytes | bytearray) -> Found | None: ...


@dataclass(frozen=True, slots=True)
class One:
    """Exactly one character."""

    source: str


@dataclass(frozen=True, slots=True)
class Border:
    r"""No character: `\\b` or `\\B`."""

    source: str


@dataclass(frozen=True, slots=True)
class Chain:
    """One behind the other."""

    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """One of them."""

    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Times:
    """So often."""

    part: Node
    least: int
    most: int
    is_lazy: bool


Node = One | Border | Chain | Choice | Times


@dataclass(frozen=True, slots=True)
class Pattern:
    """A parsed pattern. `flags` stand before its tree."""

    node: Node
    flags: str = ""

    @property
    def source(self) -> str:
        """What is searched for; it has no groups that capture."""
        return self.flags + _source(self.node)

    @property
    def unfinished(self) -> str:
        r"""What the beginning of a match can be, the whole of it and nothing among them."""
        return self.flags + _unfinished(self.node)

    @property
    def widths(self) -> tuple[int, int]:
        """The least and the most characters of a match."""
        return _widths(self.node)


def literal(text: str) -> Pattern:
    """A pattern of exactly this text."""
    return Pattern(Chain(tuple(One(_quoted(each)) for each in text)))


def parse(text: str) -> Pattern:
    """A pattern. RequestError says what is wrong with it, and from which character on."""
    if not 1 <= len(text) <= MAX_PATTERN:
        raise _wrong(f"a pattern has 1 to {MAX_PATTERN} characters", 0)
    flags = _FLAGS.match(text)
    reader = _Reader(text, flags.end() if flags else 0)
    node = reader.alternatives(0)
    if reader.at < len(text):
        raise _wrong("a bracket is closed that was not opened", reader.at)
    pattern = Pattern(node, flags[0] if flags else "")
    compiled(pattern.source)
    return pattern


def compiled(source: str) -> Search:
    """For searches in UTF-8. RequestError where RE2 does not take it."""
    options = re2.Options()
    options.log_errors = False
    try:
        found: Search = re2.compile(source.encode("utf-8"), options)
    except re2.error as error:
        raise _wrong(f"the pattern is not understood: {_told(error)}", 0) from None
    return found


class _Reader:
    """Reads a pattern by recursive descent; `at` is the next character."""

    def __init__(self, text: str, at: int) -> None:
        self._text = text
        self.at = at

    def alternatives(self, depth: int) -> Node:
        if depth > _MAX_DEPTH:
            raise _wrong(f"brackets are nested deeper than {_MAX_DEPTH}", self.at)
        found = [self._sequence(depth)]
        while self._peek() == "|":
            self.at += 1
            found.append(self._sequence(depth))
        return found[0] if len(found) == 1 else Choice(tuple(found))

    def _sequence(self, depth: int) -> Node:
        found: list[Node] = []
        while self._peek() not in {"", "|", ")"}:
            found.append(self._repeated(self._atom(depth)))
        return Chain(tuple(found))

    def _repeated(self, part: Node) -> Node:
        begin = self.at
        match self._peek():
            case "?":
                self.at += 1
                least, most = 0, 1
            case "*" | "+":
                raise _wrong("a repetition without an end: say how far, such as {0,64}", begin)
            case "{":
                count = _COUNT.match(self._text, begin)
                if count is None:
                    raise _wrong("a brace that is no count: a literal one is \\{", begin)
                if count[2] == "":
                    raise _wrong("a repetition without an end: say how far, such as {2,64}", begin)
                least, most = int(count[1]), int(count[2] or count[1])
                if most < least:
                    raise _wrong("a count whose end lies before its beginning", begin)
                self.at = count.end()
            case _:
                return part
        is_lazy = self._peek() == "?"
        self.at += is_lazy
        if self._peek() in {"?", "*", "+", "{"}:
            raise _wrong("a repetition of a repetition: put brackets around the first", self.at)
        return Times(part, least, most, is_lazy)

    def _atom(self, depth: int) -> Node:
        begin, character = self.at, self._peek()
        match character:
            case "(":
                group = _GROUP.match(self._text, begin)
                if group is None or self._text.startswith("?", group.end()):
                    raise _wrong(
                        "a group is (…), (?:…) or (?P<name>…); (?i) and (?s) stand at the beginning", begin
                    )
                self.at = group.end()
                found = self.alternatives(depth + 1)
                if self._peek() != ")":
                    raise _wrong("a bracket is not closed", begin)
                self.at += 1
                return found
            case "[":
                return self._one(_CLASS.match(self._text, begin), "a class of characters is not closed")
            case "\\":
                if self._text[begin + 1 : begin + 2] in {"b", "B"}:
                    self.at += 2
                    return Border(self._text[begin : self.at])
                return self._one(_ESCAPE.match(self._text, begin), "this escape is not taken here")
            case "^" | "$":
                raise _wrong(
                    f"{character} is not taken: a rule looks everywhere; a literal one is escaped", begin
                )
            case "*" | "+" | "?" | "{":
                raise _wrong("a repetition of nothing", begin)
            case _:
                self.at += 1
                return One("." if character == "." else _quoted(character))

    def _one(self, found: re.Match[str] | None, problem: str) -> Node:
        if found is None:
            raise _wrong(problem, self.at)
        self.at = found.end()
        return One(found[0])

    def _peek(self) -> str:
        return self._text[self.at : self.at + 1]


def _source(node: Node) -> str:
    match node:
        case One() | Border():
            return node.source
        case Chain():
            return "".join(map(_source, node.parts)) or "(?:)"
        case Choice():
            return f"(?:{'|'.join(map(_source, node.parts))})"
        case Times():
            return f"(?:{_source(node.part)}){{{node.least},{node.most}}}{'?' if node.is_lazy else ''}"


def _unfinished(node: Node) -> str:
    """Every beginning, the empty one too. At a border nothing is asked: what follows is not known yet."""
    match node:
        case One():
            return f"(?:{node.source})?"
        case Border():
            return "(?:)"
        case Chain():
            found = "(?:)"
            for each in reversed(node.parts):
                found = f"(?:{_unfinished(each)}|{_source(each)}{found})"
            return found
        case Choice():
            return f"(?:{'|'.join(map(_unfinished, node.parts))})"
        case Times():
            if node.most == 0:
                return "(?:)"
            return f"(?:{_source(node.part)}){{0,{node.most - 1}}}{_unfinished(node.part)}"


def _widths(node: Node) -> tuple[int, int]:
    match node:
        case One():
            return 1, 1
        case Border():
            return 0, 0
        case Chain():
            each = [_widths(part) for part in node.parts]
            return sum(least for least, _ in each), sum(most for _, most in each)
        case Choice():
            each = [_widths(part) for part in node.parts]
            return min(least for least, _ in each), max(most for _, most in each)
        case Times():
            least, most = _widths(node.part)
            return least * node.least, most * node.most


def _quoted(character: str) -> str:
    return character if character.isalnum() or not character.isascii() else f"\\x{{{ord(character):x}}}"


def _told(error: re2.error) -> str:
    said = error.args[0] if error.args else b""
    return said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)


def _wrong(problem: str, at: int) -> RequestError:
    return RequestError(f"{problem} (character {at + 1} of the pattern)", code="invalid_guardrails")
