use std::collections::HashSet;

use proptest::prelude::*;
use ruvector_dag_healing_engine::vector_index::edit::PageEdit;
use ruvector_dag_healing_engine::vector_index::hnsw::heal::{Change, Edit, Rung};

use super::super::model::{El, Index, Link};
use super::super::reference::reached;
use super::{
    cut_off, grown, illegal_links, links_to, make, mend, orphans, plan, points, read_back,
};

const NONE: [usize; 0] = [];

/// A graph with orphans: `every` so many elements, the entry point aside.
fn with_orphans(count: usize, every: usize) -> Index {
    let mut index = grown(&points(count, 4, 7), 6);
    let which: HashSet<usize> = (1..count).step_by(every).collect();
    cut_off(&mut index, &which);
    index
}

fn mended(index: &Index) -> Index {
    let built = index.build();
    let mut pages = built.pages.clone();
    assert_eq!(mend(&mut pages, index.m), 0);
    read_back(index, &built, &pages)
}

#[test]
fn a_sound_graph_is_left_alone() {
    let pages = grown(&points(300, 4, 1), 6).build().pages;
    for rung in [Rung::Entry, Rung::Prune] {
        assert_eq!(plan(&pages, rung).edits, [], "{rung:?}");
    }
    let index = grown(&points(300, 4, 1), 6);
    if orphans(&index).is_empty() {
        assert_eq!(plan(&pages, Rung::Link).edits, []);
    }
}

#[test]
fn orphans_are_reached_again_and_nothing_else_is_lost() {
    for every in [100, 20, 4] {
        let index = with_orphans(400, every);
        assert!(!orphans(&index).is_empty());
        let after = mended(&index);
        assert_eq!(orphans(&after), NONE, "one in {every}");
        assert_eq!(illegal_links(&after), []);
    }
}

#[test]
fn where_there_is_no_free_slot_a_link_that_can_be_spared_gives_way() {
    let mut index = with_orphans(400, 20);
    let lost = orphans(&index);
    // Every layer is filled up with the nearest that are not orphans.
    let room = 2 * usize::from(index.m);
    for i in 0..index.elements.len() {
        let mut n = i;
        while index.elements[i].layers[0].len() < room {
            n = (n + 7) % index.elements.len();
            let link = Link::To(n);
            if n != i && !lost.contains(&n) && !index.elements[i].layers[0].contains(&link) {
                index.elements[i].layers[0].push(link);
            }
        }
    }
    let treatment = plan(&index.build().pages, Rung::Link);
    let replaces = |edit: &Edit| {
        matches!(
            edit,
            Edit::Links {
                change: Change::Replace { .. },
                ..
            }
        )
    };
    assert!(treatment.edits.iter().any(replaces));
    let after = mended(&index);
    assert_eq!(orphans(&after), NONE);
    // One link would do to reach each of so many, but not to find it among the neighbours of others.
    let links = links_to(&after, &lost, |_| true);
    assert!(links > 2 * lost.len(), "{links} to {}", lost.len());
}

#[test]
fn where_every_link_is_worth_keeping_the_longest_gives_way_to_a_shorter_one() {
    // An element in the middle of four that are farther from each other than from it, and an orphan
    // above it. Searches begin at the first of the four, which leads everywhere.
    let at = |components: [f32; 3], links: &[usize]| El::ground(0, links).valued(&components);
    let four = [
        [0.0, 10.0, 0.0],
        [10.0, 0.0, 0.0],
        [0.0, -10.0, 0.0],
        [-11.0, 0.0, 0.0],
    ];
    let mut elements: Vec<El> = (0..4)
        .map(|nth| {
            let others: Vec<usize> = (0..5).filter(|other| *other != nth).collect();
            at(four[nth], &others)
        })
        .collect();
    elements.push(at([0.0; 3], &[0, 1, 2, 3]));
    elements.push(at([0.0, 0.0, 3.0], &[4, 0, 1, 2]));
    let mut index = Index::new(2, elements);
    index.entry = Some(Link::To(0));
    assert_eq!(orphans(&index), [5]);
    let middle = &mended(&index).elements[4].layers[0];
    assert!(middle.contains(&Link::To(5)), "{middle:?}");
    assert!(!middle.contains(&Link::To(3)), "{middle:?}");
}

