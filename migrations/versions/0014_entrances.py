"""What the entrance knows of an account: tries, the last log-in, the second factor.

Why: tries and used codes must outlive a restart, and a second factor must lie somewhere. A column of
`account` would change rows that records of earlier releases commit to; a row of its own changes none.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "entrance",
        sa.Column("account", sa.String(12), primary_key=True),
        sa.Column("failures", sa.Integer, nullable=False),
        sa.Column("wrong_codes", sa.Integer, nullable=False),
        sa.Column("failed_us", sa.BigInteger, nullable=True),
        sa.Column("locked_until_us", sa.BigInteger, nullable=False),
        sa.Column("entered_us", sa.BigInteger, nullable=True),
        sa.Column("must_enrol", sa.Integer, nullable=False),
        sa.Column("algorithm", sa.String(8), nullable=False),
        sa.Column("sealed", sa.LargeBinary, nullable=False),
        sa.Column("recovery", sa.LargeBinary, nullable=False),
        sa.Column("enrolled_us", sa.BigInteger, nullable=True),
        sa.Column("last_step", sa.BigInteger, nullable=False),
    )


def downgrade() -> None:
    op.drop_table("entrance")
