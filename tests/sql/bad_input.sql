-- What is named is not there, or is not what it should be: PostgreSQL's own kind of error.
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

CREATE TABLE plain (id int PRIMARY KEY, note text);
CREATE TABLE docs (id int PRIMARY KEY, v vector(3));
INSERT INTO docs SELECT i, ARRAY[i, i % 7, i % 11]::real[]::vector FROM generate_series(1, 50) i;
CREATE INDEX docs_hnsw ON docs USING hnsw (v vector_l2_ops);
CREATE INDEX docs_ivf ON docs USING ivfflat (v vector_l2_ops) WITH (lists = 1);
CREATE VIEW docs_view AS SELECT * FROM docs;
CREATE MATERIALIZED VIEW docs_copy AS SELECT * FROM docs;
CREATE INDEX docs_copy_hnsw ON docs_copy USING hnsw (v vector_l2_ops);
CREATE SEQUENCE counter;
CREATE TYPE pair AS (a int, b int);
CREATE TABLE parts (id int, v vector(3)) PARTITION BY RANGE (id);
CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (100);
CREATE TABLE parts_2 PARTITION OF parts FOR VALUES FROM (100) TO (200);
INSERT INTO parts SELECT i, ARRAY[i, 1, 2]::real[]::vector FROM generate_series(0, 199) i;
CREATE INDEX parts_hnsw ON parts USING hnsw (v vector_l2_ops);

-- No such relation, by name and by number.
SELECT ruvector_dag_hnsw_health('no_such');
\echo :LAST_ERROR_SQLSTATE
SELECT ruvector_dag_hnsw_health(0);
\echo :LAST_ERROR_SQLSTATE
SELECT ruvector_dag_hnsw_health(4294967295);
SELECT ruvector_dag_health_check('no_such');
SELECT ruvector_dag_health_check(0);
\echo :LAST_ERROR_SQLSTATE
SELECT ruvector_dag_health_check(4294967295);
SELECT ruvector_dag_repair('no_such', 'fragmentation-0');
SELECT ruvector_dag_repair(0, 'fragmentation-0');
\echo :LAST_ERROR_SQLSTATE
SELECT ruvector_dag_repair(4294967295, 'fragmentation-0');
SELECT * FROM ruvector_dag_detected_issues('no_such');
SELECT * FROM ruvector_dag_detected_issues(0);
SELECT * FROM ruvector_dag_detected_issues(4294967295);
\echo :LAST_ERROR_SQLSTATE
SELECT * FROM ruvector_dag_repair_history('no_such');
SELECT * FROM ruvector_dag_repair_history(4294967295);

-- Health of an index: of that and of nothing else.
SELECT ruvector_dag_hnsw_health('docs');
\echo :LAST_ERROR_SQLSTATE
SELECT ruvector_dag_hnsw_health('docs_pkey');
\echo :LAST_ERROR_SQLSTATE
SELECT ruvector_dag_hnsw_health('docs_ivf');
SELECT ruvector_dag_hnsw_health('docs_view');
SELECT ruvector_dag_hnsw_health('docs_copy');
SELECT ruvector_dag_hnsw_health('counter');
SELECT ruvector_dag_hnsw_health('pair');
SELECT ruvector_dag_hnsw_health('parts');
SELECT ruvector_dag_hnsw_health('parts_hnsw');
SELECT ruvector_dag_ivfflat_health('docs_hnsw');
SELECT ruvector_dag_ivfflat_health('docs');
SELECT ruvector_dag_index_check('no_such');
SELECT ruvector_dag_index_check('docs');
SELECT ruvector_dag_index_check('docs_pkey');
SELECT ruvector_dag_index_check('docs_ivf');
SELECT ruvector_dag_index_check('parts_hnsw', true);
SELECT count(*) FROM ruvector_dag_index_check('docs_hnsw', true);
SELECT count(*) FROM ruvector_dag_index_check(NULL);
SELECT ruvector_dag_recall('docs_pkey');
SELECT ruvector_dag_recall('docs_hnsw', 0);
SELECT ruvector_dag_recall('docs_hnsw', 10, 20000);
SELECT recall, queries, k, source FROM ruvector_dag_recall('docs_hnsw', 5);
SELECT recall, queries FROM ruvector_dag_recall('docs_ivf', k => 50, queries => 3);
\echo :LAST_ERROR_SQLSTATE
SELECT ruvector_dag_hnsw_health('pg_class');
SELECT ruvector_dag_hnsw_health('pg_class_oid_index');

