"""`llama-index-llms-openai-like`: chats, completions, streams, types."""

from __future__ import annotations

from typing import Any

import openai
from llama_index.core.llms import ChatMessage
from llama_index.llms.openai_like import OpenAILike
from pydantic import BaseModel

from tests.contract.clients.checks import KEY, MODEL, URL, check


class Office(BaseModel):
    """An office."""

    name: str
    open: bool


def made(**options: Any) -> OpenAILike:
    settings: dict[str, Any] = {
        "model": MODEL,
        "api_base": f"{URL}/v1",
        "api_key": KEY,
        "is_chat_model": True,
        "is_function_calling_model": True,
        "context_window": 2048,
        "max_retries": 0,
        **options,
    }
    return OpenAILike(**settings)


@check
def chat() -> None:
    answer = made().chat([ChatMessage(role="system", content="Be brief."), ChatMessage("echo: good morning")])
    assert answer.message.content == "good morning"


@check
def stream_chat() -> None:
    pieces = [each.delta for each in made().stream_chat([ChatMessage("echo: grüß Gott, 東京!")])]
    assert "".join(piece or "" for piece in pieces) == "grüß Gott, 東京!"


@check
def complete_through_a_chat() -> None:
    assert made().complete("echo: and so on").text == "and so on"
    assert "".join(each.delta or "" for each in made().stream_complete("echo: x y")) == "x y"


@check
def structured() -> None:
    llm = made(should_use_structured_outputs=True).as_structured_llm(Office)
    answer = llm.complete('echo: {"name":"Amt","open":true}')
    assert answer.raw == Office(name="Amt", open=True)


@check
def errors() -> None:
    try:
        made(model="gpt-9").chat([ChatMessage("x")])
    except openai.NotFoundError as error:
        assert error.code == "model_not_found"
    else:
        raise AssertionError("no error")
