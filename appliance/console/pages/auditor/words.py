"""What the record's own words mean, for people: kinds, outcomes, fields of headers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from appliance.audit.kinds import Kind
from appliance.audit.query import Record
from appliance.core import Outcome

KINDS: Final[Mapping[Kind, str]] = {
    Kind.POLICY_PINNED: "Key policy pinned",
    Kind.POLICY_CHANGED: "Key policy changed",
    Kind.EPOCH_OPENED: "Epoch begun",
    Kind.INDEX_OPENED: "Month of blind indexes begun",
    Kind.LOG_STARTED: "Log opened",
    Kind.LOG_STOPPED: "Log closed",
    Kind.LOG_ALARM: "Alarm",
    Kind.LOG_RECOVERED: "Log opened again by an operator",
    Kind.LOG_RESTORED: "Log begun anew",
    Kind.STATE_CARRIED: "Row carried over",
    Kind.LOG_VERIFIED: "Record verified",
    Kind.LOG_HEARTBEAT: "Heartbeat",
    Kind.CLOCK_STEPPED: "Clock moved",
    Kind.DATABASE_UPGRADED: "Database upgraded",
    Kind.DATABASE_BACKED_UP: "Database backed up",
    Kind.DATABASE_RESTORED: "Database restored",
    Kind.BOX_BACKED_UP: "Box file made",
    Kind.BOX_RESTORED: "Home restored from a box file",
    Kind.BUNDLE_VERIFIED: "Bundle verified",
    Kind.BUNDLE_REFUSED: "Bundle refused",
    Kind.BUNDLE_INSTALLED: "Release installed",
    Kind.BUNDLE_ROLLED_BACK: "Release rolled back",
    Kind.BUNDLE_REPAIRED: "Release repaired",
    Kind.BUNDLE_UNINSTALLED: "Appliance uninstalled",
    Kind.SHARES_BACKED_UP: "Shares backed up",
    Kind.SHARES_EXPIRED: "Backups of shares removed",
    Kind.SHARES_RESTORED: "Shares restored",
    Kind.CONFIG_CHANGED: "Settings changed",
    Kind.REQUEST_OPENED: "Question asked",
    Kind.REQUEST_SEGMENT: "Piece of an answer",
    Kind.REQUEST_CLOSED: "Exchange",
    Kind.REQUEST_REFUSED: "Refusal",
    Kind.REQUEST_REPLAYED: "Asked again, told again",
    Kind.KEY_CREATED: "API key made",
    Kind.KEY_GRANTED: "API key may store responses",
    Kind.KEY_CHANGED: "API key given terms",
    Kind.KEY_ROTATED: "API key to be replaced",
    Kind.DOCUMENT_PUBLISHED: "Prompt or rules published",
    Kind.DOCUMENT_WITHDRAWN: "Prompt or rules withdrawn",
    Kind.KEY_REVOKED: "API key revoked",
    Kind.ACCOUNT_CREATED: "Account made",
    Kind.ACCOUNT_CHANGED: "Account changed",
    Kind.ACCOUNT_LOCKED: "Account locked",
    Kind.ACCOUNT_ENTERED: "Right passphrase, and code",
    Kind.ACCOUNT_REFUSED: "Wrong passphrase or code",
    Kind.ACCOUNT_SECOND_FACTOR: "Second factor changed",
    Kind.CERTIFICATE_ISSUED: "Certificate made",
    Kind.CERTIFICATE_SERVED: "Certificate served",
    Kind.SECRETS_CHANGED: "What opens the home's secrets changed",
    Kind.SCREEN_ENROLLED: "Lobby screen set up",
    Kind.SCREEN_REMOVED: "Lobby screen removed",
    Kind.SESSION_OPENED: "Log-in",
    Kind.SESSION_CLOSED: "Log-out",
    Kind.MODEL_LOADED: "Model loaded",
    Kind.MODEL_FAILED: "Model failed",
    Kind.MODEL_UNLOADED: "Model unloaded",
    Kind.MODEL_IMPORTED: "Model imported",
    Kind.MODEL_REFUSED: "Model refused",
    Kind.MODEL_REMOVED: "Model removed",
    Kind.MODEL_EVALUATED: "Model evaluated",
    Kind.ALIAS_ACTIVATED: "Alias given another model",
    Kind.ALIAS_ROLLED_BACK: "Alias given back its model",
    Kind.ALIAS_CHANGED: "Alias pinned, unpinned or removed",
    Kind.AUDIT_SEARCHED: "Record searched",
    Kind.AUDIT_READ: "Record read",
    Kind.AUDIT_REPLAYED: "Answer computed again",
    Kind.AUDIT_RELEASED: "Shares released",
    Kind.AUDIT_EXPORTED: "Evidence exported",
    Kind.AUDIT_REVIEWED: "Review",
    Kind.IDENTITY_HOSTED: "Identity stored",
    Kind.IDENTITY_UNLOCKED: "Identity unlocked",
    Kind.IDENTITY_REFUSED: "Wrong passphrase of an identity",
    Kind.IDENTITY_REMOVED: "Identity removed",
    Kind.SEARCH_SAVED: "Search saved",
    Kind.SEARCH_REMOVED: "Saved search removed",
    Kind.CONTENT_ERASED: "Content erased",
    Kind.ACT_DRAFTED: "Act drafted",
    Kind.ACT_SIGNED: "Act signed",
    Kind.ACT_CLOSED: "Act carried out or withdrawn",
    Kind.PROOF_GIVEN: "Proof given",
    Kind.RESPONSE_STORED: "Response stored for its key",
    Kind.RESPONSE_READ: "Stored response read",
    Kind.RESPONSE_DELETED: "Stored response deleted",
    Kind.WITNESS_ADDED: "Witness pinned",
    Kind.WITNESS_COSIGNED: "Cosigned by a witness",
    Kind.HOLD_PLACED: "Legal hold placed",
    Kind.HOLD_LIFTED: "Legal hold lifted",
    Kind.RETENTION_APPLIED: "Retention applied",
}

OUTCOMES: Final[Mapping[Outcome, str]] = {
    Outcome.STOP: "Answered",
    Outcome.LENGTH: "Cut at its length",
    Outcome.TOOL_CALLS: "Asked for a tool",
    Outcome.CONTENT_FILTER: "Stopped by a rule",
    Outcome.CLIENT_GONE: "Caller left",
    Outcome.FAILED: "Failed",
    Outcome.RECOVERED: "Cut off by a crash",
}

_PEOPLE: Final = ("account:", "session:", "key:", "screen:", "identity:")
# What people look at together, by the first field of the search: name → (label, kinds).
GROUPS: Final[Mapping[str, tuple[str, tuple[Kind, ...]]]] = {
    "exchanges": ("Exchanges", (Kind.REQUEST_CLOSED,)),
    "questions": ("Questions, also open ones", (Kind.REQUEST_OPENED,)),
    "refusals": ("Refusals", (Kind.REQUEST_REFUSED,)),
    "readers": (
        "Searches, readings and reviews",
        tuple(each for each in Kind if each.value.startswith(("audit:", "proof:", "search:"))),
    ),
    "people": (
        "Accounts, sessions and API keys",
        tuple(each for each in Kind if each.value.startswith(_PEOPLE)),
    ),
    "alarms": ("Alarms and verifications", (Kind.LOG_ALARM, Kind.LOG_VERIFIED, Kind.LOG_RECOVERED)),
    "custody": (
        "Erasures, holds, policies, witnesses",
        tuple(
            each
            for each in Kind
            if each.value.startswith(("act:", "content:", "hold:", "policy:", "witness:", "retention:"))
        ),
    ),
    "everything": ("Every entry", ()),
}


@dataclass(frozen=True, slots=True)
class Mark:
    """A word with its colour's name and its sign."""

    text: str
    tone: str = ""
    sign: str = ""


