"""What the life of an exchange is on the record: its opening, what was said, its closing."""

from __future__ import annotations

from appliance.answer import Answer
from appliance.audit import entry, tasks
from appliance.audit.entry import Entry
from appliance.core import (
    Delta,
    InferenceRequest,
    Outcome,
    Timings,
)
from appliance.exchange import Exchange
from appliance.guarding import REFUSED, recorded


def opening(exchange: Exchange) -> Entry:
    """What was asked, by whom, and which model was to answer."""
    request = exchange.request
    if isinstance(request, InferenceRequest):
        opened = entry.opened(request, exchange.principal, exchange.caller, exchange.model)
    else:
        opened = tasks.opened(request, exchange.principal, exchange.caller, exchange.model)
    return entry.with_notes(opened, exchange.guarded.record(exchange.principal.terms.capture))


def segment(exchange: Exchange, answer: Answer, piece: Delta) -> Entry:
    """One piece of an answer; counts it."""
    index = answer.num_segments
    answer.num_segments += 1
    return entry.segment(
        exchange.request.request_id,
        exchange.opening,
        index,
        piece,
        subject=_subject(exchange),
        capture=exchange.principal.terms.capture,
    )


def closing(exchange: Exchange, answer: Answer, outcome: Outcome) -> Entry:
    """How it ended, with what no segment holds yet."""
    closed = entry.closed(
        exchange.request.request_id,
        exchange.opening,
        model=exchange.model.id,
        outcome=outcome,
        code=answer.error.code if answer.error else "",
        usage=answer.usage(),
        timings=answer.finished.timings if answer.finished else Timings(),
        num_segments=answer.num_segments,
        output_sha256=answer.sha256,
        rest=answer.take_unrecorded(),
        trace=answer.finished.trace if answer.finished else None,
        subject=_subject(exchange),
        capture=exchange.principal.terms.capture,
    )
    return entry.with_notes(closed, recorded(answer.placed))


def _subject(exchange: Exchange) -> str:
    return entry.subject_of(exchange.principal, exchange.request.annotations)


def outcome(exchange: Exchange, answer: Answer) -> Outcome:
    """The one word for an end."""
    if exchange.is_gone:
        return Outcome.CLIENT_GONE
    if answer.finished is not None:
        return Outcome(answer.finished.reason)
    if answer.error is not None and answer.error.code == REFUSED:
        return Outcome.CONTENT_FILTER
    return Outcome.FAILED
