"""`llama-index-llms-openai-like` and a real model."""

from __future__ import annotations

from typing import Literal

from llama_index.core.llms import ChatMessage
from llama_index.core.tools import FunctionTool
from pydantic import BaseModel

from tests.contract.clients.checks import check
from tests.contract.clients.llama_index_chat import made

QUESTION = "Where do I hand in form 12?"


class Town(BaseModel):
    """Where."""

    city: Literal["Bonn", "Kiel"]


def weather(city: str) -> str:
    """The weather of a town."""
    return f"9 °C in {city}"


@check
def chats() -> None:
    llm = made(max_tokens=12)
    assert llm.chat([ChatMessage(QUESTION)]).message.content
    assert "".join(each.delta or "" for each in llm.stream_complete(QUESTION))


@check
def tools() -> None:
    llm = made(max_tokens=60)
    tool = FunctionTool.from_defaults(fn=weather, fn_schema=Town)
    answer = llm.chat_with_tools([tool], user_msg=QUESTION, tool_required=True)
    assert llm.get_tool_calls_from_response(answer)[0].tool_kwargs["city"] in {"Bonn", "Kiel"}
