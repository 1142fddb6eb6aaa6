"""Key policies: the first stands by its entry, each later one was agreed to by a quorum of the one before."""

from __future__ import annotations

import hashlib

from appliance.audit import acts
from appliance.audit.acts import Act
from appliance.audit.fsck.steps import Block, Reading
from appliance.audit.fsck.trusted import headers_before
from appliance.audit.header import Header
from appliance.audit.kinds import Kind
from appliance.audit.policy import KeyPolicy
from appliance.errors import VerificationError

KINDS = frozenset(map(str, (Kind.POLICY_PINNED, Kind.POLICY_CHANGED)))


class Policies:
    """All policies that there ever were: as many as there were ceremonies."""

    def __init__(self, reading: Reading) -> None:
        self._source = reading.source
        self._report = reading.report
        self._headers = list(headers_before(reading, KINDS))

    def take(self, block: Block) -> None:
        """Pinned and changed policies."""
        self._headers += [header for header in block.acts if header.kind in KINDS]

    def finish(self) -> None:
        """Each row by its entry, and each policy by the one before."""
        rows = self._source.execute("SELECT sha256, text, act FROM key_policy")
        found = {name: (text, act) for name, text, act in rows}
        before: KeyPolicy | None = None
        for header in self._headers:
            text, act = found.pop(header.pub.get("policy_sha256"), ("", None))
            if not isinstance(text, str) or _sha256(text) != header.pub.get("policy_sha256"):
                self._report.add("key_policy", "the key policy is not the one of its entry", header.seq)
                return
            try:
                policy = KeyPolicy.parse(text)
                agreed = act == "" if before is None else _is_agreed(str(act), before, policy, header)
            except VerificationError as error:
                self._report.add("key_policy", f"the key policy does not stand: {error.message}", header.seq)
                return
            if not agreed:
                self._report.add("key_policy", "nobody entitled agreed to this key policy", header.seq)
            before = policy
        for _ in found:
            self._report.add("key_policy", "a key policy has no entry")


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _is_agreed(note: str, before: KeyPolicy, after: KeyPolicy, header: Header) -> bool:
    signed = acts.parse(note)
    approvers = signed.approvers(before)
    draft = signed.draft
    return (
        draft.origin == header.log
        and draft.act is Act.POLICY_CHANGE
        and acts.policy_of(draft) == after
        and after.previous == before.sha256
        and after.number == before.number + 1
        and header.pub.get("previous_sha256") == before.sha256
        and header.pub.get("num_approvers") == len(approvers)
    )
