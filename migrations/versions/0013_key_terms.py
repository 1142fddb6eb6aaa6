"""What a key may ask, from where, how often, and what is kept of it.

Why: one key for one purpose. A column of `api_key` would change rows that records of earlier releases
commit to; a row of its own changes none, and a key without one is as it was.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "key_terms",
        sa.Column("key_id", sa.String(10), primary_key=True),
        sa.Column("terms", sa.Text, nullable=False),
        sa.Column("changed_us", sa.BigInteger, nullable=False),
    )


def downgrade() -> None:
    op.drop_table("key_terms")
