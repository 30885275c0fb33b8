-- Who may see and do what, and that nobody's objects get in between.
\set SHOW_CONTEXT never
-- The healer has had its first look, and sleeps.
DO $$
BEGIN
    FOR i IN 1..2400 LOOP
        EXIT WHEN (SELECT s #>> '{worker,state}' = 'idle' AND (s #>> '{metrics,checks_performed}')::int > 0
                   FROM ruvector_dag_healing_status() s);
        PERFORM pg_sleep(0.05);
    END LOOP;
END $$;
ALTER DATABASE regress SET ruvector.dag_healing_enabled = off;

CREATE ROLE privileges_owner;
CREATE ROLE privileges_member IN ROLE privileges_owner;
CREATE ROLE privileges_reader IN ROLE pg_monitor;
CREATE ROLE privileges_nobody;
GRANT CREATE ON SCHEMA public TO privileges_owner;

SET ROLE privileges_owner;
CREATE TABLE docs (id int PRIMARY KEY, v vector(3));
INSERT INTO docs SELECT i, ARRAY[i, i % 7, i % 11]::real[]::vector FROM generate_series(1, 50) i;
CREATE INDEX docs_hnsw ON docs USING hnsw (v vector_l2_ops);
-- Even who may do everything with the rows.
GRANT SELECT, INSERT, UPDATE, DELETE ON docs TO PUBLIC;
RESET ROLE;
CREATE TABLE others (id int PRIMARY KEY, v vector(3));
CREATE INDEX others_hnsw ON others USING hnsw (v vector_l2_ops);
UPDATE pg_index SET indisvalid = false WHERE indexrelid IN ('docs_hnsw'::regclass, 'others_hnsw'::regclass);
SELECT c -> 'indexes' -> 0 -> 'issues' ->> 0 AS issue FROM ruvector_dag_health_check('docs') c \gset
SELECT c ->> 'status' AS status FROM ruvector_dag_health_check('others') c;
DO $$
BEGIN
    FOR i IN 1..1200 LOOP
        EXIT WHEN 2 <= (SELECT count(*) FROM ruvector_dag_detected_issues());
        PERFORM pg_sleep(0.05);
    END LOOP;
END $$;
SELECT issue_type, relation, index, status FROM ruvector_dag_detected_issues() ORDER BY index::text;

-- Nobody in particular sees nothing and may do nothing.
SET ROLE privileges_nobody;
SELECT ruvector_dag_hnsw_health('docs_hnsw');
SELECT ruvector_dag_index_check('docs_hnsw', true);
SELECT * FROM ruvector_dag_inspection_progress;
\echo :LAST_ERROR_SQLSTATE
SELECT ruvector_dag_health_check('docs');
\echo :LAST_ERROR_SQLSTATE
SELECT ruvector_dag_health_check('docs_hnsw');
SELECT ruvector_dag_repair('docs', :'issue');
\echo :LAST_ERROR_SQLSTATE
SELECT ruvector_dag_repair('docs', :'issue', true);
SELECT ruvector_dag_healing_status();
\echo :LAST_ERROR_SQLSTATE
SELECT ruvector_dag_healing_cycle();
\echo :LAST_ERROR_SQLSTATE
SELECT count(*) FROM ruvector_dag_detected_issues();
SELECT count(*) FROM ruvector_dag_detected_issues('docs');
\echo :LAST_ERROR_SQLSTATE
SELECT count(*) FROM ruvector_dag_repair_history();
SELECT count(*) FROM ruvector_dag_repair_history('docs');
\echo :LAST_ERROR_SQLSTATE
SELECT count(*) FROM ruvector_dag_repair_progress;
SELECT count(*) FROM ruvector_dag_healing.visible_issue;
SELECT count(*) FROM ruvector_dag_healing.visible_repair;
-- Not by the tables either.
SELECT count(*) FROM ruvector_dag_healing.issue;
SELECT count(*) FROM ruvector_dag_healing.repair;
SELECT count(*) FROM ruvector_dag_healing.index_state;
SELECT count(*) FROM ruvector_dag_healing.metrics;
SELECT count(*) FROM ruvector_dag_healing.query_sample;
INSERT INTO ruvector_dag_healing.metrics DEFAULT VALUES;
UPDATE ruvector_dag_healing.issue SET status = 'resolved';
DELETE FROM ruvector_dag_healing.repair;
TRUNCATE ruvector_dag_healing.index_state;
SELECT nextval('ruvector_dag_healing.repair_id_seq');
CREATE TABLE ruvector_dag_healing.mine ();
-- Nor by a view that peeks before it filters.
CREATE FUNCTION pg_temp.peek(text) RETURNS boolean LANGUAGE plpgsql COST 0.0000001
    AS $$ BEGIN RAISE NOTICE 'saw %', $1; RETURN true; END $$;
