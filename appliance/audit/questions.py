"""Questions and answers as the record's contents hold them, and questions back from there. Pure.

A field that carries nothing is left out, so that what was sealed by earlier releases reads the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

from appliance.core import (
    ChatMessage,
    Delta,
    InferenceRequest,
    SamplingParams,
    Setup,
    TokenLogprob,
    Tool,
    ToolCall,
    Tooling,
)


def asked(request: InferenceRequest) -> dict[str, Any]:
    """Everything that the answer depends on."""
    content: dict[str, Any] = {"sampling": _sampling(request.sampling)}
    if request.prompts:
        content["prompts"] = [each if isinstance(each, str) else list(each) for each in request.prompts]
    else:
        content["messages"] = turns(request.messages)
    if request.n != 1:
        content["n"] = request.n
    if request.schema:
        content["schema"] = request.schema
    if request.tooling is not None:
        content["tooling"] = tooling(request.tooling)
    if request.effort:
        content["effort"] = request.effort
    if request.timeout_seconds is not None:
        content["timeout_seconds"] = repr(request.timeout_seconds)
    if request.setup is not None:
        content["setup"] = asdict(request.setup)
    return content


# What a question asks for in numbers. Stop strings, biases of tokens, schemas and tools are words.
_MEASURES: Final = frozenset({"n", "effort", "timeout_seconds", "dimensions", "add_special", "parse_special"})
_NUMBERS: Final = frozenset(
    {
        "temperature",
        "top_p",
        "top_k",
        "min_p",
        "repeat_penalty",
        "presence_penalty",
        "frequency_penalty",
        "seed",
        "max_tokens",
        "top_logprobs",
    }
)


def measures(content: Mapping[str, Any]) -> dict[str, Any]:
    """What is left of a question's content without a word of it. A field that is not known here goes."""
    left = {name: value for name, value in content.items() if name in _MEASURES}
    if "sampling" in content:
        left["sampling"] = {name: value for name, value in content["sampling"].items() if name in _NUMBERS}
    return left


def question_of(content: Mapping[str, Any], *, request_id: str, model: str) -> InferenceRequest:
    """The question in a content that `asked` made, in this release or an earlier one."""
    setup = content.get("setup")
    timeout = content.get("timeout_seconds")
    return InferenceRequest(
        request_id=request_id,
        model=model,
        messages=tuple(_turn(each) for each in content.get("messages", ())),
        sampling=_sampling_of(content["sampling"]),
        prompts=tuple(each if isinstance(each, str) else tuple(each) for each in content.get("prompts", ())),
        n=content.get("n", 1),
        schema=content.get("schema", ""),
        tooling=_tooling_of(content["tooling"]) if "tooling" in content else None,
        effort=content.get("effort", ""),
        timeout_seconds=None if timeout is None else float(timeout),
        reproducible=setup is not None,
        setup=Setup(**setup) if setup else None,
    )


def turns(messages: Sequence[ChatMessage]) -> list[dict[str, Any]]:
    """A conversation."""
    return [
        {
            "role": each.role,
            "content": each.content,
            **({"tool_calls": [asdict(call) for call in each.tool_calls]} if each.tool_calls else {}),
            **({"tool_call_id": each.tool_call_id} if each.tool_call_id else {}),
            **({"reasoning": each.reasoning} if each.reasoning else {}),
        }
        for each in messages
    ]


def tooling(offered: Tooling) -> dict[str, Any]:
    """What might be called."""
    return {
        "tools": [asdict(each) for each in offered.tools],
        "choice": offered.choice,
        "parallel": offered.parallel,
    }


def said(name: str, piece: Delta) -> dict[str, Any]:
    """A piece of an answer. `choice` stands there where it is not the first one."""
    content: dict[str, Any] = {name: piece.text}
    if piece.index:
        content["choice"] = piece.index
    if piece.logprobs:
        content["logprobs"] = [_logprob(each) for each in piece.logprobs]
    return content


def ended(rest: Sequence[Delta]) -> dict[str, Any]:
    """What a closing adds to the pieces: `output`, of the further choices `outputs` by their numbers."""
    content: dict[str, Any] = {}
    for piece in rest:
        if piece.index == 0:
            content |= said("output", piece) if piece.text or piece.logprobs else {}
        elif piece.text or piece.logprobs:
            content.setdefault("outputs", []).append(said("text", piece))
    return content


def _logprob(each: TokenLogprob) -> list[Any]:
    """Token, log-probability and alternatives; bytes as Latin-1, numbers as decimal text."""
    return [
        each.token.decode("latin-1"),
        repr(each.logprob),
        [[token.decode("latin-1"), repr(logprob)] for token, logprob in each.top],
    ]


def _sampling(sampling: SamplingParams) -> dict[str, Any]:
    """Floats have no canonical form of their own on the record: decimal text does."""
    content: dict[str, Any] = {
        "temperature": repr(sampling.temperature),
        "top_p": repr(sampling.top_p),
        "top_k": sampling.top_k,
        "min_p": repr(sampling.min_p),
        "repeat_penalty": repr(sampling.repeat_penalty),
        "presence_penalty": repr(sampling.presence_penalty),
        "frequency_penalty": repr(sampling.frequency_penalty),
        "seed": sampling.seed,
        "max_tokens": sampling.max_tokens,
        "stop": list(sampling.stop),
    }
    if sampling.logit_bias:
        content["logit_bias"] = [[token, repr(bias)] for token, bias in sampling.logit_bias]
    if sampling.top_logprobs is not None:
        content["top_logprobs"] = sampling.top_logprobs
    return content


def _sampling_of(content: Mapping[str, Any]) -> SamplingParams:
    return SamplingParams(
        temperature=float(content["temperature"]),
        top_p=float(content["top_p"]),
        top_k=content["top_k"],
        min_p=float(content["min_p"]),
        repeat_penalty=float(content["repeat_penalty"]),
        presence_penalty=float(content["presence_penalty"]),
        frequency_penalty=float(content["frequency_penalty"]),
        seed=content["seed"],
        max_tokens=content["max_tokens"],
        stop=tuple(content["stop"]),
        logit_bias=tuple((token, float(bias)) for token, bias in content.get("logit_bias", ())),
        top_logprobs=content.get("top_logprobs"),
    )


def _turn(content: Mapping[str, Any]) -> ChatMessage:
    return ChatMessage(
        role=content["role"],
        content=content["content"],
        tool_calls=tuple(ToolCall(**each) for each in content.get("tool_calls", ())),
        tool_call_id=content.get("tool_call_id", ""),
        reasoning=content.get("reasoning", ""),
    )


def _tooling_of(content: Mapping[str, Any]) -> Tooling:
    return Tooling(
        tools=tuple(Tool(**each) for each in content["tools"]),
        choice=content["choice"],
        parallel=content["parallel"],
    )
