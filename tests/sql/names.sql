-- Names that need quoting, other schemas, and indexes of every kind of table.
\set SHOW_CONTEXT never

CREATE SCHEMA "Ünïcode.schéma";
CREATE TABLE "Ünïcode.schéma"."Tab""le.1" (id int, "v e c" vector(3));
INSERT INTO "Ünïcode.schéma"."Tab""le.1" SELECT i, ARRAY[i, 0, 1]::real[]::vector FROM generate_series(1, 20) i;
CREATE INDEX "in'd""ex. äöü; DROP TABLE x --" ON "Ünïcode.schéma"."Tab""le.1" USING hnsw ("v e c" vector_l2_ops);

SELECT index_name, table_name, elements, live_elements
FROM ruvector_dag_hnsw_health('"Ünïcode.schéma"."in''d""ex. äöü; DROP TABLE x --"');
SELECT c ->> 'relation' AS relation, c ->> 'status' AS status, c -> 'indexes' -> 0 ->> 'index_name' AS index_name
FROM ruvector_dag_health_check('"Ünïcode.schéma"."Tab""le.1"') c;
SELECT ruvector_dag_hnsw_health('"Ünïcode.schéma"."Tab""le.1"');
SELECT ruvector_dag_repair('"Ünïcode.schéma"."Tab""le.1"', 'x''y"z');
\echo :LAST_ERROR_SQLSTATE
SELECT count(*) FROM ruvector_dag_detected_issues('"Ünïcode.schéma"."Tab""le.1"');
SELECT count(*) FROM ruvector_dag_repair_history('"Ünïcode.schéma"."in''d""ex. äöü; DROP TABLE x --"');

-- The longest name there can be.
CREATE TABLE long_name (v vector(3));
CREATE INDEX "iiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiii" ON long_name USING hnsw (v vector_l2_ops);
SELECT index_name FROM ruvector_dag_hnsw_health('iiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiii');

-- An empty index has every score 1 and no issue.
\pset expanded on
SELECT index_name, connectivity_score, layer_distribution, entry_point_quality, orphan_count, fragmentation,
       elements, live_elements, deleted_elements, heap_tids, zero_in_degree, low_degree, mean_degree_fill,
       dangling_edges, pages, sampled, last_checked > now() - interval '1 day' AS just_now
FROM ruvector_dag_hnsw_health('iiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiii');

-- One row.
CREATE TABLE one (v vector(3));
INSERT INTO one VALUES ('[1,2,3]');
CREATE INDEX one_hnsw ON one USING hnsw (v vector_l2_ops);
-- Its level is drawn at random.
SELECT index_name, connectivity_score, (SELECT sum(n) FROM unnest(layer_distribution) n) AS on_layers,
       entry_point_quality, orphan_count, fragmentation, elements, live_elements, deleted_elements, heap_tids,
       dangling_edges, pages, sampled
FROM ruvector_dag_hnsw_health('one_hnsw');
\pset expanded off
SELECT c ->> 'status' AS status FROM ruvector_dag_health_check('one') c;
-- A row without a vector is no element.
INSERT INTO one VALUES (NULL);
SELECT elements FROM ruvector_dag_hnsw_health('one_hnsw');
-- Emptied, it is waiting for its vacuum, then all of it is deleted.
DELETE FROM one;
SELECT elements, live_elements FROM ruvector_dag_hnsw_health('one_hnsw');
VACUUM one;
SELECT elements, live_elements, deleted_elements, connectivity_score, entry_point_quality
FROM ruvector_dag_hnsw_health('one_hnsw');

-- Unlogged.
CREATE UNLOGGED TABLE scratch (v vector(3));
INSERT INTO scratch SELECT ARRAY[i, 0, 1]::real[]::vector FROM generate_series(1, 20) i;
CREATE INDEX scratch_hnsw ON scratch USING hnsw (v vector_l2_ops);
SELECT elements, orphan_count FROM ruvector_dag_hnsw_health('scratch_hnsw');
SELECT c ->> 'status' AS status FROM ruvector_dag_health_check('scratch') c;

-- One's own temporary table: can be read, is not watched.
CREATE TEMPORARY TABLE own_temp (v vector(3));
INSERT INTO own_temp SELECT ARRAY[i, 0, 1]::real[]::vector FROM generate_series(1, 20) i;
CREATE INDEX own_temp_hnsw ON own_temp USING hnsw (v vector_l2_ops);
SELECT elements, orphan_count FROM ruvector_dag_hnsw_health('own_temp_hnsw');
\set VERBOSITY sqlstate
SELECT ruvector_dag_health_check('own_temp');
\set VERBOSITY default

-- Several on one table, one of them with a condition, one on an expression.
CREATE TABLE many (id int, a vector(3), b vector(3));
INSERT INTO many SELECT i, ARRAY[i, 0, 1]::real[]::vector, ARRAY[1, i, 0]::real[]::vector FROM generate_series(1, 40) i;
CREATE INDEX many_a ON many USING hnsw (a vector_l2_ops);
CREATE INDEX many_b ON many USING hnsw (b vector_cosine_ops) WHERE id <= 10;
CREATE INDEX many_e ON many USING hnsw ((a::real[]::vector(3)) vector_ip_ops);
SELECT i ->> 'index_name' AS index_name, i -> 'elements' AS elements, i -> 'issues' AS issues
FROM ruvector_dag_health_check('many') c, jsonb_array_elements(c -> 'indexes') i ORDER BY 1;
