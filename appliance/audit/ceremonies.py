"""What a signed act means, and the entry that carries it out. Pure: acts and policies in, entries out."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from appliance import db
from appliance.audit import acts, drafts, entry, holds, store
from appliance.audit.acts import Act, Draft, SignedAct
from appliance.audit.drafts import Drafted
from appliance.audit.entry import Entry
from appliance.audit.holds import Hold
from appliance.audit.kinds import Kind
from appliance.audit.policy import KeyPolicy
from appliance.audit.recipients import Recipient
from appliance.audit.retention import Removal
from appliance.errors import RequestError, VerificationError

_MONTH = re.compile(r"[0-9]{4}-(?:0[1-9]|1[0-2])")
MAX_WORDS = 2000  # characters of a reason or a legal basis


class _Parameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of an erasure, as it is drafted."""

    key: str
    user: str
    since: str
    until: str
    reason: str
    basis: str


@dataclass(frozen=True, slots=True)
class Erasure:
    """Whose content is to be destroyed, why, and who says so."""

    key: str  # a key's id; empty: every key's, where a user is named
    user: str = field(repr=False)  # as callers name them; empty: what belongs to the key itself
    since: str  # first and last month, "2026-11"; empty: without a bound
    until: str
    note: str = field(default="", repr=False)
    approvers: tuple[Recipient, ...] = ()

    def covers(self, month: str) -> bool:
        """Whether a share of this month is meant."""
        return self.since <= month and (not self.until or month <= self.until)


def policy_changed(note: str, before: KeyPolicy, origin: str) -> Entry:
    """The entry that puts a policy in force. VerificationError unless its predecessor's quorum signed it."""
    signed = _agreed(note, Act.POLICY_CHANGE, origin)
    approvers = signed.approvers(before)
    after = acts.policy_of(signed.draft)
    if after.number != before.number + 1 or after.previous != before.sha256:
        raise VerificationError("the policy does not follow the one in force: draft it anew")
    return Entry(
        kind=Kind.POLICY_CHANGED,
        public={
            "policy_sha256": after.sha256,
            "previous_sha256": before.sha256,
            "num_recipients": len(after.readers),
            "num_approvers": len(approvers),
        },
        effects=lambda connection, _seq: store.add_policy(connection, after, signed.note()),
        policy=after,
    )


def draft_erasure(
    policy: KeyPolicy,
    origin: str,
    *,
    key: str,
    user: str,
    since: str,
    until: str,
    reason: str,
    basis: str,
) -> Draft:
    """An erasure for two people to sign. RequestError where it does not say whose, why or by what right."""
    if not _is_span(since, until):
        raise RequestError(
            "an erasure goes from one month to a later one, each written as 2026-11",
            code="invalid_erasure",
            param="since",
        )
    if not key and not user:
        raise RequestError("an erasure names a key, a user, or both", code="invalid_erasure", param="key")
    if not reason.strip() or not basis.strip():
        raise RequestError(
            "an erasure gives its reason and its legal basis", code="invalid_erasure", param="reason"
        )
    if max(len(reason), len(basis)) > MAX_WORDS:
        raise RequestError(
            f"reason and basis have at most {MAX_WORDS} characters", code="invalid_erasure", param="reason"
        )
    parameters = _Parameters(key=key, user=user, since=since, until=until, reason=reason, basis=basis)
    return Draft(origin, Act.ERASE, policy.sha256, msgspec.to_builtins(parameters))


def _is_span(since: str, until: str) -> bool:
    """Whether months can be compared as text, and are in order; each may be open."""
    return all(not each or _MONTH.fullmatch(each) for each in (since, until)) and (
        not until or since <= until
    )


def erasure_of(note: str, policy: KeyPolicy, origin: str) -> Erasure:
    """An erasure that enough people signed. VerificationError otherwise."""
    signed = _agreed(note, Act.ERASE, origin)
    approvers = signed.approvers(policy)
    return replace(erasure_in(signed.draft), note=note, approvers=tuple(approvers))


