"""The table of saved searches: what an account looks for again and again, under a name of its own.

A saved search holds no person, session or address: nobody who reads the database learns whom an auditor
looks for. A removed one stays as a row without its filters: every row is held against its record.
"""

from __future__ import annotations

import dataclasses
import secrets
from dataclasses import dataclass
from typing import Final

from sqlalchemy import BigInteger, Column, Connection, String, Table, select

from appliance.db import Row, metadata

TABLE: Final = "saved_search"
MAX_NAME: Final = 64
MAX_FILTERS: Final = 4000
MAX_OF_ONE_ACCOUNT: Final = 50
_ID_LETTERS: Final = "abcdefghijklmnopqrstuvwxyz234567"

saved_search = Table(
    TABLE,
    metadata,
    Column("id", String(12), primary_key=True),
    Column("account", String(12), nullable=False),
    Column("name", String(MAX_NAME), nullable=False),
    Column("filters", String(MAX_FILTERS), nullable=False),
    Column("saved_us", BigInteger, nullable=False),
    Column("removed_us", BigInteger, nullable=True),
)


@dataclass(frozen=True, slots=True)
class SavedSearch:
    """One account's search. `filters` is JSON, of whoever shows the form. Times in microseconds, UTC."""

    id: str
    account: str
    name: str
    filters: str
    saved_us: int
    removed_us: int | None = None

    def row(self) -> Row:
        """As the table holds it, column by column."""
        return dataclasses.asdict(self)


def new(account: str, name: str, filters: str, *, now_us: int) -> SavedSearch:
    """A search that is to be kept."""
    made = "s_" + "".join(secrets.choice(_ID_LETTERS) for _ in range(10))
    return SavedSearch(made, account, name, filters, now_us)


def removed(known: SavedSearch, *, now_us: int) -> SavedSearch:
    """What is left of it."""
    return dataclasses.replace(known, name="", filters="", removed_us=now_us)


def of_account(connection: Connection, account: str) -> list[SavedSearch]:
    """An account's searches, the newest first."""
    query = (
        select(saved_search)
        .where(saved_search.c.account == account, saved_search.c.removed_us.is_(None))
        .order_by(saved_search.c.saved_us.desc(), saved_search.c.id)
    )
    return [SavedSearch(**row) for row in connection.execute(query).mappings()]
