"""What a key may do beyond its role.

Why: storing responses is denied unless a key says otherwise. A column of `api_key` would change rows that
records of earlier releases commit to; a row of its own changes none.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "key_grant",
        sa.Column("key_id", sa.String(10), primary_key=True),
        sa.Column("may", sa.String(64), nullable=False),
        sa.Column("granted_us", sa.BigInteger, nullable=False),
    )


def downgrade() -> None:
    op.drop_table("key_grant")
