"""`openai`: responses, whole and streamed, with types."""

from __future__ import annotations

import json
from typing import Any

import openai
from pydantic import BaseModel

from tests.contract.clients.checks import MODEL, MODEL_ID, check
from tests.contract.clients.openai_made import client


class Office(BaseModel):
    name: str
    open: bool


def ask(asked: str, **options: Any) -> Any:
    return client.responses.create(model=MODEL, input=asked, **options)


@check
def a_whole_response() -> None:
    answer = ask("echo: good morning", instructions="Be brief.", max_output_tokens=64, temperature=0.1)
    assert answer.output_text == "good morning"
    assert (answer.object, answer.status, answer.model) == ("response", "completed", MODEL_ID)
    assert answer.output[0].role == "assistant"
    assert answer.usage.total_tokens == answer.usage.input_tokens + answer.usage.output_tokens
    assert answer._request_id.startswith("req_")


@check
def events_in_their_order() -> None:
    events = list(ask("echo: grüß Gott", stream=True))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    kinds = [event.type for event in events]
    assert kinds[:2] == ["response.created", "response.in_progress"]
    assert kinds[-1] == "response.completed"
    pieces = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert "".join(pieces) == "grüß Gott"
    assert events[-1].response.output_text == "grüß Gott"


@check
def the_stream_helper_collects() -> None:
    with client.responses.stream(model=MODEL, input="echo: collected") as stream:
        for _ in stream:
            pass
        assert stream.get_final_response().output_text == "collected"


@check
def a_limit_makes_it_incomplete() -> None:
    answer = ask("echo: abcdefghij", max_output_tokens=3)
    assert answer.status == "incomplete"
    assert answer.incomplete_details.reason == "max_output_tokens"
    last = list(ask("echo: abcdefghij", max_output_tokens=3, stream=True))[-1]
    assert last.type == "response.incomplete"


@check
def a_response_parsed_into_a_type() -> None:
    parsed = client.responses.parse(model=MODEL, input='echo: {"name":"Amt","open":true}', text_format=Office)
    assert parsed.output_parsed == Office(name="Amt", open=True)


@check
def a_schema_of_the_text() -> None:
    form: Any = {"format": {"type": "json_schema", "name": "office", "schema": Office.model_json_schema()}}
    answer = ask('echo: {"name":"Amt","open":true}', text=form)
    assert json.loads(answer.output_text) == {"name": "Amt", "open": True}


@check
def refusals_are_the_clients_own_classes() -> None:
    for kind, options, code in (
        (openai.NotFoundError, {"model": "gpt-9", "input": "x"}, "model_not_found"),
        (openai.BadRequestError, {"model": MODEL, "input": "x", "temperature": 7}, "invalid_value"),
        (openai.BadRequestError, {"model": MODEL, "input": []}, None),
        (openai.BadRequestError, {"model": MODEL, "input": "x", "background": True}, "unsupported_parameter"),
    ):
        try:
            client.responses.create(**options)
        except kind as error:
            assert code in {None, error.code}, error.code
            assert error.request_id is not None
        else:
            raise AssertionError(f"no {kind.__name__}")
