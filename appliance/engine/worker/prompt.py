"""Messages → token ids: the model's own chat template, rendered in a sandbox.

Control tokens belong to the template: what callers give is swapped before rendering (`swapping`), and
tokenised as plain text.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, NoReturn

from jinja2 import TemplateError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from appliance import dialects
from appliance.engine.messages import Tools, Turn
from appliance.engine.worker.backend import Backend
from appliance.engine.worker.swapping import CLOSE, OPEN, PLACEHOLDER, Controls, Swapper, TooDeepError
from appliance.engine.worker.turns import Conversation, conversations

MAX_RENDERED_CHARACTERS = 16 * 1024 * 1024
MAX_TEMPLATE_CHARACTERS = 1024 * 1024
# As JSON escapes them, where a template asks for that.
_ESCAPED = {json.dumps(each)[1:-1]: each for each in (OPEN, CLOSE)}


class PromptError(Exception):
    """This conversation can not become a prompt; `code` says why. Holds no content."""

    def __init__(self, code: str, message: str, param: str = "messages") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.param = param


@dataclass(frozen=True, slots=True)
class Prompt:
    """What the model reads first; its end may have begun the reasoning."""

    tokens: list[int] = field(repr=False)
    begins_thinking: bool = False


class PromptBuilder:
    """Template and tokenizer of one model. Stateless after construction; used by the intake thread."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        model = backend.model
        if len(model.template) > MAX_TEMPLATE_CHARACTERS:
            raise PromptError("template_error", "the model's chat template is too large")
        self._controls = Controls(backend.control_texts())
        self.speech = dialects.recognised(model.template)
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, _Generation], autoescape=False
        )
        environment.filters["tojson"] = _to_json
        environment.globals["raise_exception"] = _raise_exception
        environment.globals["strftime_now"] = _strftime_now
        try:
            self._template = environment.from_string(model.template)
        except TemplateError as error:
            raise PromptError("template_error", "the model's chat template does not parse") from error

    def build(self, turns: Sequence[Turn]) -> list[int]:
        """Token ids of the prompt, up to where the answer begins. PromptError where it can not be."""
        return self.prompt(turns).tokens

    def prompt(self, turns: Sequence[Turn], tools: Tools | None = None, effort: str = "") -> Prompt:
        """A prompt with what may be called, and how long may be thought. PromptError as with `build`."""
        try:
            values = dialects.effort_values(self.speech, effort)
        except dialects.EffortError as error:
            raise PromptError("unsupported_parameter", str(error), "reasoning_effort") from error
        swapper = Swapper(self._controls)
        try:
            ways = conversations(turns, tools, self.speech, swapper)
        except (ValueError, RecursionError, TooDeepError) as error:
            raise PromptError(
                "unsupported_schema", "a tool's parameters are no JSON that can be read", "tools"
            ) from error
        text = self._first(ways, values)
        return Prompt(self._tokens(text, swapper.swapped), self._begins_thinking(text))

    def _first(self, ways: Sequence[Conversation], values: Mapping[str, object]) -> str:
        """The first way that the template takes."""
        for way in ways[:-1]:
            try:
                return self._render(way, values)
            except PromptError:  # what it says of the last way is told
                continue
        return self._render(ways[-1], values)

    def _begins_thinking(self, text: str) -> bool:
        thoughts = self.speech.dialect.thoughts
        return thoughts is not None and text.rstrip().endswith(thoughts.opens + thoughts.word)

    def _tokens(self, text: str, swapped: Sequence[str]) -> list[int]:
        model = self._backend.model
        has_bos = bool(model.bos_text) and text.startswith(model.bos_text)
        tokens: list[int] = []
        position = 0
        for match in PLACEHOLDER.finditer(text):
            tokens += self._special(text[position : match.start()], first=not tokens, has_bos=has_bos)
            index = int(match[1])
            if index >= len(swapped):  # a caller wrote our placeholder: it was swapped like the rest
                raise PromptError("template_error", "the chat template altered its messages")
            tokens += self._backend.tokenize(swapped[index], parse_special=False, add_bos=False)
            position = match.end()
        return tokens + self._special(text[position:], first=not tokens, has_bos=has_bos)

    def declared_prefix(self, system: str) -> list[int]:
        """The tokens that every conversation with this system prompt begins with."""
        one, two = (
            self.build([Turn("system", system), Turn("user", question)]) for question in ("a", "Zwei?")
        )
        size = next((at for at, (a, b) in enumerate(zip(one, two, strict=False)) if a != b), 0)
        return one[:size]

    def _special(self, text: str, *, first: bool, has_bos: bool) -> list[int]:
        adds = first and not has_bos and self._backend.model.adds_bos
        if not text and not adds:
            return []
        return self._backend.tokenize(text, parse_special=True, add_bos=adds)

    def _render(self, said: Conversation, values: Mapping[str, object]) -> str:
        model = self._backend.model
        try:
            pieces = []
            size = 0
            for piece in self._template.generate(
                **values,
                messages=said.messages,
                add_generation_prompt=True,
                bos_token=model.bos_text,
                eos_token=model.eos_text,
                tools=said.tools,
            ):
                size += len(piece)
                if size > MAX_RENDERED_CHARACTERS:
                    raise PromptError("template_error", "the rendered prompt is too large")
                pieces.append(piece)
        except PromptError:
            raise
        except Exception as error:
            # A foreign program failing on these messages, with whatever error: its words may quote them.
            raise PromptError("template_error", "the model's chat template refuses these messages") from error
        return "".join(pieces)


class _Generation(Extension):
    """`{% generation %}`: marks for those who train on the answers. Here its content stands for itself."""

    tags = {"generation"}  # noqa: RUF012 - as the base class has it

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _raise_exception(message: str) -> NoReturn:
    raise TemplateError(message)


def _to_json(
    value: Any,
    ensure_ascii: bool = False,  # noqa: FBT001, FBT002 - the order that templates are written for
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,  # noqa: FBT001, FBT002
) -> str:
    text = json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
        default=_listed,
    )
    for escaped, sign in _ESCAPED.items() if ensure_ascii else ():
        text = text.replace(escaped, sign)
    return text


def _listed(value: Any) -> list[Any]:
    """What filters like `map` give, as a list."""
    if isinstance(value, Iterator):
        return list(value)
    raise TypeError("no value of JSON")


def _strftime_now(form: str) -> str:
    return datetime.now(tz=timezone.utc).strftime(form)  # noqa: UP017, TID251 - the template asks
