"""The first schema: prompts, experiments, assignments, outcomes, counts, keys, audit, optimizer."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

BIG_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TABLES = (
    "prompts",
    "prompt_versions",
    "experiments",
    "variants",
    "metrics",
    "allocations",
    "segments",
    "assignments",
    "outcomes",
    "outcome_revisions",
    "counts",
    "api_keys",
    "audit",
    "transcripts",
    "optimizer_runs",
    "llm_calls",
    "suggestions",
)
IMMUTABLE = ("prompt_versions", "allocations", "assignments", "outcome_revisions", "audit")

CALLS_VIEW = """
CREATE VIEW calls AS
SELECT a.unit_id, p.name AS prompt, v.number AS prompt_version, e.key AS experiment, r.key AS variant,
       a.probability, a.segment, a.assigned_at AS started_at,
       resolved.value AS resolved, quality.value AS quality, duration.value AS duration_s
FROM assignments a
JOIN prompts p ON p.id = a.prompt_id
LEFT JOIN prompt_versions v ON v.id = a.version_id
LEFT JOIN experiments e ON e.id = a.experiment_id
LEFT JOIN variants r ON r.id = a.variant_id
LEFT JOIN outcomes resolved
  ON resolved.prompt_id = a.prompt_id AND resolved.unit_id = a.unit_id AND resolved.metric = 'resolved'
LEFT JOIN outcomes quality
  ON quality.prompt_id = a.prompt_id AND quality.unit_id = a.unit_id AND quality.metric = 'quality'
LEFT JOIN outcomes duration
  ON duration.prompt_id = a.prompt_id AND duration.unit_id = a.unit_id AND duration.metric = 'duration_s'
"""

AB_TESTS_VIEW = """
CREATE VIEW prompt_ab_tests AS
SELECT e.key AS test_name, a.version_id AS variant_a_id, b.version_id AS variant_b_id,
       COALESCE(ca.calls, 0) AS calls_a, COALESCE(cb.calls, 0) AS calls_b,
       ca.quality AS quality_a, cb.quality AS quality_b, e.status, e.started_at
