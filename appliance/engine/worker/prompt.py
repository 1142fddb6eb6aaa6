"""Messages → token ids: the model's own chat template, rendered in a sandbox.

Control tokens belong to the template: what callers give is swapped before rendering (`swapping`), and
tokenised as plain text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from appliance import dialects
from appliance.engine.question import Tools, Turn
from appliance.engine.worker.backend import Backend
from appliance.engine.worker.swapping import PLACEHOLDER, Controls, Swapper, TooDeepError
from appliance.engine.worker.templates import ChatTemplate, TemplateRefusedError
from appliance.engine.worker.turns import Conversation, conversations


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
        self._controls = Controls(backend.control_texts())
        self.speech = dialects.recognised(model.template)
        try:
            self._template = ChatTemplate(model.template)
        except TemplateRefusedError as error:
            raise PromptError("template_error", str(error)) from error

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
            return self._template.render(
                {
                    **values,
                    "messages": said.messages,
                    "add_generation_prompt": True,
                    "bos_token": model.bos_text,
                    "eos_token": model.eos_text,
                    "tools": said.tools,
                }
            )
        except TemplateRefusedError as error:
            raise PromptError("template_error", str(error)) from error