-- A check: of a table or an index, with vector indexes.
SELECT ruvector_dag_health_check('plain');
\echo :LAST_ERROR_SQLSTATE
SELECT ruvector_dag_health_check('plain_pkey');
\echo :LAST_ERROR_SQLSTATE
SELECT ruvector_dag_health_check('docs_pkey');
SELECT ruvector_dag_health_check('docs_view');
\echo :LAST_ERROR_SQLSTATE
SELECT ruvector_dag_health_check('counter');
SELECT ruvector_dag_health_check('pair');
SELECT ruvector_dag_health_check('pg_class');

-- What has some is checked whole.
CREATE FUNCTION checked(relation regclass) RETURNS TABLE (relation_name text, status text, index_name text, table_name text, issues jsonb)
LANGUAGE sql AS $$
    SELECT c ->> 'relation', c ->> 'status', i ->> 'index_name', i ->> 'table_name', i -> 'issues'
    FROM ruvector_dag_health_check($1) c, jsonb_array_elements(c -> 'indexes') i ORDER BY 3
$$;
SELECT * FROM checked('docs');
SELECT * FROM checked('docs_hnsw');
SELECT * FROM checked('docs_copy');
SELECT * FROM checked('parts');
SELECT * FROM checked('parts_hnsw');
SELECT * FROM checked('parts_2');

-- Repair: an issue that is there, on that table.
SELECT ruvector_dag_repair('plain', 'fragmentation-0');
\echo :LAST_ERROR_SQLSTATE
SELECT ruvector_dag_repair('docs', 'fragmentation-0');
\echo :LAST_ERROR_SQLSTATE
SELECT ruvector_dag_repair('docs', '');
SELECT ruvector_dag_repair('docs', 'fragmentation-0', true);
\echo :LAST_ERROR_SQLSTATE
SELECT ruvector_dag_repair('docs_view', 'fragmentation-0');
\echo :LAST_ERROR_SQLSTATE
SELECT ruvector_dag_repair('counter', 'fragmentation-0');
UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'docs_hnsw'::regclass;
SELECT i ->> 'index_name' AS index_name, i -> 'valid' AS valid, jsonb_array_length(i -> 'issues') AS issues,
       substr(i -> 'issues' ->> 0, 1, 14) AS issue
FROM ruvector_dag_health_check('docs') c, jsonb_array_elements(c -> 'indexes') i ORDER BY 1;
SELECT i -> 'issues' ->> 0 AS issue
FROM ruvector_dag_health_check('docs_hnsw') c, jsonb_array_elements(c -> 'indexes') i \gset
-- There it is.
SELECT r ->> 'status' AS status, r ->> 'repair_id' AS repair_id, r ->> 'strategy' AS strategy
FROM ruvector_dag_repair('docs', :'issue', true) r;
SELECT r ->> 'status' AS status FROM ruvector_dag_repair('docs_hnsw', :'issue', true) r;
-- Here it is not; its name is left out of what is compared, it is a hash.
\set VERBOSITY sqlstate
SELECT ruvector_dag_repair('parts', :'issue', true);
SELECT ruvector_dag_repair('docs_ivf', :'issue', true);
SELECT ruvector_dag_repair('plain', :'issue', true);
\set VERBOSITY default
UPDATE pg_index SET indisvalid = true WHERE indexrelid = 'docs_hnsw'::regclass;
\set VERBOSITY sqlstate
SELECT ruvector_dag_repair('docs', :'issue', true);
\set VERBOSITY default

-- Repairs that are not there.
SELECT ruvector_dag_rollback(0);
\echo :LAST_ERROR_SQLSTATE
SELECT ruvector_dag_rollback(9223372036854775807);
SELECT ruvector_dag_cancel_repair(-1);
\echo :LAST_ERROR_SQLSTATE
SELECT count(*) FROM ruvector_dag_repair_history(days => -1);
SELECT count(*) FROM ruvector_dag_repair_history(days => 2147483647);

-- Nothing in, nothing out. A whole database is what a list without a relation is of.
SELECT ruvector_dag_health_check(NULL) IS NULL AS nothing;
SELECT ruvector_dag_repair(NULL, 'x') IS NULL AS nothing;
SELECT ruvector_dag_repair('docs', NULL) IS NULL AS nothing;
SELECT ruvector_dag_repair('docs', 'x', NULL) IS NULL AS nothing;
SELECT ruvector_dag_rollback(NULL) IS NULL AS nothing;
SELECT ruvector_dag_cancel_repair(NULL) IS NULL AS nothing;
SELECT count(*) FROM ruvector_dag_hnsw_health(NULL);
SELECT count(*) FROM ruvector_dag_detected_issues(NULL) WHERE issue_type <> 'invalid_index';
SELECT count(*) FROM ruvector_dag_repair_history(NULL, NULL);
