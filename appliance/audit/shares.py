"""Subjects' shares: the appliance's half of every record's key, in a file of their own.

A share is 32 random bytes for one subject and one month. Records name it by its id, which is the hash
of the share itself, so that nobody can put another one in its place. Erasing a share makes its records
unreadable for everybody, in this database and in every copy of it; that is why shares live in a file
of their own, whose backups are kept for days and not for years.

Rows are sealed under a key-encryption key (KEK) beside the log's keys. An erasure seals the rows that
stay under a fresh one and destroys the old: what a flash disk or an old copy of this file still holds
of the erased rows then opens for nobody. A crash in between leaves both keys, and `open` goes on with
the one that the rows name.

Owner: the sequencer's thread. Whoever releases shares reads through a connection of their own.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import secrets
import sqlite3
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from appliance import durable, keyring
from appliance.config import Home
from appliance.databases import small
from appliance.errors import SetupError, VerificationError

SHARE_BYTES: Final = 32
ID_BYTES: Final = 16
APPLIANCE: Final = "appliance"  # the subject of what concerns nobody in particular; never erased
SETTLED: Final = -1  # in the place of `since_seq`: an entry names it for sure, here or in the archive
_NONCE_BYTES: Final = 12
_SCHEMA_VERSION: Final = 1
_MAX_REMEMBERED: Final = 4096
_SCHEMA: Final = """
CREATE TABLE share (
    id BLOB PRIMARY KEY NOT NULL,
    subject BLOB NOT NULL,
    since_seq INTEGER NOT NULL,
    kek INTEGER NOT NULL,
    nonce BLOB NOT NULL,
    sealed BLOB NOT NULL
) WITHOUT ROWID;
CREATE INDEX share_subject ON share (subject);
"""


@dataclass(frozen=True, slots=True)
class Share:
    """One subject's share of one month."""

    id: bytes
    secret: bytes = field(repr=False)
    subject: str = field(repr=False)
    month: str  # "2026-11"


def share_id(secret: bytes) -> bytes:
    """A share's name on the record: its own commitment."""
    return hashlib.sha256(b"audit/v1/share\n" + secret).digest()[:ID_BYTES]