SELECT count(*) FROM ruvector_dag_healing.visible_issue WHERE pg_temp.peek(index_name);
RESET ROLE;

-- The owner, and who has the owner's role, see their own tables and may act on them.
SET ROLE privileges_owner;
SELECT index_name, elements FROM ruvector_dag_hnsw_health('docs_hnsw');
SELECT c ->> 'status' AS status FROM ruvector_dag_health_check('docs') c;
SELECT relation, index FROM ruvector_dag_detected_issues();
SELECT count(*) FROM ruvector_dag_detected_issues('docs');
SELECT r ->> 'status' AS status FROM ruvector_dag_repair('docs', :'issue', true) r;
SELECT ruvector_dag_hnsw_health('others_hnsw');
SELECT ruvector_dag_detected_issues('others');
SELECT ruvector_dag_healing_status();
SELECT count(*) FROM ruvector_dag_healing.issue;
-- Of queries on the own table, too, only what they are used for.
SELECT count(*) FROM ruvector_dag_healing.query_sample;
RESET ROLE;
SET ROLE privileges_member;
SELECT relation, index FROM ruvector_dag_detected_issues();
SELECT r ->> 'status' AS status FROM ruvector_dag_repair('docs', :'issue', true) r;
RESET ROLE;

-- pg_monitor sees everything and may act on nothing.
SET ROLE privileges_reader;
SELECT index_name, elements FROM ruvector_dag_hnsw_health('docs_hnsw');
SELECT c ->> 'status' AS status FROM ruvector_dag_health_check('others') c;
SELECT relation, index FROM ruvector_dag_detected_issues() ORDER BY index::text;
SELECT ruvector_dag_healing_status() ->> 'database' AS database;
SELECT count(*) FROM ruvector_dag_healing.issue;
SELECT count(*) FROM ruvector_dag_healing.query_sample;
SELECT ruvector_dag_repair('docs', :'issue');
\echo :LAST_ERROR_SQLSTATE
SELECT ruvector_dag_repair('docs', :'issue', true);
DELETE FROM ruvector_dag_healing.issue;
RESET ROLE;

-- Repairs that ended long ago, of a table of the owner's and of one of nobody's.
INSERT INTO ruvector_dag_healing.repair (repair_id, issue_id, issue_type, strategy, repair_type, identity, table_oid,
    index_oid, table_name, index_name, initiated_by, status, finished_at, system_identifier, database_oid)
SELECT -n, 'x', 'fragmentation', 'index_rebalance', 'rebuild', 'x', t, t, 'x', 'x', 'auto', 'succeeded', now(), '0', 0
FROM unnest(ARRAY['docs'::regclass, 'others'::regclass]::oid[]) WITH ORDINALITY AS given (t, n);
SET ROLE privileges_nobody;
SELECT repair_id FROM ruvector_dag_repair_history();
SELECT ruvector_dag_rollback(-1);
\echo :LAST_ERROR_SQLSTATE
SELECT ruvector_dag_cancel_repair(-1);
\echo :LAST_ERROR_SQLSTATE
CALL ruvector_dag_wait(-1);
\echo :LAST_ERROR_SQLSTATE
SET ROLE privileges_owner;
SELECT repair_id, relation FROM ruvector_dag_repair_history();
SELECT ruvector_dag_rollback(-2);
SELECT ruvector_dag_rollback(-1);
\echo :LAST_ERROR_SQLSTATE
SELECT ruvector_dag_cancel_repair(-1);
CALL ruvector_dag_wait(-1);
SET ROLE privileges_reader;
SELECT repair_id, relation FROM ruvector_dag_repair_history();
SELECT ruvector_dag_rollback(-1);
SELECT ruvector_dag_cancel_repair(-1);
CALL ruvector_dag_wait(-2);
RESET ROLE;

