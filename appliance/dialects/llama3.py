"""Llama 3.x: the whole answer is `{"name": …, "parameters": …}`, behind `<|python_tag|>` or bare."""

from __future__ import annotations

from appliance.core import Tool, Tooling
from appliance.dialects.dialect import Dialect, Tagged
from appliance.dialects.hermes import object_call
from appliance.dialects.lark import Lark
from appliance.dialects.objects import call_object
from appliance.dialects.scanning import Waits

_TAG = "<|python_tag|>"
_BARE = r"\{\s*\"(name|type|function|parameters)\""  # what an answer in JSON must not begin with


class Llama3(Dialect):
    """Its templates refuse turns with several calls."""

    name = "llama3"
    openers = (_TAG,)
    has_single_calls = True

    def is_spoken_in(self, template: str) -> bool:
        return "<|start_header_id|>" in template and '"parameters"' in template

    def call(self, lark: Lark, tool: Tool) -> str:
        return object_call(lark, tool, "parameters")

    def bodies(self, lark: Lark, tooling: Tooling, *, has_prose: bool) -> list[str]:
        call, tag = self.calls(lark, tooling), lark.mark(_TAG)
        if has_prose:
            return [
                lark.free(_TAG, begins_not=self.begins_not),
                f"{lark.up_to(_TAG, begins_not=self.begins_not)} {call}",
                call,
            ]
        # Beside a schema the mark tells a call from an answer that begins with a brace as well.
        return [f"{tag} {call}" if tooling.choice == "auto" else f"{tag}? {call}"]

    @property
    def begins_not(self) -> str:
        return rf"({super().begins_not}|\s*{_BARE})"

    def read_beginning(self, scanner: Tagged) -> Waits:
        """A bare call, or several with semicolons between."""
        if not scanner.has_calls:
            return
        before = yield from scanner.space()
        if (yield from scanner.peek()) != "{":
            scanner.say(before)
            return
        scanner.open_head(before)
        yield from scanner.read_call("")

    def read_call(self, scanner: Tagged, mark: str) -> Waits:
        del mark
        while (yield from call_object(scanner)):
            scanner.open_head("")
            yield from scanner.space()
            if not (yield from scanner.accept(";")):
                return
