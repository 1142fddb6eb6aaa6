"""A chat template from outside, read and tried before anybody's words go through it.

Jinja's sandbox holds at run time whatever a template tries (`templates`). One that tries is not taken: what
it names is looked at before it runs, then it renders conversations of ours within the same bounds as later.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from jinja2 import Environment, TemplateError, nodes
from jinja2.exceptions import SecurityError, TemplateSyntaxError
from jinja2.ext import loopcontrols

from appliance.engine.worker.objections import ObjectionError
from appliance.engine.worker.templates import (
    MAX_TEMPLATE_CHARACTERS,
    ChatTemplate,
    Generation,
    TemplateRefusedError,
)

MARK: Final = "xq7 the question zv3"
_INSIDES: Final = re.compile(r"__[a-z]+__")  # how Python names what is inside of objects
_ADDRESS: Final = re.compile(r"[a-z][a-z0-9+.-]{1,20}://[^\s\"'<>)]{1,100}", re.IGNORECASE)
_MAX_NESTED: Final = 100
_TOOL: Final = {
    "type": "function",
    "function": {
        "name": "look_up",
        "description": "Looks something up.",
        "parameters": {"type": "object", "properties": {"word": {"type": "string"}}, "required": ["word"]},
    },
}
_CALL: Final = {
    "id": "call00001",
    "type": "function",
    "function": {"name": "look_up", "arguments": {"word": "x"}},
}
_USER: Final = {"role": "user", "content": MARK}
_CONVERSATIONS: Final[tuple[tuple[list[dict[str, Any]], list[dict[str, Any]] | None], ...]] = (
    ([_USER], None),
    ([{"role": "system", "content": "Be brief."}, _USER], None),
    ([_USER, {"role": "assistant", "content": "It is."}, {"role": "user", "content": "Why?"}], None),
    ([_USER], [_TOOL]),
    (
        [
            _USER,
            {"role": "assistant", "content": "", "tool_calls": [_CALL]},
            {"role": "tool", "content": "found", "tool_call_id": "call00001", "name": "look_up"},
        ],
        [_TOOL],
    ),
)


def judge(key: str, text: str, *, is_main: bool, bos_text: str, eos_text: str) -> list[str]:
    """What a person may want to look at. ObjectionError where the template is not taken.

    `is_main`: callers' conversations go through it, so that it has to take the simplest one.
    """
    notes = _read(key, text)
    try:
        template = ChatTemplate(text)
    except TemplateRefusedError as error:
        raise ObjectionError("bad_template", f"{key}: {error}") from error
    for number, (messages, tools) in enumerate(_CONVERSATIONS):
        values = {
            "messages": messages,
            "tools": tools,
            "add_generation_prompt": True,
            "bos_token": bos_text,
            "eos_token": eos_text,
        }
        try:
            rendered = template.render(values)
        except TemplateRefusedError as error:
            if _is_hostile(error):
                raise ObjectionError("hostile_template", f"{key}: {error}") from error
            if is_main and number == 0:
                raise ObjectionError("bad_template", f"{key}: it takes no question") from error
            continue  # templates may refuse what they are not written for
        if is_main and number == 0 and MARK not in rendered:
            raise ObjectionError("bad_template", f"{key}: it leaves out what the user says")
    return notes


def _read(key: str, text: str) -> list[str]:
    """Look at what a template names, before any of it runs."""
    if len(text) > MAX_TEMPLATE_CHARACTERS:
        raise ObjectionError("bad_template", f"{key}: it is too large")
    # It parses and never renders.
    environment = Environment(extensions=[loopcontrols, Generation])  # noqa: S701
    try:
        tree = environment.parse(text)
        notes = []
        for node in _all(tree):
            notes += _look_at(key, node)
    except TemplateSyntaxError as error:
        raise ObjectionError("bad_template", f"{key}: it does not parse, at line {error.lineno}") from error
    except (RecursionError, MemoryError, TemplateError, ValueError, OverflowError) as error:
        raise ObjectionError("bad_template", f"{key}: it does not parse") from error
    return sorted(set(notes))


def _look_at(key: str, node: nodes.Node) -> list[str]:
    match node:
        case nodes.Include() | nodes.Import() | nodes.FromImport() | nodes.Extends():
            raise ObjectionError(
                "template_includes", f"{key}: it includes another one, at line {node.lineno}"
            )
        case nodes.Getattr() if node.attr.startswith("_"):
            raise _escapes(key, node)
        case nodes.Filter() if node.name in {"attr", "map"} and _names_insides(node):
            raise _escapes(key, node)
        case nodes.Const() if isinstance(node.value, str) and _INSIDES.search(node.value):
            raise _escapes(key, node)
        case nodes.Const() if isinstance(node.value, str):
            return _addresses(key, node.value)
        case nodes.TemplateData():
            return _addresses(key, node.data)
        case _:
            return []


def _names_insides(node: nodes.Filter) -> bool:
    """`attr` reaches for attributes by a text: no chat template needs it. `map` does so by `attribute=`."""
    if node.name == "attr":
        return True
    named = [each.value for each in node.kwargs if each.key == "attribute"]
    return any(isinstance(each, nodes.Const) and str(each.value).startswith("_") for each in named)


def _escapes(key: str, node: nodes.Node) -> ObjectionError:
    return ObjectionError(
        "hostile_template", f"{key}: it reaches into the inside of objects, at line {node.lineno}"
    )


def _addresses(key: str, text: str) -> list[str]:
    return [f"{key} names an address: {each}"[:300] for each in _ADDRESS.findall(text)]


def _all(tree: nodes.Node) -> Iterator[nodes.Node]:
    """Every node, without recursion of ours. ObjectionError where they are nested too deeply."""
    waiting = [(tree, 0)]
    while waiting:
        node, depth = waiting.pop()
        if depth > _MAX_NESTED:
            raise ValueError("nested too deeply")
        yield node
        waiting += [(each, depth + 1) for each in node.iter_child_nodes()]


def _is_hostile(error: BaseException) -> bool:
    """Whether a bound or the sandbox stopped it, rather than the template itself."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, SecurityError | MemoryError | RecursionError | OverflowError):
            return True
        cause = cause.__cause__
    return error.__cause__ is None  # TemplateRefusedError by itself: too long, or too large
