//! Vector indexes in the catalog: which there are, and what a name given by a user stands for.

use pgrx::PgSqlErrorCode as Code;
use pgrx::pg_sys;
use ruvector_dag_healing_engine::model::IndexInfo;
use ruvector_dag_healing_engine::ports::PortError;
use ruvector_dag_healing_engine::vector_index::release::Release;
use ruvector_dag_healing_engine::vector_index::shape::IndexShape;
use serde::Deserialize;
use serde_json::json;

use super::error::{UserError, or_raise, raise};
use super::privilege::as_owner;
use super::{lifecycle, sql};

/// Vector indexes as [`IndexInfo`], of `$1.relations` and their partitions, or all where that is
/// null. Leftovers of our own repairs are left out unless asked for by name.
const INDEXES: &str = "
WITH RECURSIVE chosen AS (
    SELECT r::oid AS oid FROM jsonb_array_elements_text($1->'relations') r
  UNION
    SELECT h.inhrelid FROM pg_inherits h JOIN chosen ON h.inhparent = chosen.oid
)
SELECT jsonb_build_object(
    'index_oid', i.indexrelid::bigint,
    'table_oid', i.indrelid::bigint,
    'index_name', quote_ident(xn.nspname) || '.' || quote_ident(x.relname),
    'table_name', quote_ident(tn.nspname) || '.' || quote_ident(t.relname),
    'definition', pg_get_indexdef(i.indexrelid),
    'key', pg_get_indexdef(i.indexrelid, 1, true),
    'access_method', am.amname,
    'relfilenode', x.relfilenode::bigint,
    'valid', i.indisvalid,
    'under_construction', NOT i.indisvalid AND EXISTS (
        SELECT FROM pg_locks l
        WHERE l.locktype = 'relation' AND l.granted AND l.relation = i.indrelid
          AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
          AND l.pid <> pg_backend_pid()
          AND l.mode IN ('ShareUpdateExclusiveLock', 'ShareLock', 'ShareRowExclusiveLock',
                         'ExclusiveLock', 'AccessExclusiveLock')),
    'blocks', greatest(x.relpages, 0),
    'modifications', coalesce(s.n_tup_ins + s.n_tup_upd + s.n_tup_del, 0),
    'vacuums', coalesce(s.vacuum_count + s.autovacuum_count, 0),
    'live_rows', coalesce(s.n_live_tup, 0),
    'dead_rows', coalesce(s.n_dead_tup, 0),
    'shape', (
        SELECT CASE WHEN k.metric IS NOT NULL AND k.value_type IS NOT NULL THEN to_jsonb(k) END
        FROM (
            SELECT ty.type AS value_type, me.metric, no.normalized,
                   (SELECT nullif(a.atttypmod, -1) FROM pg_attribute a
                    WHERE a.attrelid = x.oid AND a.attnum = 1) AS dimensions,
                   coalesce((SELECT o.option_value::bigint FROM pg_options_to_table(x.reloptions) o
                             WHERE o.option_name = CASE am.amname WHEN 'hnsw' THEN 'm' ELSE 'lists' END),
                            CASE am.amname WHEN 'hnsw' THEN 16 ELSE 100 END) AS option
            FROM pg_opclass c
            JOIN pg_amproc f ON f.amprocfamily = c.opcfamily AND f.amprocnum = 1
                            AND f.amproclefttype = c.opcintype AND f.amprocrighttype = c.opcintype
            JOIN pg_proc p ON p.oid = f.amproc,
            LATERAL (SELECT CASE WHEN t.typname IN ('vector', 'halfvec', 'bit', 'sparsevec')
                                 THEN t.typname END AS type
                     FROM pg_type t WHERE t.oid = c.opcintype) ty,
            LATERAL (SELECT EXISTS (
                         SELECT FROM pg_amproc g
                         WHERE g.amprocfamily = c.opcfamily AND g.amprocnum = 2
                           AND g.amproclefttype = c.opcintype) AS normalized) no,
            -- By the name in pgvector's library: that of the SQL function can be changed.
            LATERAL (SELECT CASE
                         WHEN p.prosrc LIKE '%l2_squared_distance' THEN 'l2'
                         WHEN p.prosrc LIKE '%negative_inner_product' AND no.normalized THEN 'cosine'
                         WHEN p.prosrc LIKE '%negative_inner_product' THEN 'inner_product'
                         WHEN p.prosrc LIKE '%l1_distance' THEN 'l1'
                         WHEN p.prosrc LIKE '%hamming_distance' THEN 'hamming'
                         WHEN p.prosrc LIKE '%jaccard_distance' THEN 'jaccard' END AS metric) me
            WHERE c.oid = i.indclass[0]) k),
    'valid_twin', CASE WHEN NOT i.indisvalid THEN (
        SELECT quote_ident(xn.nspname) || '.' || quote_ident(v.relname)
        FROM pg_index w JOIN pg_class v ON v.oid = w.indexrelid
        WHERE w.indrelid = i.indrelid AND w.indisvalid
          AND regexp_replace(x.relname, '_cc(new|old)[0-9]*$', '') = v.relname
          AND x.relname <> v.relname
        LIMIT 1) END)
