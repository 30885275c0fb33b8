-- The settings: defaults, units, ranges, who may set them, what a refusal says.
\set SHOW_CONTEXT never

SELECT substr(name, 22) AS setting, setting AS value, unit, context, min_val, max_val
FROM pg_settings WHERE name LIKE 'ruvector.dag\_healing\_%' ORDER BY name;

-- With their units.
SHOW ruvector.dag_healing_enabled;
SHOW ruvector.dag_healing_interval_ms;
SHOW ruvector.dag_healing_repair_timeout;
SHOW ruvector.dag_healing_lock_timeout;
SHOW ruvector.dag_healing_window;

-- The status function shows each of them.
SELECT key, value FROM jsonb_each(ruvector_dag_healing_status() -> 'config') ORDER BY key;
SELECT count(*) AS missing_in_status FROM pg_settings s
WHERE name LIKE 'ruvector.dag\_healing\_%'
  AND NOT ruvector_dag_healing_status() -> 'config' ? s.name;

-- A session's own values hold in that session.
SET ruvector.dag_healing_repair_timeout = '2min';
SHOW ruvector.dag_healing_repair_timeout;
SELECT ruvector_dag_healing_status() -> 'config' -> 'ruvector.dag_healing_repair_timeout' AS repair_timeout;
SET ruvector.dag_healing_enabled = off;
SELECT ruvector_dag_healing_status() -> 'enabled' AS enabled;
RESET ALL;
SELECT ruvector_dag_healing_status() -> 'enabled' AS enabled;

-- Out of range.
SET ruvector.dag_healing_interval_ms = 99;
\echo :LAST_ERROR_SQLSTATE
SET ruvector.dag_healing_interval_ms = 86400001;
SET ruvector.dag_healing_threshold = 1.5;
\echo :LAST_ERROR_SQLSTATE
SET ruvector.dag_healing_threshold = 'nan';
SET ruvector.dag_healing_anomaly_sensitivity = -0.1;
SET ruvector.dag_healing_history_retention_days = 0;
SET ruvector.dag_healing_history_retention_days = 3651;
SET ruvector.dag_healing_io_limit = -1;
\set VERBOSITY sqlstate
SET ruvector.dag_healing_repair_timeout = 0;
SET ruvector.dag_healing_repair_timeout = '25h';
SET ruvector.dag_healing_lock_timeout = 0;
SET ruvector.dag_healing_lock_timeout = '61s';
\set VERBOSITY default
ALTER SYSTEM SET ruvector.dag_healing_max_concurrent_repairs = 33;
\echo :LAST_ERROR_SQLSTATE
ALTER SYSTEM SET ruvector.dag_healing_max_concurrent_repairs = 0;
ALTER DATABASE regress SET ruvector.dag_healing_interval_ms = 1;
\echo :LAST_ERROR_SQLSTATE

-- The ends of the ranges are in them.
SET ruvector.dag_healing_interval_ms = 100;
SET ruvector.dag_healing_interval_ms = 86400000;
SET ruvector.dag_healing_threshold = 0;
SET ruvector.dag_healing_threshold = 1;
SET ruvector.dag_healing_repair_timeout = '1d';
SET ruvector.dag_healing_lock_timeout = '1min';
SET ruvector.dag_healing_io_limit = 0;

-- No number, no unit of time.
SET ruvector.dag_healing_interval_ms = 'often';
SET ruvector.dag_healing_lock_timeout = '5 apples';
SET ruvector.dag_healing_enabled = 'perhaps';

-- The window.
SET ruvector.dag_healing_window = '22:00-05:00';
SHOW ruvector.dag_healing_window;
SET ruvector.dag_healing_window = '';
SET ruvector.dag_healing_window = '22-5';
\echo :LAST_ERROR_SQLSTATE
SET ruvector.dag_healing_window = '24:00-05:00';
SET ruvector.dag_healing_window = '05:00-05:00';
SET ruvector.dag_healing_window = '05:60-06:00';
SET ruvector.dag_healing_window = 'nights';
SET ruvector.dag_healing_window = '+1:00-05:00';
SHOW ruvector.dag_healing_window;

-- Whose queries are captured.
SHOW ruvector.dag_healing_track;
SET ruvector.dag_healing_track = 'ALL';
SELECT ruvector_dag_healing_status() #>> '{config,ruvector.dag_healing_track}' AS track;
SET ruvector.dag_healing_track = 'some';
\echo :LAST_ERROR_SQLSTATE
SET ruvector.dag_healing_track = off;
RESET ruvector.dag_healing_track;

-- Counted for the whole cluster, so not to be set anywhere else than there.
SET ruvector.dag_healing_max_concurrent_repairs = 2;
\echo :LAST_ERROR_SQLSTATE
ALTER DATABASE regress SET ruvector.dag_healing_max_concurrent_repairs = 2;

-- Other people may look and not touch, unless they were granted it.
CREATE ROLE settings_user;
SET ROLE settings_user;
SHOW ruvector.dag_healing_interval_ms;
SET ruvector.dag_healing_enabled = off;
\echo :LAST_ERROR_SQLSTATE
SET ruvector.dag_healing_interval_ms = 1000;
SET ruvector.dag_healing_window = '';
RESET ROLE;
GRANT SET ON PARAMETER ruvector.dag_healing_interval_ms TO settings_user;
SET ROLE settings_user;
SET ruvector.dag_healing_interval_ms = 1000;
SHOW ruvector.dag_healing_interval_ms;
RESET ROLE;

-- The prefix belongs to others as well.
SET ruvector.something_else = 'kept';
SHOW ruvector.something_else;
