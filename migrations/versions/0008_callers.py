"""Which calls are one caller's, and which answer of a model is about which call."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Calls that were told before have no caller; answers of before are about nobody knows which call."""
    op.create_table(
        "installation",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_installation")),
    )
    op.add_column("transcripts", sa.Column("caller", sa.Text(), nullable=True))
    op.add_column("llm_calls", sa.Column("unit_id", sa.Text(), nullable=True))


def downgrade() -> None:
    """The key goes with the marks that it made."""
    op.drop_column("llm_calls", "unit_id")
    op.drop_column("transcripts", "caller")
    op.drop_table("installation")
