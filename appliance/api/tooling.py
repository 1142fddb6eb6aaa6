"""Tools as every endpoint offers them: checked in one place, whatever the wire calls them.

Each endpoint reads its own shape into `Offer`s; `tooling` says what the model may call.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from appliance.api.formats import schema_text
from appliance.core import Tool, Tooling
from appliance.errors import RequestError

MAX_TOOLS = 128
MAX_OFFERED_CHARACTERS = 256 * 1024  # descriptions and parameters of all tools together
NO_PARAMETERS = '{"type":"object","properties":{},"additionalProperties":false}'

Choice = Literal["auto", "none", "required", "named"]


@dataclass(frozen=True, slots=True)
class Offer:
    """One function of a request; `param` is the path of its parameters' schema in the body."""

    name: str
    description: str = field(default="", repr=False)
    parameters: Mapping[str, Any] | None = field(default=None, repr=False)
    param: str = "tools"


@dataclass(frozen=True, slots=True)
class Wanted:
    """Whether something must be called. `allowed` leaves only some of the tools; None: all of them."""

    choice: Choice = "auto"
    named: str = ""  # where the choice is `named`
    allowed: tuple[str, ...] | None = None
    param: str = "tool_choice"


AS_IT_LIKES = Wanted()


def tooling(
    offers: Sequence[Offer], wanted: Wanted = AS_IT_LIKES, *, parallel: bool = True, param: str = "tools"
) -> Tooling | None:
    """What may be called; None where nothing may. RequestError names what can not be offered."""
    tools = _checked(offers, param)
    if not tools and (wanted.choice in {"required", "named"} or wanted.allowed is not None):
        raise RequestError(f"{wanted.param} needs {param}", code="invalid_value", param=wanted.param)
    if wanted.choice == "none" or not tools:
        return None
    if wanted.choice == "named":
        tools = _first(tools, wanted)
    elif wanted.allowed is not None:
        tools = _only(tools, wanted)
    return Tooling(tools=tuple(tools), choice=wanted.choice, parallel=parallel)


def _checked(offers: Sequence[Offer], param: str) -> list[Tool]:
    if len(offers) > MAX_TOOLS:
        raise RequestError(f"at most {MAX_TOOLS} tools are taken", code="invalid_value", param=param)
    names = [each.name for each in offers]
    if len(set(names)) < len(names):
        raise RequestError("two tools have the same name", code="invalid_value", param=param)
    tools = [Tool(each.name, each.description, _parameters(each)) for each in offers]
    if sum(len(each.description) + len(each.parameters) for each in tools) > MAX_OFFERED_CHARACTERS:
        raise RequestError(
            f"the tools have more than {MAX_OFFERED_CHARACTERS} characters together",
            code="invalid_value",
            param=param,
        )
    return tools


def _parameters(offer: Offer) -> str:
    """The schema of a call's arguments, which are an object always; without one they are empty."""
    if not offer.parameters:
        return NO_PARAMETERS
    if offer.parameters.get("type", "object") != "object":
        raise RequestError(
            "a tool's parameters are an object: its schema says type: object",
            code="unsupported_schema",
            param=offer.param,
        )
    return schema_text({"type": "object", **offer.parameters}, param=offer.param)


def _first(tools: Sequence[Tool], wanted: Wanted) -> list[Tool]:
    """The named one in front: that is how `core.Tooling` says which one must be called."""
    named = [each for each in tools if each.name == wanted.named]
    if not named:
        raise _no_such(wanted)
    return [*named, *(each for each in tools if each.name != wanted.named)]


def _only(tools: Sequence[Tool], wanted: Wanted) -> list[Tool]:
    allowed = set(wanted.allowed or ())
    if not allowed or allowed - {each.name for each in tools}:
        raise _no_such(wanted)
    return [each for each in tools if each.name in allowed]


def _no_such(wanted: Wanted) -> RequestError:
    return RequestError(
        f"{wanted.param} names no tool of this request", code="invalid_value", param=wanted.param
    )
