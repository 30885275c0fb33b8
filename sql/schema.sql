-- What the healer remembers. Written by its workers only; read through the views and functions
-- in functions.sql. Index and table are known by name and definition; OIDs are of the moment.

CREATE SCHEMA ruvector_dag_healing;

-- The last look at each index.
CREATE TABLE ruvector_dag_healing.index_state (
    identity text PRIMARY KEY,
    look jsonb NOT NULL,
    checked_at timestamptz NOT NULL,
    build_ms_per_element double precision
);

CREATE TABLE ruvector_dag_healing.issue (
    issue_id text PRIMARY KEY,
    identity text NOT NULL,
    category text NOT NULL,
    issue_type text NOT NULL,
    severity text NOT NULL CHECK (severity IN ('low', 'medium', 'high', 'critical')),
    priority integer NOT NULL,
    table_oid oid NOT NULL,
    index_oid oid NOT NULL,
    table_name text NOT NULL,
    index_name text NOT NULL,
    status text NOT NULL
        CHECK (status IN ('open', 'repairing', 'resolved', 'unresolved', 'suppressed')),
    root_cause text NOT NULL,
    recommended_repair text NOT NULL,
    evidence jsonb NOT NULL,
    impact jsonb NOT NULL,
    refusal jsonb,
    detected_at timestamptz NOT NULL DEFAULT now(),
    last_seen_at timestamptz NOT NULL DEFAULT now(),
    resolved_at timestamptz,
    failures integer NOT NULL DEFAULT 0,
    last_repair timestamptz,
    last_repair_ms double precision NOT NULL DEFAULT 0,
    suppressed_until timestamptz
);

CREATE SEQUENCE ruvector_dag_healing.repair_id_seq;

-- Every repair. The row is committed before the first step; a step's mark is committed together
-- with its effect.
CREATE TABLE ruvector_dag_healing.repair (
    repair_id bigint PRIMARY KEY,
    issue_id text NOT NULL,
    issue_type text NOT NULL,
    strategy text NOT NULL,
    repair_type text NOT NULL,
    identity text NOT NULL,
    table_oid oid NOT NULL,
    index_oid oid NOT NULL,
    table_name text NOT NULL,
    index_name text NOT NULL,
    initiated_by text NOT NULL,
    status text NOT NULL CHECK (status IN ('running', 'succeeded', 'rolled_back', 'failed')),
    started_at timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz,
    step text,
    step_at timestamptz,
    -- The index that is not in place: the replacement before the swap, the replaced one after.
    spare_index oid,
    spare_name text,
    swapped boolean NOT NULL DEFAULT false,
    -- Whether entries of the index are on their way from list to list.
    moving boolean NOT NULL DEFAULT false,
    -- Until when the replaced index is kept so that the repair can be undone.
    keep_until timestamptz,
    before jsonb,
    after jsonb,
    details jsonb NOT NULL DEFAULT '{}',
    error text,
    -- Where it was begun: a copied or restored database does not take up another's repairs.
    system_identifier text NOT NULL,
    database_oid oid NOT NULL
);
CREATE INDEX ON ruvector_dag_healing.repair (started_at);

-- What repairs in place change: written before the pages are, so that it can be taken back.
CREATE TABLE ruvector_dag_healing.edits (
    repair_id bigint NOT NULL REFERENCES ruvector_dag_healing.repair ON DELETE CASCADE,
    batch integer NOT NULL,
    edits jsonb NOT NULL,
    -- Which of them were made; null until that is known.
    made integer,
    lost jsonb,
    PRIMARY KEY (repair_id, batch)
);

-- Rows that a repair takes out of an index to put them back: written before they are taken out, gone
-- once they are back.
CREATE TABLE ruvector_dag_healing.detached (
    repair_id bigint NOT NULL REFERENCES ruvector_dag_healing.repair ON DELETE CASCADE,
    block bigint NOT NULL,
    "offset" integer NOT NULL,
    PRIMARY KEY (repair_id, block, "offset")
);

CREATE TABLE ruvector_dag_healing.metrics (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    checks_performed bigint NOT NULL DEFAULT 0,
    issues_detected bigint NOT NULL DEFAULT 0,
    repairs_initiated bigint NOT NULL DEFAULT 0,
    repairs_successful bigint NOT NULL DEFAULT 0,
    repairs_failed bigint NOT NULL DEFAULT 0,
    repairs_rolled_back bigint NOT NULL DEFAULT 0,
    total_repair_time_ms double precision NOT NULL DEFAULT 0,
    last_check_time timestamptz,
    last_cycle jsonb
);
INSERT INTO ruvector_dag_healing.metrics DEFAULT VALUES;

-- Queries that statements asked, a sample of each index's, to measure with. What people ask is their
-- own: nobody is granted anything on this table, those who may read every table see none of its
-- rows, and as it is unlogged, it is in no WAL, backup, standby, dump or subscription. It is empty
-- after a crash.
CREATE UNLOGGED TABLE ruvector_dag_healing.query_sample (
    identity text NOT NULL,
    place integer NOT NULL,
    value bytea NOT NULL,
    captured_at timestamptz NOT NULL,
    PRIMARY KEY (identity, place)
);
CREATE INDEX ON ruvector_dag_healing.query_sample (captured_at);
ALTER TABLE ruvector_dag_healing.query_sample ENABLE ROW LEVEL SECURITY;
ALTER TABLE ruvector_dag_healing.query_sample ALTER COLUMN value SET STORAGE EXTERNAL;
