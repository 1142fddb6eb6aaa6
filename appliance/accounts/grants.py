"""What a key may do beyond its role: rows of their own, so that a key's row stays as its record left it.

A key without a row here has no more than its role: deny by default. A grant ends with its key.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Column, Connection, String, Table, select

from appliance.db import Row, metadata

TABLE: Final = "key_grant"
STORE_RESPONSES: Final = "store_responses"

key_grant = Table(
    TABLE,
    metadata,
    Column("key_id", String(10), primary_key=True),
    Column("may", String(64), nullable=False),  # STORE_RESPONSES: there is no other
    Column("granted_us", BigInteger, nullable=False),
)


def row_of(key_id: str, *, now_us: int) -> Row:
    """The grant as the table holds it, column by column."""
    return {"key_id": key_id, "may": STORE_RESPONSES, "granted_us": now_us}


def storing(connection: Connection) -> frozenset[str]:
    """Ids of the keys that may store responses."""
    found = connection.execute(select(key_grant.c.key_id).where(key_grant.c.may == STORE_RESPONSES))
    return frozenset(found.scalars())
