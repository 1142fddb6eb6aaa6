"""The SQL of the log: rows in, rows out. Owns no connection and no transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import ARRAY, BigInteger, Connection, cast, delete, func, insert, select, update

from appliance.audit.header import Header, decode_header
from appliance.audit.kinds import Kind
from appliance.audit.merkle import Node
from appliance.audit.policy import KeyPolicy
from appliance.audit.retention import Candidate, Removal
from appliance.audit.sealing import Sealed, Wrap
from appliance.audit.tables import (
    checkpoint,
    epoch,
    epoch_wrap,
    erasure,
    key_policy,
    log_entry,
    log_payload,
    node,
    retention,
    tree_head,
)
from appliance.errors import VerificationError

_MAX_PARAMETERS = 500  # of one statement


@dataclass(frozen=True, slots=True)
class Row:
    """One entry as it is stored."""

    header: Header
    data: bytes
    leaf: bytes
    blinds: Mapping[str, bytes]  # by the name of the field, as in the header
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
                "bi_key": row.blinds.get("key"),
                "model": row.header.pub.get("model"),
                "outcome": row.header.pub.get("outcome"),
                "hdr": row.data,
                "leaf": row.leaf,
                "bi_user": row.blinds.get("user"),
                "subj": None if row.header.subj is None else bytes.fromhex(row.header.subj),
                "prev": row.header.prev,
                "code": row.header.pub.get("code"),
                "prompt_tokens": row.header.pub.get("prompt_tokens"),
                "completion_tokens": row.header.pub.get("completion_tokens"),
                "bi_session": row.blinds.get("session"),
                "bi_addr": row.blinds.get("addr"),
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


def add_epoch(connection: Connection, row: EpochRow) -> None:
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
            {"epoch": row.number, "recipient": each.recipient, "suite": each.suite, "wrap": each.data}
            for each in row.wraps
        ],
    )


def add_policy(connection: Connection, policy: KeyPolicy, act: str = "") -> None:
    """A key policy and the signed act that put it in force; none for the first."""
    connection.execute(insert(key_policy).values(sha256=policy.sha256, text=policy.text(), act=act))


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


def first_since(connection: Connection, ts: int) -> int:
    """The place of the first entry of this moment or later; the one behind the newest where there is none.

    Times grow with places: what is asked of a span of time is asked of a span of places.
    """
    found = connection.execute(
        select(log_entry.c.seq).where(log_entry.c.ts >= ts).order_by(log_entry.c.ts).limit(1)
    ).scalar_one_or_none()
    return end(connection) if found is None else found


def end(connection: Connection) -> int:
    """The place behind the newest entry."""
    newest = connection.execute(select(func.max(log_entry.c.seq))).scalar_one()
    return 0 if newest is None else newest + 1


def first_ts(connection: Connection) -> int | None:
    """The oldest entry's time."""
    found = connection.execute(select(func.min(log_entry.c.ts))).scalar_one()
    return None if found is None else int(found)


def last_epoch(connection: Connection) -> int:
    """The newest epoch's number, 0 for none."""
    return connection.execute(select(func.max(epoch.c.id))).scalar_one() or 0


def policies(connection: Connection) -> list[KeyPolicy]:
    """Every key policy, the one in force last. VerificationError where they make no chain."""
    texts = connection.execute(select(key_policy.c.text)).scalars().all()
    found = sorted(map(KeyPolicy.parse, texts), key=lambda each: each.number)
    before = ""
    for number, each in enumerate(found, start=1):
        if each.number != number or each.previous != before:
            raise VerificationError("the key policies do not follow each other")
        before = each.sha256
    if not found:
        raise VerificationError("the log has no key policy")
    return found


def header_of_last(connection: Connection, kind: Kind) -> Header | None:
    """The newest entry of a kind."""
    data = connection.execute(
        select(log_entry.c.hdr).where(log_entry.c.kind == str(kind)).order_by(log_entry.c.seq.desc()).limit(1)
    ).scalar_one_or_none()
    return None if data is None else decode_header(data)


def unreferenced(connection: Connection, share_ids: Sequence[bytes]) -> list[bytes]:
    """Those of these shares that no entry names."""
    used: set[bytes] = set()
    for start in range(0, len(share_ids), _MAX_PARAMETERS):
        some = share_ids[start : start + _MAX_PARAMETERS]
        query = select(log_entry.c.subj).where(log_entry.c.subj.in_(some)).distinct()
        used.update(map(bytes, connection.execute(query).scalars()))
    return [each for each in share_ids if each not in used]


def num_sealed_with(connection: Connection, share_ids: Sequence[bytes]) -> int:
    """How many entries these shares open."""
    found = 0
    for start in range(0, len(share_ids), _MAX_PARAMETERS):
        some = share_ids[start : start + _MAX_PARAMETERS]
        query = select(func.count()).select_from(log_entry).where(log_entry.c.subj.in_(some))
        found += connection.execute(query).scalar_one()
    return found


def add_erasure(connection: Connection, share_ids: Sequence[bytes], seq: int) -> None:
    """The shares that this entry destroys."""
    connection.execute(insert(erasure), [{"share": each, "seq": seq} for each in share_ids])


def contents_of(
    connection: Connection, kind: Kind, after_ts: int, before_ts: int, limit: int
) -> list[Candidate]:
    """Contents of a kind that were recorded in a span and are still there, oldest first."""
    rows = connection.execute(
        select(log_entry.c.seq, log_entry.c.ts, log_entry.c.subj)
        .join(log_payload, log_payload.c.seq == log_entry.c.seq)
        .where(
            log_entry.c.kind == str(kind),
            log_entry.c.seq >= first_since(connection, after_ts + 1),
            log_entry.c.seq < first_since(connection, before_ts),
        )
        .order_by(log_entry.c.seq)
        .limit(limit)
    )
    return [Candidate(row.seq, row.ts, row.subj) for row in rows]


def remove_contents(connection: Connection, removal: Removal, seq: int) -> None:
    """Delete ciphertexts, as the entry `seq` says: the database refuses it without that row."""
    connection.execute(
        insert(retention).values(
            seq=seq,
            kind=str(removal.kind),
            from_ts=removal.from_ts,
            before_ts=removal.before_ts,
            kept=removal.kept,
        )
    )
    for start in range(0, len(removal.seqs), _MAX_PARAMETERS):
        some = removal.seqs[start : start + _MAX_PARAMETERS]
        if connection.dialect.name == "postgresql":  # the writer's role may delete nothing itself
            connection.execute(select(func.delete_contents(seq, cast(some, ARRAY(BigInteger)))))
        else:
            connection.execute(delete(log_payload).where(log_payload.c.seq.in_(some)))


def erased_shares(connection: Connection) -> list[bytes]:
    """Every share that was ever destroyed."""
    return [bytes(each) for each in connection.execute(select(erasure.c.share)).scalars()]


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
