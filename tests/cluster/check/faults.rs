//! Faults planted into the files of real indexes, each found under its name and at its place.

use postgres::error::SqlState;

use crate::harness::{Mode, Options, Server, skip, vacuum};

use super::pages::{File, Place};
use super::{Breach, breaches, command};

/// A fault: its name, how it is planted (returns where), and what must be found there.
pub struct Fault {
    pub name: &'static str,
    pub plant: fn(&mut File) -> Place,
    pub severity: &'static str,
    pub check: &'static str,
    /// Whether it needs the table to be seen.
    pub heap: bool,
}

const fn fault(
    name: &'static str,
    severity: &'static str,
    check: &'static str,
    plant: fn(&mut File) -> Place,
) -> Fault {
    Fault {
        name,
        plant,
        severity,
        check,
        heap: false,
    }
}

const fn seen_from_table(
    name: &'static str,
    check: &'static str,
    plant: fn(&mut File) -> Place,
) -> Fault {
    Fault {
        heap: true,
        ..fault(name, "error", check, plant)
    }
}

/// The 20th live element, which is on the ground layer and not the entry point.
pub fn ordinary(file: &File) -> Place {
    let entry = file.entry();
    let grounded = |place: &Place| file.level(*place) == 0 && *place != entry;
    let mut live = file.live().into_iter().filter(grounded);
    live.nth(20).expect("an ordinary element")
}

/// The first link of an ordinary element, set to something else.
fn link(file: &mut File, to: Place) -> Place {
    let element = ordinary(file);
    let (tuple, slot) = (file.tuple(element), file.slot(element, 0));
    file.put_place(tuple, slot, to);
    element
}

