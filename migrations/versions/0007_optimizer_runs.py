"""What a run of the optimizer keeps to go on after it was killed, and all of what a request cost."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

BIG_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
RUN_COLUMNS = ("resume_from", "reason", "seed")
RUN_JSON = ("plan", "results")


def upgrade() -> None:
    """Nothing has written either table before; `llm_calls` is made anew, because SQLite alters little."""
    for name in RUN_COLUMNS:
        op.add_column("optimizer_runs", sa.Column(name, sa.Text(), nullable=True))
    for name in RUN_JSON:
        op.add_column("optimizer_runs", sa.Column(name, sa.JSON(none_as_null=True), nullable=True))
    op.drop_column("optimizer_runs", "lease_expires_at")  # the table `leases` has them
    op.drop_column("optimizer_runs", "lease_owner")
    op.drop_table("llm_calls")
    op.create_table(
        "llm_calls",
        sa.Column("id", BIG_ID, nullable=False),
        sa.Column("run_id", BIG_ID, nullable=False),
        sa.Column("stage", sa.Text(), nullable=False),
        sa.Column("request_hash", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("http_status", sa.Integer(), nullable=True),
        sa.Column("request_id", sa.Text(), nullable=True),
        sa.Column("stop_reason", sa.Text(), nullable=True),
        sa.Column("response", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("input_tokens", sa.BigInteger(), nullable=False),
        sa.Column("output_tokens", sa.BigInteger(), nullable=False),
        sa.Column("cache_read_tokens", sa.BigInteger(), nullable=False),
        sa.Column("cache_written_tokens", sa.BigInteger(), nullable=False),
        sa.Column("cost_usd", sa.Double(), nullable=True),
        sa.Column("held_usd", sa.Double(), nullable=False),
        sa.Column("held_tokens", sa.BigInteger(), nullable=False),
        sa.Column("latency_ms", sa.BigInteger(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("batch_id", sa.Text(), nullable=True),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["optimizer_runs.id"], name=op.f("fk_llm_calls_run_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_llm_calls")),
    )
    received = sa.text("status = 'received'")
    op.create_index(
        "uq_llm_calls_received",
        "llm_calls",
        ["run_id", "request_hash"],
        unique=True,
        sqlite_where=received,
        postgresql_where=received,
    )


def downgrade() -> None:
    """What was asked and answered is lost, and so is where runs had come to."""
    op.drop_table("llm_calls")
    op.create_table(
        "llm_calls",
        sa.Column("id", BIG_ID, nullable=False),
        sa.Column("run_id", BIG_ID, nullable=False),
        sa.Column("stage", sa.Text(), nullable=False),
        sa.Column("request_hash", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("response", sa.JSON(), nullable=True),
        sa.Column("input_tokens", sa.BigInteger(), nullable=False),
        sa.Column("output_tokens", sa.BigInteger(), nullable=False),
        sa.Column("cost_usd", sa.Double(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["optimizer_runs.id"], name=op.f("fk_llm_calls_run_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_llm_calls")),
        sa.UniqueConstraint("run_id", "request_hash", name=op.f("uq_llm_calls_run_id_request_hash")),
    )
    for name in (*RUN_JSON, *RUN_COLUMNS):
        op.drop_column("optimizer_runs", name)
    op.add_column("optimizer_runs", sa.Column("lease_owner", sa.Text(), nullable=True))
    op.add_column("optimizer_runs", sa.Column("lease_expires_at", sa.DateTime(timezone=True), nullable=True))