def mark_of(record: Record) -> Mark:
    """How an entry ended, as a mark."""
    said = record.public
    code = str(said.get("code", ""))
    match record.kind:
        case Kind.REQUEST_CLOSED:
            outcome = Outcome(str(said["outcome"]))
            return outcome_mark(outcome)
        case Kind.REQUEST_REFUSED:
            return Mark(code or "refused", "warn", "⊘")
        case Kind.LOG_ALARM | Kind.MODEL_FAILED:
            return Mark(code or "alarm", "bad", "!")
        case Kind.LOG_VERIFIED:
            return Mark("green", "good", "✓") if said.get("findings") == 0 else Mark("red", "bad", "✕")
        case _:
            return Mark(code or str(said.get("outcome", "")))


def outcome_mark(outcome: Outcome) -> Mark:
    """An exchange's end, as a mark."""
    match outcome:
        case Outcome.STOP | Outcome.LENGTH | Outcome.TOOL_CALLS:
            return Mark(OUTCOMES[outcome], "good", "✓")
        case Outcome.CLIENT_GONE | Outcome.CONTENT_FILTER:
            return Mark(OUTCOMES[outcome], "warn", "⊘")
        case Outcome.FAILED | Outcome.RECOVERED:
            return Mark(OUTCOMES[outcome], "bad", "✕")


def told(record: Record) -> str:
    """What an entry's header says besides, in one line."""
    hidden = {"outcome", "code", "model", "prompt_tokens", "completion_tokens", "row_table", "row_id"}
    return ", ".join(
        f"{name.replace('_', ' ')} {str(value)[:40]}"
        for name, value in record.public.items()
        if name not in hidden and not name.endswith("sha256") and value != ""
    )