pub const FAULTS: &[Fault] = &[
    fault("past_the_end", "error", "edge_to_nothing", |file| {
        link(file, (90_000, 1))
    }),
    fault("past_the_last_item", "error", "edge_to_nothing", |file| {
        link(file, (1, 120))
    }),
    fault("to_a_freed_item", "error", "edge_to_deleted", |file| {
        let freed = file.deleted()[0];
        link(file, freed)
    }),
    fault(
        "to_a_neighbour_tuple",
        "error",
        "edge_to_neighbor_tuple",
        |file| {
            let tuple = file.tuple(file.live()[5]);
            link(file, tuple)
        },
    ),
    fault("to_itself", "warning", "edge_to_itself", |file| {
        let element = ordinary(file);
        link(file, element)
    }),
    fault("twice", "notice", "edge_repeated", |file| {
        let element = ordinary(file);
        let (tuple, slot) = (file.tuple(element), file.slot(element, 0));
        let first = file.place_at(tuple, slot);
        file.put_place(tuple, slot + 6, first);
        element
    }),
    fault("to_a_lower_level", "warning", "edge_above_level", |file| {
        let entry = file.entry();
        let (tuple, slot) = (file.tuple(entry), file.slot(entry, 1));
        let ground = ordinary(file);
        file.put_place(tuple, slot, ground);
        entry
    }),
    fault("a_hole", "warning", "neighbor_hole", |file| {
        let element = ordinary(file);
        let (tuple, slot) = (file.tuple(element), file.slot(element, 0));
        file.put_place(tuple, slot, (u32::MAX, 0));
        element
    }),
    fault("wrong_count", "warning", "neighbor_count", |file| {
        let element = ordinary(file);
        let tuple = file.tuple(element);
        file.item(tuple)[2] -= 1;
        element
    }),
    fault("too_large_a_count", "warning", "neighbor_count", |file| {
        let element = ordinary(file);
        let tuple = file.tuple(element);
        file.item(tuple)[3] = 0xFF;
        element
    }),
    fault("other_version", "warning", "neighbor_version", |file| {
        let element = ordinary(file);
        let tuple = file.tuple(element);
        file.item(tuple)[1] ^= 4;
        element
    }),
    fault("shared_tuple", "error", "neighbor_tuple_shared", |file| {
        let element = ordinary(file);
        let before = file
            .live()
            .into_iter()
            .rfind(|place| *place < element && file.level(*place) == 0);
        let tuple = file.tuple(before.expect("an element before it"));
        file.put_place(element, 64, tuple);
        element
    }),
    fault("no_tuple", "error", "neighbor_tuple", |file| {
        let element = ordinary(file);
        file.put_place(element, 64, element);
        element
    }),
    fault("dead_entry", "error", "entry_deleted", |file| {
        let entry = file.entry();
        file.item(entry)[2] = 1;
        NOWHERE
    }),
    fault("no_entry", "error", "entry_missing", |file| {
        file.page(0)[40..46].fill(0xFF);
        NOWHERE
    }),
    fault("entry_past_the_end", "error", "entry_invalid", |file| {
        file.page(0)[40..44].copy_from_slice(&70_000_u32.to_le_bytes());
        NOWHERE
    }),
    fault("entry_level", "warning", "entry_level", |file| {
        file.page(0)[46] = 0;
        file.entry()
    }),
    fault("insert_page", "warning", "insert_page", |file| {
        file.page(0)[48..52].copy_from_slice(&60_000_u32.to_le_bytes());
        (0, 0)
    }),
    fault("magic", "error", "metapage", |file| {
        file.page(0)[24] ^= 1;
        (0, 0)
    }),
    fault("chain_with_a_loop", "error", "page_chain", |file| {
        file.page(3)[8184..8188].copy_from_slice(&2_u32.to_le_bytes());
        (3, 0)
    }),
    fault("off_the_chain", "warning", "page_unchained", |file| {
        let beyond = file.page(3)[8184..8188].to_vec();
        file.page(2)[8184..8188].copy_from_slice(&beyond);
        (3, 0)
    }),
    fault("zeroed_page", "warning", "page_zeroed", |file| {
        file.page(3).fill(0);
        (3, 0)
    }),
    fault("another_kind", "error", "page_kind", |file| {
        file.page(3)[8190] = 0x84;
        (3, 0)
    }),
    fault("torn_page", "error", "page_unreadable", |file| {
        file.page(3)[..4096].fill(0x5A);
        (3, 0)
    }),
    fault("line_pointer", "error", "line_pointer", |file| {
        let element = ordinary(file);
        let at = 24 + 4 * (usize::from(element.1) - 1);
        file.page(element.0)[at..at + 2].copy_from_slice(&[0xF9, 0xFF]);
        element
    }),
    fault("no_such_tuple", "error", "item", |file| {
        let element = ordinary(file);
        file.item(element)[0] = 9;
        element
    }),
    fault("wrong_dimensions", "error", "value", |file| {
        let element = ordinary(file);
        file.item(element)[76] += 1;
        element
    }),
    fault("not_a_number", "error", "value", |file| {
        let element = ordinary(file);
        file.item(element)[80..84].copy_from_slice(&f32::NAN.to_le_bytes());
        element
    }),
    fault("rows_with_a_gap", "warning", "heap_tids_gap", |file| {
        let element = ordinary(file);
        let row = file.place_at(element, 4);
        file.put_place(element, 10, (u32::MAX, 0));
        file.put_place(element, 16, row);
        element
    }),
    fault("a_row_twice", "warning", "heap_tids_repeated", |file| {
        let element = ordinary(file);
        let row = file.place_at(element, 4);
        file.put_place(element, 10, row);
        element
    }),
    fault("a_row_in_two", "error", "row_claimed_twice", |file| {
        let element = ordinary(file);
        let first = file.live()[0];
        let row = file.place_at(first, 4);
        file.put_place(element, 10, row);
        element
    }),
    fault(
        "deleted_with_rows",
        "warning",
        "deleted_not_empty",
        |file| {
            let element = file.deleted()[0];
            file.put_place(element, 4, (0, 1));
            element
        },
    ),
    fault("alone", "warning", "no_links", |file| {
        let element = ordinary(file);
        let (tuple, slot, m) = (file.tuple(element), file.slot(element, 0), file.m());
        for nth in 0..2 * m {
            file.put_place(tuple, slot + 6 * nth, (u32::MAX, 0));
        }
        element
    }),
    fault("alone_at_the_start", "warning", "no_links", |file| {
        let entry = file.entry();
        for layer in 0..=file.level(entry) {
            file.set_links(entry, layer, &[]);
        }
        entry
    }),
    seen_from_table("row_left_out", "row_missing", |file| {
        let element = ordinary(file);
        file.put_place(element, 4, (u32::MAX, 0));
        NOWHERE
    }),
    seen_from_table("row_past_the_table", "row_of_entry_missing", |file| {
        let element = ordinary(file);
        file.put_place(element, 4, (50_000, 1));
        element
    }),
    seen_from_table("row_past_the_page", "row_of_entry_missing", |file| {
        let element = ordinary(file);
        file.put_place(element, 4, (0, 280));
        element
    }),
    seen_from_table("other_value", "value_differs", |file| {
        let element = ordinary(file);
        file.item(element)[80..84].copy_from_slice(&0.123_f32.to_le_bytes());
        element
    }),
];

