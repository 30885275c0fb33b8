//! Every fault of `check::faults`, planted, found, and mended: in place where pgvector's pages can be
//! made right one by one, else by a rebuild.

use postgres::Client;
use serde_json::Value;

use super::plant::{Plant, damage, quiet};
use super::{identity, last};
use crate::check::breaches;
use crate::check::faults::{FAULTS, Fault, LIST_FAULTS, list_page, ordinary};
use crate::check::pages::File;
use crate::harness::{skip, vacuum};
use crate::healing::stage::{Stage, options};

/// Faults of a graph that only a rebuild mends.
const REBUILT: [&str; 10] = [
    "shared_tuple",
    "no_tuple",
    "magic",
    "chain_with_a_loop",
    "off_the_chain",
    "zeroed_page",
    "another_kind",
    "torn_page",
    "line_pointer",
    "no_such_tuple",
];
/// What pgvector makes itself is no issue; it goes with whatever else is mended.
const NO_ISSUE: &str = "twice";

/// A table with an index for each fault, damaged.
fn planted(faults: &[&'static Fault], using: &str) -> Stage {
    let stage = quiet(options().setting("ruvector.dag_healing_interval_ms", 86_400_000));
    for fault in faults {
        let table = fault.name;
        stage.execute(&format!(
            "CREATE TABLE {table} (id int, v vector(3));
             INSERT INTO {table}
                 SELECT i, ARRAY[i % 17, i % 23, i]::real[]::vector FROM generate_series(1, 400) i;
             CREATE INDEX {table}_idx ON {table} USING {using};
             DELETE FROM {table} WHERE id % 10 = 0"
        ));
        vacuum(&mut stage.client(), table);
    }
    let names: Vec<String> = faults.iter().map(|f| format!("{}_idx", f.name)).collect();
    let plants: Vec<_> = faults
        .iter()
        .map(|fault| |file: &mut File| _ = (fault.plant)(file))
        .collect();
    let named: Vec<Plant> = names
        .iter()
        .zip(&plants)
        .map(|(name, plant)| (name.as_str(), plant as &dyn Fn(&mut File)))
        .collect();
    damage(&stage, &named);
    stage
}

/// Has a table looked at; the issues found.
fn issues(client: &mut Client, table: &str) -> Vec<String> {
    let sql = "SELECT ruvector_dag_health_check($1::text::regclass)";
    let check = client.query_one(sql, &[&table]);
    let check: Value = check.unwrap_or_else(|e| panic!("{table}: {e:?}")).get(0);
    let issues = check["indexes"][0]["issues"].as_array().expect("issues");
    issues
        .iter()
        .filter_map(|id| Some(id.as_str()?.to_owned()))
        .collect()
}

/// Has every issue of a table repaired; how the last of them was.
fn repaired(stage: &Stage, table: &str) -> String {
    let mut client = stage.client();
    let found = issues(&mut client, table);
    assert!(!found.is_empty(), "{table}: nothing is found");
    for issue in found {
        let sql = "SELECT ruvector_dag_repair($1::text::regclass, $2)";
        let asked = client.query_one(sql, &[&table, &issue]);
        asked.unwrap_or_else(|error| panic!("{table}: {error:?}"));
        stage.ended_repair(table);
    }
    last(stage, table)
}

/// What is wrong with an index after a repair, for whoever uses it, too.
fn still_wrong(stage: &Stage, table: &str) -> Vec<String> {
    let index = format!("{table}_idx");
    let mut client = stage.client();
    let checked = |client: &mut Client| -> Vec<String> {
        breaches(client, &index, true)
            .into_iter()
            .map(|breach| format!("{breach:?}"))
            .collect()
    };
    let mut wrong = checked(&mut client);
    let lost = format!(
        "SET enable_seqscan = off; SET ivfflat.probes = 4;
         DO $$ BEGIN
             IF EXISTS (SELECT FROM {table} a WHERE a.id <>
                        (SELECT id FROM {table} b ORDER BY b.v <-> a.v LIMIT 1)) THEN
                 RAISE 'a row does not find itself';
             END IF;
             IF (SELECT count(*) <> count(DISTINCT id) FROM
                 (SELECT id FROM {table} ORDER BY v <-> '[0,0,0]' LIMIT 40) found) THEN
                 RAISE 'a row is found twice';
             END IF;
         END $$;
         INSERT INTO {table} SELECT i, ARRAY[i % 7, i % 11, i]::real[]::vector
             FROM generate_series(401, 450) i;
         UPDATE {table} SET v = v + '[0.5,0,0]' WHERE id % 9 = 0;
         DELETE FROM {table} WHERE id % 7 = 0"
    );
    wrong.extend(client.batch_execute(&lost).err().map(|e| format!("{e:?}")));
    vacuum(&mut client, table);
    wrong.extend(checked(&mut client));
    wrong
}

#[test]
fn what_can_be_mended_in_place_is_and_the_rest_is_rebuilt() {
    let faults: Vec<&Fault> = FAULTS.iter().collect();
    let stage = planted(&faults, "hnsw (v vector_l2_ops) WITH (m = 6)");
    if stage.server.pgvector_version() < Some((0, 8, 0)) {
        return skip(
            "what_can_be_mended_in_place_is_and_the_rest_is_rebuilt",
            "versions of tuples came with pgvector 0.8.0",
        );
    }
    let mut wrong = Vec::new();
    for fault in faults {
        let table = fault.name;
        let index = format!("{table}_idx");
        if table == NO_ISSUE {
            assert_eq!(issues(&mut stage.client(), table), Vec::<String>::new());
            continue;
        }
        let before = identity(&stage, &index);
        let (how, same) = match REBUILT.contains(&table) {
            true => ("index_rebuild succeeded", false),
            false => ("in_place succeeded", true),
        };
        let repair = repaired(&stage, table);
        if repair != how || (identity(&stage, &index) == before) != same {
            wrong.push(format!("{table}: {repair}"));
            continue;
        }
        for rest in still_wrong(&stage, table) {
            wrong.push(format!("{table}: {rest}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn lists_get_their_own_pages_to_insert_into_and_all_other_damage_to_them_is_rebuilt() {
    let faults: Vec<&Fault> = LIST_FAULTS.iter().collect();
    let stage = planted(&faults, "ivfflat (v vector_l2_ops) WITH (lists = 4)");
    let mut wrong = Vec::new();
    for fault in faults {
        let index = format!("{}_idx", fault.name);
        let before = identity(&stage, &index);
        let (how, same) = match fault.name == "list_inserts_elsewhere" {
            true => ("in_place succeeded", true),
            false => ("index_rebuild succeeded", false),
        };
        let repair = repaired(&stage, fault.name);
        if repair != how || (identity(&stage, &index) == before) != same {
            wrong.push(format!("{}: {repair}", fault.name));
            continue;
        }
        let rest = still_wrong(&stage, fault.name).into_iter();
        wrong.extend(rest.map(|rest| format!("{}: {rest}", fault.name)));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn entries_for_rows_past_the_end_of_the_table_keep_nobody_from_rebuilding() {
    // So many of them that some are drawn for the comparison.
    const PAST_THE_TABLE: Fault = Fault {
        name: "past_the_table",
        plant: |file| {
            let start = list_page(file, 1);
            for nth in 1..=40 {
                file.put_place((start, nth), 0, (30_000, nth));
            }
            (start, 1)
        },
        severity: "error",
        check: "row_of_entry_missing",
        heap: true,
    };
    let stage = planted(
        &[&PAST_THE_TABLE],
        "ivfflat (v vector_l2_ops) WITH (lists = 4)",
    );
    assert_eq!(
        repaired(&stage, PAST_THE_TABLE.name),
        "index_rebuild succeeded"
    );
    assert_eq!(
        still_wrong(&stage, PAST_THE_TABLE.name),
        Vec::<String>::new()
    );
}

#[test]
fn where_it_is_not_mended_in_place_a_rebuild_follows() {
    // How long its tuple is proves that its links are of another level than the element says.
    const ANOTHER_LEVEL: Fault = Fault {
        name: "another_level",
        plant: |file| {
            let element = ordinary(file);
            file.item(element)[1] += 1;
            element
        },
        severity: "warning",
        check: "neighbor_count",
        heap: false,
    };
    let stage = planted(&[&ANOTHER_LEVEL], "hnsw (v vector_l2_ops) WITH (m = 6)");
    assert_eq!(
        repaired(&stage, ANOTHER_LEVEL.name),
        "index_rebuild succeeded"
    );
    let reason: String = stage.value(
        "SELECT details->>'in_place' FROM ruvector_dag_repair_history() ORDER BY repair_id LIMIT 1",
    );
    assert_eq!(reason, "there are still 1 neighbor_count");
    assert_eq!(
        still_wrong(&stage, ANOTHER_LEVEL.name),
        Vec::<String>::new()
    );
}
