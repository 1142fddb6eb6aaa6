"""Accounts: people who log in to the console, each with one role. The table, its rows, and who is known.

An account is a person, an API key is a program. What is kept of a passphrase opens nothing and is checked
slowly (`passphrases.py`). Rows never leave this package; `Account` does.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Final

from sqlalchemy import BigInteger, Column, Connection, Integer, String, Table, select

from appliance.core import Principal, Role
from appliance.db import Row, metadata
from appliance.errors import RequestError

TABLE: Final = "account"
_ID_LETTERS: Final = "abcdefghijklmnopqrstuvwxyz234567"

account = Table(
    TABLE,
    metadata,
    Column("id", String(12), primary_key=True),
    Column("name", String(64), nullable=False),
    Column("role", String(16), nullable=False),
    Column("passphrase", String(200), nullable=False),
    Column("must_change", Integer, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("expires_us", BigInteger, nullable=True),
    Column("disabled_us", BigInteger, nullable=True),
)


@dataclass(frozen=True, slots=True)
class Account:
    """One person. Times in microseconds, UTC."""

    id: str
    name: str
    role: Role
    passphrase: str = field(repr=False)  # what is kept of it
    must_change: bool  # it was somebody else who chose the passphrase
    created_us: int
    expires_us: int | None = None
    disabled_us: int | None = None

    @property
    def principal(self) -> Principal:
        """Who acts, for the record."""
        return Principal(key_id=self.id, name=self.name, role=self.role)

    def is_active(self, now_us: int) -> bool:
        """Neither disabled nor expired at `now_us`."""
        return self.disabled_us is None and (self.expires_us is None or now_us < self.expires_us)


def new(name: str, role: Role, kept: str, *, now_us: int, expires_us: int | None = None) -> Account:
    """An account at its birth; whoever made it knows the first passphrase, so it must be changed."""
    return Account(
        id="p_" + "".join(secrets.choice(_ID_LETTERS) for _ in range(10)),
        name=name,
        role=role,
        passphrase=kept,
        must_change=True,
        created_us=now_us,
        expires_us=expires_us,
    )


def with_passphrase(known: Account, kept: str, *, must_change: bool) -> Account:
    """The same person with another passphrase."""
    return replace(known, passphrase=kept, must_change=must_change)


def disabled(known: Account, *, now_us: int) -> Account:
    """The same person, who gets in no more."""
    return replace(known, disabled_us=now_us)


def row_of(known: Account) -> Row:
    """The account as the table holds it, column by column."""
    return {
        "id": known.id,
        "name": known.name,
        "role": str(known.role),
        "passphrase": known.passphrase,
        "must_change": int(known.must_change),
        "created_us": known.created_us,
        "expires_us": known.expires_us,
        "disabled_us": known.disabled_us,
    }


def load(connection: Connection) -> list[Account]:
    """Every account, oldest first."""
    rows = connection.execute(select(account).order_by(account.c.created_us, account.c.id))
    return [
        Account(
            id=row.id,
            name=row.name,
            role=Role(row.role),
            passphrase=row.passphrase,
            must_change=bool(row.must_change),
            created_us=row.created_us,
            expires_us=row.expires_us,
            disabled_us=row.disabled_us,
        )
        for row in rows
    ]


class Register:
    """Accounts by id, in memory, as the database holds them. Owner: the event loop's thread."""

    def __init__(self, known: Iterable[Account] = ()) -> None:
        self._accounts = {each.id: each for each in known}

    def put(self, known: Account) -> None:
        """Take over an account as it now stands in the database."""
        self._accounts[known.id] = known

    def replace(self, known: Iterable[Account]) -> None:
        """Take over every account as the database holds them."""
        self._accounts = {each.id: each for each in known}

    def all(self) -> list[Account]:
        """Every account ever made, oldest first."""
        return sorted(self._accounts.values(), key=lambda each: (each.created_us, each.id))

    def get(self, account_id: str) -> Account | None:
        return self._accounts.get(account_id)

    def active_named(self, name: str, *, now_us: int) -> Account | None:
        """The one account in force under a name."""
        found = [each for each in self._accounts.values() if each.name == name and each.is_active(now_us)]
        return found[0] if found else None

    def find(self, name_or_id: str, *, now_us: int) -> Account:
        """An account in force by id or name. RequestError otherwise."""
        found = self._accounts.get(name_or_id) or self.active_named(name_or_id, now_us=now_us)
        if found is None or not found.is_active(now_us):
            raise RequestError(
                "no account in force has this name or id",
                code="account_not_found",
                hint="appliance account list shows names and ids",
            )
        return found