/// Where nothing is said of a place.
const NOWHERE: Place = (u32::MAX, 0);

/// Faults of an index on lists, of which there are four.
pub const LIST_FAULTS: &[Fault] = &[
    fault("list_with_a_loop", "error", "page_chain", |file| {
        let start = list_page(file, 1);
        file.page(start)[8184..8188].copy_from_slice(&start.to_le_bytes());
        (start, 0)
    }),
    fault(
        "list_on_anothers_page",
        "error",
        "page_in_two_lists",
        |file| {
            let other = list_page(file, 2);
            file.item((1, 1))[..4].copy_from_slice(&other.to_le_bytes());
            (other, 0)
        },
    ),
    fault("list_past_the_end", "error", "list_start", |file| {
        file.item((1, 3))[..4].copy_from_slice(&80_000_u32.to_le_bytes());
        (1, 3)
    }),
    fault("list_inserts_elsewhere", "warning", "insert_page", |file| {
        let other = list_page(file, 2);
        file.item((1, 1))[4..8].copy_from_slice(&other.to_le_bytes());
        (1, 1)
    }),
    fault("list_centre", "error", "center", |file| {
        file.item((1, 2))[16..20].copy_from_slice(&f32::INFINITY.to_le_bytes());
        (1, 2)
    }),
    fault("list_count", "error", "list_count", |file| {
        file.page(0)[34] += 1;
        NOWHERE
    }),
    fault("list_magic", "error", "metapage", |file| {
        file.page(0)[24] ^= 1;
        (0, 0)
    }),
    fault("list_page_of_another_kind", "error", "page_kind", |file| {
        let start = list_page(file, 1);
        file.page(start)[8190] = 0x90;
        (start, 0)
    }),
    fault("list_zeroed_page", "warning", "page_zeroed", |file| {
        let start = list_page(file, 1);
        file.page(start).fill(0);
        (start, 0)
    }),
    fault("list_wrong_dimensions", "error", "value", |file| {
        let start = list_page(file, 1);
        file.item((start, 2))[9] += 1;
        (start, 2)
    }),
    fault("list_row_twice", "error", "row_claimed_twice", |file| {
        let start = list_page(file, 1);
        let row = file.place_at((start, 1), 0);
        file.put_place((start, 2), 0, row);
        (start, 2)
    }),
    seen_from_table("list_row_missing", "row_of_entry_missing", |file| {
        let start = list_page(file, 1);
        file.put_place((start, 2), 0, (30_000, 3));
        (start, 2)
    }),
    seen_from_table("list_other_value", "value_differs", |file| {
        let start = list_page(file, 1);
        file.item((start, 2))[13..17].copy_from_slice(&0.5_f32.to_le_bytes());
        (start, 2)
    }),
];

/// The first page of a list, by its number from 1.
pub fn list_page(file: &mut File, list: u16) -> u32 {
    let start = file.item((1, list))[..4].try_into().expect("4 bytes");
    u32::from_le_bytes(start)
}

