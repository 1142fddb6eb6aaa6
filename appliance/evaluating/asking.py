"""An evaluation's questions on the way of every request: admitted, opened on the record, computed, closed.

They are a caller of their own, behind everybody else who waits, and reproducible: each is computed alone in
the model's setup, so that a score is the same however busy the box is, and any answer can be replayed.
"""

from __future__ import annotations

import secrets
from typing import Final

from appliance.core import (
    Caller,
    ChatMessage,
    Delta,
    Finished,
    FinishReason,
    InferenceRequest,
    ModelSpec,
    Principal,
    Role,
    SamplingParams,
    TextPart,
)
from appliance.errors import ApplianceError, Busy, InternalError, Refused, RequestError, Unavailable
from appliance.evaluating.questions import Embedded, Named, Question, Reply, Texts
from appliance.guarding import REFUSED
from appliance.inference import Inference
from appliance.tasks import Answered, EmbedTask, Vectors
from appliance.terms import PRIORITIES, Limits, Terms

PRINCIPAL: Final = Principal(
    key_id="evaluation",
    name="evaluation",
    role=Role.OPERATOR,
    terms=Terms(limits=Limits(priority=PRIORITIES[0])),
)
SEED: Final = 1
_CALLER: Final = Caller(address="", user_agent="appliance model eval")
_TOO_LONG: Final = frozenset({"request_timeout", "timeout"})


class Asking:
    """Puts questions to a running appliance's models."""

    def __init__(self, inference: Inference) -> None:
        self._inference = inference

    async def ask(self, model: str, question: Question) -> Reply:
        """One greedy answer. RequestError where this model can not be asked at all."""
        request = InferenceRequest(
            request_id=_new_id(),
            model=model,
            messages=tuple(ChatMessage(role=each.role, content=each.content) for each in question.messages),
            sampling=SamplingParams(temperature=0.0, seed=SEED, max_tokens=question.max_tokens),
            schema=question.schema,
            reproducible=True,
            annotations=_annotations(question),
        )
        try:
            exchange = self._inference.begin(request, PRINCIPAL, _CALLER)
        except Busy as error:
            raise _later(error) from error
        named = _named(exchange.model)
        said: list[str] = []
        reason = ""
        try:
            async for event in exchange.events():
                if isinstance(event, Delta):
                    said += [part.text for part in event.parts if isinstance(part, TextPart)]
                else:
                    reason = str(event.reason)
        except (RequestError, Refused) as error:
            if exchange.receipt is None:  # it came to nothing before it was opened: so would every other
                raise
            return _unanswered(named, error, exchange.receipt.record)
        except Busy as error:  # its turn did not come
            raise _later(error) from error
        except Unavailable as error:
            if error.code not in _TOO_LONG or exchange.receipt is None:
                raise
            return _unanswered(named, error, exchange.receipt.record)
        return Reply(
            model=named,
            text="".join(said),
            refused=reason == FinishReason.CONTENT_FILTER,
            finish_reason=reason,
            record=exchange.receipt.record if exchange.receipt else "",
        )

    async def embed(self, model: str, texts: Texts) -> Embedded:
        """Vectors for these texts. RequestError where this model has none."""
        task = EmbedTask(
            request_id=_new_id(), model=model, inputs=texts.texts, annotations=_annotations(texts)
        )
        try:
            exchange = self._inference.begin(task, PRINCIPAL, _CALLER)
            last: Delta | Finished | None = None
            async for event in exchange.events():
                last = event
        except Busy as error:
            raise _later(error) from error
        if not isinstance(last, Answered) or not isinstance(last.result, Vectors):
            raise InternalError("a task of embeddings ended without vectors")
        return Embedded(_named(exchange.model), tuple(last.result.rows()))


def _named(model: ModelSpec) -> Named:
    laid = model.adapter
    return Named(model.id, model.sha256, laid.id if laid else "", laid.sha256 if laid else "")


def _unanswered(named: Named, error: ApplianceError, record: str) -> Reply:
    if error.code == REFUSED:
        return Reply(model=named, refused=True, record=record)
    return Reply(model=named, error=error.code, record=record)


def _later(error: Busy) -> Unavailable:
    """Others go first: whoever asks may ask again."""
    return Unavailable(error.message, code="busy", retry_after_seconds=error.retry_after_seconds)


def _annotations(asked: Question | Texts) -> dict[str, object]:
    return {"evaluation": asked.suite_sha256, "case": asked.case}


def _new_id() -> str:
    return f"req_{secrets.token_hex(16)}"
