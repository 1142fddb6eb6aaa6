"""Locked system prompts and sets of rules, version by version.

Why: what a key's callers were told, and which rules held, is evidence. So every version stays, and its record
commits to its row.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "document",
        sa.Column("id", sa.String(80), primary_key=True),
        sa.Column("genre", sa.String(16), nullable=False),
        sa.Column("name", sa.String(48), nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("published_us", sa.BigInteger, nullable=False),
        sa.Column("published_by", sa.String(64), nullable=False),
        sa.Column("withdrawn_us", sa.BigInteger, nullable=True),
    )


def downgrade() -> None:
    op.drop_table("document")