#[test]
fn every_planted_fault_is_found_under_its_name() {
    let server = Server::start(
        Options::new()
            .setting("ruvector.dag_healing_enabled", "off")
            .setting("ruvector.dag_healing_interval_ms", 86_400_000)
            .setting("autovacuum", "off"),
    );
    if server.pgvector_version() < Some((0, 8, 0)) {
        return skip(
            "every_planted_fault_is_found_under_its_name",
            "versions of tuples came with pgvector 0.8.0",
        );
    }
    server.create_database("app", &["vector", "ruvector_dag_healing"]);
    let mut client = server.client("app");
    let mut files = Vec::new();
    let kinds = [
        (FAULTS, "USING hnsw (v vector_l2_ops) WITH (m = 6)"),
        (
            LIST_FAULTS,
            "USING ivfflat (v vector_l2_ops) WITH (lists = 4)",
        ),
    ];
    let all = || {
        let of_kind = |(faults, using): (&'static [Fault], &'static str)| {
            faults.iter().map(move |fault| (fault, using))
        };
        kinds.into_iter().flat_map(of_kind)
    };
    for (fault, using) in all() {
        let name = fault.name;
        client
            .batch_execute(&format!(
                "CREATE TABLE {name} (id int, v vector(3));
                 INSERT INTO {name} SELECT i, ARRAY[i % 17, i % 23, i]::real[]::vector FROM generate_series(1, 400) i;
                 CREATE INDEX {name}_idx ON {name} {using};
                 DELETE FROM {name} WHERE id % 10 = 0"
            ))
            .expect("an index to damage");
        vacuum(&mut client, name);
        assert_eq!(breaches(&mut client, &format!("{name}_idx"), true), []);
        files.push(server.index_file("app", &format!("{name}_idx")));
    }
    let checksums: String = server.value("app", "SHOW data_checksums");
    drop(client);
    server.stop(Mode::Fast);
    if checksums == "on" {
        command(&server, "pg_checksums", &["--disable"]);
    }
    let places: Vec<Place> = all()
        .zip(&files)
        .map(|((fault, _), file)| (fault.plant)(&mut File::open(file)))
        .collect();
    server.start_again();

    let mut client = server.client("app");
    let mut missed = Vec::new();
    for ((fault, _), place) in all().zip(places) {
        let found = breaches(&mut client, &format!("{}_idx", fault.name), fault.heap);
        let health = client.query(
            "SELECT ruvector_dag_health_check($1::text::regclass)",
            &[&format!("{}_idx", fault.name)],
        );
        if let Err(error) = health {
            let damaged = ["XX001", "XX002"].map(SqlState::from_code);
            let code = error
                .code()
                .unwrap_or_else(|| panic!("{}: {error:?}", fault.name));
            assert!(damaged.contains(code), "{}: {error:?}", fault.name);
        }
        // A search of such lists may never end: whoever measures must not begin one.
        if matches!(fault.name, "list_with_a_loop" | "list_on_anothers_page") {
            let measured = client.query(
                "SELECT ruvector_dag_recall($1::text::regclass)",
                &[&format!("{}_idx", fault.name)],
            );
            let refused = measured.is_err_and(|error| error.as_db_error().is_some());
            assert_eq!(refused, fault.name == "list_with_a_loop", "{}", fault.name);
        }
        let wanted = |breach: &&Breach| {
            let at = match place {
                NOWHERE => breach.block.is_none(),
                (block, 0) => breach.block == Some(i64::from(block)),
                (block, item) => {
                    breach.block == Some(i64::from(block)) && breach.item == Some(i32::from(item))
                }
            };
            breach.severity == fault.severity && breach.check == fault.check && at
        };
        if found.iter().filter(wanted).count() != 1 {
            missed.push(format!("{} at {place:?}: {found:#?}", fault.name));
        }
    }
    assert!(missed.is_empty(), "{}", missed.join("\n"));
}
