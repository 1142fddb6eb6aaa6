"""The SQL of the log: rows in, rows out. Owns no connection and no transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from sqlalchemy import Connection, func, insert, select, update

from appliance.audit.entry import Header, Kind
from appliance.audit.merkle import Node
from appliance.audit.sealing import Sealed, Wrap
from appliance.audit.tables import (
    checkpoint,
    epoch,
    epoch_wrap,
    key_policy,
    log_entry,
    log_payload,
    node,
    tree_head,
)
from appliance.errors import VerificationError


@dataclass(frozen=True, slots=True)
class Row:
    """One entry as it is stored."""

    header: Header
    data: bytes
    leaf: bytes
    bi_key: bytes | None
    sealed: Sealed | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class EpochRow:
    """One epoch as it is stored."""

    number: int
    first_seq: int
    policy_sha256: str
    secret_sha256: str
    wraps: Sequence[Wrap]


def add_entries(connection: Connection, rows: Sequence[Row], nodes: Sequence[Node]) -> None:
    """Append entries, their sealed contents and the subtrees that they complete."""
    connection.execute(
        insert(log_entry),
        [
            {
                "seq": row.header.seq,
                "ts": row.header.ts,
                "kind": row.header.kind,
                "req": row.header.req,
                "bi_key": row.bi_key,
                "model": row.header.pub.get("model"),
                "outcome": row.header.pub.get("outcome"),
                "hdr": row.data,
                "leaf": row.leaf,
            }
            for row in rows
        ],
    )
    payloads = [
        {"seq": row.header.seq, "nonce": row.sealed.nonce, "ct": row.sealed.ciphertext}
        for row in rows
        if row.sealed is not None
    ]
    if payloads:
        connection.execute(insert(log_payload), payloads)
    connection.execute(
        insert(node), [{"level": each.level, "idx": each.index, "h": each.hash} for each in nodes]
    )


def put_head(connection: Connection, size: int, note: str) -> None:
    """Replace the newest checkpoint."""
    changed = connection.execute(update(tree_head).values(size=size, note=note))
    if changed.rowcount == 0:
        connection.execute(insert(tree_head).values(id=1, size=size, note=note))


def keep_checkpoint(connection: Connection, size: int, note: str) -> None:
    """Keep a checkpoint for ever."""
    connection.execute(insert(checkpoint).values(size=size, note=note))


def add_epoch(connection: Connection, row: EpochRow, suite: str) -> None:
    """An epoch and its wraps."""
    connection.execute(
        insert(epoch).values(
            id=row.number,
            first_seq=row.first_seq,
            policy_sha256=row.policy_sha256,
            secret_sha256=row.secret_sha256,
        )
    )
    connection.execute(
        insert(epoch_wrap),
        [
            {"epoch": row.number, "recipient": each.recipient, "suite": suite, "wrap": each.data}
            for each in row.wraps
        ],
    )


def add_policy(connection: Connection, sha256: str, text: str) -> None:
    """The pinned key policy."""
    connection.execute(insert(key_policy).values(sha256=sha256, text=text))


def head(connection: Connection) -> tuple[int, str] | None:
    """Size and note of the newest checkpoint."""
    row = connection.execute(select(tree_head.c.size, tree_head.c.note)).one_or_none()
    return (row.size, row.note) if row else None


def num_entries(connection: Connection) -> int:
    """How many entries there are."""
    return connection.execute(select(func.count()).select_from(log_entry)).scalar_one()


def last_checkpoint_size(connection: Connection) -> int:
    """Size of the newest kept checkpoint, 0 for none."""
    return connection.execute(select(func.max(checkpoint.c.size))).scalar_one() or 0


def last_seq_of(connection: Connection, kinds: Sequence[Kind]) -> int:
    """The newest entry of these kinds, -1 for none."""
    found = connection.execute(
        select(func.max(log_entry.c.seq)).where(log_entry.c.kind.in_([str(k) for k in kinds]))
    ).scalar_one()
    return -1 if found is None else found


def last_ts(connection: Connection) -> int:
    """The newest entry's time."""
    return connection.execute(select(func.max(log_entry.c.ts))).scalar_one() or 0


def last_epoch(connection: Connection) -> int:
    """The newest epoch's number, 0 for none."""
    return connection.execute(select(func.max(epoch.c.id))).scalar_one() or 0


def policy_text(connection: Connection) -> str:
    """The policy in force. VerificationError where none is pinned."""
    texts = connection.execute(select(key_policy.c.text)).scalars().all()
    if len(texts) != 1:
        raise VerificationError("the log has no key policy, or more than one")
    return str(texts[0])


def leaves(connection: Connection, begin: int) -> list[tuple[int, bytes, bytes]]:
    """(seq, header bytes, leaf hash) from `begin` on."""
    rows = connection.execute(
        select(log_entry.c.seq, log_entry.c.hdr, log_entry.c.leaf)
        .where(log_entry.c.seq >= begin)
        .order_by(log_entry.c.seq)
    )
    return [(row.seq, row.hdr, row.leaf) for row in rows]


def open_requests(connection: Connection, after_seq: int) -> list[tuple[int, str, bytes]]:
    """Openings after `after_seq` without a closing: seq, request id, header bytes."""
    closings = log_entry.alias()
    rows = connection.execute(
        select(log_entry.c.seq, log_entry.c.req, log_entry.c.hdr)
        .where(log_entry.c.seq > after_seq, log_entry.c.kind == str(Kind.REQUEST_OPENED))
        .where(
            ~select(closings.c.seq)
            .where(closings.c.req == log_entry.c.req, closings.c.kind == str(Kind.REQUEST_CLOSED))
            .exists()
        )
        .order_by(log_entry.c.seq)
    )
    return [(row.seq, row.req, row.hdr) for row in rows]


def num_segments(connection: Connection, request_id: str) -> int:
    """How many segments of a request are on the record."""
    return connection.execute(
        select(func.count())
        .select_from(log_entry)
        .where(log_entry.c.req == request_id, log_entry.c.kind == str(Kind.REQUEST_SEGMENT))
    ).scalar_one()


def read_node(connection: Connection, level: int, index: int) -> bytes:
    """A complete subtree's hash. VerificationError where it is missing."""
    found = connection.execute(
        select(node.c.h).where(node.c.level == level, node.c.idx == index)
    ).scalar_one_or_none()
    if found is None:
        raise VerificationError(f"the tree's node {level}/{index} is missing")
    return bytes(found)
