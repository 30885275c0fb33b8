-- A read-only transaction: looking goes on, nothing is filed, nothing is done.
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
CREATE TABLE docs (id int PRIMARY KEY, v vector(3));
INSERT INTO docs SELECT i, ARRAY[i, i % 7, i % 11]::real[]::vector FROM generate_series(1, 50) i;
CREATE INDEX docs_hnsw ON docs USING hnsw (v vector_l2_ops);
SELECT ruvector_dag_healing_status() -> 'metrics' -> 'issues_detected' AS issues_detected;
UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'docs_hnsw'::regclass;
-- Committed before what follows, unseen by the healer, which looks every five minutes.

BEGIN READ ONLY;
SELECT elements, orphan_count FROM ruvector_dag_hnsw_health('docs_hnsw');
SELECT c ->> 'status' AS status, c -> 'filed' AS filed, jsonb_array_length(c -> 'indexes' -> 0 -> 'issues') AS issues,
       c -> 'indexes' -> 0 -> 'issues' ->> 0 AS issue
FROM ruvector_dag_health_check('docs') c \gset
\echo :status :filed :issues
SELECT count(*) FROM ruvector_dag_detected_issues();
SELECT ruvector_dag_healing_status() ->> 'database' AS database;
SELECT r ->> 'status' AS status, r -> 'repair_id' AS repair_id FROM ruvector_dag_repair('docs', :'issue', true) r;
SELECT ruvector_dag_repair('docs', :'issue');
\echo :LAST_ERROR_SQLSTATE
ROLLBACK;
BEGIN READ ONLY;
SELECT ruvector_dag_rollback(1);
ROLLBACK;

SET default_transaction_read_only = on;
SELECT ruvector_dag_repair('docs', :'issue');
\echo :LAST_ERROR_SQLSTATE
SELECT c -> 'filed' AS filed FROM ruvector_dag_health_check('docs') c;
SELECT count(*) FROM ruvector_dag_detected_issues();
SET default_transaction_read_only = off;

-- Serializable and repeatable read are as good as any.
BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY DEFERRABLE;
SELECT elements FROM ruvector_dag_hnsw_health('docs_hnsw');
ROLLBACK;
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT c ->> 'status' AS status FROM ruvector_dag_health_check('docs') c;
ROLLBACK;

-- A failed transaction takes nothing back from the healer, and nothing breaks in it.
BEGIN;
SELECT c ->> 'status' AS status FROM ruvector_dag_health_check('docs') c;
SAVEPOINT s;
SELECT ruvector_dag_hnsw_health('no_such');
ROLLBACK TO s;
SELECT elements FROM ruvector_dag_hnsw_health('docs_hnsw');
COMMIT;
