"""What `/v1/audit` answers, for the document: `audit_schemas` builds these as plain values."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel


class AuditEvent(BaseModel):
    """What everybody who may search sees of an entry. `ts` is in microseconds, `time` is RFC 3339."""

    seq: int
    ts: int
    time: str
    kind: str
    request_id: str | None
    public: dict[str, Any]
    leaf: str


class AuditEvents(BaseModel):
    """A page. `searched_to` and `names_since` are null where everything was searched."""

    object: Literal["list"]
    events: list[AuditEvent]
    next_cursor: str | None
    searched_to: str | None
    names_since: str | None


class AuditTimeline(BaseModel):
    """Counts in equal parts of time: by outcome for exchanges, by kind for the rest."""

    begin: str
    end: str
    bucket_us: int
    complete: bool
    counted_from: str | None
    total: dict[str, int]
    counts: list[dict[str, int]]


class ProvenAuditEvent(AuditEvent):
    """An entry with its header's own text, and where it stands in the tree; `proof` is a tlog-proof."""

    header: str
    verified: bool
    tree_size: int
    proof: str | None
