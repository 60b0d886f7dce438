"""The tables of the optimizer; `storage.schema` has them with all others."""

import sqlalchemy as sa

from storage.columns import id_column, json_column, metadata, reference, text_columns, time_column
from storage.types import BigId

optimizer_runs = sa.Table(
    "optimizer_runs",
    metadata,
    id_column(),
    reference("prompt_id", "prompts.id"),
    time_column("window_start"),
    time_column("window_end"),
    *text_columns("config_hash", "status"),
    # `resume_from`: where a failed run goes on when what it failed for is mended; null where it does not.
    # `seed`: secret until the run is over, because delimiters are drawn from it.
    *text_columns("resume_from", "reason", "seed", "batch_id", nullable=True),
    json_column("plan", nullable=True),
    json_column("sample", nullable=True),
    json_column("results", nullable=True),
    sa.Column("cost_usd", sa.Double, nullable=False),
    time_column("started_at"),
    time_column("finished_at", nullable=True),
    sa.UniqueConstraint("prompt_id", "window_end", "config_hash"),
)

llm_calls = sa.Table(
    "llm_calls",
    metadata,
    id_column(),
    reference("run_id", "optimizer_runs.id"),
    # `response` is the body as it came: a proxy's page is no JSON.
    *text_columns("stage", "request_hash", "model", "status", "response", "detail"),
    # `unit_id`: the call that was asked about; null where it was several.
    *text_columns("request_id", "stop_reason", "batch_id", "unit_id", nullable=True),
    sa.Column("http_status", sa.Integer, nullable=True),
    sa.Column("input_tokens", sa.BigInteger, nullable=False),
    sa.Column("output_tokens", sa.BigInteger, nullable=False),
    sa.Column("cache_read_tokens", sa.BigInteger, nullable=False),
    sa.Column("cache_written_tokens", sa.BigInteger, nullable=False),
    # Null where nobody knows whether it is billed; then what was set aside for it counts as spent.
    sa.Column("cost_usd", sa.Double, nullable=True),
    sa.Column("held_usd", sa.Double, nullable=False),
    sa.Column("held_tokens", sa.BigInteger, nullable=False),
    sa.Column("latency_ms", sa.BigInteger, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    time_column("at"),
    # Several failures of one request, one answer.
    sa.Index(
        "uq_llm_calls_received",
        "run_id",
        "request_hash",
        unique=True,
        sqlite_where=sa.text("status = 'received'"),
        postgresql_where=sa.text("status = 'received'"),
    ),
)

suggestions = sa.Table(
    "suggestions",
    metadata,
    id_column(),
    reference("prompt_id", "prompts.id"),
    reference("run_id", "optimizer_runs.id", nullable=True),
    reference("parent_version_id", "prompt_versions.id"),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("origin", sa.Text, nullable=False),
    sa.Column("system_prompt", sa.Text, nullable=False),
    sa.Column("text_hash", sa.Text, nullable=False),
    # Defaults: of rows that were there before the columns.
    sa.Column("title", sa.Text, nullable=False, server_default=""),
    sa.Column("edits", sa.JSON(none_as_null=True), nullable=False, server_default="[]"),
    sa.Column("diff", sa.Text, nullable=False, server_default=""),
    sa.Column("expected_effect", sa.Text, nullable=False, server_default=""),
    sa.Column("risk", sa.Text, nullable=False, server_default=""),
    sa.Column("growth", sa.Integer, nullable=False, server_default="0"),
    sa.Column("changed_share", sa.Double, nullable=False, server_default="0"),
    sa.Column("fingerprint", sa.Text, nullable=False, server_default=""),
    sa.Column("cost_usd", sa.Double, nullable=True),
    sa.Column("proposed_by", sa.Text, nullable=False, server_default=""),
    sa.Column("version_id", BigId, nullable=True),
    json_column("patterns"),
    json_column("evidence"),
    json_column("gate"),
    sa.Column("objection", sa.Text, nullable=True),
    time_column("created_at"),
    time_column("decided_at", nullable=True),
    sa.Column("decided_by", sa.Text, nullable=True),
    sa.Column("reason", sa.Text, nullable=True),
    sa.CheckConstraint("status IN ('pending', 'approved', 'rejected', 'stale')", name="status"),
    sa.Index("ix_suggestions_prompt_id_status", "prompt_id", "status"),
)
