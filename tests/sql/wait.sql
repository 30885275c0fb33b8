-- Waiting for a repair: outside transactions only.
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
BEGIN;
CALL ruvector_dag_wait(1);
\echo :LAST_ERROR_SQLSTATE
ROLLBACK;
DO $$ BEGIN CALL ruvector_dag_wait(1); END $$;
\echo :LAST_ERROR_SQLSTATE
CREATE FUNCTION waits() RETURNS void LANGUAGE plpgsql AS $$ BEGIN CALL ruvector_dag_wait(1); END $$;
SELECT waits();
\echo :LAST_ERROR_SQLSTATE
CALL ruvector_dag_wait(1);
\echo :LAST_ERROR_SQLSTATE
CALL ruvector_dag_wait(-1);
CALL ruvector_dag_wait(9223372036854775807);
CALL ruvector_dag_wait(NULL);
\echo :LAST_ERROR_SQLSTATE
SELECT ruvector_dag_wait(1);
\echo :LAST_ERROR_SQLSTATE

-- A repair that has ended is not waited for, one that goes on is.
INSERT INTO ruvector_dag_healing.repair (repair_id, issue_id, issue_type, strategy, repair_type, identity, table_oid,
    index_oid, table_name, index_name, initiated_by, status, finished_at, system_identifier, database_oid)
VALUES (-1, 'x', 'fragmentation', 'index_rebalance', 'rebuild', 'x', 'pg_class'::regclass, 'pg_class'::regclass,
    'x', 'x', 'auto', 'failed', now(), '0', 0);
CALL ruvector_dag_wait(-1);
BEGIN;
CALL ruvector_dag_wait(-1);
\echo :LAST_ERROR_SQLSTATE
ROLLBACK;
SET statement_timeout = '500ms';
UPDATE ruvector_dag_healing.repair SET status = 'running', finished_at = NULL;
CALL ruvector_dag_wait(-1);
\echo :LAST_ERROR_SQLSTATE
