"""Tools for a model whose template knows none: told in words, called and answered as in Hermes."""

from __future__ import annotations

import json

from appliance.core import ToolCall, Tooling
from appliance.dialects.hermes import CLOSES, OPENS

_RESULT, _RESULT_END = "<tool_response>", "</tool_response>"


def told(tooling: Tooling) -> str:
    """What stands in the system message."""
    tools = "\n".join(
        f'{{"name": {_quoted(each.name)}, "description": {_quoted(each.description)},'
        f' "parameters": {each.parameters}}}'
        for each in tooling.tools
    )
    often = "Several calls are several such blocks." if tooling.parallel else "Make one call at most."
    return (
        "These functions can be called, one on each line, with the JSON Schema of their arguments:\n"
        f"<tools>\n{tools}\n</tools>\n"
        "To call a function, write its name and its arguments in this form and nothing behind it:\n"
        f'{OPENS}\n{{"name": "…", "arguments": {{…}}}}\n{CLOSES}\n'
        f"{often} What a function answers stands in {_RESULT}. Without a call, answer in plain text."
    )


def called(content: str, calls: tuple[ToolCall, ...]) -> str:
    """An assistant's turn with calls."""
    blocks = [
        f'{OPENS}\n{{"name": {_quoted(each.name)}, "arguments": {each.arguments or "{}"}}}\n{CLOSES}'
        for each in calls
    ]
    return "\n".join([*([content] if content else []), *blocks])


def answered(content: str) -> str:
    """A tool's result, in a turn of the user's."""
    return f"{_RESULT}\n{content}\n{_RESULT_END}"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
