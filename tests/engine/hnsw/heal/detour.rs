use std::collections::HashSet;
use std::sync::OnceLock;

use proptest::prelude::*;
use ruvector_dag_healing_engine::vector_index::edit::PageEdit;
use ruvector_dag_healing_engine::vector_index::hnsw::duplicate_sink;
use ruvector_dag_healing_engine::vector_index::hnsw::heal::{Change, Edit, Rung, Survey};
use ruvector_dag_healing_engine::vector_index::value::ValueType;

use super::super::model::{Bytes, Index, Link};
use super::super::source::{Source, report};
use super::{MEMORY, grown, illegal_links, make, orphans, plan, points, read_back, shape};

const NONE: [usize; 0] = [];
const M: usize = 6;
const DIMENSIONS: usize = 24;
/// One point in so many is the zero vector.
const EVERY: usize = 8;
const CENTRES: usize = 100;

/// Points of length 1 around a hundred others, and the zero vector many times.
fn with_zeroes(count: usize, seed: u64) -> Vec<Vec<f32>> {
    let centres = points(CENTRES, DIMENSIONS, 1);
    let mut found = points(count, DIMENSIONS, seed);
    for (nth, point) in found.iter_mut().enumerate() {
        let mut centre = centres[nth * 7 % CENTRES].clone();
        to_length(&mut centre, 1.0);
        to_length(point, 0.6);
        point
            .iter_mut()
            .zip(&centre)
            .for_each(|(x, c)| *x += c + 0.5);
        match nth % EVERY {
            1 => point.fill(0.0),
            _ => to_length(point, 1.0),
        }
    }
    found
}

/// Has a vector from the middle of the unit cube be of a length.
fn to_length(vector: &mut [f32], length: f32) {
    vector.iter_mut().for_each(|x| *x -= 0.5);
    let norm = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
    vector.iter_mut().for_each(|x| *x *= length / norm);
}

fn is_zero(index: &Index, nth: usize) -> bool {
    index.elements[nth].components.iter().all(|x| *x == 0.0)
}

/// A graph in which searches end at the zero vector, as in those that pgvector builds: its elements
/// have most of the links of all others, and lead to one another. Ten rows to each of them.
fn sink(count: usize, seed: u64) -> Index {
    sink_of(&with_zeroes(count, seed))
}

/// The usual one.
fn usual() -> Index {
    static USUAL: OnceLock<Index> = OnceLock::new();
    USUAL.get_or_init(|| sink(600, 3)).clone()
}

fn sink_of(points: &[Vec<f32>]) -> Index {
    let mut index = grown(points, M);
    let zeroes: Vec<usize> = (0..points.len()).filter(|&n| is_zero(&index, n)).collect();
    for nth in 0..points.len() {
        let ordinary = !is_zero(&index, nth);
        let own = zeroes.iter().position(|&zero| zero == nth).unwrap_or(nth);
        for layer in 0..index.elements[nth].layers.len() {
            let room = if layer == 0 { 2 * M } else { M };
            let lead_to = |link: &Link| matches!(link, Link::To(to) if !zeroes.contains(to));
            let mut links = index.elements[nth].layers[layer].clone();
            links.retain(|link| ordinary && lead_to(link));
            links.truncate(room / 3);
            let others = (1..=zeroes.len()).map(|step| zeroes[(own + step) % zeroes.len()]);
            let others =
                others.filter(|&to| to != nth && usize::from(index.elements[to].level) >= layer);
            links.extend(others.take(room - links.len()).map(Link::To));
            index.elements[nth].layers[layer] = links;
        }
        if !ordinary {
            let (block, _) = index.elements[nth].rows[0];
            index.elements[nth].rows = (1..=10).map(|row| (block, row)).collect();
        }
    }
    index
}

fn key(index: &Index) -> u64 {
    let mut source = Source::quiet(index.build().pages);
    let found = duplicate_sink(&mut source, ValueType::Vector, &report(index).frequent);
    found.expect("honest pages").expect("a sink").key
}

fn detour(index: &Index) -> Rung {
    Rung::Detour { key: key(index) }
}

/// The graph after it was rewritten.
fn rewritten(index: &Index) -> Index {
    let built = index.build();
    let mut pages = built.pages.clone();
    let treatment = plan(&pages, detour(index));
    let (_, lost) = make(&mut pages, index.m, &treatment.edits);
    assert_eq!((lost, treatment.left), (0, 0));
    read_back(index, &built, &pages)
}

