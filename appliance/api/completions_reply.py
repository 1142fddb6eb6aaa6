"""A completion on its way out: from the sentence's pieces to objects and chunks."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence

from appliance.api.answering import Whole
from appliance.api.attribution import Tokens
from appliance.api.completion import Stamp, usage_of
from appliance.api.completions_schemas import Completion, CompletionChoice
from appliance.api.logprobs import CompletionLogprobs, Legacy
from appliance.api.streaming import DONE, event
from appliance.core import Delta, Finished, TextPart, TokenLogprob
from appliance.exchange import Exchange


class CompletionReply:
    """One answer on its way into the wire shape."""

    def __init__(
        self,
        exchange: Exchange,
        stamp: Stamp,
        *,
        echoes: Sequence[str] = (),  # what stands before each choice's answer, where that is asked for
        wants_usage: bool = False,
        wants_logprobs: bool = False,
    ) -> None:
        self._exchange = exchange
        self._envelope = stamp.envelope(exchange, "cmpl")
        self._echoes = echoes
        self._wants_usage = wants_usage
        self._wants_logprobs = wants_logprobs
        self._legacies: dict[int, Legacy] = {}
        self._tokens: dict[int, Tokens] = {}  # by choice

    def completion(self, answered: Whole) -> Completion:
        """The whole answer as one object."""
        return Completion(
            **self._envelope,
            choices=[
                CompletionChoice(
                    index=index,
                    text=self._echo(index) + choice.text,
                    logprobs=self._shaped(index, choice.logprobs),
                    finish_reason=answered.reason(index),
                )
                for index, choice in enumerate(answered.choices)
            ],
            usage=usage_of(answered.finished.usage),
        )

    async def frames(self) -> AsyncIterator[bytes]:
        """The echoes first, then pieces, each choice's finish reason, usage where asked for."""
        for index, echo in enumerate(self._echoes):
            yield self._chunk(index, echo)
        async for item in self._exchange.events():
            match item:
                case Delta():
                    for frame in self._piece(item):
                        yield frame
                case Finished():
                    for index, reason in enumerate(item.reasons):
                        yield self._chunk(index, "", finish_reason=reason)
                    if self._wants_usage:
                        chunk = Completion(**self._envelope, choices=[], usage=usage_of(item.usage))
                        yield self._frame(chunk)
        yield DONE

    def _piece(self, piece: Delta) -> Iterator[bytes]:
        tokens = self._tokens.setdefault(piece.index, Tokens())
        tokens.add(piece.logprobs)
        text = "".join(each.text for each in piece.parts if isinstance(each, TextPart))
        if text:
            yield self._chunk(piece.index, text, tokens.take(text))

    def _echo(self, index: int) -> str:
        return self._echoes[index] if self._echoes else ""

    def _shaped(self, index: int, found: Sequence[TokenLogprob]) -> CompletionLogprobs | None:
        if not self._wants_logprobs:
            return None
        return self._legacies.setdefault(index, Legacy()).add(found)

    def _chunk(
        self,
        index: int,
        text: str,
        logprobs: Sequence[TokenLogprob] = (),
        finish_reason: str | None = None,
    ) -> bytes:
        shaped = self._shaped(index, logprobs) if logprobs else None
        choice = CompletionChoice(index=index, text=text, logprobs=shaped, finish_reason=finish_reason)
        return self._frame(Completion(**self._envelope, choices=[choice]))

    def _frame(self, chunk: Completion) -> bytes:
        # `usage` stands on the other chunks only where the caller asked for it, and is null there.
        excluded = set() if self._wants_usage else {"usage"}
        return event(chunk.model_dump_json(exclude=excluded).encode("utf-8"))
