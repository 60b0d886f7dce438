-- The role that Grafana reads with. Run it as the owner of the tables, who must be allowed to create roles, after
-- every `promptbandit migrate`:
--   psql "$DATABASE" -v ON_ERROR_STOP=1 -f dashboards/reader.sql
--   psql "$DATABASE" -c '\password promptbandit_reader'
-- It sees numbers: no transcript, no prompt text, no outcome with the id of its call, no key, no audit.

DO $$
BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'promptbandit_reader') THEN
    CREATE ROLE promptbandit_reader LOGIN NOINHERIT CONNECTION LIMIT 10;
  END IF;
END $$;

ALTER ROLE promptbandit_reader SET default_transaction_read_only = on;
ALTER ROLE promptbandit_reader SET statement_timeout = '15s';

GRANT USAGE ON SCHEMA public TO promptbandit_reader;
REVOKE ALL ON ALL TABLES IN SCHEMA public FROM promptbandit_reader;

GRANT SELECT (id, key, prompt_id, status, goal, alpha, started_at, stopped_at) ON experiments TO promptbandit_reader;
GRANT SELECT (id, experiment_id, key, position, is_control, status, created_at, retired_at) ON variants
  TO promptbandit_reader;
GRANT SELECT ON counts, standings, verifications, prompt_ab_tests TO promptbandit_reader;
-- Every call with its outcomes, without the id that would say whose call it was.
GRANT SELECT (prompt, prompt_version, experiment, variant, probability, segment, started_at, resolved, quality,
  duration_s) ON calls TO promptbandit_reader;
