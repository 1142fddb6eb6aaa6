"""Responses that a key asked to keep for its next question, each sealed to the key that asked.

A row opens with the caller's own API key only: AES-256-GCM under HKDF-SHA256 (RFC 5869) of the token as
it was presented and a salt of the row's own. The appliance keeps no token, so whoever has this file, the
database and every key in `keys/` reads nothing here. The row's id, owner and times are bound to it.

The file is no part of any backup, and lives by hours: what is kept for longer stands on the record. Whose
words a row holds is marked by keyed hashes of subjects, so that an erasure finds it. Each call has a
connection of its own; SQLite's lock lets one of them write.
"""

from __future__ import annotations

import contextlib
import hmac
import secrets
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from appliance import keyring
from appliance.clock import Clock
from appliance.config import Home, Responses
from appliance.databases import small
from appliance.errors import RequestError, Unavailable, VerificationError

_KEY_BYTES: Final = 32
_SALT_BYTES: Final = 16
_NONCE_BYTES: Final = 12
_BLIND_BYTES: Final = 16
_HOUR_US: Final = 3_600_000_000
_MIB: Final = 1 << 20
_SCHEMA: Final = """
CREATE TABLE response (
    id TEXT PRIMARY KEY NOT NULL,
    key_id TEXT NOT NULL,
    created_us INTEGER NOT NULL,
    expires_us INTEGER NOT NULL,
    salt BLOB NOT NULL,
    nonce BLOB NOT NULL,
    sealed BLOB NOT NULL
);
CREATE INDEX response_key ON response (key_id, created_us);
CREATE TABLE subject (
    response_id TEXT NOT NULL REFERENCES response (id) ON DELETE CASCADE,
    blind BLOB NOT NULL,
    PRIMARY KEY (response_id, blind)
) WITHOUT ROWID;
CREATE INDEX subject_blind ON subject (blind);
"""


@dataclass(frozen=True, slots=True)
class Owner:
    """Who asks: a key's id, and the token as it was presented."""

    key_id: str
    token: str = field(repr=False)


