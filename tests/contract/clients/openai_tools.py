"""`openai`: tools in chats, whole and streamed."""

from __future__ import annotations

import json
from typing import Any

import openai
from pydantic import BaseModel

from tests.contract.clients.checks import MODEL, calling, check
from tests.contract.clients.openai_made import chat, client

WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a town.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}
OFFICE: Any = {
    "type": "function",
    "function": {"name": "office", "parameters": {"type": "object", "properties": {}}},
}
BONN = ("weather", '{"city": "Bonn"}')
KIEL = ("weather", '{"city": "Kiel"}')


class Weather(BaseModel):
    city: str


def arguments(call: Any) -> Any:
    return json.loads(call.function.arguments)


@check
def a_call() -> None:
    choice = chat(calling(BONN), tools=[WEATHER, OFFICE]).choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content is None
    (call,) = choice.message.tool_calls
    assert (call.type, call.function.name, arguments(call)) == ("function", "weather", {"city": "Bonn"})
    assert call.id


@check
def no_call_where_the_model_makes_none() -> None:
    choice = chat("echo: plain words", tools=[WEATHER]).choices[0]
    assert (choice.finish_reason, choice.message.content) == ("stop", "plain words")
    assert choice.message.tool_calls is None


@check
def no_call_where_none_is_allowed() -> None:
    choice = chat("echo: plain", tools=[WEATHER], tool_choice="none").choices[0]
    assert choice.message.tool_calls is None
    assert choice.message.content == "plain"


@check
def several_calls_at_once() -> None:
    choice = chat(calling(BONN, KIEL), tools=[WEATHER]).choices[0]
    assert [arguments(call)["city"] for call in choice.message.tool_calls] == ["Bonn", "Kiel"]
    assert len({call.id for call in choice.message.tool_calls}) == 2
    alone = chat(calling(BONN, KIEL), tools=[WEATHER], parallel_tool_calls=False).choices[0]
    assert [arguments(call)["city"] for call in alone.message.tool_calls] == ["Bonn"]


@check
def a_call_that_must_be() -> None:
    """The model would rather talk: it is made to call, and what it calls with fits the schema."""
    choice = chat("tell me", tools=[WEATHER], tool_choice="required", max_tokens=400).choices[0]
    assert choice.message.tool_calls[0].function.name == "weather"
    assert isinstance(arguments(choice.message.tool_calls[0])["city"], str)
    named: Any = {"type": "function", "function": {"name": "office"}}
    choice = chat("tell me", tools=[WEATHER, OFFICE], tool_choice=named, max_tokens=400).choices[0]
    assert choice.message.tool_calls[0].function.name == "office"


@check
def streamed_calls_in_deltas() -> None:
    chunks = list(chat(calling(BONN, KIEL), tools=[WEATHER], stream=True))
    deltas = [d for chunk in chunks for c in chunk.choices for d in c.delta.tool_calls or ()]
    for index, city in enumerate(("Bonn", "Kiel")):
        mine = [each for each in deltas if each.index == index]
        assert mine[0].id
        assert mine[0].type == "function"
        assert mine[0].function.name == "weather"
        assert all(each.id is None and each.function.name is None for each in mine[1:])
        assert json.loads("".join(each.function.arguments or "" for each in mine)) == {"city": city}
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


@check
def the_stream_helper_collects_calls() -> None:
    with client.chat.completions.stream(
        model=MODEL,
        messages=[{"role": "user", "content": calling(BONN)}],
        tools=[openai.pydantic_function_tool(Weather, name="weather")],
    ) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_completion()
    assert "tool_calls.function.arguments.done" in kinds
    calls = final.choices[0].message.tool_calls
    assert calls is not None
    assert calls[0].function.parsed_arguments == Weather(city="Bonn")


@check
def calls_parsed_into_a_type() -> None:
    parsed = client.chat.completions.parse(
        model=MODEL,
        messages=[{"role": "user", "content": calling(BONN)}],
        tools=[openai.pydantic_function_tool(Weather, name="weather")],
    )
    calls = parsed.choices[0].message.tool_calls
    assert calls is not None
    assert calls[0].function.parsed_arguments == Weather(city="Bonn")


@check
def a_turn_with_what_the_tool_said() -> None:
    """The client's own objects go back as they came."""
    asked: list[Any] = [{"role": "user", "content": calling(BONN)}]
    message = chat(calling(BONN), tools=[WEATHER]).choices[0].message
    asked += [message, {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "9 °C"}]
    asked += [{"role": "user", "content": "echo: nine degrees"}]
    answer = client.chat.completions.create(model=MODEL, messages=asked, tools=[WEATHER])
    assert answer.choices[0].message.content == "nine degrees"


@check
def wrong_tools_are_refused_by_name() -> None:
    wrong: Any = {"type": "function", "function": {"name": "no name"}}
    for options, param in (
        ({"tools": [wrong]}, "tools[0].function.name"),
        ({"tools": [WEATHER], "tool_choice": {"type": "function", "function": {"name": "x"}}}, "tool_choice"),
    ):
        try:
            chat("x", **options)
        except openai.BadRequestError as error:
            assert (error.param or "").startswith(param), error.param
        else:
            raise AssertionError(f"{param} was taken")
