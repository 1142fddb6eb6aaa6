"""Grammars of answers, in llguidance's Lark: put together here, compiled by the worker.

Where a mark is a token of its own, a control token, it is named by its number; no text can be it, but
text can spell it, and the reader would take that for the mark. So free text never holds a mark.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence

Token = Callable[[str], int | None]  # a control token by its text; None where it is no token of its own

# Between tokens of JSON: one space, or a new line and its indentation, as in free-standing schemas.
_SPACE = r"( |\n {0,32})?"


class Lark:
    """One grammar being written. The first rule is `start`."""

    def __init__(self, token: Token) -> None:
        self._token = token
        self._rules: list[str] = []
        self._named: dict[str, str] = {}

    def text(self) -> str:
        """The whole grammar."""
        return "\n".join(self._rules) + "\n"

    def rule(self, name: str, body: str) -> None:
        """A rule, or with a name in capitals a terminal."""
        self._rules.append(f"{name}: {body}")

    def named(self, prefix: str, body: str, *, option: str = "") -> str:
        """A rule or terminal of its own for this body; the same body is the same rule."""
        key = f"{prefix}{option}:{body}"
        if key not in self._named:
            name = self._named[key] = f"{prefix}{len(self._named)}"
            self.rule(f"{name}{option}", body)
        return self._named[key]

    def mark(self, text: str) -> str:
        """A mark where it stands in a rule."""
        token = self._token(text)
        return literal(text) if token is None else f"<[{token}]>"

    def free(self, *marks: str, begins_not: str = "") -> str:
        """Any text that holds none of the marks, and does not begin like the regular expression."""
        refused = [f"(?s:.*){regex(each)}(?s:.*)" for each in marks]
        if begins_not:
            refused.append(f"{begins_not}(?s:.*)")
        return self.named("TEXT", " & ".join(["/(?s:.*)/", *(f"~/{each}/" for each in refused)]))

    def up_to(self, mark: str, *, begins_not: str = "") -> str:
        """Any text, and then the mark: the first one that there is."""
        token = self._token(mark)
        if token is not None:
            return f"{self.free(mark, begins_not=begins_not)} <[{token}]>"
        head = f"{self.free(begins_not=begins_not)} {literal(mark)}"
        return self.named("head", head, option="[lazy]")

    def space(self) -> str:
        """What may stand between marks."""
        return self.named("WS", r"/[ \n]{0,4}/")

    def schema(self, schema: str) -> str:
        """JSON that fits a schema (text). ValueError, RecursionError where that is no JSON object."""
        asked = json.loads(schema)
        if not isinstance(asked, dict):
            raise ValueError("a schema is an object")  # noqa: TRY004 - like what is no JSON at all
        return "%json " + json.dumps({**asked, "x-guidance": {"whitespace_pattern": _SPACE}})

    def object(self, schema: str) -> str:
        """A JSON object that fits a schema; one that says nothing of its type is one of objects."""
        asked = json.loads(schema)
        if isinstance(asked, dict) and not {"type", "$ref", "anyOf", "oneOf", "allOf"} & asked.keys():
            asked["type"] = "object"
        return self.schema(json.dumps(asked))


def literal(text: str) -> str:
    """A text as a terminal."""
    return json.dumps(text)


def regex(text: str) -> str:
    """A text inside of a regular expression between slashes."""
    return re.sub(r"[^A-Za-z0-9_]", lambda found: rf"\u{{{ord(found[0]):x}}}", text)


def either(bodies: Sequence[str]) -> str:
    """One of several bodies."""
    return f"({' | '.join(bodies)})"
