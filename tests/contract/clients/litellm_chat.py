"""`litellm` with the provider `openai/`: chats, streams, types, embeddings, errors."""

from __future__ import annotations

from typing import Any

import litellm
from pydantic import BaseModel

from tests.contract.clients.checks import KEY, MODEL, URL, check

WHERE: dict[str, Any] = {"api_base": f"{URL}/v1", "api_key": KEY, "num_retries": 0}


class Office(BaseModel):
    name: str
    open: bool


def ask(text: str, **options: Any) -> Any:
    settings = {"model": f"openai/{MODEL}", **WHERE, **options}
    return litellm.completion(messages=[{"role": "user", "content": text}], **settings)


@check
def completion() -> None:
    answer = ask("echo: good morning", temperature=0.1, max_tokens=64)
    assert answer.choices[0].message.content == "good morning"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


@check
def streamed() -> None:
    chunks = list(ask("echo: grüß Gott, 東京!", stream=True, stream_options={"include_usage": True}))
    pieces = [c.delta.content or "" for chunk in chunks for c in chunk.choices]
    assert "".join(pieces) == "grüß Gott, 東京!"
    assert any(getattr(chunk, "usage", None) for chunk in chunks)


@check
def a_type() -> None:
    answer = ask('echo: {"name":"Amt","open":true}', response_format=Office)
    assert Office.model_validate_json(answer.choices[0].message.content) == Office(name="Amt", open=True)


@check
def embedding() -> None:
    for form in ("float", "base64"):
        answer = litellm.embedding(
            model=f"openai/{MODEL}", input=["one", "two"], encoding_format=form, **WHERE
        )
        assert [each["index"] for each in answer.data] == [0, 1]


@check
def errors() -> None:
    wrong: list[tuple[Any, dict[str, Any]]] = [
        (litellm.NotFoundError, {"model": "openai/gpt-9"}),
        (litellm.BadRequestError, {"temperature": 7}),
        (litellm.AuthenticationError, {"api_key": "apk_no"}),
        (litellm.ContextWindowExceededError, {"text": "x" * 40_000}),
    ]
    for kind, options in wrong:
        try:
            ask(**{"text": "x", **options})
        except kind:
            continue
        raise AssertionError(f"no {kind.__name__}")
