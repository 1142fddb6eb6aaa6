"""Every event and every item, as openai-python's strict types and its own accumulator read them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from openai import omit
from openai._models import validate_type
from openai.lib.streaming.responses._responses import ResponseStreamState
from openai.types.responses import Response as StrictResponse
from openai.types.responses import ResponseStreamEvent

from appliance.api.responses_events import ResponseEvent
from appliance.api.responses_schemas import ResponseRequest
from appliance.api.responses_shapes import started
from appliance.api.responses_telling import Telling, frame
from appliance.core import (
    CallPart,
    Delta,
    Finished,
    FinishReason,
    Part,
    ReasoningPart,
    SamplingParams,
    TextPart,
    TokenLogprob,
    Usage,
)
from appliance.errors import RequestError, Unavailable

NOW = 1_700_000_000


def telling(**body: Any) -> Telling:
    asked = ResponseRequest.model_validate({"model": "default", "input": "x"} | body)
    begun = started(asked, SamplingParams(), response_id="resp_ab", model="m", created_at=NOW)
    return Telling(begun, lambda call: f"call_{call}")


def finished(reason: FinishReason = FinishReason.STOP) -> Finished:
    return Finished(reason, Usage(7, 5, 3, 2), reasons=(reason,))


def told(*pieces: Delta | Part, reason: FinishReason = FinishReason.STOP) -> list[dict[str, Any]]:
    """Every event of an answer, each of them valid, and accepted by the client's accumulator."""
    one = telling()
    events = list(one.begin())
    for piece in pieces:
        events += one.add(piece if isinstance(piece, Delta) else Delta("", parts=(piece,)))
    events += one.end(finished(reason))
    events.append(one.close(one.finished(finished(reason), NOW + 1)))
    check(events)
    return events


def check(events: Sequence[dict[str, Any]]) -> None:
    state = ResponseStreamState(input_tools=omit, text_format=omit)
    assert [each["sequence_number"] for each in events] == list(range(len(events)))
    for each in events:
        ResponseEvent.model_validate(each)
        event: Any = validate_type(type_=ResponseStreamEvent, value=each)  # type: ignore[arg-type]
        assert event.type == each["type"], "a union fell back to another type"
        if each["type"] != "error":
            state.handle_event(event)


def types(events: Sequence[dict[str, Any]]) -> list[str]:
    return [each["type"].removeprefix("response.") for each in events]


def test_text_is_told_in_the_order_that_clients_expect() -> None:
    """Created, in progress, item, part, deltas, and all of it done; the same ids throughout."""
    events = told(TextPart("good "), TextPart("day"))

    assert types(events) == [
        "created", "in_progress", "output_item.added", "content_part.added", "output_text.delta",
        "output_text.delta", "output_text.done", "content_part.done", "output_item.done", "completed",
    ]  # fmt: skip
    assert {each["item_id"] for each in events if "item_id" in each} == {"msg_ab00"}
    assert events[6]["text"] == events[7]["part"]["text"] == "good day"
    assert events[2]["item"] == {
        "id": "msg_ab00", "type": "message", "role": "assistant", "status": "in_progress", "content": [],
    }  # fmt: skip
    done = events[-1]["response"]
    assert done["output"] == [events[8]["item"]]
    assert (done["status"], done["created_at"], done["completed_at"]) == ("completed", NOW, NOW + 1)
    assert done["usage"] == {
        "input_tokens": 7,
        "input_tokens_details": {"cached_tokens": 3, "cache_write_tokens": 0},
        "output_tokens": 5,
        "output_tokens_details": {"reasoning_tokens": 2},
        "total_tokens": 12,
    }


def test_thoughts_calls_and_text_are_items_of_their_own() -> None:
    """Thoughts first, then what was said, then each call, in the order in which the model wrote them."""
    events = told(
        ReasoningPart("hm"),
        TextPart("\n\nI look it up.\n"),
        CallPart(0, "f"),
        CallPart(0, arguments='{"a":'),
        CallPart(0, arguments="1}"),
        TextPart("\n"),
        CallPart(1, "g", "{}"),
        TextPart(" "),
    )
    output = events[-1]["response"]["output"]

    assert [(each["type"], each["id"]) for each in output] == [
        ("reasoning", "rs_ab00"), ("message", "msg_ab01"), ("function_call", "fc_ab02"),
        ("function_call", "fc_ab03"),
    ]  # fmt: skip
    assert output[0]["content"] == [{"type": "reasoning_text", "text": "hm"}]
    assert output[1]["content"][0]["text"] == "\n\nI look it up.\n"
    assert [(each["call_id"], each["name"], each["arguments"]) for each in output[2:]] == [
        ("call_0", "f", '{"a":1}'),
        ("call_1", "g", "{}"),
    ]
    assert types(events)[2:8] == [
        "output_item.added", "content_part.added", "reasoning_text.delta", "reasoning_text.done",
        "content_part.done", "output_item.done",
    ]  # fmt: skip
    of_first_call = [each for each in events if each.get("item_id") == "fc_ab02"]
    assert types(of_first_call) == ["function_call_arguments.delta"] * 2 + ["function_call_arguments.done"]
    assert (of_first_call[-1]["name"], of_first_call[-1]["arguments"]) == ("f", '{"a":1}')


