//! Kind of index × type of values × m or lists × what the rows went through: every figure agrees with the second
//! reader, nothing is reported, and a rebuild of a graph takes the pages that were predicted.

use postgres::Client;

use crate::harness::{Dice, Server, skip, vacuum};
use crate::values::{VALUE_TYPES, ValueType, copy};
use crate::{agreement, check, lists};

const ROWS: usize = 700;
const DIMENSIONS: usize = 24;

/// Access methods with the option that shapes an index, and what it is set to.
const SHAPES: [(&str, &str, &[usize]); 2] = [
    ("hnsw", "m", &[2, 6, 16, 48]),
    ("ivfflat", "lists", &[1, 10, 100]),
];

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Fresh,
    Churned,
    Clustered,
    Duplicates,
}

impl State {
    const ALL: [Self; 4] = [
        Self::Fresh,
        Self::Churned,
        Self::Clustered,
        Self::Duplicates,
    ];

    /// Two for each row: what it is, and what it may become.
    fn points(self, dice: &mut Dice) -> Vec<Vec<f64>> {
        let (centers, spread) = match self {
            Self::Fresh | Self::Churned => (2 * ROWS, 0.0),
            Self::Clustered => (12, 0.3),
            Self::Duplicates => (150, 0.0),
        };
        let centers: Vec<_> = (0..centers).map(|_| dice.point(DIMENSIONS)).collect();
        let mut around = |center: &Vec<f64>| {
            let moved = center.iter().map(|x| x + spread * dice.normal());
            moved.collect()
        };
        let center = |row: usize| &centers[row % centers.len()];
        (0..2 * ROWS).map(|row| around(center(row))).collect()
    }
}

/// One index of the matrix.
struct Cell {
    index: String,
    method: &'static str,
    class: &'static str,
    state: State,
}

fn run(client: &mut Client, statement: &str) {
    client
        .batch_execute(statement)
        .unwrap_or_else(|error| panic!("{statement}: {error:?}"));
}

/// A table of rows in some state with one index of each shape.
fn cells(client: &mut Client, kind: &ValueType, state: State) -> Vec<Cell> {
    let table = format!("{}_{state:?}", kind.name).to_lowercase();
    let spare = format!("{table}_spare");
    let points = state.points(&mut Dice::new(1));
    for (table, points) in [&table, &spare].into_iter().zip(points.chunks(ROWS)) {
        let column = format!("v {}({DIMENSIONS})", kind.name);
        run(client, &format!("CREATE TABLE {table} (id int, {column})"));
        let line = |(row, point): (usize, &Vec<f64>)| format!("{row}\t{}", kind.literal(point));
        copy(client, table, points.iter().enumerate().map(line));
    }
    run(client, &format!("INSERT INTO {table} VALUES (-1, NULL)"));
    let cells = indexes(client, kind, state, &table);
    if state == State::Churned {
        churn(client, &table, &spare);
    }
    cells
}

/// Creates the indexes; the operator classes go round.
fn indexes(client: &mut Client, kind: &ValueType, state: State, table: &str) -> Vec<Cell> {
    let mut cells = Vec::new();
    for (method, option, sizes) in SHAPES {
        let classes = kind.classes(client, method);
        for (&size, &class) in sizes.iter().zip(classes.iter().cycle()) {
            let index = format!("{table}_{method}_{size}");
            // A build that looks at no more than 2m candidates sees no row as another's duplicate.
            let breadth = match method {
                "hnsw" => format!(", ef_construction = {}", (4 * size).max(64)),
                _ => String::new(),
            };
            let using = format!("{method} (v {class}) WITH ({option} = {size}{breadth})");
            run(
                client,
                &format!("CREATE INDEX {index} ON {table} USING {using}"),
            );
            cells.push(Cell {
                index,
                method,
                class,
                state,
            });
        }
    }
    cells
}

fn churn(client: &mut Client, table: &str, spare: &str) {
    for statement in [
        format!("UPDATE {table} t SET v = s.v FROM {spare} s WHERE s.id = t.id AND t.id % 7 = 0"),
        format!("DELETE FROM {table} WHERE id % 3 = 0"),
    ] {
        run(client, &statement);
    }
    vacuum(client, table);
    run(
        client,
        &format!("INSERT INTO {table} SELECT id + {ROWS}, v FROM {spare} WHERE id % 4 = 0"),
    );
}

impl Cell {
    #[track_caller]
    fn assert_agreed(&self, server: &Server, client: &mut Client) {
        let found = check::faults(client, &self.index, true);
        assert_eq!(found, [], "{}", self.index);
        match self.method {
            "hnsw" => self.assert_graph_agreed(server, client),
            _ => self.assert_lists_agreed(server, client),
        }
    }

    #[track_caller]
    fn assert_graph_agreed(&self, server: &Server, client: &mut Client) {
        let index = &self.index;
        let (figures, fragmentation) = agreement::agreed(server, client, index);
        match self.state {
            State::Churned => assert!(figures.deleted > 0, "{index}: {figures:?}"),
            _ => assert_eq!(figures.deleted, 0, "{index}: {figures:?}"),
        }
        if self.state == State::Duplicates {
            assert!(figures.live < figures.heap_tids, "{index}: {figures:?}");
        }
        agreement::assert_predicted(client, index, figures.pages, fragmentation);
    }

    #[track_caller]
    fn assert_lists_agreed(&self, server: &Server, client: &mut Client) {
        let agreed = lists::agreed(server, client, &self.index, self.class);
        if self.state != State::Churned {
            assert_eq!(agreed.fragmentation, 0.0, "{}", self.index);
        }
    }
}

/// All cells of a type of values.
fn assert_all_agree(name: &str) {
    let (server, mut client) = agreement::still_server().expect("a server with pgvector");
    let kind = VALUE_TYPES.iter().find(|kind| kind.name == name);
    let kind = kind.expect("a type of values");
    if kind.classes(&mut client, "hnsw").is_empty() {
        return skip(name, "this pgvector does not have the type");
    }
    for state in State::ALL {
        for cell in cells(&mut client, kind, state) {
            cell.assert_agreed(&server, &mut client);
        }
    }
}

#[test]
fn vectors() {
    assert_all_agree("vector");
}

#[test]
fn half_vectors() {
    assert_all_agree("halfvec");
}

#[test]
fn bits() {
    assert_all_agree("bit");
}

#[test]
fn sparse_vectors() {
    assert_all_agree("sparsevec");
}