fn apart(index: &Index, from: &[f32], to: usize) -> f32 {
    let pairs = from.iter().zip(&index.elements[to].components);
    pairs.map(|(x, y)| (x - y) * (x - y)).sum()
}

/// What a search `width` wide finds, nearest first, by slow and obvious means.
fn search(index: &Index, query: &[f32], width: usize) -> Vec<usize> {
    let Some(Link::To(entry)) = index.entry else {
        panic!("an entry point");
    };
    let rank = |nth: usize| apart(index, query, nth);
    let mut found = vec![entry];
    for layer in (0..=index.elements[entry].level).rev() {
        let width = if layer == 0 { width } else { 1 };
        let mut seen: HashSet<usize> = found.iter().copied().collect();
        let mut agenda = found.clone();
        while !agenda.is_empty() {
            agenda.sort_by(|&a, &b| rank(b).total_cmp(&rank(a)));
            let next = agenda.pop().expect("not empty");
            found.sort_by(|&a, &b| rank(a).total_cmp(&rank(b)));
            if found.len() >= width && rank(next) > rank(found[width - 1]) {
                break;
            }
            let links = index.elements[next].layers.get(usize::from(layer));
            for link in links.into_iter().flatten() {
                let Link::To(to) = *link else { continue };
                let worst = found.get(width - 1).map(|&worst| rank(worst));
                if seen.insert(to) && worst.is_none_or(|worst| rank(to) < worst) {
                    agenda.push(to);
                    found.push(to);
                    found.sort_by(|&a, &b| rank(a).total_cmp(&rank(b)));
                    found.truncate(width);
                }
            }
        }
    }
    found
}

/// Of the elements nearer than the zero vector to queries that are no points, the share found.
fn share_found(index: &Index, width: usize) -> f64 {
    let (mut found, mut wanted) = (0, 0);
    for query in with_zeroes(60, 99).iter().filter(|query| query[0] != 0.0) {
        let answer = search(index, query, width);
        let mut near: Vec<usize> = (0..index.elements.len()).collect();
        near.sort_by(|&a, &b| apart(index, query, a).total_cmp(&apart(index, query, b)));
        for nth in near
            .into_iter()
            .take(10)
            .filter(|&nth| !is_zero(index, nth))
        {
            wanted += 1;
            found += i32::from(answer.contains(&nth));
        }
    }
    f64::from(found) / f64::from(wanted)
}

/// Pairs of elements of which the first links to the second on the ground layer.
fn edges(index: &Index) -> impl Iterator<Item = (usize, usize)> {
    let from = index.elements.iter().enumerate();
    from.flat_map(|(from, el)| {
        el.layers[0].iter().filter_map(move |link| match link {
            Link::To(to) => Some((from, *to)),
            _ => None,
        })
    })
}

#[test]
fn searches_find_what_lies_beyond_the_value() {
    let index = usual();
    let before = share_found(&index, 40);
    assert!(before < 0.6, "{before}");
    let after = rewritten(&index);
    let found = share_found(&after, 40);
    assert!(found > 0.97, "{found}");
    assert_eq!(orphans(&after), NONE);
    assert_eq!(illegal_links(&after), []);
    let zeroes = (0..600).filter(|&nth| is_zero(&after, nth)).count();
    let of_the_value = search(&after, &[0.0; DIMENSIONS], zeroes);
    assert!(of_the_value.iter().all(|&nth| is_zero(&after, nth)));
}

#[test]
fn few_elements_of_the_value_are_in_front_and_none_of_them_leads_behind() {
    let after = rewritten(&usual());
    let mut links_to = vec![0; 600];
    for (from, to) in edges(&after) {
        if is_zero(&after, to) && !is_zero(&after, from) {
            links_to[to] += 1;
        }
    }
    let front: Vec<usize> = (0..600).filter(|&nth| links_to[nth] > 100).collect();
    assert_eq!(front.len(), 2, "{links_to:?}");
    let behind: usize = links_to.iter().sum::<usize>() - links_to[front[0]] - links_to[front[1]];
    assert_eq!(behind, 4, "gates");
    for (from, to) in edges(&after) {
        assert!(!front.contains(&from) || !is_zero(&after, to) || front.contains(&to));
    }
    for el in after.elements.iter() {
        for link in el.layers.iter().skip(1).flatten() {
            assert!(!matches!(link, Link::To(to) if is_zero(&after, *to)));
        }
    }
}

