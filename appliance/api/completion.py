"""What the answers of all OpenAI endpoints share: token counts, the fingerprint, the envelope."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TypedDict

from pydantic import BaseModel

from appliance.core import ModelSpec
from appliance.core import Usage as CoreUsage
from appliance.engine.messages import Ready
from appliance.exchange import Exchange
from appliance.services import Services


class PromptTokensDetails(BaseModel):
    """How many prompt tokens were not computed again."""

    cached_tokens: int


class CompletionTokensDetails(BaseModel):
    """How many tokens of the answer were thought, not said."""

    reasoning_tokens: int


class Usage(BaseModel):
    """Token counts, of all choices together; a prompt counts once."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails
    completion_tokens_details: CompletionTokensDetails


class Envelope(TypedDict):
    """What every object and every chunk of one answer repeats."""

    id: str
    created: int
    model: str
    system_fingerprint: str


@dataclass(frozen=True, slots=True)
class Stamp:
    """When an answer began, and by what it is computed."""

    created: int
    model: str
    fingerprint: str

    def envelope(self, exchange: Exchange, prefix: str) -> Envelope:
        """`prefix` is the endpoint's, as in `chatcmpl-…`."""
        return {
            "id": f"{prefix}-{exchange.request.request_id.removeprefix('req_')}",
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.fingerprint,
        }


def stamp_of(services: Services, exchange: Exchange) -> Stamp:
    """Of the exchange: the same each time its answer is told."""
    return Stamp(
        created=exchange.created,
        model=exchange.model.id,
        fingerprint=fingerprint_of(exchange.model, services.fleet.told(exchange.model)),
    )


def usage_of(usage: CoreUsage) -> Usage:
    """Counts in the wire's shape."""
    return Usage(
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        total_tokens=usage.total_tokens,
        prompt_tokens_details=PromptTokensDetails(cached_tokens=usage.cached_tokens),
        completion_tokens_details=CompletionTokensDetails(reasoning_tokens=usage.reasoning_tokens),
    )


def fingerprint_of(model: ModelSpec, ready: Ready | None) -> str:
    """Changes when the model's file, the library or the device does: with it, so may the answers."""
    parts = [model.sha256]
    if ready is not None:
        parts += [ready.library, ready.backend, ready.template_sha256]
    return "fp_" + hashlib.sha256("\n".join(parts).encode("utf-8")).hexdigest()[:16]
