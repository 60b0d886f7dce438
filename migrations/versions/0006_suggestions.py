"""What a suggestion carries for the person who decides about it."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

BIG_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
INDEX = "ix_suggestions_prompt_id_status"


def _columns() -> list[sa.Column[object]]:
    return [
        sa.Column("title", sa.Text(), nullable=False, server_default=""),
        sa.Column("edits", sa.JSON(none_as_null=True), nullable=False, server_default="[]"),
        sa.Column("diff", sa.Text(), nullable=False, server_default=""),
        sa.Column("expected_effect", sa.Text(), nullable=False, server_default=""),
        sa.Column("risk", sa.Text(), nullable=False, server_default=""),
        sa.Column("growth", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("changed_share", sa.Double(), nullable=False, server_default="0"),
        sa.Column("fingerprint", sa.Text(), nullable=False, server_default=""),
        sa.Column("cost_usd", sa.Double(), nullable=True),
        sa.Column("proposed_by", sa.Text(), nullable=False, server_default=""),
        sa.Column("version_id", BIG_ID, nullable=True),
    ]


def upgrade() -> None:
    """Nothing wrote suggestions before; the defaults are for rows that somebody put there by hand."""
    for column in _columns():
        op.add_column("suggestions", column)
    op.create_index(INDEX, "suggestions", ["prompt_id", "status"])


def downgrade() -> None:
    """Suggestions stay, without these columns; versions made of them stay whole."""
    op.drop_index(INDEX, "suggestions")
    for column in reversed(_columns()):
        op.drop_column("suggestions", column.name)
