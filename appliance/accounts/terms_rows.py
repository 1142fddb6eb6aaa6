"""The table of keys' terms: one row for a key that has any, which its last record commits to."""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Column, Connection, String, Table, Text, select

from appliance.accounts import terms_form
from appliance.db import Row, metadata
from appliance.terms import Terms

TABLE: Final = "key_terms"

key_terms = Table(
    TABLE,
    metadata,
    Column("key_id", String(10), primary_key=True),
    Column("terms", Text, nullable=False),
    Column("changed_us", BigInteger, nullable=False),
)


def row_of(key_id: str, terms: Terms, *, now_us: int) -> Row:
    """The terms as the table holds them, column by column."""
    return {"key_id": key_id, "terms": terms_form.dumps(terms), "changed_us": now_us}


def load(connection: Connection) -> dict[str, Terms]:
    """Terms by their key's id. VerificationError names the key whose terms are none."""
    rows = connection.execute(select(key_terms.c.key_id, key_terms.c.terms))
    return {row.key_id: terms_form.loads(row.terms, key_id=row.key_id) for row in rows}
