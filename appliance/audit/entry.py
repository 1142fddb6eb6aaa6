"""Entries: what can be on the record. Pure.

An entry becomes a header (`header.py`), which everybody reads, and a sealed content.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import rfc8785
from sqlalchemy import Connection

from appliance.audit.kinds import PUBLIC_FIELDS, Kind
from appliance.audit.policy import KeyPolicy
from appliance.audit.questions import asked, ended, measures, said
from appliance.core import (
    Caller,
    Delta,
    InferenceRequest,
    ModelSpec,
    Outcome,
    Principal,
    Timings,
    Trace,
    Usage,
)
from appliance.errors import InternalError
from appliance.terms import Capture, Endpoint

MAX_PUBLIC_CHARACTERS = 512
_SURROGATE = re.compile("[\ud800-\udfff]")


Effects = Callable[[Connection, int], None]  # in the entry's transaction; its seq


@dataclass(frozen=True, slots=True)
class Entry:
    """Something that is to go on the record."""

    kind: Kind
    public: Mapping[str, str | int] = field(default_factory=dict)
    content: Mapping[str, Any] | None = field(default=None, repr=False)
    request_id: str | None = None
    actor: str | None = field(default=None, repr=False)  # a key's id: blind-indexed in the header
    user: str | None = field(default=None, repr=False)  # whom the caller named: blind-indexed too
    session: str | None = field(default=None, repr=False)  # the conversation, as the caller named it: too
    address: str | None = field(default=None, repr=False)  # where the call came from: too
    # Whose content this is: whoever erases a subject's shares erases it. None: the appliance's own.
    subject: str | None = field(default=None, repr=False)
    opening: int | None = None  # of segments and closings: the seq of their opening
    # Rows of another room that are written in the entry's own transaction, or not at all.
    effects: Effects | None = field(default=None, repr=False)
    policy: KeyPolicy | None = field(default=None, repr=False)  # in force behind this entry
    erases: tuple[bytes, ...] = ()  # shares that are destroyed behind this entry

    def __post_init__(self) -> None:
        unknown = set(self.public) - PUBLIC_FIELDS[self.kind]
        if unknown:
            raise InternalError(f"{self.kind} may not say {sorted(unknown)} in plaintext")
        if not all(map(_is_public, self.public.values())):
            raise InternalError(f"{self.kind} holds a value that no header takes")

    @property
    def names(self) -> dict[str, str]:
        """What the header holds blind indexes of, by their names in it."""
        said = (("key", self.actor), ("user", self.user), ("session", self.session), ("addr", self.address))
        return {name: value for name, value in said if value}


def _is_public(value: object) -> bool:
    """Whether canonical JSON and a header's length take it: else the writer would find out too late."""
    match value:
        case bool():
            return False
        case int():
            return abs(value) < 1 << 53
        case str():
            return len(value) <= MAX_PUBLIC_CHARACTERS and not _SURROGATE.search(value)
    return False


def row_digest(row: Mapping[str, str | int | bytes | None]) -> str:
    """SHA-256 of a state row: canonical JSON of its columns, bytes as hex."""
    plain = {name: value.hex() if isinstance(value, bytes) else value for name, value in row.items()}
    return hashlib.sha256(rfc8785.dumps(plain)).hexdigest()


def wraps_digest(wraps: Iterable[tuple[str, str, bytes]]) -> str:
    """SHA-256 over an epoch's wraps (recipient's label, suite, wrap), in the order of labels."""
    digest = hashlib.sha256()
    for recipient, suite, wrap in sorted(wraps):
        digest.update(f"{recipient}\n{suite}\n{len(wrap)}\n".encode() + wrap)
    return digest.hexdigest()


def shares_digest(shares: Iterable[bytes]) -> str:
    """SHA-256 over the ids of erased shares, in order."""
    return hashlib.sha256(b"".join(sorted(shares))).hexdigest()


def opened(request: InferenceRequest, principal: Principal, caller: Caller, model: ModelSpec) -> Entry:
    """The write-ahead record of a request: durable before the worker sees the prompt (law 1)."""
    return Entry(
        kind=Kind.REQUEST_OPENED,
        public={
            "endpoint": str(request.endpoint),
            "model": model.id,
            "model_sha256": model.sha256,
            **laid_over(model),
            "stream": int(request.stream),
            **marked(principal.terms.capture),
        },
        content={
            **kept(principal, asked(request), request.annotations),
            "principal": person_of(principal),
            "caller": caller.told(),
        },
        request_id=request.request_id,
        actor=principal.key_id,
        user=user_of(request.annotations),
        session=session_of(request.annotations),
        address=caller.address,
        subject=subject_of(principal, request.annotations),
    )


def laid_over(model: ModelSpec) -> dict[str, str | int]:
    """What headers say of the adapter that answers; nothing where none does, as in earlier releases."""
    adapter = model.adapter
    if adapter is None:
        return {}
    return {
        "adapter": adapter.id,
        "adapter_sha256": adapter.sha256,
        "adapter_thousandths": round(adapter.scale * 1000),
    }


def with_notes(said: Entry, notes: Mapping[str, Any]) -> Entry:
    """The same entry with more in its sealed content."""
    return replace(said, content={**(said.content or {}), **notes}) if notes else said


def marked(capture: Capture) -> dict[str, str]:
    """What headers say where no words are kept; nothing elsewhere, as in earlier releases."""
    return {"capture": str(capture)} if capture is Capture.METADATA else {}


