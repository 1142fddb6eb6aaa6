"""`langchain-openai` and a real model."""

from __future__ import annotations

from typing import Literal

from langchain_core.tools import tool
from pydantic import BaseModel

from tests.contract.clients.checks import check
from tests.contract.clients.langchain_chat import made

QUESTION = "Where do I hand in form 12?"


class Verdict(BaseModel):
    """What a question is about."""

    subject: Literal["form", "weather"]
    urgent: bool


@tool  # type: ignore[untyped-decorator]
def weather(city: Literal["Bonn", "Kiel"]) -> str:
    """The weather of a town."""
    return f"9 °C in {city}"


@check
def chats() -> None:
    assert made(max_tokens=12).invoke(QUESTION).content
    assert "".join(str(chunk.content) for chunk in made(max_tokens=12).stream(QUESTION))


@check
def tools() -> None:
    answer = made(max_tokens=60).bind_tools([weather], tool_choice="any").invoke(QUESTION)
    assert answer.tool_calls[0]["args"]["city"] in {"Bonn", "Kiel"}


@check
def types() -> None:
    found = made(max_tokens=60).with_structured_output(Verdict, method="json_schema").invoke(QUESTION)
    assert isinstance(found, Verdict)