class ResponseStore:
    """Keeps, opens and removes responses. Every call blocks on the disk: not for an event loop."""

    def __init__(self, home: Home, clock: Clock, limits: Responses) -> None:
        self._home = home
        self._path = home.responses
        self._key_path = home.keys / "responses.key"
        self._clock = clock
        self._limits = limits

    def expires_us(self) -> int:
        """When a response that is stored now will be gone."""
        return self._clock.now_us() + self._limits.store_hours * _HOUR_US

    def put(
        self, owner: Owner, response_id: str, data: bytes, *, subjects: Sequence[str], expires_us: int
    ) -> None:
        """Keep a response; the key's oldest ones make room for it. `subjects`: whose words it holds."""
        if len(data) > self._limits.store_max_mib * _MIB:
            raise RequestError("the conversation is too large to be stored", code="request_too_large")
        create(self._home)
        created_us = self._clock.now_us()
        salt, nonce = secrets.token_bytes(_SALT_BYTES), secrets.token_bytes(_NONCE_BYTES)
        bound = _bound(response_id, owner.key_id, created_us, expires_us)
        sealed = AESGCM(_derived(owner.token, salt)).encrypt(nonce, data, bound)
        blinds = [self._blind(each) for each in subjects]
        with self._writing() as sql:
            sql.execute("DELETE FROM response WHERE expires_us <= ?", (created_us,))
            sql.execute(
                "INSERT INTO response (id, key_id, created_us, expires_us, salt, nonce, sealed) "
                "VALUES (?, ?, ?, ?, ?, ?, ?)",
                (response_id, owner.key_id, created_us, expires_us, salt, nonce, sealed),
            )
            sql.executemany(
                "INSERT INTO subject (response_id, blind) VALUES (?, ?)",
                [(response_id, each) for each in sorted(set(blinds))],
            )
            self._make_room(sql, owner.key_id)

    def get(self, owner: Owner, response_id: str) -> bytes | None:
        """What was stored; None where there is nothing of this key's. VerificationError where it lies."""
        if not self._path.exists():
            return None
        with self._connected() as sql:
            row = sql.execute(
                "SELECT created_us, expires_us, salt, nonce, sealed FROM response "
                "WHERE id = ? AND key_id = ? AND expires_us > ?",
                (response_id, owner.key_id, self._clock.now_us()),
            ).fetchone()
        if row is None:
            return None
        created_us, expires_us, salt, nonce, sealed = row
        bound = _bound(response_id, owner.key_id, created_us, expires_us)
        try:
            return AESGCM(_derived(owner.token, salt)).decrypt(nonce, sealed, bound)
        except (InvalidTag, ValueError, TypeError) as error:
            raise VerificationError("a stored response does not open with its own key") from error

    def delete(self, key_id: str, response_id: str) -> None:
        """Remove a key's response."""
        with self._writing() as sql:
            sql.execute("DELETE FROM response WHERE id = ? AND key_id = ?", (response_id, key_id))

    def erase(self, subjects: Sequence[str]) -> int:
        """Remove every response that holds words of these subjects; how many there were."""
        if not self._path.exists():
            return 0
        blinds = [self._blind(each) for each in subjects]
        with self._writing() as sql:
            num_erased = sql.executemany(
                "DELETE FROM response WHERE id IN (SELECT response_id FROM subject WHERE blind = ?)",
                [(each,) for each in blinds],
            ).rowcount
        with self._connected() as sql:
            sql.execute("VACUUM")
        return num_erased

    def expire(self) -> None:
        """Remove what has had its time."""
        if self._path.exists():
            with self._writing() as sql:
                sql.execute("DELETE FROM response WHERE expires_us <= ?", (self._clock.now_us(),))

    def _make_room(self, sql: sqlite3.Connection, key_id: str) -> None:
        rows = sql.execute(
            "SELECT id, length(sealed) FROM response WHERE key_id = ? ORDER BY created_us DESC, rowid DESC",
            (key_id,),
        ).fetchall()
        num_bytes, doomed = 0, []
        for at, (response_id, size) in enumerate(rows):
            num_bytes += size
            if at and (
                at >= self._limits.store_max_responses or num_bytes > self._limits.store_max_mib * _MIB
            ):
                doomed.append((response_id,))
        sql.executemany("DELETE FROM response WHERE id = ?", doomed)

    def _blind(self, subject: str) -> bytes:
        key = keyring.read(self._home, self._key_path)
        return hmac.digest(key, subject.encode(), "sha256")[:_BLIND_BYTES]

    @contextlib.contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._connected() as sql, small.transaction(sql):
            yield sql

    @contextlib.contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        """A connection whose deletions overwrite. Unavailable where the disk refuses."""
        try:
            with contextlib.closing(sqlite3.connect(self._path, timeout=5, isolation_level=None)) as sql:
                sql.execute("PRAGMA trusted_schema = OFF")
                sql.execute("PRAGMA foreign_keys = ON")
                sql.execute("PRAGMA synchronous = FULL")
                sql.execute("PRAGMA secure_delete = ON")
                yield sql
        except sqlite3.Error as error:
            raise Unavailable(
                "responses can not be stored or read now", code="store_unavailable", retry_after_seconds=30
            ) from error


def create(home: Home) -> None:
    """An empty store with a key of its own for subjects; what is whole is kept."""
    key_path = home.keys / "responses.key"
    if home.responses.exists() and key_path.exists():
        return
    # Without its key an erasure would find nothing in the file: better none of it than that.
    home.responses.unlink(missing_ok=True)
    keyring.write(home, key_path, secrets.token_bytes(_KEY_BYTES))
    small.create(home.responses, _SCHEMA)


def _derived(token: str, salt: bytes) -> bytes:
    """The key of one row."""
    return HKDF(hashes.SHA256(), _KEY_BYTES, salt, b"appliance/v1/stored response").derive(token.encode())


def _bound(response_id: str, key_id: str, created_us: int, expires_us: int) -> bytes:
    return f"{response_id}\n{key_id}\n{created_us}\n{expires_us}".encode()