FROM pg_index i
JOIN pg_class x ON x.oid = i.indexrelid
JOIN pg_namespace xn ON xn.oid = x.relnamespace
JOIN pg_class t ON t.oid = i.indrelid
JOIN pg_namespace tn ON tn.oid = t.relnamespace
JOIN pg_am am ON am.oid = x.relam
LEFT JOIN pg_stat_all_tables s ON s.relid = t.oid
WHERE am.amname IN ('hnsw', 'ivfflat') AND x.relkind = 'i' AND i.indislive
  AND (x.relpersistence <> 't' OR $1 ? 'temporary')
  AND ($1->'relations' = 'null'
       OR i.indrelid IN (SELECT oid FROM chosen) OR i.indexrelid IN (SELECT oid FROM chosen))
  AND ($1 ? 'spares' OR NOT EXISTS (
        SELECT FROM ruvector_dag_healing.repair r
        WHERE r.spare_index = i.indexrelid AND NOT i.indisvalid
          AND r.database_oid = (SELECT oid FROM pg_database WHERE datname = current_database())))
ORDER BY x.relpages, i.indexrelid";

/// Every vector index to be watched in this database.
pub fn vector_indexes() -> Result<Vec<IndexInfo>, PortError> {
    sql::rows(INDEXES, &json!({"relations": null}))
}

/// The vector indexes of a table, a partitioned table with its partitions, or an index.
pub fn indexes_of(relation: u32) -> Result<Vec<IndexInfo>, PortError> {
    sql::rows(INDEXES, &json!({"relations": [relation.to_string()]}))
}

/// One index, leftovers of our own repairs included.
pub fn index(oid: u32) -> Result<Option<IndexInfo>, PortError> {
    let values = json!({"relations": [oid.to_string()], "spares": true});
    let found: Vec<IndexInfo> = sql::rows(INDEXES, &values)?;
    Ok(found.into_iter().find(|index| index.index_oid == oid))
}

/// One index that a session named, its own temporary ones included; raises an error if it is gone.
pub fn require_info(oid: u32, named: &Named) -> IndexInfo {
    let values = json!({"relations": [oid.to_string()], "spares": true, "temporary": true});
    let found: Vec<IndexInfo> = or_raise(as_owner(|| sql::rows(INDEXES, &values)));
    let found = found.into_iter().find(|index| index.index_oid == oid);
    found.unwrap_or_else(|| raise(PortError::Gone(format!("index {}", named.name))))
}

/// The shape of an index; raises an error if its operator class is not one of pgvector's.
pub fn require_shape(index: &IndexInfo) -> IndexShape {
    index.shape.clone().unwrap_or_else(|| {
        raise(
            UserError::new(
                Code::ERRCODE_FEATURE_NOT_SUPPORTED,
                format!(
                    "the operator class of {} is not one of pgvector's",
                    index.index_name
                ),
            )
            .detail("What its values are and how they are compared is not known.")
            .hint("Operator classes for vector, halfvec, bit and sparsevec are supported."),
        )
    })
}

/// What the catalog says of a relation that a user named.
#[derive(Debug, Deserialize)]
pub struct Named {
    /// Schema-qualified and quoted.
    pub name: String,
    /// `pg_class.relkind`.
    pub kind: String,
    /// The table: itself, or the one an index belongs to.
    pub table_oid: u32,
    /// Name of that table.
    pub table_name: String,
    /// Access method of an index.
    pub access_method: Option<String>,
    /// `pg_class.relpersistence`.
    pub persistence: String,
    /// A temporary table of another session.
    pub other_temp: bool,
}

const NAMED: &str = "
SELECT jsonb_build_object(
    'name', quote_ident(n.nspname) || '.' || quote_ident(c.relname),
    'kind', c.relkind,
    'table_oid', coalesce(i.indrelid, c.oid)::bigint,
    'table_name', quote_ident(tn.nspname) || '.' || quote_ident(t.relname),
    'access_method', CASE WHEN c.relkind IN ('i', 'I') THEN am.amname END,
    'persistence', c.relpersistence,
    'other_temp', pg_is_other_temp_schema(c.relnamespace))
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_index i ON i.indexrelid = c.oid
JOIN pg_class t ON t.oid = coalesce(i.indrelid, c.oid)
JOIN pg_namespace tn ON tn.oid = t.relnamespace
LEFT JOIN pg_am am ON am.oid = c.relam
WHERE c.oid = ($1->>'oid')::oid";

