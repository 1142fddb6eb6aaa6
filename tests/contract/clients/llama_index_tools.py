"""`llama-index-llms-openai-like`: tools."""

from __future__ import annotations

from llama_index.core.tools import FunctionTool

from tests.contract.clients.checks import calling, check
from tests.contract.clients.llama_index_chat import made

BONN = ("weather", '{"city": "Bonn"}')


def weather(city: str) -> str:
    """The weather of a town."""
    return f"9 °C in {city}"


TOOL = FunctionTool.from_defaults(fn=weather)


@check
def tools() -> None:
    llm = made()
    answer = llm.chat_with_tools([TOOL], user_msg=calling(BONN))
    (call,) = llm.get_tool_calls_from_response(answer)
    assert (call.tool_name, call.tool_kwargs) == ("weather", {"city": "Bonn"})


@check
def streamed_tools() -> None:
    llm = made()
    last = list(llm.stream_chat_with_tools([TOOL], user_msg=calling(BONN)))[-1]
    (call,) = llm.get_tool_calls_from_response(last)
    assert (call.tool_name, call.tool_kwargs) == ("weather", {"city": "Bonn"})


@check
def predict_and_call() -> None:
    answer = made().predict_and_call([TOOL], user_msg=calling(BONN))
    assert str(answer) == "9 °C in Bonn"