def erasure_in(draft: Draft) -> Erasure:
    """What a draft would erase, before anybody agreed. VerificationError where it does not say it."""
    try:
        found = msgspec.convert(dict(draft.parameters), _Parameters)
    except msgspec.ValidationError as error:
        raise VerificationError("the act does not say what is to be erased") from error
    if not _is_span(found.since, found.until):
        raise VerificationError("the act's months are none")
    if not found.key and not found.user:
        raise VerificationError("the act does not say whose content is to be erased")
    return Erasure(found.key, found.user, found.since, found.until)


def erased(erasure: Erasure, share_ids: Sequence[bytes]) -> Entry:
    """The entry behind which these shares are destroyed. The act itself names a person: it is sealed."""
    return Entry(
        kind=Kind.CONTENT_ERASED,
        public={
            "shares_sha256": entry.shares_digest(share_ids),
            "num_shares": len(share_ids),
            "num_approvers": len(erasure.approvers),
            "act_sha256": hashlib.sha256(erasure.note.encode()).hexdigest(),
        },
        content={"act": erasure.note, "approvers": [each.name for each in erasure.approvers]},
        effects=lambda connection, seq: store.add_erasure(connection, share_ids, seq),
        erases=tuple(share_ids),
    )


def held(kind: Kind, hold: Hold, said: Mapping[str, Any]) -> Entry:
    """The entry of a hold that is placed or lifted; whom it names and why is sealed."""
    row = holds.row_of(hold)
    return entry.state_changed(
        kind,
        table=holds.TABLE,
        row=row,
        row_id=hold.id,
        public={},
        content=said,
        effects=lambda connection, _seq: db.put_row(connection, holds.legal_hold, row),
    )


def draft_lifting(policy: KeyPolicy, origin: str, hold_id: str, reason: str) -> Draft:
    """The end of a hold, for two people to sign."""
    if not reason.strip() or len(reason) > MAX_WORDS:
        raise RequestError("lifting a hold gives its reason", code="invalid_hold", param="reason")
    return Draft(origin, Act.HOLD_LIFT, policy.sha256, {"hold": hold_id, "reason": reason})


def lifting_of(note: str, policy: KeyPolicy, origin: str) -> tuple[str, list[Recipient]]:
    """Which hold enough people want lifted, and who they are. VerificationError otherwise."""
    signed = _agreed(note, Act.HOLD_LIFT, origin)
    return str(signed.draft.parameters.get("hold", "")), signed.approvers(policy)


def drafted(kind: Kind, act: Drafted, said: Mapping[str, Any], public: Mapping[str, str | int]) -> Entry:
    """The entry of an act that is drafted, signed or closed; its text and who did it are sealed."""
    row = drafts.row_of(act)
    return entry.state_changed(
        kind,
        table=drafts.TABLE,
        row=row,
        row_id=act.id,
        public={"act": act.kind, **public},
        content=said,
        effects=lambda connection, _seq: db.put_row(connection, drafts.drafted_act, row),
    )


def removed(removal: Removal) -> Entry:
    """The entry with which these contents go."""
    return Entry(
        kind=Kind.RETENTION_APPLIED,
        public={
            "of_kind": str(removal.kind),
            "from_ts": removal.from_ts,
            "before_ts": removal.before_ts,
            "num_removed": len(removal.seqs),
            "kept_sha256": removal.kept_sha256,
        },
        effects=lambda connection, seq: store.remove_contents(connection, removal, seq),
    )


def _agreed(note: str, act: Act, origin: str) -> SignedAct:
    signed = acts.parse(note)
    if signed.draft.act is not act:
        raise VerificationError(f"this act is a {signed.draft.act}, not a {act}")
    if signed.draft.origin != origin:
        raise VerificationError("this act was drafted for another log")
    return signed
