"""Entries: what can be on the record. Pure.

An entry becomes a header (`header.py`), which everybody reads, and a sealed content.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

import rfc8785
from sqlalchemy import Connection

from appliance.audit.policy import KeyPolicy
from appliance.core import (
    Caller,
    InferenceRequest,
    ModelSpec,
    Outcome,
    Principal,
    Timings,
    Trace,
    Usage,
)
from appliance.errors import InternalError
from appliance.tasks import Endpoint

MAX_PUBLIC_CHARACTERS = 512
_SURROGATE = re.compile("[\ud800-\udfff]")


class Kind(StrEnum):
    """Closed list, `subject:action`. An unknown kind is refused by writer and verifier alike."""

    POLICY_PINNED = "policy:pinned"
    POLICY_CHANGED = "policy:changed"
    EPOCH_OPENED = "epoch:opened"
    INDEX_OPENED = "index:opened"
    LOG_STARTED = "log:started"
    LOG_STOPPED = "log:stopped"
    LOG_ALARM = "log:alarm"
    LOG_RECOVERED = "log:recovered"
    LOG_RESTORED = "log:restored"
    STATE_CARRIED = "state:carried"
    LOG_VERIFIED = "log:verified"
    LOG_HEARTBEAT = "log:heartbeat"
    CLOCK_STEPPED = "clock:stepped"
    DATABASE_UPGRADED = "database:upgraded"
    DATABASE_BACKED_UP = "database:backed_up"
    DATABASE_RESTORED = "database:restored"
    SHARES_BACKED_UP = "shares:backed_up"
    SHARES_EXPIRED = "shares:expired"
    SHARES_RESTORED = "shares:restored"
    CONFIG_CHANGED = "config:changed"
    REQUEST_OPENED = "request:opened"
    REQUEST_SEGMENT = "request:segment"
    REQUEST_CLOSED = "request:closed"
    REQUEST_REFUSED = "request:refused"
    KEY_CREATED = "key:created"
    KEY_REVOKED = "key:revoked"
    ACCOUNT_CREATED = "account:created"
    ACCOUNT_CHANGED = "account:changed"
    ACCOUNT_LOCKED = "account:locked"
    SESSION_OPENED = "session:opened"
    SESSION_CLOSED = "session:closed"
    MODEL_LOADED = "model:loaded"
    MODEL_FAILED = "model:failed"
    MODEL_UNLOADED = "model:unloaded"
    AUDIT_SEARCHED = "audit:searched"
    AUDIT_READ = "audit:read"
    AUDIT_REPLAYED = "audit:replayed"
    AUDIT_RELEASED = "audit:released"
    CONTENT_ERASED = "content:erased"
    PROOF_GIVEN = "proof:given"
    WITNESS_ADDED = "witness:added"
    WITNESS_COSIGNED = "witness:cosigned"
    AUDIT_EXPORTED = "audit:exported"
    IDENTITY_HOSTED = "identity:hosted"
    IDENTITY_UNLOCKED = "identity:unlocked"
    IDENTITY_REFUSED = "identity:refused"
    IDENTITY_REMOVED = "identity:removed"
    HOLD_PLACED = "hold:placed"
    HOLD_LIFTED = "hold:lifted"
    RETENTION_APPLIED = "retention:applied"


_ROW = frozenset({"row_table", "row_id", "row_sha256"})
_OLD_LOG = frozenset({"old_origin", "old_size", "old_root", "lost_from", "lost_until", "num_open"})
# What a header may say in plaintext, by kind. Everything else belongs into the sealed content.
PUBLIC_FIELDS: Mapping[Kind, frozenset[str]] = {
    Kind.POLICY_PINNED: frozenset({"policy_sha256", "num_recipients"}),
    Kind.POLICY_CHANGED: frozenset({"policy_sha256", "previous_sha256", "num_recipients", "num_approvers"}),
    Kind.EPOCH_OPENED: frozenset({"epoch", "policy_sha256", "secret_sha256", "wraps_sha256"}),
    Kind.INDEX_OPENED: frozenset({"month", "key_sha256"}),
    Kind.LOG_STARTED: frozenset(
        {
            "version",
            "database",
            "cryptography",
            "openssl",
            "crypto",
            "filesystem",
            "time_source",
            "heartbeat_seconds",
            "schema",
            "num_recovered",
        }
    ),
    Kind.LOG_STOPPED: frozenset({"reason"}),
    Kind.LOG_ALARM: frozenset({"code", "num_recovered"}),
    Kind.LOG_RECOVERED: frozenset({"reason", "heartbeat_seconds", "num_recovered"}),
    Kind.LOG_RESTORED: _OLD_LOG | {"head_sha256", "num_approvers", "act_sha256"},
    Kind.STATE_CARRIED: _ROW,
    Kind.LOG_HEARTBEAT: frozenset({"time_source"}),
    Kind.CLOCK_STEPPED: frozenset({"expected_us", "found_us"}),
    # `begin` is 0 for a full reading; `findings_sha256` recognises the same findings when they come again.
    Kind.LOG_VERIFIED: frozenset({"begin", "size", "root", "findings", "findings_sha256", "duration_us"}),
    Kind.DATABASE_UPGRADED: frozenset({"from_revision", "to_revision", "backup_sha256"}),
    Kind.DATABASE_BACKED_UP: frozenset({"backup_sha256", "tree_size", "schema"}),
    Kind.DATABASE_RESTORED: frozenset({"backup_sha256", "tree_size"}),
    Kind.SHARES_BACKED_UP: frozenset({"backup_sha256", "num_shares", "num_recipients"}),
    Kind.SHARES_EXPIRED: frozenset({"num_removed"}),
    Kind.SHARES_RESTORED: frozenset({"backup_sha256", "num_shares", "num_erased"}),
    Kind.CONFIG_CHANGED: frozenset({"config_sha256", "previous_sha256"}),
    Kind.REQUEST_OPENED: frozenset({"endpoint", "model", "model_sha256", "stream"}),
    Kind.REQUEST_SEGMENT: frozenset({"index", "num_tokens"}),
    Kind.REQUEST_CLOSED: frozenset(
        {
            "model",
            "outcome",
            "code",
            "prompt_tokens",
            "completion_tokens",
            "cached_tokens",
            "num_segments",
            "queue_us",
            "prefill_us",
            "decode_us",
            "output_sha256",
        }
    ),
    Kind.REQUEST_REFUSED: frozenset({"code", "status", "count", "route"}),
    Kind.KEY_CREATED: _ROW | {"role"},
    Kind.KEY_REVOKED: _ROW | {"role"},
    Kind.ACCOUNT_CREATED: _ROW | {"role"},
    Kind.ACCOUNT_CHANGED: _ROW | {"role"},
    Kind.ACCOUNT_LOCKED: frozenset({"role"}),
    Kind.SESSION_OPENED: frozenset({"role"}),
    Kind.SESSION_CLOSED: frozenset({"role", "reason"}),
    Kind.MODEL_LOADED: frozenset({"model", "model_sha256", "backend", "library", "load_us"}),
    Kind.MODEL_FAILED: frozenset({"model", "code"}),
    Kind.MODEL_UNLOADED: frozenset({"model"}),
    Kind.AUDIT_SEARCHED: frozenset({"num_results"}),
    Kind.AUDIT_READ: frozenset({"target"}),
    Kind.AUDIT_REPLAYED: frozenset({"target", "identical"}),
    Kind.PROOF_GIVEN: frozenset({"target", "tree_size"}),
    Kind.WITNESS_ADDED: _ROW | {"witness"},
    Kind.WITNESS_COSIGNED: _ROW | {"witness", "tree_size"},
    Kind.AUDIT_EXPORTED: frozenset({"form", "num_records", "num_shares", "begin", "end"}),
    Kind.IDENTITY_HOSTED: _ROW | {"failures"},
    Kind.IDENTITY_UNLOCKED: _ROW | {"failures"},
    Kind.IDENTITY_REFUSED: _ROW | {"failures"},  # wrong passphrases since the last right one
    Kind.IDENTITY_REMOVED: _ROW | {"failures"},
    Kind.AUDIT_RELEASED: frozenset({"num_records", "num_shares"}),
    Kind.HOLD_PLACED: _ROW,
    Kind.HOLD_LIFTED: _ROW,
    Kind.RETENTION_APPLIED: frozenset({"of_kind", "from_ts", "before_ts", "num_removed", "kept_sha256"}),
    Kind.CONTENT_ERASED: frozenset({"shares_sha256", "num_shares", "num_approvers", "act_sha256"}),
}

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
    sampling = request.sampling
    return Entry(
        kind=Kind.REQUEST_OPENED,
        public={
            "endpoint": str(Endpoint.CHAT),
            "model": model.id,
            "model_sha256": model.sha256,
            "stream": int(request.stream),
        },
        content={
            "messages": [{"role": each.role, "content": each.content} for each in request.messages],
            "sampling": {
                # Floats have no canonical form of their own on the record: decimal text does.
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
            },
            **({"schema": request.schema} if request.schema else {}),
            **({"setup": asdict(request.setup)} if request.setup else {}),
            "annotations": dict(request.annotations),
            "principal": person_of(principal),
            "caller": {"address": caller.address, "user_agent": caller.user_agent},
        },
        request_id=request.request_id,
        actor=principal.key_id,
        user=user_of(request.annotations),
        subject=subject_of(principal, request.annotations),
    )


def segment(request_id: str, opening: int, index: int, text: str, num_tokens: int, *, subject: str) -> Entry:
    """A piece of a stream: durable before it leaves the box (law 2)."""
    return Entry(
        kind=Kind.REQUEST_SEGMENT,
        public={"index": index, "num_tokens": num_tokens},
        content={"text": text},
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
    output: str = "",
    trace: Trace | None = None,
    subject: str | None = None,
) -> Entry:
    """The one end of a request (law 3). `output` is what no segment holds."""
    content: dict[str, Any] = {"output": output} if output else {}
    if trace is not None:
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
            "output_sha256": output_sha256,
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
            "caller": {"address": caller.address, "user_agent": caller.user_agent},
        },
        request_id=request_id,
        actor=principal.key_id if principal else None,
        subject=subject_of(principal, {}) if principal else None,
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
) -> Entry:
    """A row of another room and its record, in one transaction; the header commits to the row."""
    return Entry(
        kind=kind,
        public={**public, "row_table": table, "row_id": row_id, "row_sha256": row_digest(row)},
        content=content,
        effects=effects,
    )


def user_of(annotations: Mapping[str, object]) -> str | None:
    """The person whom a caller named: `safety_identifier`, or `user` as older clients say it."""
    for name in ("safety_identifier", "user"):
        value = annotations.get(name)
        if isinstance(value, str) and value:
            return value
    return None


def subject_of(principal: Principal, annotations: Mapping[str, object]) -> str:
    """Whose content a request is: the named person's (as this key knows them), else the key's."""
    user = user_of(annotations)
    return f"key:{principal.key_id}" if user is None else f"user:{principal.key_id}:{user}"


def person_of(principal: Principal) -> dict[str, str]:
    """Who asked, for sealed content."""
    return {"key_id": principal.key_id, "name": principal.name, "role": str(principal.role)}