@pytest.mark.parametrize("blank", ["", " \n"])
def test_an_empty_answer_is_a_message(blank: str) -> None:
    """Clients read the first item: there is one, also where nothing was said."""
    events = told(TextPart(blank)) if blank else told()

    assert [each["content"][0]["text"] for each in events[-1]["response"]["output"]] == [blank]


def test_a_limit_leaves_the_last_item_incomplete() -> None:
    """`incomplete` names why; what was done before stays completed."""
    events = told(ReasoningPart("a"), CallPart(0, "f", '{"a'), reason=FinishReason.LENGTH)
    response = events[-1]["response"]

    assert events[-1]["type"] == "response.incomplete"
    assert response["incomplete_details"] == {"reason": "max_output_tokens"}
    assert [each["status"] for each in response["output"]] == ["completed", "incomplete"]
    assert response["completed_at"] is None


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Unavailable("the engine failed", code="engine_failed"), "server_error"),
        (RequestError("too complex", code="schema_too_complex"), "invalid_prompt"),
    ],
)
def test_a_failure_says_exactly_why_and_then_fails(error: Any, code: str) -> None:
    """An `error` event with our code, then `failed` with one that typed clients take, and what there is."""
    one = telling()
    events = [*one.begin(), *one.add(Delta("", parts=(TextPart("half"),))), *one.fail(error)]
    check(events)

    assert events[-2] == {
        "type": "error",
        "sequence_number": len(events) - 2,
        "code": error.code,
        "message": error.message,
        "param": None,
    }
    assert events[-1]["response"]["error"] == {"code": code, "message": error.message}
    assert events[-1]["response"]["output"][0]["status"] == "incomplete"
    assert events[-1]["response"]["output"][0]["content"][0]["text"] == "half"


def test_logprobs_are_of_what_is_said() -> None:
    """Tokens of thoughts and marks are left out; those of the text come with its deltas and at its end."""
    tokens = [
        TokenLogprob(each, -0.5, ((each, -0.5), (b"\xff", -2.0))) for each in (b"<t>", b"hm", b"ye", b"s")
    ]
    events = told(Delta("", parts=(ReasoningPart("hm"), TextPart("yes")), logprobs=tuple(tokens)))
    said = events[-1]["response"]["output"][1]["content"][0]["logprobs"]

    assert [each["token"] for each in said] == ["ye", "s"]
    assert said[0]["bytes"] == list(b"ye")
    assert said[0]["top_logprobs"][1] == {"token": "\ufffd", "bytes": [255], "logprob": -2.0}
    of_text = [each for each in events if each["type"].startswith("response.output_text")]
    assert [each["logprobs"] for each in of_text] == [said, said]


def test_the_request_comes_back_as_it_was_understood() -> None:
    """Everything that strict clients require of the echo, defaults included."""
    one = telling(
        instructions="be brief",
        metadata={"a": "b"},
        tools=[{"type": "function", "name": "f"}],
        tool_choice={"type": "function", "name": "f"},
        text={"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}}},
        reasoning={"effort": "low"},
        max_output_tokens=9,
        user="u",
    )
    plain, echo = telling().response.model_dump(), one.response.model_dump()

    for each in (plain, echo):
        validate_type(type_=StrictResponse, value=each)
    assert (plain["store"], plain["background"], plain["truncation"]) == (False, False, "disabled")
    assert (plain["tool_choice"], plain["parallel_tool_calls"], plain["tools"]) == ("auto", True, [])
    assert (plain["instructions"], plain["metadata"]) == (None, {})
    assert plain["text"] == {"format": {"type": "text"}, "verbosity": "medium"}
    assert (echo["instructions"], echo["metadata"], echo["user"]) == ("be brief", {"a": "b"}, "u")
    assert echo["tools"][0] == {
        "type": "function",
        "name": "f",
        "description": None,
        "parameters": {"type": "object"},
        "strict": True,
    }
    assert echo["tool_choice"] == {"type": "function", "name": "f"}
    assert echo["text"]["format"]["schema"] == {"type": "object"}
    assert (echo["reasoning"]["effort"], echo["max_output_tokens"]) == ("low", 9)


def test_a_frame_has_its_name_on_a_line_of_its_own() -> None:
    """`event:` and `data:`, JSON on one line."""
    written = frame({"type": "response.x", "sequence_number": 0, "delta": "a\nb"}).decode()

    assert written == 'event: response.x\ndata: {"type":"response.x","sequence_number":0,"delta":"a\\nb"}\n\n'
