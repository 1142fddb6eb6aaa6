"""`langchain-openai` over the responses API."""

from __future__ import annotations

from tests.contract.clients.checks import check
from tests.contract.clients.langchain_chat import made


@check
def invoke() -> None:
    answer = made(use_responses_api=True).invoke("echo: good morning")
    assert answer.text == "good morning"


@check
def stream() -> None:
    pieces = [chunk.text for chunk in made(use_responses_api=True).stream("echo: good morning")]
    assert "".join(pieces) == "good morning"
