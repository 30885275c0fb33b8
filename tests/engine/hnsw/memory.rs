//! What it does with little memory, and how much it takes.

use proptest::prelude::*;
use ruvector_dag_healing_engine::vector_index::ReadError;
use ruvector_dag_healing_engine::vector_index::hnsw::{HnswReport, bytes_per_element, inspect};
use ruvector_dag_healing_engine::vector_index::inspection::{InspectError, InspectOptions};

use super::model::{El, Index, Link};
use super::random::{found, found_in, index};
use super::source::{Source, options, report};

/// Too little for the graph of any small index, enough for its upper layers.
pub const LITTLE: usize = 50_000;

fn within(index: &Index, memory_limit: usize) -> (HnswReport, Source) {
    let mut source = Source::quiet(index.build().pages);
    let report = inspect(
        &mut source,
        &InspectOptions {
            memory_limit,
            ..options()
        },
    )
    .expect("an honest index");
    (report, source)
}

/// A number that looks random.
fn random(seed: u64) -> usize {
    let mut z = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    (z ^ (z >> 27)) as usize >> 8
}

/// An index with as many links as there is room for, all elements of which can be reached.
fn full(count: usize, m: usize) -> Index {
    let elements = (0..count).map(|i| {
        let level = (1..4).take_while(|level| i % m.pow(*level) == 0).count();
        let layers = (0..=level).map(|layer| {
            let step = m.pow(layer as u32);
            let others = count.div_ceil(step);
            let room = if layer == 0 { 2 * m } else { m };
            // The next one on the layer, so that all are reached, and any others.
            let next = (i + step) % (others * step);
            let any = (1..room).map(|n| random((i * room + n) as u64) % others * step);
            std::iter::once(next).chain(any).map(Link::To).collect()
        });
        El {
            level: level as u8,
            layers: layers.collect(),
            ..El::ground(i as u32, &[])
        }
    });
    Index::new(m as u16, elements.collect())
}

#[test]
fn an_element_takes_no_more_than_is_said() {
    assert!(bytes_per_element(16) <= 170);
    for m in [2, 5, 16, 40] {
        let index = full(6000, m);
        // A chunk of each kind is there even for one element.
        let limit = 6000 * bytes_per_element(m as u16) + 80_000;
        let (report, source) = within(&index, limit);
        assert_eq!(
            (report.figures.orphan_count, report.figures.sampled),
            (0, false)
        );
        assert_eq!(source.most_reads(), 1, "m = {m}: the graph did not fit");
        let (report, source) = within(&index, limit * 4 / 5);
        assert_eq!(
            (report.figures.orphan_count, report.figures.sampled),
            (0, false)
        );
        assert!(
            source.most_reads() > 1,
            "m = {m}: the figure is far too high"
        );
    }
}

#[test]
fn the_graph_is_given_up_for_its_upper_layers_and_these_for_counters() {
    let mut index = full(1500, 6);
    // One cannot be reached, one links to nowhere.
    for links in index.elements.iter_mut().flat_map(|el| &mut el.layers) {
        links.retain(|link| *link != Link::To(700));
    }
    index.elements[900].layers[0][3] = Link::At((1, 2));
    let exact = report(&index);
    assert_eq!(
        (exact.figures.orphan_count, exact.figures.dangling_edges),
        (1, 1)
    );

    let (mut whole, mut thin, mut counted) = (0, 0, 0);
    for memory_limit in (0..350_000).step_by(5_000) {
        let (report, source) = within(&index, memory_limit);
        if report.figures.sampled {
            counted += 1;
            let mut counters = report.figures.clone();
            (
                counters.orphan_count,
                counters.orphans_with_rows,
                counters.zero_in_degree,
            ) = (1, 1, 1);
            (counters.dangling_edges, counters.connectivity_score) =
                (1, exact.figures.connectivity_score);
            counters.sampled = false;
            assert_eq!(
                counters, exact.figures,
                "{memory_limit}: everything else is exact"
            );
            assert_eq!(
                (
                    report.figures.orphan_count,
                    report.figures.connectivity_score
                ),
                (0, 1.0)
            );
        } else {
            let several =
                |notice: &&String| notice.starts_with("the pages were read several times");
            let said = report.notices.iter().filter(several).count();
            assert_eq!(said, report.notices.len(), "{:?}", report.notices);
            // In memory only what seems wrong is read again.
            let in_memory = source.order.len() < 2 * exact.figures.pages as usize;
            assert_eq!(said == 0, in_memory, "{memory_limit}");
            assert_eq!(report.figures, exact.figures, "{memory_limit}");
            *(if in_memory { &mut whole } else { &mut thin }) += 1;
        }
    }
    assert!(
        whole > 5 && thin > 20 && counted > 2,
        "{whole} {thin} {counted}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn figures_are_the_same_from_the_pages(index in index(40)) {
        let (report, source) = within(&index, LITTLE);
        prop_assert!(!report.figures.sampled);
        prop_assert!(source.most_reads() > 1 || report.figures.live_elements == 0);
        prop_assert_eq!(found_in(report), found(&index));
    }
}

