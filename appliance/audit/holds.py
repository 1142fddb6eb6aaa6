"""Legal holds: what may be neither erased nor removed until two people lift it again.

A hold is a row that its record commits to, as an API key is. It covers a span of time, and of that
everybody's content, one API key's, or one person's. Whom it names stands in the row as a blind index,
and in words only in the sealed content of its entry.
"""

from __future__ import annotations

import hmac
import secrets
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

from sqlalchemy import BigInteger, Column, Connection, LargeBinary, String, Table, select

from appliance import keyring
from appliance.audit.blind import BLIND_BYTES
from appliance.config import Home
from appliance.db import Row, metadata

TABLE: Final = "legal_hold"
_KEY_BYTES: Final = 32

legal_hold = Table(
    TABLE,
    metadata,
    Column("id", String(16), primary_key=True),
    Column("key_bi", LargeBinary(BLIND_BYTES), nullable=True),  # an API key's; none: every key's
    Column("user_bi", LargeBinary(BLIND_BYTES), nullable=True),  # a person's; none: everybody's
    Column("since_us", BigInteger, nullable=False),
    Column("until_us", BigInteger, nullable=True),  # none: also what is still to come
    Column("placed_us", BigInteger, nullable=False),
    Column("lifted_us", BigInteger, nullable=True),
)


@dataclass(frozen=True, slots=True)
class Hold:
    """One hold. Times in microseconds, UTC; `until_us` is exclusive."""

    id: str
    key_bi: bytes | None
    user_bi: bytes | None
    since_us: int
    until_us: int | None
    placed_us: int
    lifted_us: int | None = None

    @property
    def is_active(self) -> bool:
        return self.lifted_us is None

    @property
    def names_somebody(self) -> bool:
        """Whether it covers only some subjects."""
        return self.key_bi is not None or self.user_bi is not None

    def overlaps(self, since_us: int, until_us: int) -> bool:
        """Whether it covers any moment of this span."""
        return (
            since_us < (self.until_us if self.until_us is not None else until_us) and self.since_us < until_us
        )

    def concerns(self, subject: str, key: bytes) -> bool:
        """Whether it covers this subject, as shares name it ("key:ID" or "user:ID:NAME")."""
        _, api_key, user = (*subject.split(":", 2), "", "")[:3]
        return self.key_bi in {None, blinded(key, "key", api_key)} and self.user_bi in {
            None,
            blinded(key, "user", user),
        }


def new(key: bytes, *, api_key: str, user: str, since_us: int, until_us: int | None, placed_us: int) -> Hold:
    """A hold on what is named; empty names mean everybody."""
    return Hold(
        id=secrets.token_hex(8),
        key_bi=blinded(key, "key", api_key) if api_key else None,
        user_bi=blinded(key, "user", user) if user else None,
        since_us=since_us,
        until_us=until_us,
        placed_us=placed_us,
    )


def lifted(hold: Hold, *, now_us: int) -> Hold:
    """The same hold, no longer in force."""
    return replace(hold, lifted_us=now_us)


def blinded(key: bytes, name: str, value: str) -> bytes:
    """The blind index of a name in holds."""
    return hmac.digest(key, f"{name}\0{value}".encode(), "sha256")[:BLIND_BYTES]


def key_of(home: Home) -> bytes:
    """The key of the blind indexes in holds, made at its first use."""
    path = home.keys / "holds.key"
    if not path.exists():
        keyring.write(home, path, secrets.token_bytes(_KEY_BYTES))
    return keyring.read(home, path)


def month_span(month: str) -> tuple[int, int]:
    """First moment of a month and of the one after it, microseconds."""
    year, number = map(int, month.split("-"))
    start = datetime(year, number, 1, tzinfo=UTC)
    end = datetime(year + number // 12, number % 12 + 1, 1, tzinfo=UTC)
    return int(start.timestamp() * 1e6), int(end.timestamp() * 1e6)


def row_of(hold: Hold) -> Row:
    """The hold as the table has it, column by column."""
    return {
        "id": hold.id,
        "key_bi": hold.key_bi,
        "user_bi": hold.user_bi,
        "since_us": hold.since_us,
        "until_us": hold.until_us,
        "placed_us": hold.placed_us,
        "lifted_us": hold.lifted_us,
    }


def load(connection: Connection) -> list[Hold]:
    """Every hold ever placed, oldest first."""
    rows = connection.execute(select(legal_hold).order_by(legal_hold.c.placed_us, legal_hold.c.id))
    return [Hold(**row) for row in rows.mappings()]
