"""Auditors' identities that this appliance keeps, each sealed under its owner's passphrase.

Why: not every site has a second machine to read on; a session of the console opens one while it lasts.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "hosted_identity",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("recipient", sa.String(2500), nullable=False),
        sa.Column("kdf", sa.String(64), nullable=False),
        sa.Column("salt", sa.LargeBinary, nullable=False),
        sa.Column("sealed", sa.LargeBinary, nullable=False),
        sa.Column("stored_us", sa.BigInteger, nullable=False),
        sa.Column("failures", sa.Integer, nullable=False),
        sa.Column("locked_until_us", sa.BigInteger, nullable=False),
        sa.Column("removed_us", sa.BigInteger, nullable=True),
    )


def downgrade() -> None:
    op.drop_table("hosted_identity")
