"""Tools in the shape of `/v1/chat/completions`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from appliance.api.body import Body
from appliance.api.formats import Name
from appliance.api.tooling import AS_IT_LIKES, MAX_TOOLS, Offer, Wanted, tooling
from appliance.core import Tooling
from appliance.errors import RequestError


class FunctionOffered(Body):
    """A function and its parameters' schema. `strict` is the only way here: arguments keep to it."""

    name: Name
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class ToolOffered(Body):
    """Something the model may call. Functions are all that is known here."""

    type: Literal["function", "custom"]
    function: FunctionOffered | None = None
    custom: Any = None


class Named(Body):
    """A function by its name."""

    name: Name


class NamedTool(Body):
    """A tool by its name."""

    type: Literal["function", "custom"]
    function: Named | None = None
    custom: Any = None


class Allowed(Body):
    """Some of the tools, and whether one of them must be called."""

    mode: Literal["auto", "required"]
    tools: Annotated[list[NamedTool], Field(min_length=1, max_length=MAX_TOOLS)]


class Chosen(Body):
    """A tool that must be called, or the tools that may be."""

    type: Literal["function", "allowed_tools", "custom"]
    function: Named | None = None
    allowed_tools: Allowed | None = None
    custom: Any = None


Tools = Annotated[list[ToolOffered], Field(max_length=MAX_TOOLS)]
ToolChoice = Literal["none", "auto", "required"] | Chosen


def tooling_of(
    tools: Sequence[ToolOffered] | None, choice: ToolChoice | None, *, parallel: bool | None
) -> Tooling | None:
    """What may be called, in core's words. RequestError names what can not be offered."""
    offers = [_offer(each, f"tools[{at}]") for at, each in enumerate(tools or ())]
    return tooling(offers, _wanted(choice), parallel=parallel is not False)


def _offer(tool: ToolOffered, path: str) -> Offer:
    if tool.type != "function":
        raise _not_here(f"{path}.type")
    if tool.function is None:
        raise _missing(f"{path}.function")
    function = tool.function
    return Offer(
        name=function.name,
        description=function.description or "",
        parameters=function.parameters,
        param=f"{path}.function.parameters",
    )


def _wanted(choice: ToolChoice | None) -> Wanted:
    if choice is None:
        return AS_IT_LIKES
    if not isinstance(choice, Chosen):
        return Wanted(choice)
    if choice.type == "custom":
        raise _not_here("tool_choice.type")
    if choice.type == "allowed_tools":
        if choice.allowed_tools is None:
            raise _missing("tool_choice.allowed_tools")
        allowed = choice.allowed_tools
        names = [
            _name(each, f"tool_choice.allowed_tools.tools[{at}]") for at, each in enumerate(allowed.tools)
        ]
        return Wanted(allowed.mode, allowed=tuple(names), param="tool_choice.allowed_tools")
    if choice.function is None:
        raise _missing("tool_choice.function")
    return Wanted("named", named=choice.function.name, param="tool_choice.function.name")


def _name(tool: NamedTool, path: str) -> str:
    if tool.type != "function":
        raise _not_here(f"{path}.type")
    if tool.function is None:
        raise _missing(f"{path}.function")
    return tool.function.name


def _not_here(path: str) -> RequestError:
    return RequestError(
        "custom tools are not supported by this appliance; offer functions",
        code="unsupported_parameter",
        param=path,
    )


def _missing(path: str) -> RequestError:
    return RequestError(f"missing required parameter: {path}", code="missing_required_parameter", param=path)