#[test]
fn many_orphans_are_linked_from_few_pages() {
    let mut index = with_orphans(1200, 60);
    index.per_page = 10;
    let lost = orphans(&index);
    let built = index.build();
    let edits = plan(&built.pages, Rung::Link).edits;
    let pages: HashSet<u32> = edits.iter().map(PageEdit::block).collect();
    let mut pages_after = built.pages.clone();
    assert_eq!(make(&mut pages_after, index.m, &edits).1, 0);
    let after = read_back(&index, &built, &pages_after);
    assert_eq!(orphans(&after), NONE);
    let links = links_to(&after, &lost, |_| true);
    // An orphan is led to by many, and of the pages with these the same serve several orphans.
    assert!(
        links >= 5 * lost.len(),
        "{links} links to {} orphans",
        lost.len()
    );
    assert!(
        2 * links >= 9 * pages.len(),
        "{links} links on {} pages",
        pages.len()
    );
}

#[test]
fn the_only_way_to_an_element_is_not_given_up() {
    let at = |x: f32| [x, 0.0, 0.0];
    let ground = |row, x, links: &[usize]| El::ground(row, links).valued(&at(x));
    // The first has no free slot. To the fifth there are three more links, from elements that
    // nothing leads to and that have no rows.
    let mut elements = vec![
        ground(0, 0.0, &[1, 2, 3, 4]),
        ground(1, 8.0, &[0]),
        ground(2, 8.5, &[0]),
        ground(3, 9.0, &[0]),
        ground(4, 10.0, &[0]),
    ];
    elements.extend((5..8).map(|row| ground(row, 20.0, &[4]).ghost()));
    elements.push(ground(8, 0.1, &[0, 1]));
    let index = Index::new(2, elements);
    let before = reached(&index).0;
    let after = mended(&index);
    assert_eq!(orphans(&after), NONE);
    assert!(reached(&after).0.is_superset(&before));
}

#[test]
fn an_island_needs_few_links() {
    // Two graphs that know nothing of each other, far apart.
    let mut far = points(600, 4, 3);
    for point in &mut far[300..] {
        point.iter_mut().for_each(|x| *x += 10.0);
    }
    let mut index = grown(&far[..300], 6);
    let island = grown(&far[300..], 6);
    for mut el in island.elements {
        for link in el.layers.iter_mut().flatten() {
            if let Link::To(to) = link {
                *to += 300;
            }
        }
        index.elements.push(el);
    }
    assert!(orphans(&index).len() >= 300);
    let treatment = plan(&index.build().pages, Rung::Link);
    let edits = treatment.edits.len();
    assert!(edits < 60, "{edits} edits");
    assert_eq!(orphans(&mended(&index)), NONE);
}

#[test]
fn what_others_are_reached_from_is_linked_first() {
    let mut index = grown(&points(1_000, 4, 3), 6);
    // Three far away, each of which leads to the one before it and back to the rest: the last of
    // them needs a link, and is last in the file.
    for nth in 0..3 {
        let mut far = index.elements[nth + 1].clone();
        far.layers = vec![(10..16).map(Link::To).collect()];
        if nth > 0 {
            far.layers[0].push(Link::To(999 + nth));
        }
        far.rows = vec![(90_000, nth as u16 + 1)];
        for x in &mut far.components {
            *x = 10.0 + nth as f32;
        }
        index.elements.push(far);
    }
    assert_eq!(orphans(&index), [1_000, 1_001, 1_002]);
    let after = mended(&index);
    assert_eq!(orphans(&after), NONE);
    let near = after.elements[..1_000].iter();
    let links = near.flat_map(|el| &el.layers[0]);
    let to_far = links.filter(|link| matches!(link, Link::To(to) if *to >= 1_000));
    assert_eq!(to_far.count(), 1);
}

#[test]
fn an_orphan_without_links_of_its_own_gets_some() {
    let mut index = with_orphans(300, 30);
    let lost = orphans(&index);
    for &i in &lost {
        index.elements[i].layers[0].clear();
    }
    let after = mended(&index);
    for i in lost {
        let links = &after.elements[i].layers[0];
        let count = links.iter().filter(|link| **link != Link::Hole).count();
        assert!(count >= usize::from(index.m), "{i} has {count} links");
    }
}

