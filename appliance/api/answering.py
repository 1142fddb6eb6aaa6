"""What all endpoints that generate share: a question goes through the sentence, an answer comes back.

Each endpoint has its own words on the wire; none has a way of its own to the model or past the record.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from fastapi import Request

from appliance.api import retrying
from appliance.api.attribution import Tokens
from appliance.api.border import visit_of
from appliance.api.streaming import unless_gone
from appliance.core import (
    CallPart,
    Delta,
    Finished,
    FinishReason,
    InferenceRequest,
    ReasoningPart,
    TextPart,
    TokenLogprob,
)
from appliance.errors import InternalError
from appliance.exchange import Exchange


@dataclass(slots=True)
class Called:
    """One tool call of an answer."""

    name: str
    arguments: str = field(default="", repr=False)


@dataclass(slots=True)
class Choice:
    """One whole answer, as its parts make it."""

    text: str = field(default="", repr=False)
    reasoning: str = field(default="", repr=False)
    calls: list[Called] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list, repr=False)  # of the text's tokens
    _tokens: Tokens = field(default_factory=Tokens, repr=False)

    def add(self, piece: Delta) -> None:
        """Take in what a piece says."""
        self._tokens.add(piece.logprobs)
        for part in piece.parts:
            found = self._tokens.of(part)
            match part:
                case TextPart():
                    self.text += part.text
                    self.logprobs += found
                case ReasoningPart():
                    self.reasoning += part.text
                case CallPart():
                    if part.index == len(self.calls):
                        self.calls.append(Called(part.name))
                    self.calls[part.index].arguments += part.arguments


@dataclass(frozen=True, slots=True)
class Whole:
    """Every choice of an answer, and how it ended."""

    choices: list[Choice]
    finished: Finished

    def reason(self, index: int) -> FinishReason:
        """Why a choice ended."""
        return self.finished.reasons[index]


async def ask(request: Request, question: InferenceRequest) -> Exchange:
    """Send a question through the sentence, and wait until the worker has taken it.

    Until then a refusal can still be a status of its own; it is raised here. Under an idempotency key it
    may be an exchange that runs or has ended already; its events are told from the beginning.
    """
    visit = visit_of(request.scope)
    exchange = await retrying.begin(request, question)
    try:
        await unless_gone(request.receive, retrying.accepted(request, exchange), exchange.gone)
    finally:
        visit.receipt = exchange.receipt
    return exchange


async def whole(request: Request, exchange: Exchange) -> Whole:
    """The whole answer; raises what stopped it. The caller's leaving stops it."""
    if not isinstance(exchange.request, InferenceRequest):
        raise InternalError("only questions have choices")
    choices = [Choice() for _ in range(exchange.request.num_choices)]
    ends: list[Finished] = []

    async def collect() -> None:
        async for item in exchange.events():
            if isinstance(item, Delta):
                choices[item.index].add(item)
            else:
                ends.append(item)

    await unless_gone(request.receive, collect(), exchange.gone)
    return Whole(choices, ends[0])


def call_id(exchange: Exchange, choice: int, call: int) -> str:
    """The id of a tool call: the same each time the same answer is told."""
    return f"call_{exchange.request.request_id.removeprefix('req_')[:20]}{choice:02x}{call:02x}"
