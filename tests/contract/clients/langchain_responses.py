"""`langchain-openai` over the responses API."""

from __future__ import annotations

from tests.contract.clients.checks import calling, check
from tests.contract.clients.langchain_chat import made
from tests.contract.clients.langchain_tools import BONN, weather


@check
def invoke() -> None:
    answer = made(use_responses_api=True).invoke("echo: good morning")
    assert answer.text == "good morning"


@check
def stream() -> None:
    pieces = [chunk.text for chunk in made(use_responses_api=True).stream("echo: good morning")]
    assert "".join(pieces) == "good morning"


@check
def bind_tools() -> None:
    answer = made(use_responses_api=True).bind_tools([weather]).invoke(calling(BONN))
    assert [(call["name"], call["args"]) for call in answer.tool_calls] == [("weather", {"city": "Bonn"})]