#[test]
fn what_was_done_is_not_done_again() {
    let after = rewritten(&usual());
    let again = plan(&after.build().pages, detour(&after)).edits;
    assert_eq!(again.len(), 0);
}

#[test]
fn searches_may_start_at_any_element_of_the_value() {
    let usual = usual();
    let zeroes = (0..600).filter(|&nth| is_zero(&usual, nth));
    for start in zeroes.step_by(12) {
        let mut index = usual.clone();
        let top = usual.elements[0].level;
        let el = &mut index.elements[start];
        el.level = top;
        el.layers.resize(usize::from(top) + 1, Vec::new());
        index.entry = Some(Link::To(start));
        let after = rewritten(&index);
        let found = share_found(&after, 40);
        assert!(found > 0.95, "{found} from element {start}");
        assert_eq!(orphans(&after), NONE);
    }
}

#[test]
fn searches_that_start_beside_an_element_of_the_value_do_not_go_there() {
    let usual = usual();
    let zeroes = (0..600).filter(|&nth| is_zero(&usual, nth));
    let Some(Link::To(entry)) = usual.entry else {
        panic!("an entry point");
    };
    for beside in zeroes.step_by(12) {
        // The only two on the highest layer.
        let mut index = usual.clone();
        let top = usual.elements[entry].level + 1;
        for (nth, other) in [(entry, beside), (beside, entry)] {
            let el = &mut index.elements[nth];
            el.level = top;
            el.layers.resize(usize::from(top), Vec::new());
            el.layers.push(vec![Link::To(other)]);
        }
        let after = rewritten(&index);
        let found = share_found(&after, 40);
        assert!(found > 0.95, "{found} beside element {beside}");
        assert_eq!(orphans(&after), NONE);
        assert_eq!(plan(&after.build().pages, Rung::Entry).edits, []);
    }
}

/// What searches 40 wide find, each for the value of another ordinary element.
fn searches(index: &Index) -> Vec<Vec<usize>> {
    let ordinary = (0..index.elements.len()).filter(|&nth| !is_zero(index, nth));
    ordinary
        .map(|nth| search(index, &index.elements[nth].components, 40))
        .collect()
}

#[test]
fn searches_for_other_values_hardly_ever_come_to_what_stands_behind() {
    let mut index = usual();
    // What most of them look at is nearest to the value.
    let mut looks = vec![0; 600];
    for found in searches(&rewritten(&index)) {
        found.into_iter().for_each(|nth| looks[nth] += 1);
    }
    let mut ordinary: Vec<usize> = (0..600).filter(|&nth| !is_zero(&index, nth)).collect();
    ordinary.sort_by_key(|&nth| std::cmp::Reverse(looks[nth]));
    for &nth in &ordinary[..12] {
        let components = &mut index.elements[nth].components;
        components.iter_mut().for_each(|x| *x *= 0.97);
    }
    let after = rewritten(&index);
    let mut links_to = vec![0; 600];
    edges(&after).for_each(|(_, to)| links_to[to] += 1);
    let is_behind = |nth: &usize| is_zero(&after, *nth) && links_to[*nth] < 100;
    let searches = searches(&after);
    let ended_behind = searches.iter().filter(|found| found.iter().any(is_behind));
    let share = ended_behind.count() as f64 / searches.len() as f64;
    assert!(share < 0.26, "{share} of them");
}

#[test]
fn elements_without_rows_are_led_to_by_nothing_new() {
    let mut index = usual();
    let ghosts: Vec<usize> = (3..600)
        .step_by(40)
        .filter(|&n| !is_zero(&index, n))
        .collect();
    assert!(!ghosts.is_empty());
    for &ghost in &ghosts {
        index.elements[ghost].rows.clear();
    }
    let before: HashSet<(usize, usize)> = edges(&index).collect();
    let after = rewritten(&index);
    let new = edges(&after).filter(|edge| !before.contains(edge));
    assert_eq!(new.filter(|(_, to)| ghosts.contains(to)).count(), 0);
    assert_eq!(orphans(&after), NONE);
}

#[test]
fn links_put_back_leave_the_pages_as_they_were() {
    let index = usual();
    let before = index.build().pages;
    let mut pages = before.clone();
    let treatment = plan(&pages, detour(&index));
    let (undo, _) = make(&mut pages, index.m, &treatment.edits);
    assert_ne!(pages, before);
    let back: Vec<Edit> = undo.into_iter().rev().collect();
    assert_eq!(make(&mut pages, index.m, &back).1, 0);
    assert_eq!(pages, before);
}

