-- The rights of the accounts, on PostgreSQL. Run it as the owner of the tables after each `promptbandit migrate`:
--   psql "$OWNER_URL" --set serving=bandit_serve --set reading=bandit_read --file deploy/grants.sql
-- and `--set optimizing=bandit_optimize` where the optimizer runs.
-- `serving` is the account of `promptbandit serve`, `reallocate`, `keys`, `import`, `forget` and `verify`.
-- `reading` is for dashboards and notebooks: it sees no key, no transcript and no audit.
-- `optimizing` is the account of `promptbandit optimize`: it reads calls and proposes. It can make no version, decide
-- no suggestion and move no call, whatever a model has made it do.
-- None owns anything, so none can drop a table, switch off a trigger or change what must never change.
-- The database itself should let in only whom it knows: REVOKE CONNECT ON DATABASE bandit FROM PUBLIC.
\set ON_ERROR_STOP on
BEGIN;

GRANT USAGE ON SCHEMA public TO :"serving", :"reading";
REVOKE CREATE ON SCHEMA public FROM PUBLIC;

REVOKE ALL ON ALL TABLES IN SCHEMA public FROM :"serving", :"reading";
GRANT SELECT ON ALL TABLES IN SCHEMA public TO :"serving";
GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO :"serving";

-- Rows that change.
GRANT INSERT, UPDATE ON prompts, experiments, variants, outcomes, counts, evidence, api_keys,
    optimizer_runs, llm_calls, suggestions TO :"serving";
-- Rows that are written once.
GRANT INSERT ON prompt_versions, metrics, segments, allocations, assignments, outcome_revisions, audit,
    verifications, installation
    TO :"serving";
-- Rows that go again.
GRANT INSERT, UPDATE, DELETE ON transcripts, leases, standings TO :"serving";

GRANT SELECT ON prompts, prompt_versions, experiments, variants, metrics, segments, allocations, assignments,
    outcomes, outcome_revisions, counts, evidence, standings, verifications, calls, prompt_ab_tests TO :"reading";

\if :{?optimizing}
GRANT USAGE ON SCHEMA public TO :"optimizing";
REVOKE ALL ON ALL TABLES IN SCHEMA public FROM :"optimizing";
GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO :"optimizing";
GRANT SELECT ON alembic_version, prompts, prompt_versions, experiments, variants, metrics, assignments, outcomes,
    transcripts, audit TO :"optimizing";
GRANT SELECT, INSERT, UPDATE ON optimizer_runs, llm_calls TO :"optimizing";
GRANT SELECT, INSERT, UPDATE, DELETE ON leases TO :"optimizing";
GRANT SELECT, INSERT ON suggestions TO :"optimizing";
GRANT INSERT ON audit TO :"optimizing";
-- A row is held by who may change it: this column is the one that nothing rests on.
GRANT UPDATE (created_at) ON prompts TO :"optimizing";
\endif

COMMIT;
