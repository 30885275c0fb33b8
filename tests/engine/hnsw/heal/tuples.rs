//! What neighbour tuples say of themselves, set right.

use ruvector_dag_healing_engine::vector_index::hnsw::heal::Rung;

use super::super::model::{Bytes, El, Index, Place, Tuple};
use super::{grown, item, make, place, plan, points};

const M: usize = 5;

fn graph() -> Index {
    grown(&points(120, 3, 3), M)
}

/// The neighbour tuple of an element, in the file.
fn tuple_of(pages: &[Bytes], element: Place) -> Place {
    place(item(pages, element), 64)
}

/// Writes to the beginning of a tuple.
fn write(pages: &mut [Bytes], (block, offset): Place, at: usize, bytes: &[u8]) {
    let page = &mut pages[block as usize];
    let pointer = 24 + 4 * (usize::from(offset) - 1);
    let start = usize::from(u16::from_le_bytes([page[pointer], page[pointer + 1]]) & 0x7FFF);
    page[start + at..start + at + bytes.len()].copy_from_slice(bytes);
}

/// The pages after the rung, and how many edits it made.
fn mended(mut pages: Vec<Bytes>) -> (Vec<Bytes>, usize) {
    let edits = plan(&pages, Rung::Tuples).edits;
    let (undo, lost) = make(&mut pages, M as u16, &edits);
    assert_eq!((undo, lost), (Vec::new(), 0));
    (pages, edits.len())
}

#[test]
fn a_version_or_a_count_that_is_not_the_elements_is_set_to_what_it_was() {
    let built = graph().build();
    let damages: [(usize, &[u8]); 4] = [(1, &[9]), (2, &[3, 0]), (2, &[0xFF, 0xFF]), (2, &[0, 0])];
    for (at, bytes) in damages {
        let mut pages = built.pages.clone();
        for element in [3, M, M * M] {
            let tuple = tuple_of(&pages, built.places[element]);
            write(&mut pages, tuple, at, bytes);
        }
        assert_ne!(pages, built.pages);
        assert_eq!(mended(pages), (built.pages.clone(), 3), "byte {at}");
    }
    assert_eq!(mended(built.pages.clone()), (built.pages, 0));
}

#[test]
fn a_tuple_that_another_element_has_too_is_left_alone() {
    let built = graph().build();
    let mut pages = built.pages.clone();
    let tuple = tuple_of(&pages, built.places[7]);
    write(&mut pages, tuple, 1, &[9]);
    let mut bytes = item(&pages, built.places[7])[64..70].to_vec();
    write(&mut pages, built.places[8], 64, &bytes);
    assert_eq!(plan(&pages, Rung::Tuples).edits, []);
    // Even if that one is deleted.
    write(&mut pages, built.places[8], 2, &[1]);
    assert_eq!(plan(&pages, Rung::Tuples).edits, []);
    bytes.fill(0xFF);
    write(&mut pages, built.places[8], 64, &bytes);
    assert_eq!(plan(&pages, Rung::Tuples).edits.len(), 1);
}

#[test]
fn a_tuple_whose_length_proves_another_level_is_left_alone() {
    let built = graph().build();
    for (element, level) in [(3, 1), (M, 0), (M, 2)] {
        let mut pages = built.pages.clone();
        write(&mut pages, built.places[element], 1, &[level]);
        assert_eq!(plan(&pages, Rung::Tuples).edits, [], "level {level}");
    }
}

#[test]
fn an_edit_is_lost_where_the_element_or_its_tuple_is_another_by_then() {
    let built = graph().build();
    let mut pages = built.pages.clone();
    let (element, tuple) = (built.places[4], tuple_of(&pages, built.places[4]));
    write(&mut pages, tuple, 1, &[9]);
    let edits = plan(&pages, Rung::Tuples).edits;
    assert_eq!(edits.len(), 1);
    let changes: [(Place, usize, &[u8]); 5] = [
        (element, 2, &[1]),
        (element, 3, &[7]),
        (element, 64, &[0, 0, 9, 9]),
        (tuple, 1, &[8]),
        (tuple, 0, &[1]),
    ];
    for (nth, (at, byte, bytes)) in changes.into_iter().enumerate() {
        let mut pages = pages.clone();
        write(&mut pages, at, byte, bytes);
        let before = pages.clone();
        assert_eq!(make(&mut pages, M as u16, &edits).1, 1, "change {nth}");
        assert_eq!(pages, before);
    }
}

#[test]
fn a_longer_tuple_of_a_slot_used_again_serves_as_well() {
    // One slot more than the level asks for, by its own count: whole, and so not the element's.
    let mut index = Index::new(5, vec![El::ground(0, &[1]), El::ground(1, &[0])]);
    index.elements[1].tuple = Tuple::OtherCount;
    let built = index.build();
    assert_eq!(plan(&built.pages, Rung::Tuples).edits, []);
    // By a count that is nobody's.
    let mut pages = built.pages.clone();
    let tuple = tuple_of(&pages, built.places[1]);
    write(&mut pages, tuple, 2, &[77, 0]);
    assert_eq!(plan(&pages, Rung::Tuples).edits.len(), 1);
}