class ShareStore:
    """Makes, finds and erases shares. SetupError where the file or its key is missing."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._sql = _connect(home.shares, read_only=False)
        try:
            self._kek_number, self._kek = _current_kek(home, self._sql)
        except BaseException:
            self._sql.close()
            raise
        self._known: OrderedDict[tuple[str, str], Share] = OrderedDict()

    def of(self, subject: str, month: str, *, since_seq: int) -> Share:
        """The subject's share of the month; a new one is durable before this returns."""
        place = (subject, month)
        if place in self._known:
            self._known.move_to_end(place)
            return self._known[place]
        found = next((each for each in self.find(subject) if each.month == month), None)
        if found is None:
            secret = secrets.token_bytes(SHARE_BYTES)
            found = Share(share_id(secret), secret, subject, month)
            with small.transaction(self._sql):
                self._insert(found, since_seq)
        self._known[place] = found
        if len(self._known) > _MAX_REMEMBERED:
            self._known.popitem(last=False)
        return found

    def find(self, subject: str) -> list[Share]:
        """Every share of a subject that is still there."""
        return _find(self._sql, self._kek, subject)

    def among(self, ids: Iterable[bytes]) -> list[bytes]:
        """Those of these shares that are still there."""
        wanted = set(ids)
        return [bytes(row[0]) for row in self._sql.execute("SELECT id FROM share") if bytes(row[0]) in wanted]

    def unused(self, since_seq: int) -> list[bytes]:
        """Ids of shares that were made for an entry at or behind this one: it may never have been written."""
        rows = self._sql.execute("SELECT id FROM share WHERE since_seq >= ?", (since_seq,))
        return [bytes(row[0]) for row in rows]

    def discard(self, ids: Iterable[bytes]) -> None:
        """Drop shares that nothing was ever sealed with."""
        with small.transaction(self._sql):
            self._sql.executemany("DELETE FROM share WHERE id = ?", [(each,) for each in ids])

    def erase(self, ids: Iterable[bytes]) -> int:
        """Destroy these shares for good, and the key that sealed them; how many there were."""
        doomed = set(ids)
        number = self._kek_number + 1
        fresh = _make_kek(self._home, number)
        rows = self._sql.execute("SELECT id, since_seq, nonce, sealed FROM share").fetchall()
        erased = sum(bytes(row[0]) in doomed for row in rows)
        with small.transaction(self._sql):
            self._sql.execute("DELETE FROM share")
            old, self._kek, self._kek_number = self._kek, fresh, number
            for found_id, since_seq, nonce, sealed in rows:
                if bytes(found_id) not in doomed:
                    self._insert(_opened(old, found_id, nonce, sealed), since_seq)
        self._known.clear()
        self._sql.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._sql.execute("VACUUM")
        self._sql.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        _drop_keks(self._home, keep=number)
        return erased

    def add(self, found: Iterable[Share]) -> int:
        """Take in shares from a backup, but for those that are here; how many were taken."""
        here = {bytes(row[0]) for row in self._sql.execute("SELECT id FROM share")}
        missing = [each for each in found if each.id not in here]
        with small.transaction(self._sql):
            for each in missing:
                self._insert(each, SETTLED)
        self._known.clear()
        return len(missing)

    def settle(self) -> None:
        """Every share stays from now on, also where no entry of the present database names it."""
        with small.transaction(self._sql):
            self._sql.execute("UPDATE share SET since_seq = ?", (SETTLED,))

    def close(self) -> None:
        """Let go of the file."""
        self._sql.close()

    def _insert(self, share: Share, since_seq: int) -> None:
        nonce = secrets.token_bytes(_NONCE_BYTES)
        plain = share.secret + f"{share.month}\n{share.subject}".encode()
        self._sql.execute(
            "INSERT INTO share (id, subject, since_seq, kek, nonce, sealed) VALUES (?, ?, ?, ?, ?, ?)",
            (
                share.id,
                _blind(self._kek, share.subject),
                since_seq,
                self._kek_number,
                nonce,
                AESGCM(self._kek).encrypt(nonce, plain, share.id),
            ),
        )


def create(home: Home) -> None:
    """An empty store and its first key, at the log's beginning; what is there is kept."""
    if not home.shares.exists():
        _make_kek(home, 1)
        small.create(home.shares, f"{_SCHEMA} PRAGMA user_version = {_SCHEMA_VERSION};")


def release(home: Home, ids: Iterable[bytes]) -> dict[bytes, bytes]:
    """The shares with these ids that are still there. The caller has put the release on the record."""
    found = {}
    with contextlib.closing(_connect(home.shares, read_only=True)) as connection:
        keys: dict[int, bytes] = {}
        for each in set(ids):
            row = connection.execute(
                "SELECT id, kek, nonce, sealed FROM share WHERE id = ?", (each,)
            ).fetchone()
            if row is not None:
                number = int(row[1])
                keys[number] = keys.get(number) or _read_kek(home, number)
                found[each] = _opened(keys[number], row[0], row[2], row[3]).secret
    return found


def ids(home: Home) -> frozenset[bytes]:
    """Ids of all shares that are still there; none where the file is gone. Needs no key."""
    if not home.shares.is_file():
        return frozenset()
    with contextlib.closing(_connect(home.shares, read_only=True)) as connection:
        return frozenset(bytes(row[0]) for row in connection.execute("SELECT id FROM share"))


def find(home: Home, *subjects: str) -> list[Share]:
    """Every share of these subjects that is still there, by month."""
    with contextlib.closing(_connect(home.shares, read_only=True)) as connection:
        numbers = [int(row[0]) for row in connection.execute("SELECT DISTINCT kek FROM share")]
        keks = [_read_kek(home, number) for number in numbers]
        return [each for kek in keks for subject in subjects for each in _find(connection, kek, subject)]


