"""Kinds: what an entry can be about, and what its header may say in plaintext. Pure.

A closed list; `deploy/guides/events.md` tells each of them to people, and a test holds the two together.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


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
    BOX_BACKED_UP = "box:backed_up"
    BOX_RESTORED = "box:restored"
    SHARES_BACKED_UP = "shares:backed_up"
    SHARES_EXPIRED = "shares:expired"
    SHARES_RESTORED = "shares:restored"
    CONFIG_CHANGED = "config:changed"
    REQUEST_OPENED = "request:opened"
    REQUEST_SEGMENT = "request:segment"
    REQUEST_CLOSED = "request:closed"
    REQUEST_REFUSED = "request:refused"
    REQUEST_REPLAYED = "request:replayed"
    KEY_CREATED = "key:created"
    KEY_CHANGED = "key:changed"
    KEY_ROTATED = "key:rotated"
    KEY_REVOKED = "key:revoked"
    KEY_GRANTED = "key:granted"
    DOCUMENT_PUBLISHED = "document:published"
    DOCUMENT_WITHDRAWN = "document:withdrawn"
    ACCOUNT_CREATED = "account:created"
    ACCOUNT_CHANGED = "account:changed"
    ACCOUNT_LOCKED = "account:locked"
    ACCOUNT_ENTERED = "account:entered"
    ACCOUNT_REFUSED = "account:refused"
    ACCOUNT_SECOND_FACTOR = "account:second_factor"
    SESSION_OPENED = "session:opened"
    SESSION_CLOSED = "session:closed"
    SCREEN_ENROLLED = "screen:enrolled"
    SCREEN_REMOVED = "screen:removed"
    CERTIFICATE_ISSUED = "certificate:issued"
    CERTIFICATE_SERVED = "certificate:served"
    SECRETS_CHANGED = "secrets:changed"
    MODEL_LOADED = "model:loaded"
    MODEL_FAILED = "model:failed"
    MODEL_UNLOADED = "model:unloaded"
    MODEL_IMPORTED = "model:imported"
    MODEL_REFUSED = "model:refused"
    MODEL_REMOVED = "model:removed"
    MODEL_EVALUATED = "model:evaluated"
    ALIAS_ACTIVATED = "alias:activated"
    ALIAS_ROLLED_BACK = "alias:rolled_back"
    ALIAS_CHANGED = "alias:changed"
    AUDIT_SEARCHED = "audit:searched"
    AUDIT_READ = "audit:read"
    AUDIT_REPLAYED = "audit:replayed"
    AUDIT_RELEASED = "audit:released"
    CONTENT_ERASED = "content:erased"
    PROOF_GIVEN = "proof:given"
    RESPONSE_STORED = "response:stored"
    RESPONSE_READ = "response:read"
    RESPONSE_DELETED = "response:deleted"
    WITNESS_ADDED = "witness:added"
    WITNESS_COSIGNED = "witness:cosigned"
    AUDIT_EXPORTED = "audit:exported"
    AUDIT_REVIEWED = "audit:reviewed"
    SEARCH_SAVED = "search:saved"
    SEARCH_REMOVED = "search:removed"
    IDENTITY_HOSTED = "identity:hosted"
    IDENTITY_UNLOCKED = "identity:unlocked"
    IDENTITY_REFUSED = "identity:refused"
    IDENTITY_REMOVED = "identity:removed"
    ACT_DRAFTED = "act:drafted"
    ACT_SIGNED = "act:signed"
    ACT_CLOSED = "act:closed"
    HOLD_PLACED = "hold:placed"
    HOLD_LIFTED = "hold:lifted"
    RETENTION_APPLIED = "retention:applied"
    BUNDLE_VERIFIED = "bundle:verified"
    BUNDLE_REFUSED = "bundle:refused"
    BUNDLE_INSTALLED = "bundle:installed"
    BUNDLE_ROLLED_BACK = "bundle:rolled_back"
    BUNDLE_REPAIRED = "bundle:repaired"
    BUNDLE_UNINSTALLED = "bundle:uninstalled"


_ROW = frozenset({"row_table", "row_id", "row_sha256"})
_DOCUMENT = frozenset({"document", "name", "version", "sha256"})
_MODEL = frozenset({"model", "model_sha256"})
# The digests that a name stood for until then, and stands for now; empty: nothing, or no adapter.
_ALIAS = _MODEL | {"alias", "adapter_sha256", "previous_model_sha256", "previous_adapter_sha256"}
_BUNDLE = frozenset({"serial", "release", "sums_sha256"})
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
    # `tree_size` is what the head in the box remembers.
    Kind.BOX_BACKED_UP: frozenset({"backup_sha256", "tree_size", "num_recipients", "num_removed"}),
    Kind.BOX_RESTORED: frozenset({"backup_sha256", "tree_size"}),
    Kind.SHARES_BACKED_UP: frozenset({"backup_sha256", "num_shares", "num_recipients"}),
    Kind.SHARES_EXPIRED: frozenset({"num_removed"}),
    Kind.SHARES_RESTORED: frozenset({"backup_sha256", "num_shares", "num_erased"}),
    Kind.CONFIG_CHANGED: frozenset({"config_sha256", "previous_sha256"}),
    Kind.REQUEST_OPENED: _MODEL
    | {"endpoint", "stream", "capture"}
    | {"adapter", "adapter_sha256", "adapter_thousandths"},  # where an adapter answers
    Kind.REQUEST_SEGMENT: frozenset({"index", "num_tokens", "capture"}),
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
            "capture",  # where no words are kept: `metadata`
        }
    ),
    Kind.REQUEST_REFUSED: frozenset({"code", "status", "count", "route"}),
    Kind.REQUEST_REPLAYED: frozenset({"endpoint", "status", "target"}),  # the opening of the first time
    Kind.KEY_CREATED: _ROW | {"role"},
    Kind.KEY_CHANGED: _ROW | {"role", "capture"},  # its terms
    Kind.KEY_ROTATED: _ROW | {"role"},
    Kind.KEY_REVOKED: _ROW | {"role"},
    Kind.KEY_GRANTED: _ROW | {"may"},
    Kind.DOCUMENT_PUBLISHED: _ROW | _DOCUMENT,
    Kind.DOCUMENT_WITHDRAWN: _ROW | _DOCUMENT,
    Kind.ACCOUNT_CREATED: _ROW | {"role"},
    Kind.ACCOUNT_CHANGED: _ROW | {"role"},
    Kind.ACCOUNT_LOCKED: frozenset({"role"}),
    Kind.ACCOUNT_ENTERED: _ROW | {"role"},
    Kind.ACCOUNT_REFUSED: _ROW | {"role"},
    Kind.ACCOUNT_SECOND_FACTOR: _ROW | {"role"},
    Kind.SESSION_OPENED: frozenset({"role"}),
    Kind.SESSION_CLOSED: frozenset({"role", "reason"}),
    Kind.SCREEN_ENROLLED: frozenset(),
    Kind.SCREEN_REMOVED: frozenset(),
    Kind.CERTIFICATE_ISSUED: frozenset({"certificate_sha256", "not_after", "is_authority"}),
    Kind.CERTIFICATE_SERVED: frozenset({"certificate_sha256", "not_after"}),
    Kind.SECRETS_CHANGED: frozenset({"action", "num_passphrases", "num_credentials"}),
    Kind.MODEL_LOADED: frozenset(
        {"model", "model_sha256", "backend", "library", "load_us", "verify_us", "why", "sandbox", "fallback"}
    ),
    Kind.MODEL_FAILED: frozenset({"model", "code"}),
    Kind.MODEL_UNLOADED: frozenset({"model", "model_sha256", "why"}),
    Kind.MODEL_IMPORTED: _ROW | _MODEL | {"purpose", "num_parts"},
    Kind.MODEL_REFUSED: frozenset({"code", "model_sha256"}),  # of what was offered; empty: not hashed yet
    Kind.MODEL_REMOVED: _ROW | _MODEL,
    Kind.MODEL_EVALUATED: _ROW
    | _MODEL
    | {"suite_sha256", "num_cases", "num_passed", "score_thousandths", "floor_thousandths", "against_sha256"},
    Kind.ALIAS_ACTIVATED: _ROW | _ALIAS | {"override"},  # 1: in spite of its evaluation
    Kind.ALIAS_ROLLED_BACK: _ROW | _ALIAS,
    Kind.ALIAS_CHANGED: _ROW | _ALIAS | {"change"},
    Kind.AUDIT_SEARCHED: frozenset({"num_results"}),
    Kind.AUDIT_READ: frozenset({"target"}),
    Kind.AUDIT_REPLAYED: frozenset({"target", "identical"}),
    Kind.PROOF_GIVEN: frozenset({"target", "tree_size"}),
    Kind.RESPONSE_STORED: frozenset({"target", "expires"}),
    Kind.RESPONSE_READ: frozenset({"target"}),
    Kind.RESPONSE_DELETED: frozenset({"target"}),
    Kind.WITNESS_ADDED: _ROW | {"witness"},
    Kind.WITNESS_COSIGNED: _ROW | {"witness", "tree_size"},
    Kind.AUDIT_EXPORTED: frozenset({"form", "num_records", "num_shares", "begin", "end"}),
    Kind.AUDIT_REVIEWED: frozenset({"begin", "end"}),
    Kind.SEARCH_SAVED: _ROW,
    Kind.SEARCH_REMOVED: _ROW,
    Kind.IDENTITY_HOSTED: _ROW | {"failures"},
    Kind.IDENTITY_UNLOCKED: _ROW | {"failures"},
    Kind.IDENTITY_REFUSED: _ROW | {"failures"},  # wrong passphrases since the last right one
    Kind.IDENTITY_REMOVED: _ROW | {"failures"},
    Kind.AUDIT_RELEASED: frozenset({"num_records", "num_shares"}),
    Kind.ACT_DRAFTED: _ROW | {"act", "num_signatures"},
    Kind.ACT_SIGNED: _ROW | {"act", "num_signatures"},
    Kind.ACT_CLOSED: _ROW | {"act", "decision", "act_sha256"},
    Kind.HOLD_PLACED: _ROW,
    Kind.HOLD_LIFTED: _ROW,
    Kind.RETENTION_APPLIED: frozenset({"of_kind", "from_ts", "before_ts", "num_removed", "kept_sha256"}),
    Kind.CONTENT_ERASED: frozenset({"shares_sha256", "num_shares", "num_approvers", "act_sha256"}),
    Kind.BUNDLE_VERIFIED: _BUNDLE | {"key_ids", "num_files"},
    Kind.BUNDLE_REFUSED: _BUNDLE | {"reason"},
    Kind.BUNDLE_INSTALLED: _BUNDLE | {"from_serial"},
    # The log that going back put aside, where the schema had changed: what it held was the installer's own.
    Kind.BUNDLE_ROLLED_BACK: _BUNDLE | {"reason", "discarded_size", "discarded_root"},
    Kind.BUNDLE_REPAIRED: _BUNDLE | {"python"},
    Kind.BUNDLE_UNINSTALLED: _BUNDLE,
}
