"""Saved searches of auditors, each a row of its account.

Why: who reviews a record every week looks for the same things every week.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "saved_search",
        sa.Column("id", sa.String(12), primary_key=True),
        sa.Column("account", sa.String(12), nullable=False),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("filters", sa.String(4000), nullable=False),
        sa.Column("saved_us", sa.BigInteger, nullable=False),
        sa.Column("removed_us", sa.BigInteger, nullable=True),
    )


def downgrade() -> None:
    op.drop_table("saved_search")
