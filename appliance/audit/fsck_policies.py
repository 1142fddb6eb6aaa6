"""Of the second reading: key policies that follow each other; what is gone, and the entries that say why."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from appliance.audit import acts
from appliance.audit.acts import Act
from appliance.audit.entry import Header
from appliance.audit.policy import KeyPolicy
from appliance.audit.report import Report
from appliance.errors import VerificationError


def check_policies(rows: Sequence[tuple[Any, ...]], headers: Sequence[Header], report: Report) -> None:
    """Rows (sha256, text, act) against the entries that put them in force.

    The first stands by its entry alone; every later one was agreed to by a quorum of the one before.
    """
    found = {name: (text, act) for name, text, act in rows}
    named = {str(each.pub["policy_sha256"]): each for each in headers}
    for name in sorted(found.keys() | named.keys(), key=repr):
        text, _ = found.get(name, ("", ""))
        digest = hashlib.sha256(text.encode()).hexdigest() if isinstance(text, str) else ""
        if name not in named or digest != name:
            report.add("key_policy", "a key policy is not the one that was pinned")
    before: KeyPolicy | None = None
    for header in sorted(named.values(), key=lambda each: each.seq):
        text, act = found.get(str(header.pub["policy_sha256"]), ("", ""))
        try:
            policy = KeyPolicy.parse(str(text))
            agreed = act == "" if before is None else _is_agreed(str(act), before, policy, header)
        except VerificationError as error:
            report.add("key_policy", f"a key policy does not stand: {error.message}", header.seq)
            return
        if not agreed:
            report.add("key_policy", "nobody entitled agreed to a key policy", header.seq)
        before = policy


def check_erasures(rows: Sequence[tuple[Any, ...]], headers: Sequence[Header], report: Report) -> None:
    """Rows (share, seq) against the entries behind which shares were destroyed."""
    shares: dict[Any, list[bytes]] = {}
    for share, seq in rows:
        shares.setdefault(seq, []).append(share if isinstance(share, bytes) else b"")
    for header in headers:
        ids = shares.pop(header.seq, [])
        digest = hashlib.sha256(b"".join(sorted(ids))).hexdigest()
        if len(ids) != header.pub["num_shares"] or digest != header.pub["shares_sha256"]:
            report.add("erasure", "the erased shares are not those of their entry", header.seq)
    for seq in sorted(shares, key=repr):
        report.add("erasure", "shares are called erased by an entry that erased none", seq)


class Removals:
    """Contents that had had their time: rows (seq, kind, from_ts, before_ts, kept) against their entries."""

    def __init__(self, rows: Sequence[tuple[Any, ...]], headers: Sequence[Header], report: Report) -> None:
        self._removals: list[tuple[Header, set[str]]] = []
        found = {seq: tuple(rest) for seq, *rest in rows}
        for header in headers:
            pub = header.pub
            kind, begin, end, kept = found.pop(header.seq, (None, None, None, None))
            digest = hashlib.sha256(kept.encode()).hexdigest() if isinstance(kept, str) else ""
            said = (pub["of_kind"], pub["from_ts"], pub["before_ts"], pub["kept_sha256"])
            if said != (kind, begin, end, digest):
                report.add("retention", "a removal is not the one that its entry says", header.seq)
            else:
                self._removals.append((header, set(str(kept).split())))
        for seq in sorted(found, key=repr):
            report.add("retention", "a removal without an entry", seq)

    def explain(self, header: Header) -> bool:
        """Whether an entry behind this one says that its content went."""
        return any(
            each.pub["of_kind"] == header.kind
            and int(each.pub["from_ts"]) <= header.ts < int(each.pub["before_ts"])
            and header.seq < each.seq
            and str(header.seq) not in kept
            for each, kept in self._removals
        )


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
        and header.pub["previous_sha256"] == before.sha256
        and header.pub["num_approvers"] == len(approvers)
    )
