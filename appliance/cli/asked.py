"""How the contents of tasks are shown to an auditor: one line for each input."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from appliance.core import Outcome
from appliance.terms import Endpoint

_SINGULAR = {"inputs": "input", "documents": "document", "prompts": "prompt"}


def lines_of(name: str, value: Any) -> Iterator[str]:
    """A field of a task's opening: `input[0]> text`. Values that are no lists of inputs: `name: value`."""
    if name == "query":
        yield f"query> {value}"
    elif name in _SINGULAR and isinstance(value, list):
        for at, each in enumerate(value):
            text = each if isinstance(each, str) else f"tokens {each}"
            yield f"{_SINGULAR[name]}[{at}]> {text}"
    else:
        yield f"{name}: {value}"


def vectors_line(public: list[dict[str, str | int]]) -> str:
    """What is said in the place of an answer that is not kept; empty for every other exchange."""
    embeds = any(each.get("endpoint") == Endpoint.EMBEDDINGS for each in public)
    if not embeds or not any(each.get("outcome") == Outcome.STOP for each in public):
        return ""
    return "── answer: vectors, not kept; output_sha256 is over their float32, little-endian"
