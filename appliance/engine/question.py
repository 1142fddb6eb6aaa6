"""What a question to a worker is made of: turns, tools, and how to choose the next token. Fields only."""

from __future__ import annotations

from typing import Literal

import msgspec


class Call(msgspec.Struct, frozen=True):
    """A tool call of an earlier turn; `arguments` is JSON text."""

    id: str
    name: str
    arguments: str


class Turn(msgspec.Struct, frozen=True):
    """One message of the conversation."""

    role: str
    content: str
    tool_calls: tuple[Call, ...] = ()
    tool_call_id: str = ""
    reasoning: str = ""


class ToolSpec(msgspec.Struct, frozen=True):
    """A function that may be called; `parameters` is JSON Schema as text."""

    name: str
    description: str
    parameters: str


class Tools(msgspec.Struct, frozen=True):
    """`core.Tooling`: what may be called, and whether something must be."""

    tools: tuple[ToolSpec, ...]
    choice: Literal["auto", "required", "named"]
    parallel: bool


class Sampling(msgspec.Struct, frozen=True):
    """`core.SamplingParams`, resolved: no value is left to the worker's choice but the seed's."""

    temperature: float
    top_p: float
    top_k: int
    min_p: float
    repeat_penalty: float
    presence_penalty: float
    frequency_penalty: float
    seed: int | None
    max_tokens: int | None
    stop: tuple[str, ...]
    logit_bias: tuple[tuple[int, float], ...] = ()
    top_logprobs: int | None = None  # None: none are wanted
