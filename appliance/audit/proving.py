"""Proofs for others to check: made from the stored tree, read only."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, func, select

from appliance import db
from appliance.audit import checkpoint, merkle, store, tiles
from appliance.audit.checkpoint import Checkpoint, Verifier
from appliance.audit.proof import Proof
from appliance.audit.tables import cosignature, log_entry, node, witness
from appliance.audit.tiles import Tile
from appliance.audit.witness import Request
from appliance.errors import RequestError, VerificationError

# For people without any program of ours: sh, coreutils, xxd, openssl. Every evidence file carries it.
RECIPE = Path(__file__).parent / "recipe" / "verify.sh"


def newest(connection: Connection) -> str:
    """The newest checkpoint's note. VerificationError where there is none."""
    found = store.head(connection)
    if found is None:
        raise VerificationError("the log has no checkpoint yet")
    return found[1]


def cosigned(connection: Connection, above: int = 0) -> str | None:
    """The newest checkpoint of more than `above` entries that witnesses cosigned, with what they said."""
    size = connection.execute(
        select(func.max(cosignature.c.size)).where(cosignature.c.size > above)
    ).scalar_one()
    rows = connection.execute(
        select(cosignature.c.note, cosignature.c.line)
        .where(cosignature.c.size == size)
        .order_by(cosignature.c.id)
    ).all()
    return rows[0].note + "".join(f"{row.line}\n" for row in rows) if rows else None


def witnesses(connection: Connection) -> dict[str, Verifier]:
    """The pinned keys of witnesses by the ids of their rows."""
    rows = connection.execute(select(witness.c.id, witness.c.vkey).order_by(witness.c.added_us, witness.c.id))
    return {row.id: Verifier.parse(row.vkey) for row in rows}


def last_visit(connection: Connection) -> tuple[int, int, int]:
    """Size and time of the newest cosignature, and when the first witness was pinned; POSIX seconds."""
    size, time_s = connection.execute(
        select(func.max(cosignature.c.size), func.max(cosignature.c.time_s))
    ).one()
    since_us = connection.execute(select(func.min(witness.c.added_us))).scalar_one()
    return size or 0, time_s or 0, (since_us or 0) // 1_000_000


def last_size_of(connection: Connection, name: str) -> int:
    """The newest tree that a witness of this name cosigned, 0 for none."""
    keys = [row_id for row_id, each in witnesses(connection).items() if each.name == name]
    query = select(func.max(cosignature.c.size)).where(cosignature.c.witness.in_(keys))
    return connection.execute(query).scalar_one() or 0


def last_visit_of(connection: Connection, name: str) -> tuple[int, int]:
    """Size and time of the newest cosignature of a witness of this name; POSIX seconds, 0 for none."""
    keys = [row_id for row_id, each in witnesses(connection).items() if each.name == name]
    size, time_s = connection.execute(
        select(func.max(cosignature.c.size), func.max(cosignature.c.time_s)).where(
            cosignature.c.witness.in_(keys)
        )
    ).one()
    return size or 0, time_s or 0


def request_from(connection: Connection, old: int) -> Request:
    """What a witness that knows the tree of `old` entries needs to cosign the newest one.

    RequestError where the log is not that long.
    """
    note = newest(connection)
    head = head_of(note)
    if not 0 <= old <= head.size:
        raise RequestError("the log is not that long", code="invalid_size", param="old")
    return Request(
        old=old, hashes=tuple(merkle.consistency_proof(old, head.size, reader(connection))), note=note
    )


def cosignature_ids(connection: Connection, size: int) -> frozenset[str]:
    """Which cosignatures of a tree of this size are stored."""
    found = connection.execute(select(cosignature.c.id).where(cosignature.c.size == size)).scalars()
    return frozenset(str(each) for each in found)


def header_of(connection: Connection, seq: int) -> bytes:
    """An entry's header as it was hashed. RequestError where there is no such entry."""
    data = connection.execute(select(log_entry.c.hdr).where(log_entry.c.seq == seq)).scalar_one_or_none()
    if data is None:
        raise RequestError("there is no such entry on the record", code="not_found")
    return bytes(data)


def headers_of(connection: Connection, begin: int, end: int) -> list[bytes]:
    """The headers in [begin, end) as they were hashed. VerificationError where one is missing."""
    wanted = select(log_entry.c.hdr).where(log_entry.c.seq >= begin, log_entry.c.seq < end)
    found = connection.execute(wanted.order_by(log_entry.c.seq)).scalars().all()
    if len(found) != end - begin:
        raise VerificationError("entries of this range are missing")
    return [bytes(each) for each in found]


def tile_of(connection: Connection, tile: Tile) -> bytes:
    """A tile's file. VerificationError where a node of it is missing."""
    first, level = tile.index * tiles.WIDTH, tiles.HEIGHT * tile.level
    wanted = select(node.c.h).where(
        node.c.level == level, node.c.idx >= first, node.c.idx < first + tile.width
    )
    found = connection.execute(wanted.order_by(node.c.idx)).scalars().all()
    if len(found) != tile.width:
        raise VerificationError("nodes of the tree are missing")
    return b"".join(map(bytes, found))


def prove(connection: Connection, seq: int, note: str | None = None) -> Proof:
    """That an entry is in the tree of a checkpoint note: a cosigned one, else the newest.

    RequestError where the checkpoint is older than the entry.
    """
    if note is None:
        note = cosigned(connection, above=seq) or newest(connection)
    head = head_of(note)
    if seq >= head.size:
        raise RequestError("the checkpoint is older than this entry", code="not_found")
    hashes = merkle.inclusion_proof(seq, head.size, reader(connection))
    return Proof(index=seq, hashes=tuple(hashes), note=note)


def reader(connection: Connection) -> merkle.ReadNode:
    """The stored tree, node by node."""

    def read(level: int, index: int) -> bytes:
        return store.read_node(connection, level, index)

    return read


def proof_at(path: Path, seq: int) -> tuple[bytes, Proof]:
    """An entry's header and its proof in the newest tree, in one snapshot."""
    with db.reading(path) as connection:
        return header_of(connection, seq), prove(connection, seq)


def head_of(note: str) -> Checkpoint:
    """What a stored checkpoint note says; its signatures are the reader's to check."""
    return checkpoint.parse(checkpoint.read_note(note).text)
