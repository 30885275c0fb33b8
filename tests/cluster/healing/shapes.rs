//! What the healer mends by itself keeps its tablespace, statistics target and place.

use super::stage::{LONG, Stage, fill, options};

#[test]
fn everything_about_an_index_outlives_its_repair() {
    let stage = Stage::start(options());
    stage.server.set("ruvector.dag_healing_enabled", "off");
    // In its own folder inside the data directory, whose owner the server is.
    let mut client = stage.client();
    for statement in [
        "SET allow_in_place_tablespaces = on",
        "CREATE TABLESPACE elsewhere LOCATION ''",
    ] {
        client.batch_execute(statement).expect("a tablespace");
    }
    stage.execute(&format!(
        "CREATE TABLE parts (id int, body text, embedding vector(16)) PARTITION BY RANGE (id);
         CREATE TABLE part PARTITION OF parts FOR VALUES FROM (0) TO (10000);
         CREATE TABLE other PARTITION OF parts FOR VALUES FROM (10000) TO (20000);
         {}
         CREATE INDEX parts_embedding ON parts USING hnsw (embedding vector_l2_ops)
             WITH (m = 12) TABLESPACE elsewhere;
         COMMENT ON INDEX part_embedding_idx IS 'the part''s own';
         CREATE TABLE typed (id int, body text, embedding vector(16));
         {}
         ALTER TABLE typed ALTER embedding TYPE real[];
         CREATE INDEX typed_embedding ON typed USING hnsw ((embedding::vector(16)) vector_l2_ops)
             WITH (ef_construction = 50) TABLESPACE elsewhere WHERE id >= 0;
         ALTER INDEX typed_embedding ALTER COLUMN 1 SET STATISTICS 321;",
        fill("parts", 1_500),
        fill("typed", 1_500)
    ));
    let described =
        "SELECT string_agg(concat_ws('|', c.relname, pg_get_indexdef(c.oid), c.reloptions,
                c.reltablespace, c.relowner, obj_description(c.oid, 'pg_class'), c.relispartition,
                (SELECT inhparent::regclass FROM pg_inherits WHERE inhrelid = c.oid),
                (SELECT attstattarget FROM pg_attribute WHERE attrelid = c.oid AND attnum = 1),
                (SELECT count(*) FROM pg_depend WHERE objid = c.oid), i.indisvalid),
            E'\\n' ORDER BY c.relname)
         FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am a ON a.oid = c.relam
         WHERE a.amname = 'hnsw'";
    let oids = "SELECT string_agg(oid::oid::text, ' ') FROM unnest('{part_embedding_idx,typed_embedding}'::regclass[]) oid";
    let (before, old): (String, String) = (stage.value(described), stage.value(oids));
    assert!(
        before.contains("the part's own") && before.contains("321"),
        "{before}"
    );

    stage.decay("part");
    stage.decay("typed");
    stage.server.reset("ruvector.dag_healing_enabled");
    stage.wait_until_healed("part");
    stage.wait_until_healed("typed");
    stage.let_an_hour_pass();
    stage
        .server
        .wait_until("the replaced indexes go", LONG, || {
            stage.value::<i64>("SELECT count(*) FROM pg_class WHERE relname ~ '_cc(new|old)'") == 0
        });
    assert_eq!(stage.value::<String>(described), before);
    let new: String = stage.value(oids);
    for (old, new) in old.split(' ').zip(new.split(' ')) {
        assert_ne!(old, new, "both were rebuilt");
    }
}
