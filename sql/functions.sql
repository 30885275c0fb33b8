-- What people call. Functions in C check privileges themselves; those in SQL read through views
-- that show a row to the table's owner and to pg_monitor.

CREATE VIEW ruvector_dag_healing.visible_issue WITH (security_barrier) AS
    SELECT i.* FROM ruvector_dag_healing.issue i
    LEFT JOIN pg_catalog.pg_class t ON t.oid = i.table_oid
    WHERE pg_catalog.pg_has_role('pg_monitor', 'USAGE')
       OR pg_catalog.pg_has_role(t.relowner, 'USAGE');

CREATE VIEW ruvector_dag_healing.visible_repair WITH (security_barrier) AS
    SELECT r.* FROM ruvector_dag_healing.repair r
    LEFT JOIN pg_catalog.pg_class t ON t.oid = r.table_oid
    WHERE pg_catalog.pg_has_role('pg_monitor', 'USAGE')
       OR pg_catalog.pg_has_role(t.relowner, 'USAGE');

-- The table of a relation, its partitions, and their indexes; an error for what is neither a
-- table nor an index.
CREATE FUNCTION ruvector_dag_healing.targets(relation regclass) RETURNS SETOF oid
    STABLE STRICT LANGUAGE c AS 'MODULE_PATHNAME', 'targets_wrapper';

CREATE FUNCTION ruvector_dag_healing_status() RETURNS jsonb
    VOLATILE STRICT LANGUAGE c AS 'MODULE_PATHNAME', 'ruvector_dag_healing_status_wrapper';

CREATE FUNCTION ruvector_dag_health_check(relation regclass) RETURNS jsonb
    VOLATILE STRICT LANGUAGE c AS 'MODULE_PATHNAME', 'ruvector_dag_health_check_wrapper';

CREATE FUNCTION ruvector_dag_detected_issues(relation regclass DEFAULT NULL)
    RETURNS TABLE (issue_id text, category text, issue_type text, severity text, priority integer,
                   relation regclass, index regclass, status text, root_cause text,
                   recommended_repair text, evidence jsonb, impact jsonb,
                   detected_at timestamptz, last_seen_at timestamptz)
    STABLE LANGUAGE sql SET search_path = pg_catalog, pg_temp
    AS $$
    -- Checks what was named even where there is no row to compare it with.
    SELECT FROM ruvector_dag_healing.targets($1);
    SELECT i.issue_id, i.category, i.issue_type, i.severity, i.priority,
           i.table_oid::regclass, i.index_oid::regclass, i.status, i.root_cause,
           i.recommended_repair,
           CASE WHEN i.refusal IS NULL THEN i.evidence
                ELSE i.evidence || jsonb_build_object('refusal', i.refusal) END,
           i.impact, i.detected_at, i.last_seen_at
    FROM ruvector_dag_healing.visible_issue i
    WHERE i.status <> 'resolved'
      AND ($1 IS NULL OR i.index_oid IN (SELECT ruvector_dag_healing.targets($1))
                      OR i.table_oid IN (SELECT ruvector_dag_healing.targets($1)))
    ORDER BY i.priority DESC, i.detected_at, i.issue_id
    $$;

CREATE FUNCTION ruvector_dag_repair(relation regclass, issue_id text,
                                    dry_run boolean DEFAULT false) RETURNS jsonb
    VOLATILE STRICT LANGUAGE c AS 'MODULE_PATHNAME', 'ruvector_dag_repair_wrapper';

CREATE FUNCTION ruvector_dag_repair_history(relation regclass DEFAULT NULL, days integer DEFAULT 7)
    RETURNS TABLE (repair_id bigint, issue_id text, issue_type text, strategy text,
                   repair_type text, relation regclass, index regclass, initiated_by text,
                   status text, started_at timestamptz, finished_at timestamptz,
                   duration_ms double precision, before jsonb, after jsonb, details jsonb,
                   error text)
    STABLE LANGUAGE sql SET search_path = pg_catalog, pg_temp
    AS $$
    -- Checks what was named even where there is no row to compare it with.
    SELECT FROM ruvector_dag_healing.targets($1);
    SELECT r.repair_id, r.issue_id, r.issue_type, r.strategy, r.repair_type,
           r.table_oid::regclass, r.index_oid::regclass, r.initiated_by, r.status,
           r.started_at, r.finished_at,
           extract(epoch FROM r.finished_at - r.started_at)::double precision * 1000,
           r.before, r.after,
           r.details || jsonb_strip_nulls(jsonb_build_object(
               'step', r.step, 'keep_until', r.keep_until, 'replaced_index', r.spare_name)),
           r.error
    FROM ruvector_dag_healing.visible_repair r
    WHERE r.started_at >= now() - least(greatest($2, 0), 36500) * interval '1 day'
      AND ($1 IS NULL OR r.index_oid IN (SELECT ruvector_dag_healing.targets($1))
                      OR r.table_oid IN (SELECT ruvector_dag_healing.targets($1)))
    ORDER BY r.repair_id DESC
    $$;

