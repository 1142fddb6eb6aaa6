"""What a caller may send to `/v1/messages`, what becomes of it, and how each mistake is named."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.api.body import read
from appliance.api.messages_schemas import OFF_VALUES, CountTokensRequest, MessagesRequest
from appliance.api.messages_turns import turns_of
from appliance.core import ChatMessage, Tool, ToolCall, Tooling
from appliance.errors import RequestError

BASE: dict[str, Any] = {"model": "default", "max_tokens": 16, "messages": [{"role": "user", "content": "hi"}]}
WEATHER = {"name": "weather", "description": "now", "input_schema": {"type": "object", "properties": {}}}
CALL = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"town": "Köln"}}


def parse(body: bytes | dict[str, Any]) -> MessagesRequest:
    """As the route does it, up to the sentence."""
    asked = read(body if isinstance(body, bytes) else json.dumps(body).encode(), MessagesRequest)
    asked.refuse_unsupported()
    turns_of(asked)
    asked.answer_schema()
    asked.tooling()
    return asked


def told(*messages: dict[str, Any], **more: Any) -> tuple[ChatMessage, ...]:
    """The turns that a template gets."""
    return turns_of(parse(BASE | {"messages": list(messages)} | more))


def user(*blocks: dict[str, Any] | str) -> dict[str, Any]:
    return {"role": "user", "content": [text(each) if isinstance(each, str) else each for each in blocks]}


def assistant(*blocks: dict[str, Any] | str) -> dict[str, Any]:
    return user(*blocks) | {"role": "assistant"}


def text(said: str, **more: Any) -> dict[str, Any]:
    return {"type": "text", "text": said, **more}


def result(content: Any = None, **more: Any) -> dict[str, Any]:
    found = {"type": "tool_result", "tool_use_id": "toolu_1", **more}
    return found if content is None else found | {"content": content}


def test_texts_and_blocks_are_the_same_turns() -> None:
    """A string stands for one block of text; `cache_control` changes nothing; blocks are joined by lines."""
    cached = text("b", cache_control={"type": "ephemeral", "ttl": "1h"}, citations=None)

    assert told({"role": "user", "content": "a"}) == told(user("a")) == (ChatMessage("user", "a"),)
    assert told(user("a", cached), system="s") == (ChatMessage("system", "s"), ChatMessage("user", "a\nb"))
    assert told(user("a"), system=[text("s"), text("t")])[0] == ChatMessage("system", "s\nt")


def test_a_round_of_tools_is_told_in_order() -> None:
    """Calls belong to the assistant's turn; each result is a turn of its own that names its call."""
    turns = told(
        user("what is it like?"),
        assistant({"type": "thinking", "thinking": "a town", "signature": ""}, "let me see", CALL),
        user(result([text("rain"), text("5 °C")]), "and tomorrow?"),
    )

    assert turns == (
        ChatMessage("user", "what is it like?"),
        ChatMessage(
            "assistant",
            "let me see",
            tool_calls=(ToolCall("toolu_1", "weather", '{"town": "Köln"}'),),
            reasoning="a town",
        ),
        ChatMessage("tool", "rain\n5 °C", tool_call_id="toolu_1"),
        ChatMessage("user", "and tomorrow?"),
    )


def test_results_may_be_empty_or_errors() -> None:
    """A result without content is empty; one of a call that failed says so to the model."""
    ok, failed, empty = (
        told(user("a"), assistant(CALL), user(each))[-1].content
        for each in (result("fine"), result("no such town", is_error=True), result())
    )

    assert (ok, failed, empty) == ("fine", "Error: no such town", "")


def test_neighbours_of_one_role_are_one_turn() -> None:
    """Templates want roles to take turns; Anthropic's clients do not care."""
    assert told(user("a"), user("b")) == (ChatMessage("user", "a\nb"),)
    assert told({"role": "system", "content": "t"}, user("a"), system="s")[0] == ChatMessage("system", "s\nt")
    turns = told(user("a"), assistant("b"), assistant("c", CALL), user(result("d")), user("e"))
    assert [(each.role, each.content) for each in turns] == [
        ("user", "a"),
        ("assistant", "b\nc"),
        ("tool", "d"),
        ("user", "e"),
    ]
    assert turns[1].tool_calls[0].name == "weather"


def test_thoughts_that_only_anthropic_can_read_are_left_out() -> None:
    """A redacted block is taken and told to nobody."""
    turns = told(user("a"), assistant({"type": "redacted_thinking", "data": "x"}, "b"), user("c"))

    assert turns[1] == ChatMessage("assistant", "b")


