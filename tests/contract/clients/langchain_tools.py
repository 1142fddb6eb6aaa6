"""`langchain-openai`: tools, and types by way of a tool."""

from __future__ import annotations

from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool

from tests.contract.clients.checks import calling, check
from tests.contract.clients.langchain_chat import Office, made

BONN = ("weather", '{"city": "Bonn"}')


@tool  # type: ignore[untyped-decorator]
def weather(city: str) -> str:
    """The weather of a town."""
    return f"9 °C in {city}"


@check
def bind_tools() -> None:
    bound = made().bind_tools([weather])
    question = HumanMessage(calling(BONN))
    answer = bound.invoke([question])
    (call,) = answer.tool_calls
    assert (call["name"], call["args"]) == ("weather", {"city": "Bonn"})
    said = weather.invoke(call)
    assert isinstance(said, ToolMessage)
    final = bound.invoke([question, answer, said, HumanMessage("echo: nine degrees")])
    assert final.content == "nine degrees"


@check
def bind_tools_streamed() -> None:
    whole = None
    for chunk in made().bind_tools([weather]).stream(calling(BONN)):
        whole = chunk if whole is None else whole + chunk
    assert whole is not None
    assert [(call["name"], call["args"]) for call in whole.tool_calls] == [("weather", {"city": "Bonn"})]


@check
def bind_tools_that_must_be_called() -> None:
    answer = made(max_tokens=400).bind_tools([weather], tool_choice="any").invoke("tell me")
    assert answer.tool_calls[0]["name"] == "weather"


@check
def with_structured_output_by_a_tool() -> None:
    found = (
        made()
        .with_structured_output(Office, method="function_calling")
        .invoke(calling(("Office", '{"name": "Amt", "open": true}')))
    )
    assert found == Office(name="Amt", open=True)


@check
def bind_tools_over_responses() -> None:
    answer = made(use_responses_api=True).bind_tools([weather]).invoke(calling(BONN))
    assert [(call["name"], call["args"]) for call in answer.tool_calls] == [("weather", {"city": "Bonn"})]