#[test]
fn elements_without_rows_are_neither_linked_nor_linked_from() {
    let mut index = with_orphans(300, 10);
    for i in (0..300).step_by(7) {
        index.elements[i].rows.clear();
    }
    let treatment = plan(&index.build().pages, Rung::Link);
    let built = index.build();
    let ghost = |place| {
        let number = built.places.iter().position(|at| *at == place);
        index.elements[number.expect("an element")].rows.is_empty()
    };
    for edit in &treatment.edits {
        let Edit::Links { of, change, .. } = edit else {
            panic!("{edit:?}");
        };
        assert!(!ghost((of.at.block, of.at.offset)));
        if let Change::Append { to, .. } = change {
            assert!(to.iter().all(|to| !ghost((to.at.block, to.at.offset))));
        }
    }
    assert_eq!(orphans(&mended(&index)), NONE);
}

#[test]
fn where_most_elements_have_no_rows_the_others_are_linked_past_them() {
    let mut index = with_orphans(600, 60);
    for i in (0..600).filter(|i| i % 15 != 1) {
        index.elements[i].rows.clear();
    }
    let lost = orphans(&index);
    for &i in &lost {
        index.elements[i].layers[0].clear();
    }
    let after = mended(&index);
    assert_eq!(orphans(&after), NONE);
    for i in lost {
        let links = &after.elements[i].layers[0];
        assert!(links.iter().any(|link| *link != Link::Hole), "{i}");
    }
}

#[test]
fn where_searches_end_among_elements_without_rows_the_nearest_of_all_leads_on() {
    let rowless = |element: El| El {
        rows: Vec::new(),
        ..element
    };
    // From where searches start the way to what is near the orphan ends there.
    let mut index = Index::new(
        2,
        vec![
            rowless(El::tall(0, &[&[], &[1, 3]]).valued(&[0.0])),
            rowless(El::tall(1, &[&[2], &[0]]).valued(&[4.0])),
            rowless(El::ground(2, &[1]).valued(&[4.1])),
            El::tall(3, &[&[4], &[0]]).valued(&[-9.0]),
            El::ground(4, &[3]).valued(&[-9.1]),
            El::ground(5, &[]).valued(&[4.2]),
        ],
    );
    index.entry = Some(Link::To(0));
    assert_eq!(orphans(&index), [5]);
    let after = mended(&index);
    assert_eq!(orphans(&after), NONE);
    assert!(after.elements[3].layers[0].contains(&Link::To(5)));
    assert!(after.elements[5].layers[0].contains(&Link::To(3)));
}

#[test]
fn an_element_that_is_reached_from_above_gets_links_on_the_ground() {
    let mut index = grown(&points(200, 4, 5), 6);
    let tall = index.elements.iter().rposition(|el| el.level > 0);
    let tall = tall.expect("an element above the ground");
    index.elements[tall].layers[0].clear();
    assert_eq!(orphans(&index), NONE);
    let links = mended(&index).elements[tall].layers[0].clone();
    let count = links.iter().filter(|link| **link != Link::Hole).count();
    assert!(count >= usize::from(index.m), "{count}");
}

#[test]
fn what_must_not_be_linked_to_is_taken_out() {
    let mut index = grown(&points(200, 4, 9), 6);
    index.elements.push(El::ground(500, &[]).deleted());
    let (gone, m) = (200, usize::from(index.m));
    let links = |index: &mut Index, i: usize| index.elements[i].layers[0].clone();
    let mut set = |i: usize, change: &dyn Fn(&mut Vec<Link>)| {
        let mut now = links(&mut index, i);
        change(&mut now);
        now.truncate(2 * m);
        index.elements[i].layers[0] = now;
    };
    set(10, &|links| links[0] = Link::To(gone));
    set(11, &|links| links[0] = Link::To(11));
    set(12, &|links| links[1] = links[0]);
    set(13, &|links| links[0] = Link::At((9_000, 1)));
    set(14, &|links| links[0] = Link::At((1, 2)));
    set(15, &|links| links.insert(1, Link::Hole));
    index.elements[0].layers[1][0] = Link::To(17);
    assert!(illegal_links(&index).len() >= 7);
    let before = reached(&index).0;
    let after = mended(&index);
    assert_eq!(illegal_links(&after), []);
    assert!(reached(&after).0.is_superset(&before));
}

