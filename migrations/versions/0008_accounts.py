"""Accounts of people who log in to the console.

Why: an API key is a program's; a person has one role, a passphrase, and a name that stands for their acts.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "account",
        sa.Column("id", sa.String(12), primary_key=True),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("passphrase", sa.String(200), nullable=False),
        sa.Column("must_change", sa.Integer, nullable=False),
        sa.Column("created_us", sa.BigInteger, nullable=False),
        sa.Column("expires_us", sa.BigInteger, nullable=True),
        sa.Column("disabled_us", sa.BigInteger, nullable=True),
    )


def downgrade() -> None:
    op.drop_table("account")
