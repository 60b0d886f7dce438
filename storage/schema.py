"""The tables. What must hold is a constraint here; triggers and views stand in the migrations."""

import sqlalchemy as sa

from storage.columns import id_column, json_column, metadata, reference, text_columns, time_column
from storage.optimizer_schema import llm_calls, optimizer_runs, suggestions
from storage.types import BigId, UtcDateTime

__all__ = [
    "allocations",
    "api_keys",
    "assignments",
    "audit",
    "counts",
    "evidence",
    "experiments",
    "installation",
    "leases",
    "llm_calls",
    "metadata",
    "metrics",
    "optimizer_runs",
    "outcome_revisions",
    "outcomes",
    "prompt_versions",
    "prompts",
    "segments",
    "standings",
    "suggestions",
    "transcripts",
    "variants",
    "verifications",
]

prompts = sa.Table(
    "prompts",
    metadata,
    # Said aloud, because the id is also part of a foreign key below.
    sa.Column("id", BigId, primary_key=True, autoincrement=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("name_folded", sa.Text, nullable=False, unique=True),
    # One column is the only truth about "active": two versions cannot be active at once.
    sa.Column("active_version_id", BigId, nullable=True),
    time_column("created_at"),
    sa.ForeignKeyConstraint(
        ["id", "active_version_id"],
        ["prompt_versions.prompt_id", "prompt_versions.id"],
        name="fk_prompts_active_version",
        use_alter=True,
    ),
)

prompt_versions = sa.Table(
    "prompt_versions",
    metadata,
    id_column(),
    reference("prompt_id", "prompts.id"),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("system_prompt", sa.Text, nullable=False),
    json_column("tools_config"),
    json_column("metadata"),
    sa.Column("content_hash", sa.Text, nullable=False),
    reference("parent_id", "prompt_versions.id", nullable=True),
    sa.Column("suggestion_id", BigId, nullable=True),
    sa.Column("author", sa.Text, nullable=False),
    time_column("created_at"),
    sa.UniqueConstraint("prompt_id", "number"),
    sa.UniqueConstraint("prompt_id", "content_hash"),
    sa.UniqueConstraint("prompt_id", "id"),
)

experiments = sa.Table(
    "experiments",
    metadata,
    id_column(),
    sa.Column("key", sa.Text, nullable=False),
    sa.Column("key_folded", sa.Text, nullable=False, unique=True),
    reference("prompt_id", "prompts.id"),
    sa.Column("status", sa.Text, nullable=False),
    json_column("policy"),
    sa.Column("goal", sa.Text, nullable=False),
    sa.Column("alpha", sa.Double, nullable=False),
    sa.Column("minimum_detectable_effect", sa.Double, nullable=False),
    sa.Column("baseline", sa.Double, nullable=False),
    sa.Column("maturity_s", sa.Double, nullable=False),
    sa.Column("min_days", sa.Double, nullable=False),
    sa.Column("salt", sa.Text, nullable=False),
    time_column("started_at"),
    time_column("stopped_at", nullable=True),
    json_column("final_report", nullable=True),
    json_column("decision", nullable=True),
    sa.CheckConstraint("status IN ('running', 'stopped')", name="status"),
    sa.Index(
        "uq_experiments_running",
        "prompt_id",
        unique=True,
        sqlite_where=sa.text("status = 'running'"),
        postgresql_where=sa.text("status = 'running'"),
    ),
)

variants = sa.Table(
    "variants",
    metadata,
    id_column(),
    reference("experiment_id", "experiments.id"),
    sa.Column("key", sa.Text, nullable=False),
    sa.Column("position", sa.Integer, nullable=False),
    reference("version_id", "prompt_versions.id", nullable=True),
    sa.Column("is_control", sa.Boolean, nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    time_column("created_at"),
    time_column("retired_at", nullable=True),
    sa.CheckConstraint("status IN ('live', 'retired')", name="status"),
    sa.UniqueConstraint("experiment_id", "key"),
    sa.UniqueConstraint("experiment_id", "version_id"),
    sa.UniqueConstraint("experiment_id", "position"),
)

metrics = sa.Table(
    "metrics",
    metadata,
    sa.Column("experiment_id", BigId, sa.ForeignKey("experiments.id"), primary_key=True),
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("position", sa.Integer, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("direction", sa.Text, nullable=False),
    sa.Column("unit", sa.Text, nullable=False),
    sa.Column("role", sa.Text, nullable=False),
    sa.Column("margin", sa.Double, nullable=True),
    sa.CheckConstraint("kind IN ('binary', 'score', 'amount')", name="kind"),
    sa.CheckConstraint("direction IN ('increase', 'decrease')", name="direction"),
    sa.CheckConstraint("role IN ('goal', 'secondary', 'guardrail')", name="role"),
)

allocations = sa.Table(
    "allocations",
    metadata,
    id_column(),
    reference("experiment_id", "experiments.id"),
    sa.Column("number", sa.Integer, nullable=False),
    json_column("split"),
    json_column("probability_best", nullable=True),
    sa.Column("policy", sa.Text, nullable=False),
    json_column("counts"),
    sa.Column("seed", BigId, nullable=True),
    sa.Column("engine_version", sa.Text, nullable=False),
    time_column("created_at"),
    sa.UniqueConstraint("experiment_id", "number"),
)

segments = sa.Table(
    "segments",
    metadata,
    sa.Column("experiment_id", BigId, sa.ForeignKey("experiments.id"), primary_key=True),
    sa.Column("name", sa.Text, primary_key=True),
)

assignments = sa.Table(
    "assignments",
    metadata,
    sa.Column("prompt_id", BigId, sa.ForeignKey("prompts.id"), primary_key=True),
    sa.Column("unit_id", sa.Text, primary_key=True),
    reference("version_id", "prompt_versions.id", nullable=True),
    reference("experiment_id", "experiments.id", nullable=True),
    reference("variant_id", "variants.id", nullable=True),
    reference("allocation_id", "allocations.id", nullable=True),
    sa.Column("probability", sa.Double, nullable=True),
    sa.Column("segment", sa.Text, nullable=True),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("content_hash", sa.Text, nullable=False),
    time_column("assigned_at"),
    sa.CheckConstraint("reason IN ('SPLIT', 'STATIC', 'STALE', 'DEFAULT')", name="reason"),
    sa.CheckConstraint(
        "(experiment_id IS NULL) = (variant_id IS NULL) AND (variant_id IS NULL) = (allocation_id IS NULL)"
        " AND (allocation_id IS NULL) = (probability IS NULL)",
        name="experiment_whole",
    ),
    sa.Index("ix_assignments_experiment_id_assigned_at", "experiment_id", "assigned_at"),
)

outcomes = sa.Table(
    "outcomes",
    metadata,
    sa.Column("prompt_id", BigId, sa.ForeignKey("prompts.id"), primary_key=True),
    sa.Column("unit_id", sa.Text, primary_key=True),
    sa.Column("metric", sa.Text, primary_key=True),
    sa.Column("value", sa.Double, nullable=False),
    time_column("occurred_at"),
    time_column("received_at"),
    sa.Column("revision", sa.Integer, nullable=False),
)

outcome_revisions = sa.Table(
    "outcome_revisions",
    metadata,
    sa.Column("prompt_id", BigId, sa.ForeignKey("prompts.id"), primary_key=True),
    sa.Column("unit_id", sa.Text, primary_key=True),
    sa.Column("metric", sa.Text, primary_key=True),
    sa.Column("revision", sa.Integer, primary_key=True),
    sa.Column("value", sa.Double, nullable=False),
    time_column("occurred_at"),
    time_column("received_at"),
    time_column("replaced_at"),
)

counts = sa.Table(
    "counts",
    metadata,
    sa.Column("experiment_id", BigId, sa.ForeignKey("experiments.id"), primary_key=True),
    sa.Column("allocation_id", BigId, sa.ForeignKey("allocations.id"), primary_key=True),
    sa.Column("variant_id", BigId, sa.ForeignKey("variants.id"), primary_key=True),
    sa.Column("segment", sa.Text, primary_key=True),
    sa.Column("metric", sa.Text, primary_key=True),
    sa.Column("n", sa.BigInteger, nullable=False),
    sa.Column("total", sa.Double, nullable=False),
    sa.Column("total_sq", sa.Double, nullable=False),
    sa.CheckConstraint("n >= 0", name="n"),
)

evidence = sa.Table(
    "evidence",
    metadata,
    sa.Column("experiment_id", BigId, sa.ForeignKey("experiments.id"), primary_key=True),
    sa.Column("metric", sa.Text, primary_key=True),
    time_column("read_until", nullable=True),
    sa.Column("unit_id", sa.Text, nullable=False),
    sa.Column("units", sa.BigInteger, nullable=False),
    sa.Column("missing", sa.BigInteger, nullable=False),
    json_column("processes"),
    time_column("updated_at"),
)

standings = sa.Table(
    "standings",
    metadata,
    # In this order: the newest moment of an experiment, and what is older than some, is one look into the index.
    sa.Column("experiment_id", BigId, sa.ForeignKey("experiments.id"), primary_key=True),
    sa.Column("at", UtcDateTime, primary_key=True),
    sa.Column("variant_id", BigId, sa.ForeignKey("variants.id"), primary_key=True),
    sa.Column("share_bp", sa.Integer, nullable=False),
    sa.Column("assigned", sa.BigInteger, nullable=False),
    sa.Column("matured", sa.BigInteger, nullable=False),
    sa.Column("told", sa.BigInteger, nullable=False),
    sa.Column("probability_best", sa.Double, nullable=True),
    sa.Column("e_value", sa.Double, nullable=True),
    sa.Column("e_needed", sa.Double, nullable=True),
    sa.Column("sample_ratio_e_value", sa.Double, nullable=True),
    sa.Column("sample_ratio_mismatch", sa.Boolean, nullable=False),
    sa.Column("action", sa.Text, nullable=False),
    sa.Column("recommended", sa.Text, nullable=True),
)

verifications = sa.Table(
    "verifications",
    metadata,
    id_column(),
    time_column("at"),
    sa.Column("compared", sa.BigInteger, nullable=False),
    sa.Column("differences", sa.BigInteger, nullable=False),
    json_column("first_difference", nullable=True),
)

api_keys = sa.Table(
    "api_keys",
    metadata,
    id_column(),
    sa.Column("prefix", sa.Text, nullable=False, unique=True),
    sa.Column("secret_hash", sa.Text, nullable=False),
    json_column("scopes"),
    sa.Column("name", sa.Text, nullable=False),
    time_column("created_at"),
    time_column("last_used_at", nullable=True),
    time_column("revoked_at", nullable=True),
)

audit = sa.Table(
    "audit",
    metadata,
    id_column(),
    time_column("at"),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("action", sa.Text, nullable=False),
    sa.Column("record_type", sa.Text, nullable=False),
    sa.Column("record_id", sa.Text, nullable=False),
    json_column("before", nullable=True),
    json_column("after", nullable=True),
    # Of the entry before, and of this one with it; the chain cannot fork.
    sa.Column("previous_hash", sa.Text, nullable=False),
    sa.Column("hash", sa.Text, nullable=False),
    sa.Index("uq_audit_previous_hash", "previous_hash", unique=True),
)

transcripts = sa.Table(
    "transcripts",
    metadata,
    sa.Column("prompt_id", BigId, sa.ForeignKey("prompts.id"), primary_key=True),
    sa.Column("unit_id", sa.Text, primary_key=True),
    json_column("turns"),
    json_column("redactions"),
    # A keyed hash of who called, by a secret of `installation`; null where nobody told it.
    *text_columns("caller", nullable=True),
    time_column("stored_at"),
)

installation = sa.Table(
    "installation",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)

leases = sa.Table(
    "leases",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("holder", sa.Text, nullable=False),
    time_column("until"),
)
