use proptest::prelude::*;
use ruvector_dag_healing_engine::vector_index::hnsw::heal::{Rung, Survey};

use super::super::random::index;
use super::super::reference::reached;
use super::super::source::Source;
use super::{MEMORY, illegal_links, make, orphans, plan, points, read_back, shape};

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_rung_loses_what_is_reached(index in index(40), seed in any::<u64>()) {
        let mut index = index;
        let values = points(index.elements.len(), 3, seed);
        for (el, value) in index.elements.iter_mut().zip(&values) {
            if !el.deleted && el.value >= 20 {
                el.value = 20;
                el.components = value.clone();
            }
        }
        let built = index.build();
        let mut pages = built.pages.clone();
        let mut before = reached(&index).0;
        for rung in [Rung::Entry, Rung::Prune, Rung::Link] {
            let treatment = plan(&pages, rung);
            let (_, lost) = make(&mut pages, index.m, &treatment.edits);
            prop_assert_eq!(lost, 0);
            let after = read_back(&index, &built, &pages);
            let now = reached(&after).0;
            prop_assert!(now.is_superset(&before), "{:?} lost some", rung);
            before = now;
            if rung != Rung::Entry {
                prop_assert_eq!(illegal_links(&after), vec![]);
            }
            if rung == Rung::Link {
                prop_assert_eq!(orphans(&after).len() as u64, treatment.left);
            }
        }
    }

    #[test]
    fn any_bytes_are_borne(
        index in index(12),
        noise in prop::collection::vec((any::<prop::sample::Index>(), 0..8192_usize, any::<u8>()), 0..40),
    ) {
        let mut pages = index.build().pages;
        for (page, at, byte) in noise {
            let nth = page.index(pages.len());
            pages[nth][at] = byte;
        }
        let mut source = Source::quiet(pages.clone());
        if let Ok(Some(survey)) = Survey::take(&mut source, MEMORY) {
            for rung in [Rung::Tuples, Rung::Entry, Rung::Prune, Rung::Link] {
                let treatment = survey.plan(rung, &shape(), &mut source);
                let edits = treatment.map(|treatment| treatment.edits).unwrap_or_default();
                make(&mut pages.clone(), survey.meta().m, &edits);
            }
        }
        let edits = super::rows::edits_of_everything(&pages);
        make(&mut pages, 4, &edits);
    }
}

#[test]
fn with_too_little_memory_nothing_is_planned() {
    let pages = super::grown(&points(300, 4, 1), 6).build().pages;
    for limit in [0, 1_000, 40_000] {
        let survey = Survey::take(&mut Source::quiet(pages.clone()), limit);
        assert!(survey.expect("pages that can be read").is_none(), "{limit}");
    }
}
