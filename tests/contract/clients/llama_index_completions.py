"""`llama-index-llms-openai-like` over completions: for models that do not chat."""

from __future__ import annotations

from tests.contract.clients.checks import check
from tests.contract.clients.llama_index_chat import made


@check
def complete() -> None:
    answer = made(is_chat_model=False, is_function_calling_model=False, max_tokens=8).complete("Once upon")
    assert answer.text


@check
def stream_complete() -> None:
    llm = made(is_chat_model=False, is_function_calling_model=False, max_tokens=8)
    assert "".join(each.delta or "" for each in llm.stream_complete("Once upon"))
