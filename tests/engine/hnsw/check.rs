//! The structural check, on pages made in memory: what each breach is called is seen on real indexes (tests/cluster).

use proptest::prelude::*;
use ruvector_dag_healing_engine::vector_index::PAGE_SIZE;
use ruvector_dag_healing_engine::vector_index::finding::Breach;
use ruvector_dag_healing_engine::vector_index::hnsw::{check, entries};
use ruvector_dag_healing_engine::vector_index::shape::{IndexShape, Metric};
use ruvector_dag_healing_engine::vector_index::value::ValueType;
use ruvector_dag_healing_engine::vector_index::{PageSource, ReadError};

use super::busy::ring;
use super::model::{Bytes, Link};
use super::source::Source;

fn shape(dimensions: u32, m: u32) -> IndexShape {
    IndexShape {
        value_type: ValueType::Vector,
        metric: Metric::L2,
        normalized: false,
        dimensions: Some(dimensions),
        option: Some(m),
    }
}

/// The file of [`super::golden`].
fn golden() -> Vec<Bytes> {
    let file = include_bytes!("../../data/pages/hnsw-0.8.5.bin");
    file.chunks_exact(PAGE_SIZE)
        .map(|page| page.try_into().expect("a page"))
        .collect()
}

fn checked(source: &mut dyn PageSource, memory_limit: usize) -> Vec<Breach> {
    let mut breaches = Vec::new();
    check(source, &shape(3, 2), memory_limit, &mut |breach| {
        breaches.push(breach);
    })
    .expect("pages that can be read");
    breaches
}

/// What is wrong with links when pages go through these stages.
fn links_in(stages: Vec<Vec<Bytes>>) -> Vec<&'static str> {
    let breaches = checked(&mut Source::changing(stages), 64 << 20);
    let names = breaches.into_iter().map(|breach| breach.check);
    names.filter(|name| name.starts_with("edge")).collect()
}

#[test]
fn a_real_index_is_sound_with_much_memory_and_with_little() {
    for memory_limit in [64 << 20, 1_000, 0] {
        assert_eq!(checked(&mut Source::quiet(golden()), memory_limit), []);
    }
    let mut rows = 0;
    entries(
        &mut Source::quiet(golden()),
        ValueType::Vector,
        &mut |_, _, value| {
            assert!(value.is_some_and(|value| value.dimensions() == 3));
            rows += 1;
        },
    )
    .expect("a real index");
    assert_eq!(rows, 63);
}

#[test]
fn a_sound_index_is_examined_once() {
    let mut source = Source::quiet(golden());
    assert_eq!(checked(&mut source, 64 << 20), []);
    // Pages, elements and places; tuples and links.
    assert_eq!(source.most_reads(), 2);
}

#[test]
fn what_a_vacuum_is_about_to_delete_may_link_to_what_it_has_deleted() {
    let mut index = ring();
    for ghost in [2, 3] {
        index.elements[ghost].rows.clear();
    }
    index.elements[2].deleted = true;
    index.elements[2].layers[0].clear();
    index.elements[1].layers[0] = vec![Link::To(0)];
    let still = index.build().pages;
    assert_eq!(links_in(vec![still]), [""; 0]);
    index.elements[3].rows = vec![(3, 1)];
    assert_eq!(links_in(vec![index.build().pages]), ["edge_to_deleted"]);
}

#[test]
fn a_place_used_anew_between_two_examinations_is_no_breach() {
    let vacant = |version| {
        let mut index = ring();
        index.elements[3].deleted = true;
        index.elements[3].rows.clear();
        index.elements[3].layers[0].clear();
        index.elements[3].version = version;
        index.build().pages
    };
    let stages: Vec<_> = (1..=12).map(vacant).collect();
    assert_eq!(links_in(stages), [""; 0]);
    assert_eq!(links_in(vec![vacant(1)]), ["edge_to_deleted"; 2]);
}

#[test]
fn a_page_that_cannot_be_read_is_one_breach_and_the_rest_is_checked() {
    struct Damaged(Source);
    impl PageSource for Damaged {
        fn block_count(&mut self) -> Result<u32, ReadError> {
            self.0.block_count()
        }
        fn read(
            &mut self,
            blocks: &mut dyn Iterator<Item = u32>,
            sink: &mut dyn FnMut(u32, &[u8; PAGE_SIZE]),
        ) -> Result<(), ReadError> {
            for block in &mut *blocks {
                if block == 2 {
                    return Err(ReadError::Unreadable {
                        block,
                        reason: "invalid page".into(),
                    });
                }
                self.0.read(&mut std::iter::once(block), sink)?;
            }
            Ok(())
        }
    }
    let mut index = ring();
    index.elements[4].layers[0] = vec![Link::To(3), Link::At((9, 9))];
    let breaches = checked(&mut Damaged(Source::quiet(index.build().pages)), 64 << 20);
    let named = |check: &str, block: u32| {
        breaches
            .iter()
            .any(|breach| breach.check == check && breach.block == Some(block))
    };
    assert!(named("page_unreadable", 2), "{breaches:?}");
    assert!(named("edge_to_nothing", 5), "{breaches:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_checked_the_same_with_much_memory_and_with_little(
        changes in prop::collection::vec((0_usize..3 * PAGE_SIZE, any::<u8>()), 1..40),
        headers in prop::collection::vec((0_usize..3, 12_usize..24, any::<u8>()), 0..3),
    ) {
        let mut pages = golden();
        for (at, byte) in changes {
            pages[at / PAGE_SIZE][at % PAGE_SIZE] = byte;
        }
        for (page, at, byte) in headers {
            pages[page][at] = byte;
        }
        let sorted = |memory_limit| {
            let mut breaches = checked(&mut Source::quiet(pages.clone()), memory_limit);
            breaches.sort_by_key(|b| (b.check, b.block, b.item, b.message.clone()));
            breaches
        };
        let roomy = sorted(64 << 20);
        prop_assert_eq!(&roomy, &sorted(0));
        let _ = entries(&mut Source::quiet(pages), ValueType::Vector, &mut |_, _, _| {});
    }
}
