"""Every text of a question that a model reads, and where it stands. Pure.

What a program reads (a schema, the arguments of a call) is never rewritten: a changed one is another request.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, field

from appliance.core import ChatMessage, InferenceRequest, Tooling
from appliance.tasks import CountTask, DetokenizeTask, EmbedTask, RankTask, Task, TokenizeTask

Question = InferenceRequest | Task


@dataclass(frozen=True, slots=True)
class Place:
    """One text. `at` names it as the core does: `messages[2].content`."""

    at: str
    text: str = field(repr=False)
    is_code: bool = False  # read by programs


def texts(question: Question, *, skip: int = 0) -> Iterator[Place]:
    """Every text but those of the first `skip` messages, which are not the caller's."""
    for part in _parts(question, skip):
        yield from (each for each in part if each.text)


def has_tokens(question: Question) -> bool:
    """Whether a part of it comes as token ids, whose words only the worker knows."""
    match question:
        case InferenceRequest():
            return any(not isinstance(each, str) for each in question.prompts)
        case EmbedTask():
            return any(not isinstance(each, str) for each in question.inputs)
        case _:
            return False


def rewritten(question: Question, changed: dict[str, str]) -> Question:
    """The question with other texts in these places."""
    if not changed:
        return question
    match question:
        case InferenceRequest():
            return dataclasses.replace(
                question,
                messages=_turns(question.messages, changed),
                prompts=_listed("prompts", question.prompts, changed),
                tooling=_tooling(question.tooling, changed),
            )
        case EmbedTask():
            return dataclasses.replace(question, inputs=_listed("inputs", question.inputs, changed))
        case RankTask():
            documents = tuple(
                changed.get(f"documents[{at}]", each) for at, each in enumerate(question.documents)
            )
            return dataclasses.replace(
                question, query=changed.get("query", question.query), documents=documents
            )
        case TokenizeTask(source=str() as source):
            return dataclasses.replace(question, source=changed.get("inputs[0]", source))
        case TokenizeTask(source=tuple() as turns):
            return dataclasses.replace(question, source=_turns(turns, changed))
        case CountTask():
            return dataclasses.replace(
                question,
                messages=_turns(question.messages, changed),
                tooling=_tooling(question.tooling, changed),
            )
        case _:
            return question


def _parts(question: Question, skip: int) -> Iterator[Iterator[Place]]:
    match question:
        case InferenceRequest():
            yield _of_turns(question.messages, skip)
            yield _of_list("prompts", question.prompts)
            yield _of_tools(question.tooling)
            yield iter((Place("schema", question.schema, is_code=True),))
        case EmbedTask():
            yield _of_list("inputs", question.inputs)
        case RankTask():
            yield iter((Place("query", question.query),))
            yield _of_list("documents", question.documents)
        case TokenizeTask(source=str() as source):
            yield iter((Place("inputs[0]", source),))
        case TokenizeTask(source=tuple() as turns):
            yield _of_turns(turns, skip)
        case CountTask():
            yield _of_turns(question.messages, skip)
            yield _of_tools(question.tooling)
        case DetokenizeTask():
            return


def _of_turns(messages: tuple[ChatMessage, ...], skip: int) -> Iterator[Place]:
    for at, each in enumerate(messages):
        if at < skip:
            continue
        yield Place(f"messages[{at}].content", each.content)
        yield Place(f"messages[{at}].reasoning", each.reasoning)
        for number, call in enumerate(each.tool_calls):
            yield Place(f"messages[{at}].tool_calls[{number}].name", call.name, is_code=True)
            yield Place(f"messages[{at}].tool_calls[{number}].arguments", call.arguments, is_code=True)


def _of_list(name: str, given: tuple[str | tuple[int, ...], ...]) -> Iterator[Place]:
    for at, each in enumerate(given):
        if isinstance(each, str):
            yield Place(f"{name}[{at}]", each)


def _of_tools(tooling: Tooling | None) -> Iterator[Place]:
    for at, each in enumerate(tooling.tools if tooling is not None else ()):
        yield Place(f"tools[{at}].name", each.name, is_code=True)
        yield Place(f"tools[{at}].description", each.description)
        yield Place(f"tools[{at}].parameters", each.parameters, is_code=True)


def _turns(messages: tuple[ChatMessage, ...], changed: dict[str, str]) -> tuple[ChatMessage, ...]:
    return tuple(
        dataclasses.replace(
            each,
            content=changed.get(f"messages[{at}].content", each.content),
            reasoning=changed.get(f"messages[{at}].reasoning", each.reasoning),
        )
        for at, each in enumerate(messages)
    )


def _listed(
    name: str, given: tuple[str | tuple[int, ...], ...], changed: dict[str, str]
) -> tuple[str | tuple[int, ...], ...]:
    return tuple(
        changed.get(f"{name}[{at}]", each) if isinstance(each, str) else each for at, each in enumerate(given)
    )


def _tooling(tooling: Tooling | None, changed: dict[str, str]) -> Tooling | None:
    if tooling is None:
        return None
    tools = tuple(
        dataclasses.replace(each, description=changed.get(f"tools[{at}].description", each.description))
        for at, each in enumerate(tooling.tools)
    )
    return dataclasses.replace(tooling, tools=tools)