-- A schema of traps at the head of the search path, called by a superuser: none of it is used.
CREATE SCHEMA trap;
CREATE FUNCTION trap.sprung() RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'a trap was sprung'; END $$;
CREATE FUNCTION trap.now() RETURNS timestamptz LANGUAGE sql AS $$ SELECT trap.sprung()::timestamptz $$;
CREATE FUNCTION trap.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS $$ SELECT trap.sprung()::timestamptz $$;
CREATE FUNCTION trap.pg_has_role(name, text) RETURNS boolean LANGUAGE sql AS $$ SELECT trap.sprung()::boolean $$;
CREATE FUNCTION trap.pg_has_role(text, text) RETURNS boolean LANGUAGE sql AS $$ SELECT trap.sprung()::boolean $$;
CREATE FUNCTION trap.pg_has_role(oid, text) RETURNS boolean LANGUAGE sql AS $$ SELECT trap.sprung()::boolean $$;
CREATE FUNCTION trap.quote_ident(name) RETURNS text LANGUAGE sql AS $$ SELECT trap.sprung() $$;
CREATE FUNCTION trap.quote_ident(text) RETURNS text LANGUAGE sql AS $$ SELECT trap.sprung() $$;
CREATE FUNCTION trap.current_database() RETURNS name LANGUAGE sql AS $$ SELECT trap.sprung()::name $$;
CREATE FUNCTION trap.jsonb_build_object(VARIADIC text[]) RETURNS jsonb LANGUAGE sql AS $$ SELECT trap.sprung()::jsonb $$;
CREATE FUNCTION trap.equal(oid, oid) RETURNS boolean LANGUAGE sql AS $$ SELECT trap.sprung()::boolean $$;
CREATE FUNCTION trap.equal(text, text) RETURNS boolean LANGUAGE sql AS $$ SELECT trap.sprung()::boolean $$;
CREATE FUNCTION trap.equal(name, text) RETURNS boolean LANGUAGE sql AS $$ SELECT trap.sprung()::boolean $$;
CREATE FUNCTION trap.get(jsonb, text) RETURNS text LANGUAGE sql AS $$ SELECT trap.sprung() $$;
CREATE OPERATOR trap.= (LEFTARG = oid, RIGHTARG = oid, FUNCTION = trap.equal);
CREATE OPERATOR trap.= (LEFTARG = text, RIGHTARG = text, FUNCTION = trap.equal);
CREATE OPERATOR trap.= (LEFTARG = name, RIGHTARG = text, FUNCTION = trap.equal);
CREATE OPERATOR trap.<> (LEFTARG = text, RIGHTARG = text, FUNCTION = trap.equal);
CREATE OPERATOR trap.->> (LEFTARG = jsonb, RIGHTARG = text, FUNCTION = trap.get);
CREATE TABLE trap.pg_class (oid oid);
CREATE TABLE trap.pg_index (indexrelid oid);
SET search_path = trap, pg_catalog, public;
-- It works where it is used.
SELECT 'a'::text = 'a'::text;
SELECT index_name, elements FROM ruvector_dag_hnsw_health('docs_hnsw');
SELECT jsonb_typeof(ruvector_dag_health_check('docs'));
SELECT jsonb_typeof(ruvector_dag_healing_status());
SELECT relation, index FROM ruvector_dag_detected_issues('docs');
SELECT count(*) FROM ruvector_dag_detected_issues();
SELECT repair_id FROM ruvector_dag_repair_history('docs');
SELECT count(*) FROM ruvector_dag_repair_progress;
SELECT jsonb_typeof(ruvector_dag_repair('docs', :'issue', true));
SELECT ruvector_dag_rollback(-1);
SELECT ruvector_dag_cancel_repair(-1);
CALL ruvector_dag_wait(-1);
SELECT ruvector_dag_healing_cycle();
-- The path is the caller's again afterwards.
SHOW search_path;