/// A page for each element, which links to the one on the page before; the last is the entry.
/// Nothing links to the one in the middle.
fn backwards(count: usize) -> Index {
    let els = (0..count).map(|i| match i {
        0 => El::ground(0, &[]),
        _ => El::ground(i as u32, &[i - 1]),
    });
    let mut index = Index::new(2, els.collect());
    index.elements.push(El::ground(99, &[0]));
    index.entry = Some(Link::To(count - 1));
    index.per_page = 1;
    index
}

#[test]
fn a_search_that_does_not_end_claims_only_what_is_proven() {
    let (report, source) = within(&backwards(15), LITTLE);
    assert_eq!(
        (report.figures.orphan_count, report.figures.sampled),
        (1, false),
        "it ends in time"
    );
    assert!(report.notices[0].starts_with("the pages were read several times"));

    let (report, source_of_many) = within(&backwards(60), LITTLE);
    assert_eq!(
        (report.figures.orphan_count, report.figures.sampled),
        (1, true)
    );
    assert_eq!(report.figures.connectivity_score, 60.0 / 61.0);
    assert_eq!(report.figures.zero_in_degree, 1);
    let passes = source_of_many.most_reads();
    assert!(source.most_reads() < 20 && passes < 20, "{passes}");
    assert_eq!(report.notices.len(), 1);
}

#[test]
fn a_notice_says_how_much_memory_it_takes() {
    let index = full(6000, 16);
    let (report, _) = within(&index, 0);
    let advice = report.notices.last().expect("a notice");
    let words: Vec<&str> = advice.split(' ').collect();
    let at = words
        .iter()
        .position(|word| *word == "maintenance_work_mem")
        .expect("names the setting");
    let megabytes: usize = words[at + 2].parse().expect("says how many MB");
    let (report, source) = within(&index, megabytes << 20);
    assert!(!report.figures.sampled && source.most_reads() == 1);
    assert!(megabytes <= 3, "and no more than that");
}

#[test]
fn without_memory_a_missing_entry_point_is_still_noticed() {
    let mut index = full(50, 4);
    index.elements[7] = index.elements[7].clone().ghost();
    assert_eq!(within(&index, 0).0.figures.entry_point_quality, 1.0);
    index.elements[0] = index.elements[0].clone().deleted();
    let found = within(&index, 0).0.figures;
    assert_eq!(
        (found.entry_point_quality, found.connectivity_score),
        (0.0, 0.0)
    );
    assert_eq!((found.orphan_count, found.orphans_with_rows), (49, 48));
}

#[test]
fn a_long_computation_can_be_ended() {
    // More elements than are gone through between two questions.
    let mut source = Source::quiet(full(17_000, 2).build().pages);
    source.counts = 1;
    assert_eq!(
        inspect(&mut source, &options()),
        Err(InspectError::Read(ReadError::Stopped))
    );
}

#[test]
fn what_nobody_wrote_to_is_not_looked_at_twice() {
    let mut index = full(1500, 6);
    for links in index.elements.iter_mut().flat_map(|el| &mut el.layers) {
        links.retain(|link| *link != Link::To(700));
    }
    let reads = |still, memory_limit| {
        let mut source = Source::quiet(index.build().pages);
        source.still = still;
        let options = InspectOptions {
            memory_limit,
            ..options()
        };
        let report = inspect(&mut source, &options).expect("an honest index");
        assert_eq!(report.figures.orphan_count, 1);
        source.reads.values().sum::<usize>()
    };
    for memory_limit in [64 << 20, 150_000] {
        assert!(reads(true, memory_limit) < reads(false, memory_limit));
    }
}

#[test]
fn a_value_that_many_have_stands_out_of_a_large_index_too() {
    // An element and its links to a page; values are compared on every second block.
    let elements = (0..8_400).map(|i| El {
        value: 6_000,
        ..El::ground(i, &[(i as usize + 1) % 8_400])
    });
    let report = report(&Index::new(16, elements.collect()));
    assert!(report.figures.pages > 2 * 4_096, "{}", report.figures.pages);
    assert_eq!(report.frequent.len(), 1);
}
