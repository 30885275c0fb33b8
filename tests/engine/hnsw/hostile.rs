//! Bytes that nobody wrote on purpose, or somebody did: any answer will do, in time.

use proptest::prelude::*;
use ruvector_dag_healing_engine::vector_index::hnsw::inspect;
use ruvector_dag_healing_engine::vector_index::inspection::InspectOptions;

use super::memory::LITTLE;
use super::model::{Bytes, El, Index, Link};
use super::random::index;
use super::source::Source;

/// Inspects with ample and with little memory; the figures must be shares and sums that fit.
fn survives(pages: &[Bytes]) {
    for memory_limit in [64 << 20, LITTLE, 0] {
        let options = InspectOptions {
            memory_limit,
            anatomy: true,
            sample_rows: 3,
            seed: 1,
        };
        let Ok(report) = inspect(&mut Source::quiet(pages.to_vec()), &options) else {
            continue;
        };
        let found = report.figures;
        let shares = [
            found.connectivity_score,
            found.entry_point_quality,
            found.fragmentation,
            found.mean_degree_fill,
        ];
        assert!(
            shares.iter().all(|share| (0.0..=1.0).contains(share)),
            "{found:?}"
        );
        assert!(
            found.orphans_with_rows <= found.orphan_count
                && found.orphan_count <= found.live_elements
        );
        assert_eq!(found.live_elements + found.deleted_elements, found.elements);
        assert_eq!(
            found.layer_distribution.iter().sum::<u64>(),
            found.live_elements
        );
    }
}

/// A page that begins like an honest one and then has whatever comes.
fn noise() -> impl Strategy<Value = Bytes> {
    (any::<[u8; 32]>(), any::<u64>(), any::<bool>()).prop_map(|(header, seed, tuples)| {
        let mut page = [0; 8192];
        let mut state = seed;
        for byte in &mut page {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            *byte = (state >> 56) as u8;
            if tuples {
                *byte &= 3;
            }
        }
        page[..32].copy_from_slice(&header);
        page
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_pages(pages in prop::collection::vec(noise(), 0..6)) {
        let mut all = Index::new(2, vec![El::ground(1, &[])]).build().pages;
        all.truncate(1);
        all.extend(pages);
        survives(&all);
    }

    #[test]
    fn honest_pages_with_some_bytes_changed(
        index in index(40),
        changes in prop::collection::vec((any::<u32>(), 0..8192_usize, any::<u8>()), 1..40),
        low in any::<bool>(),
    ) {
        let mut pages = index.build().pages;
        let count = pages.len() as u32;
        for (page, at, byte) in changes {
            // Half of the runs spoil headers and line pointers only.
            let at = if low { at % 256 } else { at };
            pages[(page % count) as usize][at] = byte;
        }
        survives(&pages);
    }

    #[test]
    fn pages_that_change_all_the_time(stages in prop::collection::vec(index(12), 1..5)) {
        let stages: Vec<_> = stages.iter().map(|index| index.build().pages).collect();
        for memory_limit in [64 << 20, LITTLE, 0] {
            let options = InspectOptions { memory_limit, anatomy: true, sample_rows: 0, seed: 1 };
            if let Ok(report) = inspect(&mut Source::changing(stages.clone()), &options) {
                prop_assert!(report.figures.orphan_count <= report.figures.live_elements);
            }
        }
    }
}

#[test]
fn every_line_pointer_at_the_same_tuple() {
    let mut els = vec![El::tall(1, &[&[0], &[0]])];
    els[0].layers[0] = vec![Link::To(0), Link::At((1, 200)), Link::At((2, 100))];
    let mut pages = Index::new(100, els).build().pages;
    let pointer: [u8; 4] = pages[1][24..28].try_into().expect("four bytes");
    for at in (24..4000).step_by(4) {
        pages[1][at..at + 4].copy_from_slice(&pointer);
    }
    pages[1][12..14].copy_from_slice(&4000_u16.to_le_bytes());
    pages.extend(vec![pages[1]; 200]);
    survives(&pages);
}

#[test]
fn every_element_waits_for_links_at_the_end_of_the_file() {
    let mut els: Vec<El> = (0..60).map(|i| El::ground(i, &[])).collect();
    els.iter_mut()
        .for_each(|el| el.tuple = super::model::Tuple::Missing);
    let mut pages = Index::new(2, els).build().pages;
    pages.extend(vec![pages[1]; 1200]);
    survives(&pages);
}
