"""How experiments stood, moment by moment, and when the counts were verified."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

BIG_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Both begin empty; the next pass over an experiment writes its first row."""
    op.create_table(
        "standings",
        sa.Column("experiment_id", BIG_ID, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("variant_id", BIG_ID, nullable=False),
        sa.Column("share_bp", sa.Integer(), nullable=False),
        sa.Column("assigned", sa.BigInteger(), nullable=False),
        sa.Column("matured", sa.BigInteger(), nullable=False),
        sa.Column("told", sa.BigInteger(), nullable=False),
        sa.Column("probability_best", sa.Double(), nullable=True),
        sa.Column("e_value", sa.Double(), nullable=True),
        sa.Column("e_needed", sa.Double(), nullable=True),
        sa.Column("sample_ratio_e_value", sa.Double(), nullable=True),
        sa.Column("sample_ratio_mismatch", sa.Boolean(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("recommended", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["experiment_id"], ["experiments.id"], name=op.f("fk_standings_experiment_id")
        ),
        sa.ForeignKeyConstraint(["variant_id"], ["variants.id"], name=op.f("fk_standings_variant_id")),
        sa.PrimaryKeyConstraint("experiment_id", "at", "variant_id", name=op.f("pk_standings")),
    )
    op.create_table(
        "verifications",
        sa.Column("id", BIG_ID, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("compared", sa.BigInteger(), nullable=False),
        sa.Column("differences", sa.BigInteger(), nullable=False),
        sa.Column("first_difference", sa.JSON(none_as_null=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_verifications")),
    )


def downgrade() -> None:
    """What was noted is lost; counts, evidence and reports do not need it."""
    op.drop_table("verifications")
    op.drop_table("standings")
