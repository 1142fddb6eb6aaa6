"""What callers get back from `/v1/chat/completions`, in OpenAI's shapes."""

from __future__ import annotations

import hashlib
from typing import Any, Literal

from pydantic import BaseModel

from appliance.core import Finished, ModelSpec
from appliance.core import Usage as CoreUsage
from appliance.engine.messages import Ready


class PromptTokensDetails(BaseModel):
    """How many prompt tokens were not computed again."""

    cached_tokens: int


class CompletionTokensDetails(BaseModel):
    """Required by typed clients; models that think come with a later release."""

    reasoning_tokens: int = 0


class Usage(BaseModel):
    """Token counts."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails
    completion_tokens_details: CompletionTokensDetails = CompletionTokensDetails()


class AssistantMessage(BaseModel):
    """The answer."""

    role: Literal["assistant"] = "assistant"
    content: str
    refusal: None = None


class Choice(BaseModel):
    """The one choice; `n` above 1 comes with a later release."""

    index: int = 0
    message: AssistantMessage
    logprobs: None = None
    finish_reason: str


class ChatCompletion(BaseModel):
    """A whole answer."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[Choice]
    usage: Usage
    system_fingerprint: str

    @classmethod
    def of(
        cls,
        *,
        request_id: str,
        created: int,
        model: str,
        system_fingerprint: str,
        text: str,
        finished: Finished,
    ) -> ChatCompletion:
        """From the sentence's words to the wire's."""
        return cls(
            id=f"chatcmpl-{request_id.removeprefix('req_')}",
            created=created,
            model=model,
            system_fingerprint=system_fingerprint,
            choices=[Choice(message=AssistantMessage(content=text), finish_reason=finished.reason)],
            usage=usage_of(finished.usage),
        )


class ChatCompletionChunk(BaseModel):
    """One frame of a stream: the same id and time on each of them."""

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    system_fingerprint: str
    choices: list[dict[str, Any]]
    usage: Usage | None = None


def usage_of(usage: CoreUsage) -> Usage:
    """Counts in the wire's shape."""
    return Usage(
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        total_tokens=usage.total_tokens,
        prompt_tokens_details=PromptTokensDetails(cached_tokens=usage.cached_tokens),
    )


def fingerprint_of(model: ModelSpec, ready: Ready | None) -> str:
    """Changes when the model's file, the library or the device does: with it, so may the answers."""
    parts = [model.sha256]
    if ready is not None:
        parts += [ready.library, ready.backend, ready.template_sha256]
    return "fp_" + hashlib.sha256("\n".join(parts).encode("utf-8")).hexdigest()[:16]
