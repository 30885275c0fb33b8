-- From PostgreSQL 17 on, who may maintain a table may have it repaired.
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
CREATE ROLE maintain_keeper;
CREATE TABLE docs (v vector(3));
CREATE INDEX docs_hnsw ON docs USING hnsw (v vector_l2_ops);
UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'docs_hnsw'::regclass;
SELECT c -> 'indexes' -> 0 -> 'issues' ->> 0 AS issue FROM ruvector_dag_health_check('docs') c \gset
SET ROLE maintain_keeper;
SELECT r ->> 'status' AS status FROM ruvector_dag_repair('docs', :'issue', true) r;
RESET ROLE;
GRANT MAINTAIN ON docs TO maintain_keeper;
SET ROLE maintain_keeper;
SELECT r ->> 'status' AS status FROM ruvector_dag_repair('docs', :'issue', true) r;
-- That is the right to act on it, not to read about it.
SELECT ruvector_dag_health_check('docs');
