"""Acts that wait for signatures: rows that stand on the record, and texts that only this home opens.

An act's text names a person, so the row holds it sealed, under a key of its own beside the log's keys
(`keys/act-ID.key`). When the act is closed the row loses the text and the key is destroyed: from then on it
opens for nobody, in no copy of the database. What is left is on the record, for auditors. An id is drawn by
chance: a hash of the text would let whoever has the database try names against it.

A crash after the key and before the row leaves a key without an act, and so does one between a closing's row
and the end of its key: `sweep` destroys such keys.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import BigInteger, Column, Connection, Integer, LargeBinary, String, Table, select

from appliance import durable, keyring
from appliance.config import Home
from appliance.db import Row, metadata
from appliance.errors import VerificationError

TABLE: Final = "drafted_act"
_KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12
_KEY_NAME: Final = "act-{}.key"

drafted_act = Table(
    TABLE,
    metadata,
    Column("id", String(32), primary_key=True),
    Column("kind", String(32), nullable=False),
    Column("sealed", LargeBinary, nullable=False),  # nonce and ciphertext of the note; empty once closed
    Column("num_signatures", Integer, nullable=False),
    Column("drafted_us", BigInteger, nullable=False),
    Column("closed_us", BigInteger, nullable=True),
    Column("outcome", String(16), nullable=False),  # "open", "applied", "withdrawn"
    Column("seq", BigInteger, nullable=True),  # of the entry that carried it out
)

OPEN: Final = "open"
APPLIED: Final = "applied"
WITHDRAWN: Final = "withdrawn"


@dataclass(frozen=True, slots=True)
class Drafted:
    """One act, as its row says it. Times in microseconds, UTC."""

    id: str
    kind: str
    sealed: bytes = field(repr=False)
    num_signatures: int
    drafted_us: int
    closed_us: int | None = None
    outcome: str = OPEN
    seq: int | None = None

    @property
    def is_open(self) -> bool:
        return self.closed_us is None


def new(home: Home, kind: str, note: str, *, num_signatures: int, now_us: int) -> Drafted:
    """An act at its birth. Its key is durable before this returns."""
    made = Drafted(secrets.token_hex(16), kind, b"", num_signatures, now_us)
    key = AESGCM.generate_key(8 * _KEY_BYTES)
    keyring.write(home, _key_path(home, made.id), key)
    return replace(made, sealed=_seal(key, made.id, note))


def resealed(home: Home, known: Drafted, note: str, *, num_signatures: int) -> Drafted:
    """The same act with another signature below it."""
    return replace(
        known, sealed=_seal(_read_key(home, known.id), known.id, note), num_signatures=num_signatures
    )


def closed(known: Drafted, outcome: str, *, now_us: int, seq: int | None = None) -> Drafted:
    """The act at its end: nothing of its text is left in the row."""
    return replace(known, sealed=b"", closed_us=now_us, outcome=outcome, seq=seq)


def read(home: Home, known: Drafted) -> str:
    """The act with the signatures so far. VerificationError where its key is gone, or is another's."""
    nonce, ciphertext = known.sealed[:_NONCE_BYTES], known.sealed[_NONCE_BYTES:]
    try:
        plain = AESGCM(_read_key(home, known.id)).decrypt(nonce, ciphertext, _bound(known.id))
    except (InvalidTag, ValueError) as error:
        raise _unreadable() from error
    return plain.decode()


def sweep(home: Home, still_open: Iterable[str]) -> int:
    """Destroy the keys of acts that are not open; how many there were."""
    kept = {_key_path(home, each) for each in still_open}
    doomed = [path for path in home.keys.glob(_KEY_NAME.format("*")) if path not in kept]
    for path in doomed:
        durable.destroy(path)
    if doomed:
        durable.fsync_dir(home.keys)
    return len(doomed)


def row_of(known: Drafted) -> Row:
    """The act as the table has it, column by column."""
    return {
        "id": known.id,
        "kind": known.kind,
        "sealed": known.sealed,
        "num_signatures": known.num_signatures,
        "drafted_us": known.drafted_us,
        "closed_us": known.closed_us,
        "outcome": known.outcome,
        "seq": known.seq,
    }


def load(connection: Connection) -> list[Drafted]:
    """Every act ever drafted here, newest first."""
    rows = connection.execute(select(drafted_act).order_by(drafted_act.c.drafted_us.desc(), drafted_act.c.id))
    return [Drafted(**{**row, "sealed": bytes(row["sealed"])}) for row in rows.mappings()]


def _seal(key: bytes, act_id: str, note: str) -> bytes:
    nonce = secrets.token_bytes(_NONCE_BYTES)
    return nonce + AESGCM(key).encrypt(nonce, note.encode(), _bound(act_id))


def _bound(act_id: str) -> bytes:
    return f"audit/v1/act\n{act_id}".encode()


def _key_path(home: Home, act_id: str) -> Path:
    return home.keys / _KEY_NAME.format(act_id)


def _read_key(home: Home, act_id: str) -> bytes:
    try:
        return keyring.read(home, _key_path(home, act_id))
    except OSError as error:
        raise _unreadable() from error


def _unreadable() -> VerificationError:
    return VerificationError(
        "the text of this act does not open here any more",
        code="act_unreadable",
        hint="withdraw it, and draft it anew",
    )
