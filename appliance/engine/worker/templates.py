"""A model's chat template: a program that came with a file from outside, run within bounds.

The sandbox gives it no way to our objects; there is nothing that it could import or include. It has so long
to run, it may write so much, and no single step of it may make something vast, as nothing interrupts a step.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from typing import Any, Final, NoReturn

from jinja2 import Template, TemplateError, nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

from appliance.engine.worker.deadline import Deadline, TooSlowError
from appliance.engine.worker.swapping import CLOSE, OPEN

MAX_RENDERED_CHARACTERS = 16 * 1024 * 1024
MAX_TEMPLATE_CHARACTERS = 1024 * 1024
MAX_SECONDS = 5.0
_MAX_BITS: Final = 4096  # of a product or a power
_WIDE: Final = re.compile(r"%[^%A-Za-z]*(?:[0-9]{5,}|\*)")  # a width that makes text out of nothing
# As JSON escapes them, where a template asks for that.
_ESCAPED: Final = {json.dumps(each)[1:-1]: each for each in (OPEN, CLOSE)}
_DEADLINE: Final = Deadline()  # of the intake thread


class TemplateRefusedError(Exception):
    """It does not parse, it refuses these values, or it took too much. Holds no content."""


class ChatTemplate:
    """One model's, compiled."""

    def __init__(self, text: str) -> None:
        if len(text) > MAX_TEMPLATE_CHARACTERS:
            raise TemplateRefusedError("the model's chat template is too large")
        environment = _Bounded(
            trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, Generation], autoescape=False
        )
        environment.filters["tojson"] = _to_json
        environment.filters["format"] = _format
        del environment.filters["center"]  # nothing but width
        environment.globals["raise_exception"] = _raise_exception
        environment.globals["strftime_now"] = _strftime_now
        self._template: Template = self._within(
            lambda: environment.from_string(text), "the model's chat template does not parse"
        )

    def render(self, values: Mapping[str, object]) -> str:
        """The prompt. TemplateRefusedError, also where its time is over."""
        return str(
            self._within(lambda: self._rendered(values), "the model's chat template refuses these messages")
        )

    def _rendered(self, values: Mapping[str, object]) -> str:
        pieces = []
        size = 0
        for piece in self._template.generate(**values):
            size += len(piece)
            if size > MAX_RENDERED_CHARACTERS:
                raise TemplateRefusedError("the rendered prompt is too large")
            pieces.append(piece)
        return "".join(pieces)

    @staticmethod
    def _within(run: Any, problem: str) -> Any:
        try:
            with _DEADLINE.within(MAX_SECONDS):
                return run()
        except TemplateRefusedError:
            raise
        except TooSlowError:
            raise TemplateRefusedError("the model's chat template takes too long") from None
        except Exception as error:
            # A foreign program failing on these messages, with whatever error: its words may quote them.
            raise TemplateRefusedError(problem) from error


class _Bounded(ImmutableSandboxedEnvironment):
    """Operators that make much out of little are looked at; what is constant is not computed before."""

    intercepted_binops = frozenset({"*", "**", "%"})

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """SecurityError where the result would be vast."""
        if operator == "%":
            vast = isinstance(left, str) and _WIDE.search(left) is not None
        elif operator == "**":
            vast = _bits(left) * abs(right if isinstance(right, int) else 1) > _MAX_BITS
        else:
            vast = _product(left, right) > MAX_RENDERED_CHARACTERS or _bits(left) + _bits(right) > _MAX_BITS
        if vast:
            raise SecurityError("the result would be too large")
        return super().call_binop(context, operator, left, right)


class Generation(Extension):
    """`{% generation %}`: marks for those who train on the answers. Here its content stands for itself."""

    tags = {"generation"}  # noqa: RUF012 - as the base class has it

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _bits(value: Any) -> int:
    return value.bit_length() if isinstance(value, int) else 0


def _product(left: Any, right: Any) -> int:
    """The length of a text or a list that is repeated; 0 where nothing is."""
    for what, times in ((left, right), (right, left)):
        if isinstance(what, str | list | tuple) and isinstance(times, int):
            return len(what) * times
    return 0


def _format(value: str, *args: Any, **kwargs: Any) -> str:
    if _WIDE.search(value):
        raise SecurityError("the result would be too large")
    return value % (kwargs or args)


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