def kept(
    principal: Principal, question: Mapping[str, Any], annotations: Mapping[str, object]
) -> dict[str, Any]:
    """What an opening holds of what was sent: all of it, or its numbers, whom it names, and why no more."""
    if principal.terms.capture is Capture.FULL:
        return {**question, "annotations": dict(annotations)}
    named = {"user": user_of(annotations), "session": session_of(annotations)}
    return {
        **measures(question),
        "annotations": {name: value for name, value in named.items() if value},
        "capture_basis": principal.terms.capture_basis,
    }


def segment(
    request_id: str,
    opening: int,
    index: int,
    piece: Delta,
    *,
    subject: str,
    capture: Capture = Capture.FULL,
) -> Entry:
    """A piece of a stream: durable before it leaves the box (law 2), with its words or without them."""
    return Entry(
        kind=Kind.REQUEST_SEGMENT,
        public={"index": index, "num_tokens": piece.num_tokens, **marked(capture)},
        content=said("text", piece) if capture is Capture.FULL else None,
        request_id=request_id,
        opening=opening,
        subject=subject,
    )


def closed(
    request_id: str,
    opening: int,
    *,
    model: str,
    outcome: Outcome,
    code: str = "",
    usage: Usage = Usage(),  # noqa: B008 - frozen
    timings: Timings = Timings(),  # noqa: B008 - frozen
    num_segments: int = 0,
    output_sha256: str = "",
    rest: Sequence[Delta] = (),
    trace: Trace | None = None,
    subject: str | None = None,
    capture: Capture = Capture.FULL,
) -> Entry:
    """The one end of a request (law 3). `rest` is what no segment holds, a piece for each choice.

    Where no words are kept, no hash of them is either: whoever guesses a short answer would know it.
    """
    content = ended(rest) if capture is Capture.FULL else {}
    if trace is not None and capture is Capture.FULL:
        content |= {"tokens": list(trace.tokens), "logits": " ".join(trace.digests)}
    return Entry(
        kind=Kind.REQUEST_CLOSED,
        public={
            "model": model,
            "outcome": str(outcome),
            "code": code,
            "prompt_tokens": usage.prompt_tokens,
            "completion_tokens": usage.completion_tokens,
            "cached_tokens": usage.cached_tokens,
            "num_segments": num_segments,
            "queue_us": timings.queue_us,
            "prefill_us": timings.prefill_us,
            "decode_us": timings.decode_us,
            "output_sha256": output_sha256 if capture is Capture.FULL else "",
            **marked(capture),
        },
        content=content or None,
        request_id=request_id,
        opening=opening,
        subject=subject,
    )


def refused(
    *,
    request_id: str | None,
    principal: Principal | None,
    caller: Caller,
    route: str,
    code: str,
    status: int,
    count: int = 1,
) -> Entry:
    """A refusal, or a count of them (law 5). `route` is a template, never a raw path."""
    return Entry(
        kind=Kind.REQUEST_REFUSED,
        public={"code": code, "status": status, "count": count, "route": route},
        content={
            "principal": person_of(principal) if principal else None,
            "caller": caller.told(),
        },
        request_id=request_id,
        actor=principal.key_id if principal else None,
        address=caller.address,
        subject=subject_of(principal, {}) if principal else None,
    )


def replayed(
    *,
    request_id: str,
    target: int,
    endpoint: Endpoint,
    status: int,
    principal: Principal,
    caller: Caller,
    annotations: Mapping[str, object],
) -> Entry:
    """The same request once more, under its idempotency key: it was told what `target` opened.

    Question and answer stand there; `annotations` are those of the first time.
    """
    return Entry(
        kind=Kind.REQUEST_REPLAYED,
        public={"endpoint": str(endpoint), "status": int(status), "target": target},
        content={
            "principal": person_of(principal),
            "caller": caller.told(),
        },
        request_id=request_id,
        actor=principal.key_id,
        user=user_of(annotations),
        session=session_of(annotations),
        address=caller.address,
        subject=subject_of(principal, annotations),
    )


def state_changed(
    kind: Kind,
    *,
    table: str,
    row: Mapping[str, str | int | bytes | None],
    row_id: str,
    public: Mapping[str, str | int],
    content: Mapping[str, Any],
    effects: Effects,
    by: Principal | None = None,
) -> Entry:
    """A row of another room and its record, in one transaction; the header commits to the row.

    `by` is who did it, where that is known: at the console it is, at the host's own program it is not.
    """
    return Entry(
        kind=kind,
        public={**public, "row_table": table, "row_id": row_id, "row_sha256": row_digest(row)},
        content={**content, **done_by(by)},
        actor=by.key_id if by is not None else None,
        effects=effects,
    )


def done_by(by: Principal | None) -> dict[str, Any]:
    """What a content says of whoever did something."""
    return {} if by is None else {"by": person_of(by)}


def user_of(annotations: Mapping[str, object]) -> str | None:
    """The person whom a caller named: `safety_identifier`, or `user` as older clients say it."""
    for name in ("safety_identifier", "user"):
        value = annotations.get(name)
        if isinstance(value, str) and value:
            return value
    return None


def session_of(annotations: Mapping[str, object]) -> str | None:
    """The conversation that a caller says this belongs to: `session_id` of its metadata, or the cache key."""
    metadata = annotations.get("metadata")
    named = metadata.get("session_id") if isinstance(metadata, Mapping) else None
    value = named or annotations.get("prompt_cache_key")
    return value if isinstance(value, str) and value else None


def subject_of(principal: Principal, annotations: Mapping[str, object]) -> str:
    """Whose content a request is: the named person's (as this key knows them), else the key's."""
    user = user_of(annotations)
    return f"key:{principal.key_id}" if user is None else f"user:{principal.key_id}:{user}"


def person_of(principal: Principal) -> dict[str, str]:
    """Who asked, for sealed content."""
    return {"key_id": principal.key_id, "name": principal.name, "role": str(principal.role)}
