"""Messages → token ids: the model's own chat template, rendered in a sandbox.

Control tokens belong to the template. Where a caller's text contains the text of one, it is swapped
for a placeholder before rendering and tokenised as plain text afterwards, so that nobody can write
the end of their own turn and the beginning of a system turn.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any, NoReturn

from jinja2 import TemplateError
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from appliance.engine.messages import Turn
from appliance.engine.worker.backend import Backend

MAX_RENDERED_CHARACTERS = 16 * 1024 * 1024
MAX_TEMPLATE_CHARACTERS = 1024 * 1024
# Supplementary private-use characters: assigned to nobody, so no text means them.
_OPEN, _CLOSE = "\U0010fff0", "\U0010fff1"
_PLACEHOLDER = re.compile(f"{_OPEN}([0-9]+){_CLOSE}")


class PromptError(Exception):
    """This conversation can not become a prompt; `code` says why. Holds no content."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class PromptBuilder:
    """Template and tokenizer of one model. Stateless after construction; used by the intake thread."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        model = backend.model
        if len(model.template) > MAX_TEMPLATE_CHARACTERS:
            raise PromptError("template_error", "the model's chat template is too large")
        controls = backend.control_texts()
        self._controls = re.compile("|".join(map(re.escape, controls))) if controls else None
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols], autoescape=False
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
        swapped: list[str] = []
        messages = [{"role": each.role, "content": self._swap(each.content, swapped)} for each in turns]
        text = self._render(messages)
        model = self._backend.model
        has_bos = bool(model.bos_text) and text.startswith(model.bos_text)
        tokens: list[int] = []
        position = 0
        for match in _PLACEHOLDER.finditer(text):
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

    def _swap(self, content: str, swapped: list[str]) -> str:
        def placeholder(match: re.Match[str]) -> str:
            swapped.append(match[0])
            return f"{_OPEN}{len(swapped) - 1}{_CLOSE}"

        content = re.sub(f"[{_OPEN}{_CLOSE}]", placeholder, content)
        if self._controls is None:
            return content
        # Placeholders hold digits only, which no control token's text consists of.
        return self._controls.sub(placeholder, content)

    def _render(self, messages: list[dict[str, str]]) -> str:
        model = self._backend.model
        try:
            pieces = []
            size = 0
            for piece in self._template.generate(
                messages=messages,
                add_generation_prompt=True,
                bos_token=model.bos_text,
                eos_token=model.eos_text,
                tools=None,
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


def _raise_exception(message: str) -> NoReturn:
    raise TemplateError(message)


def _to_json(
    value: Any,
    ensure_ascii: bool = False,  # noqa: FBT001, FBT002 - the order that templates are written for
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,  # noqa: FBT001, FBT002
) -> str:
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _strftime_now(form: str) -> str:
    return datetime.now(tz=timezone.utc).strftime(form)  # noqa: UP017, TID251 - the template asks
