"""Witnesses of this log, and what they said about its checkpoints.

Why: a log can not prove by itself that it was never cut back or forked; somebody else must remember.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "witness",
        sa.Column("id", sa.String(200), primary_key=True),
        sa.Column("vkey", sa.String(4096), nullable=False),
        sa.Column("added_us", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "cosignature",
        sa.Column("id", sa.String(220), primary_key=True),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("witness", sa.String(200), nullable=False),
        sa.Column("time_s", sa.BigInteger, nullable=False),
        sa.Column("note", sa.String(4096), nullable=False),
        sa.Column("line", sa.String(8192), nullable=False),
    )


def downgrade() -> None:
    op.drop_table("cosignature")
    op.drop_table("witness")
