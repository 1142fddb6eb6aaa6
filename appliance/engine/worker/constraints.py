"""What an answer keeps to: its schema, its tools, both; and which control tokens its reader has to see.

The model's dialect writes the grammar, behind the thoughts of a model that thinks. Every schema in it
goes through the same checks as one that stands alone.
"""

from __future__ import annotations

import dataclasses

from appliance.core import Tooling
from appliance.dialects import Lark, Speech
from appliance.engine.messages import Generate
from appliance.engine.worker.backend import Backend
from appliance.engine.worker.grammar import Source
from appliance.engine.worker.schemas import SchemaError, check
from appliance.engine.worker.turns import tooling_of

_SCHEMA = "response_format.json_schema.schema"


class UnsupportedError(Exception):
    """A schema that can not be kept to, and where it stands in the request."""

    def __init__(self, why: str, param: str) -> None:
        super().__init__(why)
        self.message = f"the schema can not be kept to: {why}"
        self.param = param


class Constraints:
    """Grammars of one model's answers, as text. Owner: the intake thread."""

    def __init__(self, backend: Backend, speech: Speech) -> None:
        self._backend = backend
        self._speech = speech
        self._tokens: dict[str, int | None] = {}

    def source(self, asked: Generate, *, begins_thinking: bool) -> Source | None:
        """What is to be compiled; None where the answer is free. UnsupportedError names the schema."""
        if asked.tools is None and not asked.schema:
            return None
        if asked.tools is None and (not self._speech.thinks or asked.prompt is not None):
            return Source("schema", asked.schema)
        tooling = self._checked(tooling_of(asked.tools))
        schema = _check(asked.schema, _SCHEMA) if asked.schema else ""
        dialect = self._speech.dialect
        text = dialect.grammar(Lark(self._token), tooling, schema, begins_thinking=begins_thinking)
        return Source("lark", text)

    def place(self, asked: Generate) -> str:
        """Where in the request stands what could not be compiled."""
        if asked.tools is None:
            return _SCHEMA
        return "tools[0]" if len(asked.tools.tools) == 1 and not asked.schema else "tools"

    def spelt(self, *, calls: bool) -> frozenset[int]:
        """The control tokens whose texts belong to the answer's text."""
        tokens = (self._token(each) for each in self._speech.dialect.spelt(calls=calls))
        return frozenset(each for each in tokens if each is not None)

    def _checked(self, tooling: Tooling | None) -> Tooling | None:
        if tooling is None:
            return None
        tools = tuple(
            dataclasses.replace(each, parameters=_check(each.parameters, f"tools[{at}]"))
            for at, each in enumerate(tooling.tools)
        )
        return dataclasses.replace(tooling, tools=tools)

    def _token(self, mark: str) -> int | None:
        """The control token with this text; None where it is none, but text like any other."""
        if mark not in self._tokens:
            tokens = self._backend.tokenize(mark, parse_special=True, add_bos=False)
            is_one = len(tokens) == 1 and not self._backend.piece(tokens[0])
            self._tokens[mark] = tokens[0] if is_one else None
        return self._tokens[mark]


def _check(schema: str, param: str) -> str:
    try:
        return check(schema)
    except SchemaError as error:
        raise UnsupportedError(str(error), param) from error
