"""Proofs for others to check: made from the stored tree, read only."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, select

from appliance import db
from appliance.audit import checkpoint, merkle, store
from appliance.audit.checkpoint import Checkpoint
from appliance.audit.proof import Proof
from appliance.audit.tables import log_entry
from appliance.errors import RequestError, VerificationError

# For people without any program of ours: sh, coreutils, xxd, openssl. Every evidence file carries it.
RECIPE = Path(__file__).parent / "recipe" / "verify.sh"


def newest(connection: Connection) -> tuple[str, Checkpoint]:
    """The newest checkpoint: its note, and what it says. VerificationError where there is none."""
    found = store.head(connection)
    if found is None:
        raise VerificationError("the log has no checkpoint yet")
    return found[1], head_of(found[1])


def header_of(connection: Connection, seq: int) -> bytes:
    """An entry's header as it was hashed. RequestError where there is no such entry."""
    data = connection.execute(select(log_entry.c.hdr).where(log_entry.c.seq == seq)).scalar_one_or_none()
    if data is None:
        raise RequestError("there is no such entry on the record", code="not_found")
    return bytes(data)


def prove(connection: Connection, seq: int, note: str | None = None) -> Proof:
    """That an entry is in the tree of a checkpoint note, or of the newest one.

    RequestError where the checkpoint is older than the entry.
    """
    if note is None:
        note, _ = newest(connection)
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