#[test]
fn searches_start_at_a_live_element_of_the_highest_layer() {
    for entry in [
        None,
        Some(Link::To(200)),
        Some(Link::At((9_000, 1))),
        Some(Link::To(3)),
    ] {
        let mut index = grown(&points(200, 4, 5), 6);
        index.elements.push(El::ground(500, &[]).deleted());
        index.entry = entry;
        let after = mended(&index);
        let Some(Link::To(now)) = after.entry else {
            panic!("{entry:?}: {:?}", after.entry);
        };
        assert_eq!(after.elements[now].level, 2, "{entry:?}");
        assert_eq!(orphans(&after), NONE, "{entry:?}");
    }
}

#[test]
fn a_high_element_that_leads_nowhere_is_no_place_to_start_from() {
    let mut index = grown(&points(200, 4, 5), 6);
    index
        .elements
        .push(El::tall(900, &[&[], &[], &[], &[]]).valued(&[0.5; 4]));
    let before = reached(&index).0.len();
    assert_eq!(plan(&index.build().pages, Rung::Entry).edits, []);
    let after = mended(&index);
    assert!(reached(&after).0.len() > before);
}

#[test]
fn where_searches_start_at_an_element_that_leads_nowhere_it_gets_a_link() {
    let gone = [Link::At((9_000, 1)), Link::Hole, Link::At((9_000, 3))];
    type Layers = Vec<Vec<Link>>;
    let spoil: [&dyn Fn(&mut Layers); 4] = [
        &|layers| layers.iter_mut().for_each(Vec::clear),
        &|layers| layers.iter_mut().for_each(|layer| *layer = gone.to_vec()),
        // Only the ground is reached then, from one place.
        &|layers| layers[1..].iter_mut().for_each(Vec::clear),
        &|layers| layers[1..].fill(vec![Link::To(200)]),
    ];
    for (nth, spoil) in spoil.iter().enumerate() {
        let mut index = grown(&points(200, 4, 5), 6);
        index.elements.push(El::ground(500, &[]).deleted());
        let Some(Link::To(entry)) = index.entry else {
            panic!("no entry point");
        };
        let before = reached(&index).0.len();
        spoil(&mut index.elements[entry].layers);
        let built = index.build();
        let edits = plan(&built.pages, Rung::Entry).edits;
        let mut pages = built.pages.clone();
        assert_eq!(make(&mut pages, index.m, &edits).1, 0);
        let after = read_back(&index, &built, &pages);
        assert_eq!(after.entry, index.entry);
        assert_eq!(reached(&after).0.len(), before, "{nth}");
        let shared = after.elements[entry].layers.iter().enumerate().rev();
        let others = |layer: usize| {
            let at_least = |(i, el): (usize, &El)| i != entry && usize::from(el.level) >= layer;
            after.elements.iter().enumerate().any(at_least)
        };
        let (_, links) = shared
            .into_iter()
            .find(|(layer, _)| others(*layer))
            .expect("others");
        assert!(
            matches!(links[0], Link::To(to) if !after.elements[to].deleted),
            "{nth}: {links:?}"
        );
        assert_eq!(plan(&pages, Rung::Entry).edits, []);
    }
}

#[test]
fn links_taken_back_leave_the_pages_as_they_were() {
    let index = with_orphans(400, 20);
    let before = index.build().pages;
    let mut pages = before.clone();
    let treatment = plan(&pages, Rung::Link);
    let (undo, _) = make(&mut pages, index.m, &treatment.edits);
    assert_ne!(pages, before);
    let back: Vec<Edit> = undo.into_iter().rev().collect();
    let (_, lost) = make(&mut pages, index.m, &back);
    assert_eq!(lost, 0);
    assert_eq!(pages, before);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_cut_off_is_found_again(
        seed in any::<u64>(), cut in prop::collection::hash_set(1..250_usize, 1..120), m in 3..9_usize,
    ) {
        let mut index = grown(&points(250, 3, seed), m);
        cut_off(&mut index, &cut);
        let before = reached(&index).0;
        let built = index.build();
        let mut pages = built.pages.clone();
        prop_assert_eq!(mend(&mut pages, index.m), 0);
        let after = read_back(&index, &built, &pages);
        prop_assert_eq!(orphans(&after), Vec::<usize>::new());
        prop_assert!(reached(&after).0.is_superset(&before));
        prop_assert_eq!(illegal_links(&after), vec![]);
    }
}
