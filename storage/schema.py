"""The tables. What must hold is a constraint here; triggers and views stand in the migrations."""

import sqlalchemy as sa

from storage.types import BigId, UtcDateTime

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _id() -> sa.Column[int]:
    return sa.Column("id", BigId, primary_key=True)


def _time(name: str, *, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, UtcDateTime, nullable=nullable)


def _ref(name: str, target: str, *, nullable: bool = False, index: bool = False) -> sa.Column[int]:
    return sa.Column(name, BigId, sa.ForeignKey(target), nullable=nullable, index=index)


def _json(name: str, *, nullable: bool = False) -> sa.Column[object]:
    # JSON, not JSONB: the text that was hashed comes back as it was written.
    return sa.Column(name, sa.JSON(none_as_null=True), nullable=nullable)


def _texts(*names: str, nullable: bool = False) -> list[sa.Column[str]]:
    return [sa.Column(name, sa.Text, nullable=nullable) for name in names]


prompts = sa.Table(
    "prompts",
    metadata,
    # Said aloud, because the id is also part of a foreign key below.
    sa.Column("id", BigId, primary_key=True, autoincrement=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("name_folded", sa.Text, nullable=False, unique=True),
    # One column is the only truth about "active": two versions cannot be active at once.
    sa.Column("active_version_id", BigId, nullable=True),
    _time("created_at"),
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
    _id(),
    _ref("prompt_id", "prompts.id"),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("system_prompt", sa.Text, nullable=False),
    _json("tools_config"),
    _json("metadata"),
    sa.Column("content_hash", sa.Text, nullable=False),
    _ref("parent_id", "prompt_versions.id", nullable=True),
    sa.Column("suggestion_id", BigId, nullable=True),
    sa.Column("author", sa.Text, nullable=False),
    _time("created_at"),
    sa.UniqueConstraint("prompt_id", "number"),
    sa.UniqueConstraint("prompt_id", "content_hash"),
    sa.UniqueConstraint("prompt_id", "id"),
)

experiments = sa.Table(
    "experiments",
    metadata,
    _id(),
    sa.Column("key", sa.Text, nullable=False),
    sa.Column("key_folded", sa.Text, nullable=False, unique=True),
    _ref("prompt_id", "prompts.id"),
    sa.Column("status", sa.Text, nullable=False),
    _json("policy"),
    sa.Column("goal", sa.Text, nullable=False),
    sa.Column("alpha", sa.Double, nullable=False),
    sa.Column("minimum_detectable_effect", sa.Double, nullable=False),
    sa.Column("baseline", sa.Double, nullable=False),
    sa.Column("maturity_s", sa.Double, nullable=False),
    sa.Column("min_days", sa.Double, nullable=False),
    sa.Column("salt", sa.Text, nullable=False),
    _time("started_at"),
    _time("stopped_at", nullable=True),
    _json("final_report", nullable=True),
    _json("decision", nullable=True),
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
    _id(),
    _ref("experiment_id", "experiments.id"),
    sa.Column("key", sa.Text, nullable=False),
    sa.Column("position", sa.Integer, nullable=False),
    _ref("version_id", "prompt_versions.id", nullable=True),
    sa.Column("is_control", sa.Boolean, nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    _time("created_at"),
    _time("retired_at", nullable=True),
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
    _id(),
    _ref("experiment_id", "experiments.id"),
    sa.Column("number", sa.Integer, nullable=False),
    _json("split"),
    _json("probability_best", nullable=True),
    sa.Column("policy", sa.Text, nullable=False),
    _json("counts"),
    sa.Column("seed", BigId, nullable=True),
    sa.Column("engine_version", sa.Text, nullable=False),
    _time("created_at"),
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
    _ref("version_id", "prompt_versions.id", nullable=True),
    _ref("experiment_id", "experiments.id", nullable=True),
    _ref("variant_id", "variants.id", nullable=True),
    _ref("allocation_id", "allocations.id", nullable=True),
    sa.Column("probability", sa.Double, nullable=True),
    sa.Column("segment", sa.Text, nullable=True),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("content_hash", sa.Text, nullable=False),
    _time("assigned_at"),
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
    _time("occurred_at"),
    _time("received_at"),
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
    _time("occurred_at"),
    _time("received_at"),
    _time("replaced_at"),
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
    _time("read_until", nullable=True),
    sa.Column("unit_id", sa.Text, nullable=False),
    sa.Column("units", sa.BigInteger, nullable=False),
    sa.Column("missing", sa.BigInteger, nullable=False),
    _json("processes"),
    _time("updated_at"),
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
    _id(),
    _time("at"),
    sa.Column("compared", sa.BigInteger, nullable=False),
    sa.Column("differences", sa.BigInteger, nullable=False),
    _json("first_difference", nullable=True),
)

api_keys = sa.Table(
    "api_keys",
    metadata,
    _id(),
    sa.Column("prefix", sa.Text, nullable=False, unique=True),
    sa.Column("secret_hash", sa.Text, nullable=False),
    _json("scopes"),
    sa.Column("name", sa.Text, nullable=False),
    _time("created_at"),
    _time("last_used_at", nullable=True),
    _time("revoked_at", nullable=True),
)

audit = sa.Table(
    "audit",
    metadata,
    _id(),
    _time("at"),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("action", sa.Text, nullable=False),
    sa.Column("record_type", sa.Text, nullable=False),
    sa.Column("record_id", sa.Text, nullable=False),
    _json("before", nullable=True),
    _json("after", nullable=True),
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
    _json("turns"),
    _json("redactions"),
    _time("stored_at"),
)

leases = sa.Table(
    "leases",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("holder", sa.Text, nullable=False),
    _time("until"),
)

optimizer_runs = sa.Table(
    "optimizer_runs",
    metadata,
    _id(),
    _ref("prompt_id", "prompts.id"),
    _time("window_start"),
    _time("window_end"),
    *_texts("config_hash", "status"),
    # `resume_from`: where a failed run goes on when what it failed for is mended; null where it does not.
    # `seed`: secret until the run is over, because delimiters are drawn from it.
    *_texts("resume_from", "reason", "seed", "batch_id", nullable=True),
    _json("plan", nullable=True),
    _json("sample", nullable=True),
    _json("results", nullable=True),
    sa.Column("cost_usd", sa.Double, nullable=False),
    _time("started_at"),
    _time("finished_at", nullable=True),
    sa.UniqueConstraint("prompt_id", "window_end", "config_hash"),
)

llm_calls = sa.Table(
    "llm_calls",
    metadata,
    _id(),
    _ref("run_id", "optimizer_runs.id"),
    # `response` is the body as it came: a proxy's page is no JSON.
    *_texts("stage", "request_hash", "model", "status", "response", "detail"),
    *_texts("request_id", "stop_reason", "batch_id", nullable=True),
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
    _time("at"),
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
    _id(),
    _ref("prompt_id", "prompts.id"),
    _ref("run_id", "optimizer_runs.id", nullable=True),
    _ref("parent_version_id", "prompt_versions.id"),
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
    _json("patterns"),
    _json("evidence"),
    _json("gate"),
    sa.Column("objection", sa.Text, nullable=True),
    _time("created_at"),
    _time("decided_at", nullable=True),
    sa.Column("decided_by", sa.Text, nullable=True),
    sa.Column("reason", sa.Text, nullable=True),
    sa.CheckConstraint("status IN ('pending', 'approved', 'rejected', 'stale')", name="status"),
    sa.Index("ix_suggestions_prompt_id_status", "prompt_id", "status"),
)