#[test]
fn links_that_others_changed_meanwhile_are_judged_again_and_those_alone() {
    let index = usual();
    let (built, rung) = (index.build(), detour(&index));
    let mut pages = built.pages.clone();
    let edits = plan(&pages, rung).edits;
    let made: Vec<Edit> = edits
        .iter()
        .filter(|e| e.block() % 3 > 0)
        .cloned()
        .collect();
    make(&mut pages, index.m, &made);
    let (again, left) = (plan(&pages, rung), edits.len() - made.len());
    assert!(
        again.edits.len() < 2 * left,
        "{} for {left}",
        again.edits.len()
    );
    make(&mut pages, index.m, &again.edits);
    let after = read_back(&index, &built, &pages);
    assert_eq!(orphans(&after), NONE);
    let found = share_found(&after, 40);
    assert!(found > 0.95, "{found}");
}

#[test]
fn the_way_to_the_value_is_made_before_others_are_given_up() {
    let index = usual();
    let built = index.build();
    let edits = plan(&built.pages, detour(&index)).edits;
    let zeroes = |after: &Index| -> usize {
        let lost = orphans(after).into_iter();
        lost.filter(|&nth| is_zero(after, nth)).count()
    };
    let before = (zeroes(&index), share_found(&index, 40));
    for part in [8, 4, 2] {
        let mut pages: Vec<Bytes> = built.pages.clone();
        make(&mut pages, index.m, &edits[..edits.len() / part]);
        let after = read_back(&index, &built, &pages);
        let now = (zeroes(&after), share_found(&after, 40));
        assert!(
            now.0 <= before.0 && now.1 > before.1,
            "{now:?} after {before:?}"
        );
        assert_eq!(illegal_links(&after), []);
    }
}

#[test]
fn where_no_element_has_the_value_nothing_is_done() {
    let pages = grown(&points(300, 4, 1), M).build().pages;
    assert_eq!(plan(&pages, Rung::Detour { key: 1 }).edits, []);
}

#[test]
fn too_little_memory_is_said_with_how_much_it_takes() {
    let index = usual();
    let mut source = Source::quiet(index.build().pages);
    let rung = detour(&index);
    let mut survey = |limit: usize| Survey::take(&mut source, limit).expect("honest pages");
    let mut limits = (0..).map(|nth| nth * 50_000);
    let just = limits
        .find_map(&mut survey)
        .expect("the graph fits somewhere");
    let megabytes = just.lacks_memory(rung).expect("too little");
    let enough = survey(megabytes << 20).expect("the graph fits");
    assert_eq!(enough.lacks_memory(rung), None);
    assert!(megabytes < 8, "{megabytes}");
    assert_eq!(just.lacks_memory(Rung::Link), None);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_graph_with_a_sink_keeps_what_it_has(
        seed in any::<u64>(), cut in prop::collection::hash_set(1..400_usize, 0..80),
    ) {
        let mut index = sink(400, seed);
        super::cut_off(&mut index, &cut);
        let built = index.build();
        let mut pages = built.pages.clone();
        let treatment = plan(&pages, detour(&index));
        let rewrites = |edit: &Edit| matches!(edit, Edit::Links { change: Change::Rewrite { .. }, .. });
        prop_assert!(treatment.edits.iter().all(rewrites));
        prop_assert_eq!(make(&mut pages, index.m, &treatment.edits).1, 0);
        let after = read_back(&index, &built, &pages);
        prop_assert_eq!(illegal_links(&after), vec![]);
        prop_assert!(orphans(&after).len() <= orphans(&index).len());
        prop_assert_eq!(orphans(&after).len() as u64, treatment.left);
    }

    #[test]
    fn any_bytes_are_borne(
        noise in prop::collection::vec((any::<prop::sample::Index>(), 0..8192_usize, any::<u8>()), 1..400),
    ) {
        static SMALL: OnceLock<Index> = OnceLock::new();
        let index = SMALL.get_or_init(|| sink(260, 19));
        let (mut pages, rung) = (index.build().pages, detour(index));
        for (page, at, byte) in noise {
            let nth = page.index(pages.len());
            pages[nth][at] = byte;
        }
        let mut source = Source::quiet(pages.clone());
        if let Ok(Some(survey)) = Survey::take(&mut source, MEMORY) {
            let treatment = survey.plan(rung, &shape(), &mut source);
            let edits = treatment.map(|treatment| treatment.edits).unwrap_or_default();
            make(&mut pages, survey.meta().m, &edits);
        }
    }
}
