"""Embeddings and counts through the official `openai` client, which asks for base64 by itself."""

from __future__ import annotations

from collections.abc import Iterator

import openai
import pytest

from tests.fakes.fake_embedder import N_EMBD
from tests.harness import Gateway, gateway


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with gateway(tmp_path_factory.mktemp("contract") / "home") as started:
        yield started


@pytest.fixture
def client(running: Gateway) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{running.url}/v1", api_key=running.key(), max_retries=0) as made:
        yield made


def test_embeddings_by_default_and_as_numbers(client: openai.OpenAI) -> None:
    """The client decodes what it asked for itself; numbers are the same vectors."""
    answer = client.embeddings.create(model="default", input=["a tax form", "a cat"])
    numbers = client.embeddings.create(
        model="default", input=["a tax form", "a cat"], encoding_format="float"
    )

    assert [each.index for each in answer.data] == [0, 1]
    assert all(len(each.embedding) == N_EMBD for each in answer.data)
    assert [each.embedding for each in answer.data] == [
        pytest.approx(each.embedding, abs=1e-7) for each in numbers.data
    ]
    assert answer.object == "list"
    assert answer.model == "smollm2-135m-instruct"
    assert answer.usage.total_tokens == answer.usage.prompt_tokens > 0
    assert answer._request_id is not None


def test_token_arrays_as_langchain_sends_them(client: openai.OpenAI) -> None:
    """Lists of token ids, base64 by default."""
    answer = client.embeddings.create(model="default", input=[[104, 105], [1, 2, 3]])
    assert len(answer.data) == 2


def test_mistakes_are_the_clients_own_classes(client: openai.OpenAI) -> None:
    """An empty text and a wrong size are BadRequestErrors that name their place."""
    with pytest.raises(openai.BadRequestError) as empty:
        client.embeddings.create(model="default", input="")
    assert (empty.value.code, empty.value.param) == ("invalid_value", "input")
    with pytest.raises(openai.BadRequestError) as cut:
        client.embeddings.create(model="default", input="a", dimensions=8)
    assert (cut.value.code, cut.value.param) == ("unsupported_parameter", "dimensions")


def test_input_tokens_are_counted(client: openai.OpenAI) -> None:
    """`responses.input_tokens.count` says what the chat's usage says."""
    counted = client.responses.input_tokens.count(model="default", input="how many?")
    chat = client.chat.completions.create(
        model="default", messages=[{"role": "user", "content": "how many?"}]
    )

    assert counted.object == "response.input_tokens"
    assert chat.usage is not None
    assert counted.input_tokens == chat.usage.prompt_tokens
