use crate::check::breaches;
use crate::check::pages::File;

use super::plant::{Plant, damage, stage};
use super::{identity, last, look, orphans};
use crate::healing::stage::Stage;

/// A damaged index is mended by the healer, in place, and sound afterwards.
fn is_mended(stage: &Stage, table: &str) {
    let index = format!("{table}_embedding");
    let before = identity(stage, &index);
    look(stage, table);
    stage.server.reset("ruvector.dag_healing_enabled");
    stage.wait_until_healed(table);
    assert_eq!(last(stage, table), "in_place succeeded");
    assert_eq!(identity(stage, &index), before);
    assert_eq!(orphans(stage, &index), 0);
    assert_eq!(breaches(&mut stage.client(), &index, true), []);
    // What becomes of it by other hands; not the healer's.
    stage.server.set("ruvector.dag_healing_enabled", "off");
    stage.execute(&format!("DELETE FROM {table} WHERE id % 3 = 1"));
    stage.execute(&format!("VACUUM {table}"));
    stage.execute(&format!(
        "UPDATE {table} SET embedding = embedding WHERE id % 7 = 0"
    ));
    assert_eq!(breaches(&mut stage.client(), &index, true), []);
}

#[test]
fn orphans_are_linked_and_find_themselves() {
    let stage = stage();
    stage.items("docs", 3_000);
    damage(
        &stage,
        &[("docs_embedding", &|file: &mut File| {
            let which = file.ordinary(20);
            file.cut(&which, |_| true);
        })],
    );
    assert!(orphans(&stage, "docs_embedding") >= 140);
    is_mended(&stage, "docs");
    let found: f64 = stage.value(
        "SELECT (after->'former_orphans'->>'found')::float8
                / (after->'former_orphans'->>'queries')::float8
         FROM ruvector_dag_repair_history('docs') LIMIT 1",
    );
    assert!(found >= 0.99, "{found}");
}

#[test]
fn an_island_is_linked_to_the_rest() {
    let stage = stage();
    stage.items("docs", 3_000);
    damage(
        &stage,
        &[("docs_embedding", &|file: &mut File| {
            let which = file.ordinary(3);
            file.cut(&which, |element| !which.contains(&element));
        })],
    );
    assert!(orphans(&stage, "docs_embedding") > 600);
    is_mended(&stage, "docs");
}

#[test]
fn links_that_must_not_be_there_are_taken_out() {
    let stage = stage();
    stage.items("docs", 2_000);
    stage.execute("DELETE FROM docs WHERE id % 50 = 7");
    crate::harness::vacuum(&mut stage.client(), "docs");
    damage(
        &stage,
        &[("docs_embedding", &|file: &mut File| {
            let entry = file.entry();
            let live = file.live().into_iter();
            let ground: Vec<_> = live.filter(|place| file.level(*place) == 0).collect();
            let (freed, tuple) = (file.deleted()[0], file.tuple(ground[5]));
            let wrong = [(90_000, 1), (1, 120), freed, tuple];
            for (nth, to) in wrong.into_iter().enumerate() {
                let (tuple, slot) = (file.tuple(ground[10 + nth]), file.slot(ground[10 + nth], 0));
                file.put_place(tuple, slot, to);
            }
            // To itself, twice, and a hole.
            let mut set = |nth: usize, slot: usize, to| {
                let (tuple, first) = (file.tuple(ground[nth]), file.slot(ground[nth], 0));
                file.put_place(tuple, first + 6 * slot, to);
            };
            set(20, 0, ground[20]);
            set(21, 1, (u32::MAX, 0));
            let first = file.links(ground[22], 0)[0];
            let (tuple, slot) = (file.tuple(ground[22]), file.slot(ground[22], 0));
            file.put_place(tuple, slot + 6, first);
            // On a layer that the other end is not on.
            let (tuple, slot) = (file.tuple(entry), file.slot(entry, 1));
            file.put_place(tuple, slot, ground[30]);
        })],
    );
    let mut found: Vec<String> = breaches(&mut stage.client(), "docs_embedding", false)
        .into_iter()
        .map(|breach| breach.check)
        .collect();
    found.sort();
    let planted = [
        "edge_above_level",
        "edge_repeated",
        "edge_to_deleted",
        "edge_to_itself",
        "edge_to_neighbor_tuple",
        "edge_to_nothing",
        "edge_to_nothing",
        "neighbor_hole",
    ];
    assert_eq!(found, planted);
    is_mended(&stage, "docs");
}

#[test]
fn searches_get_somewhere_to_start_from() {
    let stage = stage();
    let plants: [Plant; 4] = [
        ("past_the_end", &|file| {
            file.page(0)[40..44].copy_from_slice(&70_000_u32.to_le_bytes());
        }),
        ("none", &|file| file.page(0)[40..46].fill(0xFF)),
        ("low", &|file| {
            let low = *file.ordinary(9).iter().min().expect("one");
            file.page(0)[40..44].copy_from_slice(&low.0.to_le_bytes());
            file.page(0)[44..46].copy_from_slice(&low.1.to_le_bytes());
            file.page(0)[46..48].fill(0);
        }),
        ("inserts", &|file| {
            file.page(0)[48..52].copy_from_slice(&60_000_u32.to_le_bytes());
            file.page(0)[40..46].fill(0xFF);
        }),
    ];
    for (table, _) in plants {
        stage.items(table, 1_500);
    }
    let indexes: Vec<String> = plants
        .iter()
        .map(|(table, _)| format!("{table}_embedding"))
        .collect();
    let named: Vec<Plant> = indexes
        .iter()
        .zip(&plants)
        .map(|(index, (_, plant))| (index.as_str(), *plant))
        .collect();
    damage(&stage, &named);
    for (table, _) in plants {
        is_mended(&stage, table);
    }
}
