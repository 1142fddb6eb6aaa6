"""A log that begins anew behind a restored, shorter database: what is agreed to, and its first entries. Pure.

Under its own name a restored log may not go on: its key would sign two trees of one size. So it ends
where it stands, and a new one begins under a new origin, whose record says where the old one ended and
which of its entries are lost.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Final

import msgspec
from sqlalchemy import Connection, Table, insert

from appliance.audit import acts
from appliance.audit.acts import Act, Draft
from appliance.audit.entry import Entry, row_digest
from appliance.audit.kinds import Kind
from appliance.audit.policy import KeyPolicy
from appliance.audit.recipients import Recipient
from appliance.db import Row
from appliance.errors import RequestError, VerificationError

MAX_REASON_CHARACTERS: Final = 2000


class _Parameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """As it is drafted: what was found, and what is to follow."""

    head: str  # the head file, whole; empty where it is gone too
    size: int  # entries of the database that is there
    root: str  # its root, hex
    lost_from: int
    lost_until: int  # exclusive; the head's size
    new_origin: str
    reason: str


@dataclass(frozen=True, slots=True)
class Restoration:
    """An agreed end of a log, and the name of the next."""

    origin: str
    head: str
    size: int
    root: str
    lost_from: int
    lost_until: int
    new_origin: str
    note: str = field(repr=False)
    approvers: tuple[Recipient, ...] = ()


def next_origin(origin: str) -> str:
    """The name of the log behind this one: its number is counted up, or begins with 2."""
    stem, _, number = origin.rpartition("/")
    if stem and number.isdecimal() and len(number) < 10:
        return f"{stem}/{int(number) + 1}"
    return f"{origin}/2"


def lost_range(size: int, head_size: int) -> tuple[int, int]:
    """Sequence numbers [from, until) that receipts may name and the database does not hold.

    A database that is as long as the head remembers, and another one, shares nothing for certain.
    """
    return (size, head_size) if head_size > size else (0, head_size)


def draft(
    policy: KeyPolicy, origin: str, *, head: str, head_size: int, size: int, root: bytes, reason: str
) -> Draft:
    """For a quorum of the auditors to sign. RequestError where no reason is given."""
    if not reason.strip() or len(reason) > MAX_REASON_CHARACTERS:
        raise RequestError("beginning anew gives its reason", code="invalid_restore", param="reason")
    # Nobody knows how much a lost head file remembered.
    lost_from, lost_until = lost_range(size, head_size) if head else (size, size)
    parameters = _Parameters(
        head=head,
        size=size,
        root=root.hex(),
        lost_from=lost_from,
        lost_until=lost_until,
        new_origin=next_origin(origin),
        reason=reason,
    )
    return Draft(origin, Act.RESTORE, policy.sha256, msgspec.to_builtins(parameters))


def agreed(note: str, policy: KeyPolicy) -> Restoration:
    """What a quorum signed. VerificationError where too few did, or where it says something else."""
    signed = acts.parse(note)
    if signed.draft.act is not Act.RESTORE:
        raise VerificationError(f"this act is a {signed.draft.act}, not a {Act.RESTORE}")
    approvers = signed.approvers(policy)
    try:
        found = msgspec.convert(dict(signed.draft.parameters), _Parameters)
    except msgspec.ValidationError as error:
        raise VerificationError("the act does not say what was found and what follows") from error
    if found.new_origin != next_origin(signed.draft.origin) or found.lost_from > found.lost_until:
        raise VerificationError("the act contradicts itself")
    return Restoration(
        origin=signed.draft.origin,
        head=found.head,
        size=found.size,
        root=found.root,
        lost_from=found.lost_from,
        lost_until=found.lost_until,
        new_origin=found.new_origin,
        note=note,
        approvers=tuple(approvers),
    )


def first_policy_of(policy: KeyPolicy) -> KeyPolicy:
    """The same members, quorum and reading, as the first policy of a log."""
    return KeyPolicy.of(policy.members, quorum=policy.quorum, reading=policy.reading)


def restored(found: Restoration, num_open: int) -> Entry:
    """The new log's word about the old one; `num_open` requests of it never had their closing."""
    return Entry(
        kind=Kind.LOG_RESTORED,
        public={
            "old_origin": found.origin,
            "old_size": found.size,
            "old_root": found.root,
            "head_sha256": hashlib.sha256(found.head.encode()).hexdigest() if found.head else "",
            "lost_from": found.lost_from,
            "lost_until": found.lost_until,
            "num_open": num_open,
            "num_approvers": len(found.approvers),
            "act_sha256": hashlib.sha256(found.note.encode()).hexdigest(),
        },
        content={"act": found.note, "approvers": [each.name for each in found.approvers]},
    )


def carried(table: Table, row: Row) -> Entry:
    """A state row of the old log, taken over as it stood there."""
    id_column = next(iter(table.primary_key)).name

    def put(connection: Connection, _seq: int) -> None:
        connection.execute(insert(table).values(**row))

    return Entry(
        kind=Kind.STATE_CARRIED,
        public={
            "row_table": str(table.name),
            "row_id": str(row[id_column]),
            "row_sha256": row_digest(row),
        },
        effects=put,
    )
