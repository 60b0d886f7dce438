"""The state of the always-valid tests; the planned look, which they replace, goes."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

BIG_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """A row per metric of an experiment; every test starts anew and reads all units at the next pass."""
    op.create_table(
        "evidence",
        sa.Column("experiment_id", BIG_ID, nullable=False),
        sa.Column("metric", sa.Text(), nullable=False),
        sa.Column("read_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("unit_id", sa.Text(), nullable=False),
        sa.Column("units", sa.BigInteger(), nullable=False),
        sa.Column("missing", sa.BigInteger(), nullable=False),
        sa.Column("processes", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["experiment_id"], ["experiments.id"], name=op.f("fk_evidence_experiment_id")
        ),
        sa.PrimaryKeyConstraint("experiment_id", "metric", name=op.f("pk_evidence")),
    )
    op.drop_column("experiments", "planned_look")


def downgrade() -> None:
    """Looks that were taken are not brought back."""
    op.add_column("experiments", sa.Column("planned_look", sa.JSON(), nullable=True))
    op.drop_table("evidence")