/// Looks up what a user named; raises an error if there is no such thing.
pub fn named(relation: u32) -> Named {
    let found = as_owner(|| sql::row(NAMED, &json!({"oid": relation.to_string()})));
    or_raise(found).unwrap_or_else(|| {
        raise(
            UserError::new(
                Code::ERRCODE_UNDEFINED_TABLE,
                format!("relation with OID {relation} does not exist"),
            )
            .hint("Pass the name of a table or of a vector index, such as 'documents'."),
        )
    })
}

/// Checks that a name stands for one index of an access method, out of those given, whose pages
/// can be read here.
pub fn require_index(named: &Named, access_methods: &[&str]) {
    let wrong = |what: String| UserError::new(Code::ERRCODE_WRONG_OBJECT_TYPE, what);
    match named.kind.as_str() {
        "i" => {}
        "I" => raise(
            wrong(format!("{} is a partitioned index", named.name))
                .detail("A partitioned index has no pages of its own.")
                .hint(
                    "Pass the index of one partition, or the table to ruvector_dag_health_check.",
                ),
        ),
        _ => {
            raise(wrong(format!("{} is not an index", named.name)).hint(
                "Pass an index; ruvector_dag_health_check takes a table and finds its indexes.",
            ))
        }
    }
    let actual = named.access_method.as_deref().unwrap_or("unknown");
    if !access_methods.contains(&actual) {
        let wanted = access_methods.join(" or ");
        raise(
            wrong(format!("{} is not an {wanted} index", named.name))
                .detail(format!("Its access method is {actual}."))
                .hint(format!("Pass an index made with USING {wanted}.")),
        );
    }
    require_readable(named);
}

/// Checks that a name stands for a table or index with vector indexes that can be read here.
pub fn require_relation(named: &Named) {
    if !matches!(named.kind.as_str(), "r" | "p" | "m" | "i" | "I") {
        raise(
            UserError::new(
                Code::ERRCODE_WRONG_OBJECT_TYPE,
                format!("{} is not a table or index", named.name),
            )
            .hint("Pass a table, a partitioned table, a materialized view or an index."),
        );
    }
    require_readable(named);
}

fn require_readable(named: &Named) {
    if named.other_temp {
        raise(
            UserError::new(
                Code::ERRCODE_FEATURE_NOT_SUPPORTED,
                "cannot access temporary tables of other sessions",
            )
            .detail(format!("{} lives in another session's memory.", named.name))
            .hint("Call this in the session that made the table."),
        );
    }
    if named.persistence == "u" && lifecycle::in_recovery() {
        raise(
            UserError::new(
                Code::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                "cannot access unlogged relations during recovery",
            )
            .hint("Call this on the primary: unlogged relations are not replicated."),
        );
    }
}

/// The error for a relation without vector indexes.
pub fn no_vector_index(named: &Named) -> UserError {
    UserError::new(
        Code::ERRCODE_UNDEFINED_OBJECT,
        format!("{} has no vector index", named.name),
    )
    .hint("Only pgvector's hnsw and ivfflat indexes on permanent and unlogged tables are watched.")
}

/// Whether the extension is installed in this database, and its schema version.
pub fn extension_version() -> Result<Option<String>, PortError> {
    sql::row(
        "SELECT to_jsonb(extversion) FROM pg_catalog.pg_extension \
         WHERE extname = 'ruvector_dag_healing' AND $1 IS NOT NULL",
        &json!({}),
    )
}

/// The release of pgvector that is installed on this server, whatever the extension was created with:
/// workers begin with its library. The highest that its scripts lead to, so that no file of any
/// other extension is read.
pub fn pgvector() -> Result<Option<Release>, PortError> {
    let versions: Vec<String> = sql::rows(
        "SELECT DISTINCT to_jsonb(p.target)
         FROM pg_catalog.pg_extension e, LATERAL pg_catalog.pg_extension_update_paths(e.extname) p
         WHERE e.extname = 'vector' AND $1 IS NOT NULL",
        &json!({}),
    )?;
    let releases = versions.iter().filter_map(|version| version.parse().ok());
    Ok(releases.max())
}

/// The settings that this database gives to new connections, as one text.
pub fn database_settings() -> Result<String, PortError> {
    let settings: Option<String> = sql::row(
        "SELECT to_jsonb(coalesce(string_agg(s.setconfig::text, ''), ''))
         FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase
         WHERE d.datname = current_database() AND s.setrole = 0 AND $1 IS NOT NULL",
        &json!({}),
    )?;
    Ok(settings.unwrap_or_default())
}

/// OID of an index's table, or none where it is gone.
pub fn table_of(index: u32) -> Option<u32> {
    // SAFETY: looks the index up in the catalog.
    let table = unsafe { pg_sys::IndexGetRelation(pg_sys::Oid::from(index), true) };
    (table != pg_sys::InvalidOid).then_some(table.to_u32())
}