def every(home: Home) -> Iterator[Share]:
    """All shares, one by one: what a hold covers is asked of each."""
    with contextlib.closing(_connect(home.shares, read_only=True)) as connection:
        keys: dict[int, bytes] = {}
        for found_id, number, nonce, sealed in connection.execute("SELECT id, kek, nonce, sealed FROM share"):
            keys[number] = keys.get(number) or _read_kek(home, number)
            yield _opened(keys[number], found_id, nonce, sealed)


def _find(connection: sqlite3.Connection, kek: bytes, subject: str) -> list[Share]:
    rows = connection.execute(
        "SELECT id, nonce, sealed FROM share WHERE subject = ?", (_blind(kek, subject),)
    )
    found = [_opened(kek, *row) for row in rows]
    return sorted((each for each in found if each.subject == subject), key=lambda each: each.month)


def _connect(path: Path, *, read_only: bool) -> sqlite3.Connection:
    if not path.is_file():
        raise _missing("the file of shares")
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={'ro' if read_only else 'rw'}",
        uri=True,
        timeout=2,
        isolation_level=None,
        check_same_thread=False,
    )
    try:
        connection.execute("PRAGMA trusted_schema = OFF")
        if not read_only:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA secure_delete = ON")
        version = connection.execute("PRAGMA user_version").fetchone()[0]
    except sqlite3.Error as error:
        connection.close()
        raise _missing("a file of shares that can be read") from error
    if version != _SCHEMA_VERSION:
        connection.close()
        raise _missing("a file of shares of this release")
    return connection


def _opened(kek: bytes, found_id: bytes, nonce: bytes, sealed: bytes) -> Share:
    """A row's share. VerificationError where it is not the one that its id names."""
    try:
        plain = AESGCM(kek).decrypt(nonce, sealed, found_id)
    except (InvalidTag, ValueError, TypeError) as error:
        raise VerificationError("a share does not open with the key in keys/") from error
    secret, rest = plain[:SHARE_BYTES], plain[SHARE_BYTES:].decode()
    if share_id(secret) != found_id:
        raise VerificationError("a share is not the one that its id names")
    month, _, subject = rest.partition("\n")
    return Share(bytes(found_id), secret, subject, month)


def _blind(kek: bytes, subject: str) -> bytes:
    return hmac.digest(kek, b"subject\n" + subject.encode(), "sha256")[:ID_BYTES]


def _kek_path(home: Home, number: int) -> Path:
    return home.keys / f"shares-{number}.kek"


def _make_kek(home: Home, number: int) -> bytes:
    kek = secrets.token_bytes(SHARE_BYTES)
    keyring.write(home, _kek_path(home, number), kek)
    return kek


def _read_kek(home: Home, number: int) -> bytes:
    try:
        kek = keyring.read(home, _kek_path(home, number))
    except OSError as error:
        raise _missing(f"keys/shares-{number}.kek") from error
    if len(kek) != SHARE_BYTES:
        raise _missing(f"a whole keys/shares-{number}.kek")
    return kek


def _current_kek(home: Home, connection: sqlite3.Connection) -> tuple[int, bytes]:
    """The key that the rows name, or the newest where there are none; others are a crash's leftovers."""
    numbers = [int(row[0]) for row in connection.execute("SELECT DISTINCT kek FROM share")]
    if len(numbers) > 1:
        raise VerificationError("shares are sealed under more than one key")
    number = numbers[0] if numbers else max(_kek_numbers(home), default=0)
    kek = _read_kek(home, number)
    _drop_keks(home, keep=number)
    return number, kek


def _kek_numbers(home: Home) -> list[int]:
    names = (path.stem.removeprefix("shares-") for path in home.keys.glob("shares-*.kek"))
    return [int(name) for name in names if name.isdecimal()]


def _drop_keks(home: Home, *, keep: int) -> None:
    """Overwrite and remove every other key: nothing is sealed under them any more."""
    for number in _kek_numbers(home):
        if number != keep:
            durable.destroy(_kek_path(home, number))
    durable.fsync_dir(home.keys)


def _missing(what: str) -> SetupError:
    return SetupError(
        f"{what} is missing: without it no sealed content can be read",
        code="shares_missing",
        hint="it belongs to the home; restore it from the shares' own backup",
    )