FROM experiments e
JOIN variants a ON a.experiment_id = e.id AND a.is_control
JOIN variants b ON b.experiment_id = e.id AND NOT b.is_control
LEFT JOIN (
  SELECT variant_id, SUM(CASE WHEN metric = 'assigned' THEN n ELSE 0 END) AS calls,
         SUM(CASE WHEN metric = 'quality' THEN total ELSE 0.0 END)
           / NULLIF(SUM(CASE WHEN metric = 'quality' THEN n ELSE 0 END), 0) AS quality
  FROM counts GROUP BY variant_id
) ca ON ca.variant_id = a.id
LEFT JOIN (
  SELECT variant_id, SUM(CASE WHEN metric = 'assigned' THEN n ELSE 0 END) AS calls,
         SUM(CASE WHEN metric = 'quality' THEN total ELSE 0.0 END)
           / NULLIF(SUM(CASE WHEN metric = 'quality' THEN n ELSE 0 END), 0) AS quality
  FROM counts GROUP BY variant_id
) cb ON cb.variant_id = b.id
WHERE (SELECT COUNT(*) FROM variants v WHERE v.experiment_id = e.id) = 2
"""


def upgrade() -> None:
    _create_tables()
    if op.get_bind().dialect.name == "postgresql":
        # SQLite declares it inside CREATE TABLE; here both tables must exist first.
        op.create_foreign_key(
            "fk_prompts_active_version",
            "prompts",
            "prompt_versions",
            ["id", "active_version_id"],
            ["prompt_id", "id"],
        )
    for table in IMMUTABLE:
        _make_immutable(table)
    op.execute(CALLS_VIEW)
    op.execute(AB_TESTS_VIEW)


def downgrade() -> None:
    op.execute("DROP VIEW prompt_ab_tests")
    op.execute("DROP VIEW calls")
    if op.get_bind().dialect.name == "postgresql":
        op.drop_constraint("fk_prompts_active_version", "prompts", type_="foreignkey")
    else:
        # SQLite deletes the rows of a table that it drops, and a prompt still refers to its active version.
        op.execute("UPDATE prompts SET active_version_id = NULL")
    for table in reversed(TABLES):
        op.drop_table(table)
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION refuse_change()")


def _make_immutable(table: str) -> None:
    if op.get_bind().dialect.name == "sqlite":
        for act in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER {table}_no_{act.lower()} BEFORE {act} ON {table} "
                f"BEGIN SELECT RAISE(ABORT, '{table} rows never change'); END"
            )
        return
    op.execute(
        """
        CREATE OR REPLACE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
          RAISE EXCEPTION '% rows never change', TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
        END $$
        """
    )
    op.execute(
        f"CREATE TRIGGER {table}_no_change BEFORE UPDATE OR DELETE ON {table} "
        "FOR EACH ROW EXECUTE FUNCTION refuse_change()"
    )
    op.execute(
        f"CREATE TRIGGER {table}_no_truncate BEFORE TRUNCATE ON {table} "
        "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
    )


def _create_tables() -> None:
    op.create_table(
        "prompts",
        sa.Column("id", BIG_ID, nullable=False, autoincrement=True),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("name_folded", sa.Text(), nullable=False),
        sa.Column("active_version_id", BIG_ID, nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["id", "active_version_id"],
            ["prompt_versions.prompt_id", "prompt_versions.id"],
            name="fk_prompts_active_version",
            use_alter=True,
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_prompts")),
        sa.UniqueConstraint("name_folded", name=op.f("uq_prompts_name_folded")),
    )
    op.create_table(
        "prompt_versions",
        sa.Column("id", BIG_ID, nullable=False),
        sa.Column("prompt_id", BIG_ID, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("system_prompt", sa.Text(), nullable=False),
        sa.Column("tools_config", sa.JSON(), nullable=False),
        sa.Column("metadata", sa.JSON(), nullable=False),
        sa.Column("content_hash", sa.Text(), nullable=False),
        sa.Column("parent_id", BIG_ID, nullable=True),
        sa.Column("suggestion_id", BIG_ID, nullable=True),
        sa.Column("author", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["parent_id"], ["prompt_versions.id"], name=op.f("fk_prompt_versions_parent_id")
        ),
        sa.ForeignKeyConstraint(["prompt_id"], ["prompts.id"], name=op.f("fk_prompt_versions_prompt_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_prompt_versions")),
        sa.UniqueConstraint(
            "prompt_id", "content_hash", name=op.f("uq_prompt_versions_prompt_id_content_hash")
        ),
        sa.UniqueConstraint("prompt_id", "id", name=op.f("uq_prompt_versions_prompt_id_id")),
        sa.UniqueConstraint("prompt_id", "number", name=op.f("uq_prompt_versions_prompt_id_number")),
    )
    op.create_table(
        "experiments",
        sa.Column("id", BIG_ID, nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("key_folded", sa.Text(), nullable=False),
        sa.Column("prompt_id", BIG_ID, nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("policy", sa.JSON(), nullable=False),
        sa.Column("goal", sa.Text(), nullable=False),
        sa.Column("alpha", sa.Double(), nullable=False),
        sa.Column("minimum_detectable_effect", sa.Double(), nullable=False),
        sa.Column("baseline", sa.Double(), nullable=False),
        sa.Column("maturity_s", sa.Double(), nullable=False),
        sa.Column("min_days", sa.Double(), nullable=False),
        sa.Column("salt", sa.Text(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("stopped_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("planned_look", sa.JSON(), nullable=True),
        sa.Column("final_report", sa.JSON(), nullable=True),
        sa.Column("decision", sa.JSON(), nullable=True),
        sa.CheckConstraint("status IN ('running', 'stopped')", name=op.f("ck_experiments_status")),
        sa.ForeignKeyConstraint(["prompt_id"], ["prompts.id"], name=op.f("fk_experiments_prompt_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_experiments")),
        sa.UniqueConstraint("key_folded", name=op.f("uq_experiments_key_folded")),
    )
    op.create_index(
        "uq_experiments_running",
        "experiments",
        ["prompt_id"],
        unique=True,
        sqlite_where=sa.text("status = 'running'"),
        postgresql_where=sa.text("status = 'running'"),
    )
    op.create_table(
        "variants",
        sa.Column("id", BIG_ID, nullable=False),
        sa.Column("experiment_id", BIG_ID, nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("version_id", BIG_ID, nullable=True),
        sa.Column("is_control", sa.Boolean(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("retired_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("status IN ('live', 'retired')", name=op.f("ck_variants_status")),
        sa.ForeignKeyConstraint(
            ["experiment_id"], ["experiments.id"], name=op.f("fk_variants_experiment_id")
        ),
        sa.ForeignKeyConstraint(["version_id"], ["prompt_versions.id"], name=op.f("fk_variants_version_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_variants")),
        sa.UniqueConstraint("experiment_id", "key", name=op.f("uq_variants_experiment_id_key")),
        sa.UniqueConstraint("experiment_id", "position", name=op.f("uq_variants_experiment_id_position")),
        sa.UniqueConstraint("experiment_id", "version_id", name=op.f("uq_variants_experiment_id_version_id")),
    )
    op.create_table(
        "metrics",
        sa.Column("experiment_id", BIG_ID, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("direction", sa.Text(), nullable=False),
        sa.Column("unit", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("margin", sa.Double(), nullable=True),
        sa.CheckConstraint("direction IN ('increase', 'decrease')", name=op.f("ck_metrics_direction")),
        sa.CheckConstraint("kind IN ('binary', 'score', 'amount')", name=op.f("ck_metrics_kind")),
        sa.CheckConstraint("role IN ('goal', 'secondary', 'guardrail')", name=op.f("ck_metrics_role")),
        sa.ForeignKeyConstraint(["experiment_id"], ["experiments.id"], name=op.f("fk_metrics_experiment_id")),
        sa.PrimaryKeyConstraint("experiment_id", "name", name=op.f("pk_metrics")),
    )
    op.create_table(
        "allocations",
        sa.Column("id", BIG_ID, nullable=False),
        sa.Column("experiment_id", BIG_ID, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("split", sa.JSON(), nullable=False),
        sa.Column("probability_best", sa.JSON(), nullable=True),
        sa.Column("policy", sa.Text(), nullable=False),
        sa.Column("counts", sa.JSON(), nullable=False),
        sa.Column("seed", BIG_ID, nullable=True),
        sa.Column("engine_version", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["experiment_id"], ["experiments.id"], name=op.f("fk_allocations_experiment_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_allocations")),
        sa.UniqueConstraint("experiment_id", "number", name=op.f("uq_allocations_experiment_id_number")),
    )
    op.create_table(
        "segments",
        sa.Column("experiment_id", BIG_ID, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["experiment_id"], ["experiments.id"], name=op.f("fk_segments_experiment_id")
        ),
        sa.PrimaryKeyConstraint("experiment_id", "name", name=op.f("pk_segments")),
    )
    op.create_table(
        "assignments",
        sa.Column("prompt_id", BIG_ID, nullable=False),
        sa.Column("unit_id", sa.Text(), nullable=False),
        sa.Column("version_id", BIG_ID, nullable=True),
        sa.Column("experiment_id", BIG_ID, nullable=True),
        sa.Column("variant_id", BIG_ID, nullable=True),
        sa.Column("allocation_id", BIG_ID, nullable=True),
        sa.Column("probability", sa.Double(), nullable=True),
        sa.Column("segment", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("content_hash", sa.Text(), nullable=False),
        sa.Column("assigned_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "reason IN ('SPLIT', 'STATIC', 'STALE', 'DEFAULT')", name=op.f("ck_assignments_reason")
        ),
        sa.CheckConstraint(
            "(experiment_id IS NULL) = (variant_id IS NULL) AND (variant_id IS NULL) = (allocation_id IS NULL)"
            " AND (allocation_id IS NULL) = (probability IS NULL)",
            name=op.f("ck_assignments_experiment_whole"),
        ),
        sa.ForeignKeyConstraint(
            ["allocation_id"], ["allocations.id"], name=op.f("fk_assignments_allocation_id")
        ),
        sa.ForeignKeyConstraint(
            ["experiment_id"], ["experiments.id"], name=op.f("fk_assignments_experiment_id")
        ),
        sa.ForeignKeyConstraint(["prompt_id"], ["prompts.id"], name=op.f("fk_assignments_prompt_id")),
        sa.ForeignKeyConstraint(["variant_id"], ["variants.id"], name=op.f("fk_assignments_variant_id")),
        sa.ForeignKeyConstraint(
            ["version_id"], ["prompt_versions.id"], name=op.f("fk_assignments_version_id")
        ),
        sa.PrimaryKeyConstraint("prompt_id", "unit_id", name=op.f("pk_assignments")),
    )
    op.create_index(
        "ix_assignments_experiment_id_assigned_at",
        "assignments",
        ["experiment_id", "assigned_at"],
        unique=False,
    )
    op.create_table(
        "outcomes",
        sa.Column("prompt_id", BIG_ID, nullable=False),
        sa.Column("unit_id", sa.Text(), nullable=False),
        sa.Column("metric", sa.Text(), nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.Column("occurred_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["prompt_id"], ["prompts.id"], name=op.f("fk_outcomes_prompt_id")),
        sa.PrimaryKeyConstraint("prompt_id", "unit_id", "metric", name=op.f("pk_outcomes")),
    )
    op.create_table(
        "outcome_revisions",
        sa.Column("prompt_id", BIG_ID, nullable=False),
        sa.Column("unit_id", sa.Text(), nullable=False),
        sa.Column("metric", sa.Text(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.Column("occurred_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("replaced_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["prompt_id"], ["prompts.id"], name=op.f("fk_outcome_revisions_prompt_id")),
        sa.PrimaryKeyConstraint(
            "prompt_id", "unit_id", "metric", "revision", name=op.f("pk_outcome_revisions")
        ),
    )
    op.create_table(
        "counts",
        sa.Column("experiment_id", BIG_ID, nullable=False),
        sa.Column("allocation_id", BIG_ID, nullable=False),
        sa.Column("variant_id", BIG_ID, nullable=False),
        sa.Column("segment", sa.Text(), nullable=False),
        sa.Column("metric", sa.Text(), nullable=False),
        sa.Column("n", sa.BigInteger(), nullable=False),
        sa.Column("total", sa.Double(), nullable=False),
        sa.Column("total_sq", sa.Double(), nullable=False),
        sa.CheckConstraint("n >= 0", name=op.f("ck_counts_n")),
        sa.ForeignKeyConstraint(["allocation_id"], ["allocations.id"], name=op.f("fk_counts_allocation_id")),
        sa.ForeignKeyConstraint(["experiment_id"], ["experiments.id"], name=op.f("fk_counts_experiment_id")),
        sa.ForeignKeyConstraint(["variant_id"], ["variants.id"], name=op.f("fk_counts_variant_id")),
        sa.PrimaryKeyConstraint(
            "experiment_id", "allocation_id", "variant_id", "segment", "metric", name=op.f("pk_counts")
        ),
    )
    op.create_table(
        "api_keys",
        sa.Column("id", BIG_ID, nullable=False),
        sa.Column("prefix", sa.Text(), nullable=False),
        sa.Column("secret_hash", sa.Text(), nullable=False),
        sa.Column("scopes", sa.JSON(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_keys")),
        sa.UniqueConstraint("prefix", name=op.f("uq_api_keys_prefix")),
    )
    op.create_table(
        "audit",
        sa.Column("id", BIG_ID, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("record_type", sa.Text(), nullable=False),
        sa.Column("record_id", sa.Text(), nullable=False),
        sa.Column("before", sa.JSON(), nullable=True),
        sa.Column("after", sa.JSON(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit")),
    )
    op.create_table(
        "transcripts",
        sa.Column("prompt_id", BIG_ID, nullable=False),
        sa.Column("unit_id", sa.Text(), nullable=False),
        sa.Column("turns", sa.JSON(), nullable=False),
        sa.Column("redactions", sa.JSON(), nullable=False),
        sa.Column("stored_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["prompt_id"], ["prompts.id"], name=op.f("fk_transcripts_prompt_id")),
        sa.PrimaryKeyConstraint("prompt_id", "unit_id", name=op.f("pk_transcripts")),
    )
    op.create_table(
        "optimizer_runs",
        sa.Column("id", BIG_ID, nullable=False),
        sa.Column("prompt_id", BIG_ID, nullable=False),
        sa.Column("window_start", sa.DateTime(timezone=True), nullable=False),
        sa.Column("window_end", sa.DateTime(timezone=True), nullable=False),
        sa.Column("config_hash", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("lease_owner", sa.Text(), nullable=True),
        sa.Column("lease_expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("batch_id", sa.Text(), nullable=True),
        sa.Column("sample", sa.JSON(), nullable=True),
        sa.Column("cost_usd", sa.Double(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["prompt_id"], ["prompts.id"], name=op.f("fk_optimizer_runs_prompt_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_optimizer_runs")),
        sa.UniqueConstraint(
            "prompt_id",
            "window_end",
            "config_hash",
            name=op.f("uq_optimizer_runs_prompt_id_window_end_config_hash"),
        ),
    )
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
    op.create_table(
        "suggestions",
        sa.Column("id", BIG_ID, nullable=False),
        sa.Column("prompt_id", BIG_ID, nullable=False),
        sa.Column("run_id", BIG_ID, nullable=True),
        sa.Column("parent_version_id", BIG_ID, nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column("system_prompt", sa.Text(), nullable=False),
        sa.Column("text_hash", sa.Text(), nullable=False),
        sa.Column("patterns", sa.JSON(), nullable=False),
        sa.Column("evidence", sa.JSON(), nullable=False),
        sa.Column("gate", sa.JSON(), nullable=False),
        sa.Column("objection", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("decided_by", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "status IN ('pending', 'approved', 'rejected', 'stale')", name=op.f("ck_suggestions_status")
        ),
        sa.ForeignKeyConstraint(
            ["parent_version_id"], ["prompt_versions.id"], name=op.f("fk_suggestions_parent_version_id")
        ),
        sa.ForeignKeyConstraint(["prompt_id"], ["prompts.id"], name=op.f("fk_suggestions_prompt_id")),
        sa.ForeignKeyConstraint(["run_id"], ["optimizer_runs.id"], name=op.f("fk_suggestions_run_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_suggestions")),
    )
