"""Patterns of JSON Schema, which are ECMAScript's, in the words of the compiler, which are Rust's.

Where the two read a construct differently it is written out, so that a text which fits the result
fits the pattern by ECMA-262 without flags, and by Python's `re` too. Source: ECMA-262, 22.2; the
documentation of Rust's crate `regex`. Pure.
"""

from __future__ import annotations

import re

MAX_CHARACTERS = 1000
MAX_REPEATS = 10_000

_DIGIT, _WORD, _SPACE = "0-9", "A-Za-z0-9_", r" \t\n\r"
_NOT_SPACE = r"\s\x1c-\x1f\x{85}\x{feff}"  # all that any of the three reads as space
_NOT_LINE_END = r"[^\n\r\x{2028}\x{2029}]"
_INSIDE = {"d": _DIGIT, "w": _WORD, "s": _SPACE}
_OUTSIDE = {
    **{name: f"[{chars}]" for name, chars in _INSIDE.items()},
    "D": f"[^{_DIGIT}]",
    "W": f"[^{_WORD}]",
    "S": f"[^{_NOT_SPACE}]",
}
_SAME = frozenset("nrtfv")  # single characters that all spell alike
_CODE_POINT = re.compile(r"x([0-9A-Fa-f]{2})|u([0-9A-Fa-f]{4})|u\{([0-9A-Fa-f]{1,6})\}")
_CATEGORY = re.compile(r"[pP]\{[A-Za-z_=]{1,40}\}")
_REPEAT = re.compile(r"\{(\d{1,9})(?:,(\d{1,9})?)?\}")
_GROUP = re.compile(r"\(\?(?::|<[A-Za-z_][A-Za-z0-9_]{0,63}>)")
_SET_OPERATIONS = ("&&", "--", "~~")


class PatternError(Exception):
    """What this pattern uses can not be kept to; the message names the construct, never the pattern."""


def translate(pattern: str) -> str:
    """The same pattern for the compiler. PatternError where there is none that is surely the same."""
    if len(pattern) > MAX_CHARACTERS:
        raise PatternError(f"it has more than {MAX_CHARACTERS} characters")
    out: list[str] = []
    at = 0
    in_class = False
    while at < len(pattern):
        char = pattern[at]
        if char == "\\":
            written, at = _escape(pattern, at + 1, in_class=in_class)
            out.append(written)
            continue
        size = 1
        if in_class:
            in_class = _is_class_open(pattern, at)
        elif char == "[":
            in_class = True
            size = 2 if pattern.startswith("[^", at) else 1
            if pattern.startswith("]", at + size):
                raise PatternError("an empty class")
        elif char == "(":
            size = _group(pattern, at)
        elif char == "{":
            size = _repeat(pattern, at)
        if not in_class and char in "*+?}" and pattern.startswith("+", at + 1):
            raise PatternError("a possessive repeat")
        out.append(_NOT_LINE_END if char == "." and not in_class else pattern[at : at + size])
        at += size
        if char == "{" and not in_class and pattern.startswith("+", at):
            raise PatternError("a possessive repeat")
    return "".join(out)


def _is_class_open(pattern: str, at: int) -> bool:
    if pattern[at] == "[" or pattern.startswith(_SET_OPERATIONS, at):
        raise PatternError("a class within a class")
    return pattern[at] != "]"


def _escape(pattern: str, at: int, *, in_class: bool) -> tuple[str, int]:
    """What stands for the escape whose letter is at `at`, and where it ends."""
    char = pattern[at : at + 1]
    known = _INSIDE if in_class else _OUTSIDE
    if char in known:
        return known[char], at + 1
    if char in _SAME:
        return f"\\{char}", at + 1
    if found := _CODE_POINT.match(pattern, at):
        value = int(found[1] or found[2] or found[3], 16)
        if 0xD800 <= value < 0xE000 or value > 0x10FFFF:
            raise PatternError("half of a surrogate pair")
        return f"\\x{{{value:x}}}", found.end()
    if found := _CATEGORY.match(pattern, at):
        return f"\\{found[0]}", found.end()
    if char and char.isascii() and not char.isalnum():
        return (f"\\{char}" if char not in "<> _" else char), at + 1
    raise PatternError(f"the escape \\{char}" if char.isascii() else "an escape of that kind")


def _group(pattern: str, at: int) -> int:
    """How many characters open the group."""
    if not pattern.startswith("(?", at):
        return 1
    found = _GROUP.match(pattern, at)
    if found is None:
        raise PatternError("a look ahead or behind, or a group with flags")
    return found.end() - at


def _repeat(pattern: str, at: int) -> int:
    found = _REPEAT.match(pattern, at)
    if found is None:
        raise PatternError("a brace that begins no repeat")
    if any(int(each) > MAX_REPEATS for each in found.groups() if each):
        raise PatternError(f"more than {MAX_REPEATS} repeats")
    return found.end() - at
