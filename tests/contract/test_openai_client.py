"""The official `openai` client against a real gateway: what a developer in the agency sees."""

from __future__ import annotations

from collections.abc import Iterator

import openai
import pytest

from appliance.core import Role
from tests.harness import Gateway, gateway


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with gateway(tmp_path_factory.mktemp("contract") / "home") as started:
        yield started


@pytest.fixture
def client(running: Gateway) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{running.url}/v1", api_key=running.key(), max_retries=0) as made:
        yield made


def ask(client: openai.OpenAI, text: str, **options: object) -> openai.types.chat.ChatCompletion:
    return client.chat.completions.create(  # type: ignore[no-any-return,call-overload]
        model="default", messages=[{"role": "user", "content": text}], **options
    )


def test_whole_answer(client: openai.OpenAI) -> None:
    """A question is answered with one choice, its finish reason and its usage."""
    answer = ask(client, "echo: good morning")

    assert answer.choices[0].message.content == "good morning"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.model == "smollm2-135m-instruct"
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer._request_id is not None
    assert answer._request_id.startswith("req_")


def test_stream_is_the_same_answer_in_pieces(client: openai.OpenAI) -> None:
    """A stream carries the role first, the pieces, one finish reason, and usage at the end."""
    chunks = list(
        client.chat.completions.create(
            model="default",
            messages=[{"role": "user", "content": "echo: grüß Gott, 東京!"}],
            stream=True,
            stream_options={"include_usage": True},
        )
    )

    assert chunks[0].choices[0].delta.role == "assistant"
    pieces = [choice.delta.content or "" for chunk in chunks for choice in chunk.choices]
    assert "".join(pieces) == "grüß Gott, 東京!"
    reasons = [choice.finish_reason for chunk in chunks for choice in chunk.choices]
    assert [reason for reason in reasons if reason] == ["stop"]
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens > 0
    assert len({chunk.id for chunk in chunks}) == 1


def test_receipts_come_with_every_answer(client: openai.OpenAI) -> None:
    """Both kinds of answer carry the place of their record and its leaf hash."""
    whole = client.chat.completions.with_raw_response.create(
        model="default", messages=[{"role": "user", "content": "echo: a"}]
    )
    streamed = client.chat.completions.with_raw_response.create(
        model="default", messages=[{"role": "user", "content": "echo: b"}], stream=True
    )

    for answer in (whole, streamed):
        origin, _, seq = answer.headers["x-audit-record"].rpartition("/")
        assert origin
        assert seq.isdecimal()
        assert len(bytes.fromhex(answer.headers["x-audit-leaf"])) == 32
    list(streamed.parse())


def test_limits_and_stops_end_an_answer(client: openai.OpenAI) -> None:
    """`max_completion_tokens` gives `length`; a stop string ends the answer before itself."""
    short = ask(client, "echo: abcdefghij", max_completion_tokens=3)
    stopped = ask(client, "echo: abcdefghij", stop=["fg"])

    assert short.choices[0].finish_reason == "length"
    assert short.usage is not None
    assert short.usage.completion_tokens == 3
    assert stopped.choices[0].message.content == "abcde"
    assert stopped.choices[0].finish_reason == "stop"


def test_models_are_listed_and_found_by_id_and_alias(client: openai.OpenAI) -> None:
    """The list holds the model's id and the alias `default`; both can be retrieved."""
    names = [model.id for model in client.models.list()]

    assert "smollm2-135m-instruct" in names
    assert "default" in names
    assert client.models.retrieve("default").id == "default"


def test_errors_are_the_clients_own_classes(running: Gateway, client: openai.OpenAI) -> None:
    """Each refusal becomes the exception that the client documents for it."""
    with pytest.raises(openai.NotFoundError) as unknown:
        client.chat.completions.create(model="gpt-9", messages=[{"role": "user", "content": "x"}])
    assert unknown.value.code == "model_not_found"
    assert unknown.value.param == "model"

    with pytest.raises(openai.BadRequestError) as bad:
        ask(client, "x", temperature=7)
    assert (bad.value.code, bad.value.param) == ("invalid_value", "temperature")

    nobody = openai.OpenAI(base_url=f"{running.url}/v1", api_key="apk_none", max_retries=0)
    with nobody, pytest.raises(openai.AuthenticationError) as refused:
        ask(nobody, "x")
    assert refused.value.code == "invalid_api_key"

    auditor = openai.OpenAI(base_url=f"{running.url}/v1", api_key=running.key(Role.AUDITOR), max_retries=0)
    with auditor, pytest.raises(openai.PermissionDeniedError) as forbidden:
        ask(auditor, "x")
    assert forbidden.value.code == "permission_denied"