BUDGET = {"type": "enabled", "budget_tokens": 2048}
# What is asked → whether thoughts are shown, and the effort of a model that can be told not to think, of
# one that always thinks, and of one that never does (None: it is refused).
THINKING: list[tuple[dict[str, Any], bool, tuple[str, str, str | None]]] = [
    ({}, False, ("none", "", "")),
    ({"output_config": {"effort": "high"}}, False, ("none", "", "")),
    ({"thinking": {"type": "disabled"}}, False, ("none", "", "")),
    ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, True, ("low", "low", None)),
    ({"thinking": BUDGET}, True, ("medium", "medium", None)),
    ({"thinking": {"type": "enabled", "budget_tokens": 4096}}, True, ("high", "high", None)),
    ({"thinking": BUDGET, "output_config": {"effort": "low"}}, True, ("low", "low", None)),
    ({"thinking": {"type": "adaptive"}}, True, ("", "", "")),
    ({"thinking": {"type": "between_tools"}}, True, ("", "", "")),
    ({"thinking": {"type": "adaptive"}, "output_config": {"effort": "max"}}, True, ("high", "high", "")),
]


@pytest.mark.parametrize(("more", "shown", "efforts"), THINKING)
def test_thinking_becomes_an_effort(
    more: dict[str, Any], *, shown: bool, efforts: tuple[str, str, str | None]
) -> None:
    """The written rule: a budget is read as an effort, a named effort goes before it."""
    asked = parse(BASE | {"max_tokens": 9000} | more)
    models = ((True, True), (True, False), (False, False))

    assert asked.shows_thinking is shown
    for (thinks, can_skip), expected in zip(models, efforts, strict=True):
        if expected is None:
            with pytest.raises(RequestError, match="does not think"):
                asked.effort(thinks=thinks, can_skip=can_skip)
        else:
            assert asked.effort(thinks=thinks, can_skip=can_skip) == expected


def test_tools_and_choices_in_the_words_of_core() -> None:
    """Each choice of Anthropic's has one of ours; `none` leaves nothing to call."""
    tool = Tool("weather", "now", '{"type":"object","properties":{}}')

    def tooling(**choice: Any) -> Tooling | None:
        return parse(BASE | {"tools": [WEATHER]} | ({"tool_choice": choice} if choice else {})).tooling()

    assert tooling() == tooling(type="auto") == Tooling((tool,))
    assert tooling(type="any") == Tooling((tool,), "required")
    assert tooling(type="tool", name="weather") == Tooling((tool,), "named")
    assert tooling(type="none") is None
    assert tooling(type="auto", disable_parallel_tool_use=True) == Tooling((tool,), parallel=False)


def test_what_has_no_effect_goes_on_the_record() -> None:
    """`metadata.user_id` is the record's `user`; the rest keeps its name."""
    given = {"service_tier": "auto", "speed": "fast", "output_config": {"effort": "max"}}
    asked = parse(BASE | {"metadata": {"user_id": "u-1"}} | given)

    assert asked.annotations() == {"user": "u-1", "service_tier": "auto", "speed": "fast", "effort": "max"}


def test_schemas_of_both_names_are_kept_to() -> None:
    """`output_config.format` is what betas called `output_format`."""
    shape = {"type": "json_schema", "schema": {"type": "integer"}}

    assert parse(BASE | {"output_config": {"format": shape}}).answer_schema() == '{"type":"integer"}'
    assert parse(BASE | {"output_format": shape}).answer_schema() == '{"type":"integer"}'
    assert parse(BASE).answer_schema() == ""


IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "canary-7f3a"}}
TALK = [user("a"), assistant(CALL)]
MISTAKES: dict[str, tuple[dict[str, Any], str, str | None]] = {
    "no limit": ({"max_tokens": None}, "missing_required_parameter", "max_tokens"),
    "limit 0": ({"max_tokens": 0}, "invalid_value", "max_tokens"),
    "no turns": ({"messages": []}, "invalid_value", "messages"),
    "role": ({"messages": [{"role": "king", "content": ""}]}, "invalid_value", "messages[0].role"),
    "no content": ({"messages": [{"role": "user"}]}, "missing_required_parameter", "messages[0].content"),
    "number": ({"messages": [{"role": "user", "content": 5}]}, "invalid_type", "messages[0].content"),
    "image": ({"messages": [user("a", IMAGE)]}, "unsupported_parameter", "messages[0].content[1]"),
    "document": (
        {"messages": [user({"type": "document", "source": {}})]},
        "unsupported_parameter",
        "messages[0].content[0]",
    ),
    "no type": ({"messages": [user({"text": "a"})]}, "unsupported_parameter", "messages[0].content[0]"),
    "no block": ({"messages": [{"role": "user", "content": ["a"]}]}, "unsupported_parameter",
                 "messages[0].content[0]"),
    "text of a number": ({"messages": [user(text(5))]}, "invalid_type", "messages[0].content[0].text"),  # type: ignore[arg-type]
    "key of a block": ({"messages": [user(text("a", size=1))]}, "unknown_parameter",
                       "messages[0].content[0].size"),
    "image in a result": ({"messages": [*TALK, user(result([IMAGE]))]}, "unsupported_parameter",
                          "messages[2].content[0].content[0]"),
    "result of no call": ({"messages": [user(result("a"))]}, "invalid_value",
                          "messages[0].content[0].tool_use_id"),
    "call of a user": ({"messages": [user(CALL)]}, "invalid_value", "messages[0].content[0]"),
    "result of the assistant": ({"messages": [user("a"), assistant(result("b")), user("c")]}, "invalid_value",
                                "messages[1].content[0]"),
    "begun answer": ({"messages": [user("a"), assistant("b")]}, "unsupported_parameter", "messages[1]"),
    "system image": ({"system": [IMAGE]}, "unsupported_parameter", "system[0]"),
    "warm": ({"temperature": 3}, "invalid_value", "temperature"),
    "empty stop": ({"stop_sequences": [""]}, "invalid_value", "stop_sequences[0]"),
    "many stops": ({"stop_sequences": ["a"] * 17}, "invalid_value", "stop_sequences"),
    "metadata": ({"metadata": {"name": "a"}}, "unknown_parameter", "metadata.name"),
    "unknown": ({"colour": 1}, "unknown_parameter", "colour"),
    "container": ({"container": "c"}, "unsupported_parameter", "container"),
    "servers": ({"mcp_servers": [{}]}, "unsupported_parameter", "mcp_servers"),
    "no budget": ({"thinking": {"type": "enabled"}}, "missing_required_parameter", "thinking.budget_tokens"),
    "small budget": ({"thinking": {"type": "enabled", "budget_tokens": 5}}, "invalid_value",
                     "thinking.budget_tokens"),
    "large budget": ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, "invalid_value",
                     "thinking.budget_tokens"),
    "server tool": ({"tools": [WEATHER, {"type": "web_search_20250305", "name": "web_search"}]},
                    "unsupported_parameter", "tools[1]"),
    "name of a tool": ({"tools": [WEATHER | {"name": "a b"}]}, "invalid_value", "tools[0].name"),
    "no schema": ({"tools": [{"name": "a"}]}, "missing_required_parameter", "tools[0].input_schema"),
    "array schema": ({"tools": [{"name": "a", "input_schema": {"type": "array"}}]}, "unsupported_schema",
                     "tools[0].input_schema"),
    "two of a name": ({"tools": [WEATHER, WEATHER]}, "invalid_value", "tools"),
    "deferred": ({"tools": [WEATHER | {"defer_loading": True}]}, "invalid_value", "tools[0].defer_loading"),
    "no name": ({"tools": [WEATHER], "tool_choice": {"type": "tool"}}, "missing_required_parameter",
                "tool_choice.name"),
    "another name": ({"tools": [WEATHER], "tool_choice": {"type": "tool", "name": "x"}}, "invalid_value",
                     "tool_choice"),
    "nothing to call": ({"tool_choice": {"type": "any"}}, "invalid_value", "tool_choice"),
    "huge schema": ({"output_format": {"type": "json_schema", "schema": {"enum": ["x" * 70_000]}}},
                    "unsupported_schema", "output_format.schema"),
}  # fmt: skip


@pytest.mark.parametrize("case", MISTAKES)
def test_each_mistake_has_its_code_and_place(case: str) -> None:
    """Bad input is named by kind and by path, never by value."""
    changes, code, param = MISTAKES[case]
    with pytest.raises(RequestError) as caught:
        parse(BASE | changes)

    assert (caught.value.code, caught.value.param) == (code, param), caught.value.message
    assert "canary-7f3a" not in caught.value.message + caught.value.hint


def test_tools_of_anthropic_are_refused_by_their_name() -> None:
    """The message says which kind of tool it is, in our words and never in the caller's."""
    for kind, named in (("code_execution_20260521", "code_execution"), ("canary-7f3a", "such")):
        with pytest.raises(RequestError, match=f"{named} tools are Anthropic's"):
            parse(BASE | {"tools": [{"type": kind, "name": "canary-7f3a"}]})


def test_null_and_off_values_mean_not_given() -> None:
    """Clients that send every field with its neutral value are served."""
    neutral = {name: off[0] if off else None for name, off in OFF_VALUES.items()}
    optional = {name: None for name in MessagesRequest.model_fields if name not in BASE}

    assert parse(BASE | optional) == parse(BASE)
    assert parse(BASE | neutral).annotations() == {}


def test_counting_takes_no_limit() -> None:
    """`count_tokens` has the conversation's words only."""
    body = {name: BASE[name] for name in ("model", "messages")}
    assert turns_of(read(json.dumps(body).encode(), CountTokensRequest)) == (ChatMessage("user", "hi"),)
    with pytest.raises(RequestError, match="unknown parameter: max_tokens"):
        read(json.dumps(BASE).encode(), CountTokensRequest)


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_arbitrary_bytes_are_a_request_or_a_clean_refusal(body: bytes) -> None:
    """No body can raise anything but a RequestError."""
    with contextlib.suppress(RequestError):
        parse(body)


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
WORDS = st.sampled_from(["type", "text", "role", "content", "id", "name", "input", "tool_use_id", "thinking"])
KINDS = st.sampled_from(["text", "tool_use", "tool_result", "thinking", "user", "assistant"])
ANYTHING = st.recursive(
    SCALARS | KINDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner | KINDS, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(sorted(MessagesRequest.model_fields)), ANYTHING, max_size=4))
def test_arbitrary_values_are_a_request_or_a_clean_refusal(changes: dict[str, Any]) -> None:
    """No JSON can raise anything but a RequestError."""
    with contextlib.suppress(RequestError):
        parse(BASE | changes)