CREATE FUNCTION ruvector_dag_hnsw_health(index regclass)
    RETURNS TABLE (index_name text, table_name text, connectivity_score real,
                   layer_distribution bigint[], entry_point_quality real, orphan_count bigint,
                   fragmentation real, elements bigint, live_elements bigint,
                   deleted_elements bigint, heap_tids bigint, zero_in_degree bigint,
                   low_degree bigint, mean_degree_fill real, dangling_edges bigint,
                   pages bigint, sampled boolean, last_checked timestamptz)
    VOLATILE STRICT LANGUAGE c AS 'MODULE_PATHNAME', 'ruvector_dag_hnsw_health_wrapper';

CREATE FUNCTION ruvector_dag_ivfflat_health(index regclass)
    RETURNS TABLE (index_name text, table_name text, cluster_balance real, empty_clusters bigint,
                   centroid_quality real, training_staleness_hours real, lists bigint,
                   vectors bigint, largest_cluster bigint, imbalance_factor real, pages bigint,
                   sampled boolean, last_checked timestamptz)
    VOLATILE STRICT LANGUAGE c AS 'MODULE_PATHNAME', 'ruvector_dag_ivfflat_health_wrapper';

CREATE FUNCTION ruvector_dag_index_check(index regclass, heap boolean DEFAULT false)
    RETURNS TABLE (severity text, check_name text, block bigint, item integer, message text)
    VOLATILE STRICT LANGUAGE c AS 'MODULE_PATHNAME', 'ruvector_dag_index_check_wrapper';

-- What ruvector_dag_recall returns.
CREATE TYPE ruvector_dag_healing.measured_recall AS
    (recall double precision, ci_low double precision, ci_high double precision, queries integer,
     k integer, source text, p50_ms double precision, p99_ms double precision);

CREATE FUNCTION ruvector_dag_recall(index regclass, k integer DEFAULT 10,
                                    queries integer DEFAULT 200)
    RETURNS SETOF ruvector_dag_healing.measured_recall
    VOLATILE STRICT LANGUAGE c AS 'MODULE_PATHNAME', 'ruvector_dag_recall_wrapper';

CREATE FUNCTION ruvector_dag_tune(index regclass, target_recall real DEFAULT NULL)
    RETURNS TABLE (parameter text, current integer, recommended integer, recall double precision,
                   ci_low double precision, ci_high double precision, p50_ms double precision,
                   curve jsonb)
    VOLATILE LANGUAGE c AS 'MODULE_PATHNAME', 'ruvector_dag_tune_wrapper';

CREATE FUNCTION ruvector_dag_rollback(repair_id bigint) RETURNS jsonb
    VOLATILE STRICT LANGUAGE c AS 'MODULE_PATHNAME', 'ruvector_dag_rollback_wrapper';

CREATE FUNCTION ruvector_dag_cancel_repair(repair_id bigint) RETURNS boolean
    VOLATILE STRICT LANGUAGE c AS 'MODULE_PATHNAME', 'ruvector_dag_cancel_repair_wrapper';

CREATE PROCEDURE ruvector_dag_wait(repair_id bigint)
    LANGUAGE c AS 'MODULE_PATHNAME', 'ruvector_dag_wait_wrapper';

CREATE FUNCTION ruvector_dag_healing_cycle() RETURNS void
    VOLATILE STRICT LANGUAGE c AS 'MODULE_PATHNAME', 'ruvector_dag_healing_cycle_wrapper';

-- Repairs under way, with the progress of the build or of the edits in place.
CREATE VIEW ruvector_dag_repair_progress AS
    SELECT r.repair_id, r.table_oid::regclass AS relation, r.index_oid::regclass AS index,
           r.strategy, r.step AS phase,
           CASE WHEN p.tuples_total > 0 THEN p.tuples_done
                WHEN p.index_relid IS NULL THEN (r.details->'progress'->>'done')::bigint
                ELSE p.blocks_done END AS done,
           CASE WHEN p.tuples_total > 0 THEN p.tuples_total
                WHEN p.index_relid IS NULL THEN (r.details->'progress'->>'total')::bigint
                ELSE p.blocks_total END AS total,
           p.phase AS build_phase,
           extract(epoch FROM clock_timestamp() - r.started_at) AS elapsed_s,
           extract(epoch FROM r.started_at - clock_timestamp())
               + (r.details->'plan'->'estimate'->>'duration_ms')::double precision / 1000
               AS eta_s
    FROM ruvector_dag_healing.visible_repair r
    LEFT JOIN pg_catalog.pg_stat_progress_create_index p ON p.index_relid = r.spare_index
    WHERE r.status = 'running';

CREATE FUNCTION ruvector_dag_healing.readings()
    RETURNS TABLE (pid integer, index_oid oid, phase text, pages_done bigint, pages_total bigint)
    VOLATILE STRICT LANGUAGE c AS 'MODULE_PATHNAME', 'readings_wrapper';

-- Indexes being read, by sessions and in the background. Pages that are read again are counted
-- again, so there can be more of them than the index has.
CREATE VIEW ruvector_dag_inspection_progress AS
    SELECT r.pid, i.indrelid::regclass AS relation, r.index_oid::regclass AS index, r.phase,
           r.pages_done, r.pages_total
    FROM ruvector_dag_healing.readings() r
    JOIN pg_catalog.pg_index i ON i.indexrelid = r.index_oid
    JOIN pg_catalog.pg_class t ON t.oid = i.indrelid
    WHERE pg_catalog.pg_has_role('pg_monitor', 'USAGE')
       OR pg_catalog.pg_has_role(t.relowner, 'USAGE');
