"""The table of hosted identities: auditors' seeds, each only as its owner's passphrase left it.

A row is an account's. A removed one stays, without salt and secret: every row is held against its record.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Final

from sqlalchemy import BigInteger, Column, Connection, Integer, LargeBinary, String, Table, select

from appliance.accounts.lockout import Waiting
from appliance.accounts.vault import Vault
from appliance.db import Row, metadata

TABLE: Final = "hosted_identity"
WAITING: Final = Waiting(free=5, first_seconds=60, most_seconds=86_400)

hosted_identity = Table(
    TABLE,
    metadata,
    Column("id", String(64), primary_key=True),  # of the account
    Column("recipient", String(2500), nullable=False),  # the public file's line
    Column("kdf", String(64), nullable=False),
    Column("salt", LargeBinary, nullable=False),
    Column("sealed", LargeBinary, nullable=False),
    Column("stored_us", BigInteger, nullable=False),
    Column("failures", Integer, nullable=False),
    Column("locked_until_us", BigInteger, nullable=False),
    Column("removed_us", BigInteger, nullable=True),
)


@dataclass(frozen=True, slots=True)
class HostedIdentity:
    """One account's identity, sealed. Times in microseconds since the epoch."""

    account: str
    recipient: str  # a recipient file's text
    vault: Vault
    stored_us: int
    failures: int = 0  # wrong passphrases since the last right one
    locked_until_us: int = 0
    removed_us: int | None = None

    def row(self) -> Row:
        """As the table holds it, column by column."""
        return {
            "id": self.account,
            "recipient": self.recipient,
            "kdf": self.vault.kdf,
            "salt": self.vault.salt,
            "sealed": self.vault.sealed,
            "stored_us": self.stored_us,
            "failures": self.failures,
            "locked_until_us": self.locked_until_us,
            "removed_us": self.removed_us,
        }

    def removed(self, now_us: int) -> HostedIdentity:
        """Nothing is left that a passphrase opens."""
        empty = dataclasses.replace(self.vault, salt=b"", sealed=b"")
        return dataclasses.replace(self, vault=empty, removed_us=now_us, failures=0, locked_until_us=0)

    def failed(self, now_us: int) -> HostedIdentity:
        """After one more wrong passphrase: from the fifth on it waits, each time twice as long."""
        failures = self.failures + 1
        wait = WAITING.seconds(failures)
        until_us = now_us + wait * 1_000_000 if wait else 0
        return dataclasses.replace(self, failures=failures, locked_until_us=until_us)

    def unlocked(self) -> HostedIdentity:
        """After a right passphrase: nothing is counted any more."""
        return dataclasses.replace(self, failures=0, locked_until_us=0)


def find(connection: Connection, account: str) -> HostedIdentity | None:
    """An account's identity, None where it has none or had its removed."""
    row = connection.execute(select(hosted_identity).where(hosted_identity.c.id == account)).one_or_none()
    if row is None or row.removed_us is not None:
        return None
    return HostedIdentity(
        account=row.id,
        recipient=row.recipient,
        vault=Vault(row.kdf, bytes(row.salt), bytes(row.sealed)),
        stored_us=row.stored_us,
        failures=row.failures,
        locked_until_us=row.locked_until_us,
    )
