"""Readers by the names of their dialects."""

from __future__ import annotations

from collections.abc import Sequence

from appliance.core import Tool
from appliance.dialects.dialect import Reader
from appliance.dialects.recognition import DIALECTS, PLAIN


def reader(dialect: str, *, calls: bool, begins_thinking: bool, tools: Sequence[Tool] = ()) -> Reader:
    """A reader of one answer in a dialect; one that is not known here is read as plain text.

    `calls`: tools were offered, so calls may stand there. `tools` are those, for dialects that write
    values without saying of which type they are.
    """
    spoken = DIALECTS.get(dialect, PLAIN)
    return spoken.reader(calls=calls, begins_thinking=begins_thinking, tools=tools)
