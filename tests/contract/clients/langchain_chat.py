"""`langchain-openai`: chats, streams, types, embeddings."""

from __future__ import annotations

from typing import Any

import openai
from langchain_core.messages import HumanMessage, SystemMessage
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel, SecretStr

from tests.contract.clients.checks import KEY, MODEL, URL, check

BASE_URL = f"{URL}/v1"


class Office(BaseModel):
    """An office."""

    name: str
    open: bool


def made(**options: Any) -> ChatOpenAI:
    settings: dict[str, Any] = {"model": MODEL, "max_retries": 0, **options}
    return ChatOpenAI(base_url=BASE_URL, api_key=SecretStr(KEY), **settings)


@check
def invoke() -> None:
    answer = made(temperature=0, max_tokens=64).invoke(
        [SystemMessage("Be brief."), HumanMessage("echo: good morning")]
    )
    assert answer.content == "good morning"
    assert answer.usage_metadata is not None
    assert answer.usage_metadata["output_tokens"] > 0
    assert answer.response_metadata["finish_reason"] == "stop"


@check
def stream() -> None:
    chunks = list(made(stream_usage=True).stream("echo: grüß Gott, 東京!"))
    assert "".join(str(chunk.content) for chunk in chunks) == "grüß Gott, 東京!"
    assert any(chunk.usage_metadata for chunk in chunks)


@check
def batch() -> None:
    assert [each.content for each in made().batch(["echo: a", "echo: b"])] == ["a", "b"]


@check
def with_structured_output() -> None:
    found = (
        made().with_structured_output(Office, method="json_schema").invoke('echo: {"name":"Amt","open":true}')
    )
    assert found == Office(name="Amt", open=True)


@check
def embeddings() -> None:
    """Without this setting LangChain fetches a tokenizer from the net."""
    made_embeddings = OpenAIEmbeddings(
        base_url=BASE_URL, api_key=SecretStr(KEY), model=MODEL, check_embedding_ctx_length=False
    )
    assert len(made_embeddings.embed_documents(["one", "two"])) == 2
    assert len(made_embeddings.embed_query("one")) > 1


@check
def errors() -> None:
    try:
        made(model="gpt-9").invoke("x")
    except openai.NotFoundError as error:
        assert error.code == "model_not_found"
    else:
        raise AssertionError("no error")
