"""What the entrance knows of an account: tries, the last log-in, the second factor. The table and its rows.

A row of its own, so that an account's row stays as its record left it. It changes with each try under an
account's name, and each change is an entry: what a lock-out counted, and which code was used last, is there
after a restart too.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final

from sqlalchemy import BigInteger, Column, Connection, Integer, LargeBinary, String, Table, select

from appliance.accounts.codes import DIGEST_BYTES
from appliance.db import Row, metadata

TABLE: Final = "entrance"
# Wrong codes behind the right passphrase, since the last log-in, before the factor opens nothing any more.
# SP 800-63B-4 §3.2.2 allows 100. Each try meets at most three codes in force among a million: all of them
# together guess one with a chance of 3 in 10,000 at most.
MAX_WRONG_CODES: Final = 100

entrance = Table(
    TABLE,
    metadata,
    Column("account", String(12), primary_key=True),
    Column("failures", Integer, nullable=False),
    Column("wrong_codes", Integer, nullable=False),
    Column("failed_us", BigInteger, nullable=True),
    Column("locked_until_us", BigInteger, nullable=False),
    Column("entered_us", BigInteger, nullable=True),
    Column("must_enrol", Integer, nullable=False),
    Column("algorithm", String(8), nullable=False),  # of the second factor; empty: there is none
    Column("sealed", LargeBinary, nullable=False),
    Column("recovery", LargeBinary, nullable=False),  # digests of the codes that are left
    Column("enrolled_us", BigInteger, nullable=True),
    Column("last_step", BigInteger, nullable=False),
)


@dataclass(frozen=True, slots=True)
class Factor:
    """A second factor in force. `last_step` is that of the last code that counted (RFC 6238 §5.2)."""

    algorithm: str
    sealed: bytes = field(repr=False)
    recovery: bytes = field(repr=False)
    enrolled_us: int
    last_step: int

    @property
    def num_recovery(self) -> int:
        """Recovery codes that are left."""
        return len(self.recovery) // DIGEST_BYTES


@dataclass(frozen=True, slots=True)
class Entrance:
    """One account's way in. Times in microseconds, UTC."""

    account: str
    failures: int = 0  # wrong tries since the last log-in
    wrong_codes: int = 0  # of them, those with the right passphrase
    failed_us: int | None = None
    locked_until_us: int = 0
    entered_us: int | None = None
    must_enrol: bool = False  # an admin took the factor away: another one is due
    factor: Factor | None = None

    @property
    def is_factor_locked(self) -> bool:
        """Too many wrong codes: until an admin resets it, no code is right."""
        return self.factor is not None and self.wrong_codes >= MAX_WRONG_CODES

    def failed(self, *, now_us: int, wait_seconds: int, with_passphrase: bool) -> Entrance:
        """After one more wrong try."""
        return replace(
            self,
            failures=self.failures + 1,
            wrong_codes=self.wrong_codes + with_passphrase,
            failed_us=now_us,
            locked_until_us=now_us + wait_seconds * 1_000_000 if wait_seconds else 0,
        )

    def entered(self, factor: Factor | None, *, now_us: int) -> Entrance:
        """After a log-in: nothing is counted any more, and the code that was used is."""
        return replace(
            self,
            failures=0,
            wrong_codes=0,
            failed_us=None,
            locked_until_us=0,
            entered_us=now_us,
            factor=factor,
        )

    def unlocked(self) -> Entrance:
        """After an admin's reset of the passphrase: no more waiting. The wrong codes stay counted."""
        return replace(self, failures=0, failed_us=None, locked_until_us=0)

    def with_factor(self, factor: Factor) -> Entrance:
        """With another second factor, or the same one after a code of it was used."""
        return replace(self, factor=factor, must_enrol=False)

    def without_factor(self, *, must_enrol: bool) -> Entrance:
        """Nothing is left of the second factor."""
        return replace(self, factor=None, wrong_codes=0, must_enrol=must_enrol)


def row_of(known: Entrance) -> Row:
    """The way in as the table holds it, column by column."""
    factor = known.factor
    return {
        "account": known.account,
        "failures": known.failures,
        "wrong_codes": known.wrong_codes,
        "failed_us": known.failed_us,
        "locked_until_us": known.locked_until_us,
        "entered_us": known.entered_us,
        "must_enrol": int(known.must_enrol),
        "algorithm": factor.algorithm if factor else "",
        "sealed": factor.sealed if factor else b"",
        "recovery": factor.recovery if factor else b"",
        "enrolled_us": factor.enrolled_us if factor else None,
        "last_step": factor.last_step if factor else 0,
    }


def load(connection: Connection) -> list[Entrance]:
    """Every account's way in that is on the record."""
    return [
        Entrance(
            account=row.account,
            failures=row.failures,
            wrong_codes=row.wrong_codes,
            failed_us=row.failed_us,
            locked_until_us=row.locked_until_us,
            entered_us=row.entered_us,
            must_enrol=bool(row.must_enrol),
            factor=Factor(
                algorithm=row.algorithm,
                sealed=bytes(row.sealed),
                recovery=bytes(row.recovery),
                enrolled_us=row.enrolled_us,
                last_step=row.last_step,
            )
            if row.algorithm
            else None,
        )
        for row in connection.execute(select(entrance).order_by(entrance.c.account))
    ]
