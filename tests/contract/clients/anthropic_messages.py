"""`anthropic`: messages, streams, counts, errors."""

from __future__ import annotations

from typing import Any

import anthropic

from tests.contract.clients.checks import KEY, MODEL, MODEL_ID, OPERATOR_KEY, URL, check


def made(**options: Any) -> anthropic.Anthropic:
    settings: dict[str, Any] = {"base_url": URL, "api_key": KEY, "max_retries": 0, **options}
    return anthropic.Anthropic(_strict_response_validation=True, **settings)


client = made()


def ask(text: str, **options: Any) -> Any:
    settings: dict[str, Any] = {"model": MODEL, "max_tokens": 400, **options}
    return client.messages.create(messages=[{"role": "user", "content": text}], **settings)


def refused(kind: type[anthropic.APIStatusError], act: Any) -> Any:
    try:
        act()
    except kind as error:
        assert isinstance(error.body, dict)
        assert error.body["type"] == "error"
        assert error.request_id is not None
        return error
    raise AssertionError(f"no {kind.__name__}")


@check
def a_message() -> None:
    answer = ask("echo: good morning", system="Be brief.", extra_body={"temperature": 0.1, "top_p": 0.9})
    assert (answer.type, answer.role, answer.model) == ("message", "assistant", MODEL_ID)
    assert [block.text for block in answer.content] == ["good morning"]
    assert answer.stop_reason == "end_turn"
    assert answer.usage.input_tokens > 0
    assert answer.usage.output_tokens > 0
    assert answer._request_id.startswith("req_")


@check
def limits_and_stops() -> None:
    assert ask("echo: abcdefghij", max_tokens=3).stop_reason == "max_tokens"
    stopped = ask("echo: abcdefghij", stop_sequences=["fg"])
    assert (stopped.stop_reason, stopped.stop_sequence) == ("stop_sequence", "fg")
    assert stopped.content[0].text == "abcde"


@check
def a_stream_by_the_helper() -> None:
    with client.messages.stream(
        model=MODEL, max_tokens=64, messages=[{"role": "user", "content": "echo: grüß Gott"}]
    ) as stream:
        assert "".join(stream.text_stream) == "grüß Gott"
        final = stream.get_final_message()
    assert final.stop_reason == "end_turn"
    assert final.usage.output_tokens > 0


@check
def raw_events_in_their_order() -> None:
    kinds = [event.type for event in ask("echo: abc", stream=True)]
    assert kinds[:2] == ["message_start", "content_block_start"]
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]


@check
def tokens_are_counted() -> None:
    asked: Any = [{"role": "user", "content": "how many?"}]
    counted = client.messages.count_tokens(model=MODEL, messages=asked)
    answer = client.messages.create(model=MODEL, max_tokens=8, messages=asked)
    assert counted.input_tokens == answer.usage.input_tokens


@check
def refusals_are_the_clients_own_classes() -> None:
    error = refused(anthropic.NotFoundError, lambda: ask("x", model="claude-9"))
    assert error.body["error"]["type"] == "not_found_error"
    refused(anthropic.BadRequestError, lambda: ask("x", extra_body={"temperature": 7}))
    refused(anthropic.BadRequestError, lambda: ask("x", max_tokens=0))
    wrong: Any = [{"role": "user", "content": "x"}]
    for key, kind in (
        ("apk_no", anthropic.AuthenticationError),
        (OPERATOR_KEY, anthropic.PermissionDeniedError),
    ):
        act = made(api_key=key).messages.create
        refused(kind, lambda act=act: act(model=MODEL, max_tokens=4, messages=wrong))


@check
def keys_as_bearers_too() -> None:
    bearer = made(api_key=None, auth_token=KEY)
    answer = bearer.messages.create(
        model=MODEL, max_tokens=8, messages=[{"role": "user", "content": "echo: a"}]
    )
    assert answer.stop_reason == "end_turn"
