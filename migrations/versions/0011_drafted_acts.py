"""Acts that wait for signatures.

Why: who decides about an erasure, a hold or a key policy reads and signs the act at the console; its text,
which names a person, lies sealed.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "drafted_act",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("sealed", sa.LargeBinary, nullable=False),
        sa.Column("num_signatures", sa.Integer, nullable=False),
        sa.Column("drafted_us", sa.BigInteger, nullable=False),
        sa.Column("closed_us", sa.BigInteger, nullable=True),
        sa.Column("outcome", sa.String(16), nullable=False),
        sa.Column("seq", sa.BigInteger, nullable=True),
    )


def downgrade() -> None:
    op.drop_table("drafted_act")
