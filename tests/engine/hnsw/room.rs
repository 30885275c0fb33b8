//! How far inserts look for room, against pgvector's own way through the pages.

use proptest::prelude::*;

use super::heal::plan;
use super::model::{Bytes, El, Index};
use super::source::{Source, report};
use ruvector_dag_healing_engine::vector_index::hnsw::heal::{Edit, Rung};
use ruvector_dag_healing_engine::vector_index::hnsw::{HnswFigures, MAX_PAGES_PER_INSERT, inspect};
use ruvector_dag_healing_engine::vector_index::inspection::InspectOptions;

const M: usize = 30;

fn word(page: &Bytes, at: usize) -> usize {
    usize::from(u16::from_le_bytes([page[at], page[at + 1]]))
}

/// A tuple of a page: its bytes.
fn tuple(page: &Bytes, nth: usize) -> &[u8] {
    let at = 24 + 4 * nth;
    let pointer = word(page, at) | word(page, at + 2) << 16;
    &page[pointer & 0x7FFF..][..pointer >> 17]
}

fn links_of(level: usize) -> usize {
    (4 + 6 * (level + 2) * M).div_ceil(8) * 8
}

/// Whether an element tuple of so many bytes fits on a page with links for its level, as
/// `AddElementOnDisk` and `HnswFreeOffset` see it. On another page links have the room of those there.
fn fits(pages: &[Bytes], block: usize, element: usize, level: usize) -> bool {
    let page = &pages[block];
    let free = word(page, 14) - word(page, 12);
    let links = links_of(level);
    if free.saturating_sub(4) >= element + links + 4 {
        return true;
    }
    (0..(word(page, 12) - 24) / 4).any(|nth| {
        let there = tuple(page, nth);
        if there[0] != 1 || there[2] == 0 {
            return false;
        }
        let room = there.len() + free;
        let own = links_of(usize::from(there[1]));
        let is_here = usize::from(u16::from_le_bytes([there[66], there[67]])) == block;
        let spare = if is_here {
            room.saturating_sub(element)
        } else {
            0
        };
        room >= element && own + spare >= links
    })
}

/// Pages from block `begin` to the one that takes it, on average over the elements on the last tenth.
fn expected(index: &Index, pages: &[Bytes], begin: usize) -> f64 {
    let built = index.build();
    let recent = pages.len() - pages.len() / 10;
    let (mut sum, mut count) = (0, 0);
    for (el, place) in index.elements.iter().zip(&built.places) {
        if el.deleted || (place.0 as usize) < recent {
            continue;
        }
        let size = (72 + el.value).div_ceil(8) * 8;
        let found = (begin..pages.len()).find(|&block| fits(pages, block, size, el.level.into()));
        sum += found.map_or(pages.len(), |block| block + 1) - begin;
        count += 1;
    }
    sum as f64 / f64::from(count).max(1.0)
}

/// An index whose elements have values of these sizes and levels, some deleted.
fn index(elements: &[(usize, u8, bool)]) -> Index {
    let element = |(row, &(value, level, deleted)): (usize, &(usize, u8, bool))| {
        let mut el = El::ground(row as u32, &[]);
        (el.value, el.level) = (value, level);
        el.layers.resize(usize::from(level) + 1, Vec::new());
        if deleted { el.deleted() } else { el }
    };
    Index::new(M as u16, elements.iter().enumerate().map(element).collect())
}

fn figures(pages: Vec<Bytes>) -> HnswFigures {
    let options = InspectOptions {
        memory_limit: 64 << 20,
        ..InspectOptions::default()
    };
    let report = inspect(&mut Source::quiet(pages), &options);
    report.expect("honest pages").figures
}

/// The usual case: small elements of which one in a hundred is gone, and then large ones.
fn grown_larger() -> Index {
    let mut elements: Vec<_> = (0..12_000).map(|n| (600, 0, n % 100 == 50)).collect();
    elements.extend((0..400).map(|_| (4_000, 0, false)));
    index(&elements)
}

/// What is to be changed of where inserts begin; elements have no links here, which is another matter.
fn of_insert_page(pages: &[Bytes]) -> Vec<Edit> {
    let mut edits = plan(pages, Rung::Entry).edits;
    edits.retain(|edit| matches!(edit, Edit::InsertPage { .. }));
    edits
}

#[test]
fn inserts_that_pass_by_places_too_small_for_them_begin_at_the_end() {
    let index = grown_larger();
    let mut pages = index.build().pages;
    for block in 1..pages.len() as u32 - 1 {
        pages[block as usize][8184..8188].copy_from_slice(&(block + 1).to_le_bytes());
    }
    let far = report(&index).figures.pages_per_insert;
    assert!(far > MAX_PAGES_PER_INSERT, "{far}");
    let edits = of_insert_page(&pages);
    let to = pages.len() as u32 - 1;
    assert_eq!(edits, [Edit::InsertPage { was: 1, to }]);
    super::heal::make(&mut pages, index.m, &edits);
    assert!(figures(pages).pages_per_insert <= 1.0);
}

#[test]
fn where_what_comes_fits_into_what_is_gone_nothing_is_far() {
    let elements: Vec<_> = (0..12_000).map(|n| (600, 0, n % 100 == 50)).collect();
    let index = index(&elements);
    assert_eq!(report(&index).figures.pages_per_insert, 8.0);
    assert_eq!(of_insert_page(&index.build().pages), []);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_way_is_pgvectors(
        elements in prop::collection::vec((8..7_900_usize, 0..4_u8, prop::bool::weighted(0.2)), 1..120),
        begin in any::<prop::sample::Index>(),
    ) {
        let elements: Vec<_> = elements
            .into_iter()
            // pgvector's tuples fill up to 8 bytes.
            .map(|(value, level, deleted)| (value.div_ceil(8) * 8, level, deleted))
            .collect();
        let index = index(&elements);
        let mut pages = index.build().pages;
        let begin = 1 + begin.index(pages.len() - 1);
        pages[0][48..52].copy_from_slice(&(begin as u32).to_le_bytes());
        let expected = expected(&index, &pages, begin);
        let found = figures(pages).pages_per_insert;
        prop_assert!((f64::from(found) - expected).abs() < 1e-3, "{} {}", found, expected);
    }
}
