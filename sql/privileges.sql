-- Tables are the workers'; everybody may call the functions, which check what they may see and do.

REVOKE ALL ON ALL TABLES IN SCHEMA ruvector_dag_healing FROM PUBLIC;
GRANT USAGE ON SCHEMA ruvector_dag_healing TO PUBLIC;
GRANT SELECT ON ruvector_dag_healing.visible_issue, ruvector_dag_healing.visible_repair TO PUBLIC;
GRANT SELECT ON ruvector_dag_repair_progress, ruvector_dag_inspection_progress TO PUBLIC;
GRANT SELECT ON ruvector_dag_healing.issue, ruvector_dag_healing.repair,
                ruvector_dag_healing.index_state, ruvector_dag_healing.metrics TO pg_monitor;
