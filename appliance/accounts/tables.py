"""The table of API keys and its rows. Rows never leave this package; `ApiKey` does."""

from __future__ import annotations

import dataclasses

from sqlalchemy import BigInteger, Column, Connection, LargeBinary, String, Table, select

from appliance.accounts import grants, terms_rows
from appliance.accounts.keys import ApiKey
from appliance.core import Role
from appliance.db import Row, metadata
from appliance.terms import Terms

TABLE = "api_key"  # a plain string: SQLAlchemy's own names are a subclass that goes into no header

api_key = Table(
    TABLE,
    metadata,
    Column("id", String(10), primary_key=True),
    Column("name", String(64), nullable=False),
    Column("role", String(16), nullable=False),
    Column("secret_sha256", LargeBinary(32), nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("expires_us", BigInteger, nullable=True),
    Column("revoked_us", BigInteger, nullable=True),
)


def row_of(key: ApiKey) -> Row:
    """The key as the table holds it, column by column."""
    return {
        "id": key.id,
        "name": key.name,
        "role": str(key.role),
        "secret_sha256": key.secret_sha256,
        "created_us": key.created_us,
        "expires_us": key.expires_us,
        "revoked_us": key.revoked_us,
    }


def revoked(key: ApiKey, *, now_us: int) -> ApiKey:
    """The same key, no longer in force."""
    return dataclasses.replace(key, revoked_us=now_us)


def ending(key: ApiKey, *, at_us: int) -> ApiKey:
    """The same key, at its end at `at_us` at the latest."""
    return dataclasses.replace(
        key, expires_us=at_us if key.expires_us is None else min(key.expires_us, at_us)
    )


def load(connection: Connection) -> list[ApiKey]:
    """Every key with what it was granted and its terms, oldest first."""
    storing = grants.storing(connection)
    terms = terms_rows.load(connection)
    rows = connection.execute(select(api_key).order_by(api_key.c.created_us, api_key.c.id))
    return [
        ApiKey(
            id=row.id,
            name=row.name,
            role=Role(row.role),
            secret_sha256=row.secret_sha256,
            created_us=row.created_us,
            expires_us=row.expires_us,
            revoked_us=row.revoked_us,
            stores_responses=row.id in storing,
            terms=terms.get(row.id, Terms()),
        )
        for row in rows
    ]
