//! Graphs mended in place: edits planned, made on pages in memory, and what comes of it.

// Searches that pass by a value that many elements have.
mod detour;
// What an edit needs, and what takes it back.
mod edits;
// Rows of one value brought together.
mod merge;
// Any graph at all.
mod random;
// Links past what the next vacuum deletes.
mod relink;
// Graphs as pgvector builds them, with faults planted.
mod planted;

// Rows in elements where they must not be.
mod rows;
// What neighbour tuples say of themselves.
mod tuples;

use std::collections::HashSet;

use ruvector_dag_healing_engine::vector_index::edit::{PageEdit, Undo};
use ruvector_dag_healing_engine::vector_index::hnsw::heal::{Edit, Rung, Survey, Treatment};
use ruvector_dag_healing_engine::vector_index::shape::{IndexShape, Metric};
use ruvector_dag_healing_engine::vector_index::value::ValueType;

use super::model::{Built, Bytes, El, Index, Link, Place};
use super::reference::reached;
use super::source::Source;

pub const MEMORY: usize = 64 << 20;

pub fn shape() -> IndexShape {
    IndexShape {
        value_type: ValueType::Vector,
        metric: Metric::L2,
        normalized: false,
        dimensions: None,
        option: None,
    }
}

/// What a rung would do to pages that stay as they are.
pub fn plan(pages: &[Bytes], rung: Rung) -> Treatment {
    let mut source = Source::quiet(pages.to_vec());
    let survey = Survey::take(&mut source, MEMORY).expect("pages that can be read");
    let survey = survey.expect("a graph that fits into memory");
    survey
        .plan(rung, &shape(), &mut source)
        .expect("pages that can be read")
}

/// Makes edits as whoever holds the locks does; what takes each back, and how many were lost.
pub fn make(pages: &mut [Bytes], m: u16, edits: &[Edit]) -> (Vec<Edit>, usize) {
    let (mut undo, mut lost) = (Vec::new(), 0);
    for edit in edits {
        assert!((edit.block() as usize) < pages.len(), "{edit:?}");
        let holds = edit.holds(&mut Source::quiet(pages.to_vec()));
        let made = holds.expect("pages that can be read") && apply(edit, m, pages);
        match made {
            true => undo.extend(edit.undo()),
            false => lost += 1,
        }
    }
    (undo, lost)
}

/// Makes an edit on its page, or on both.
fn apply(edit: &Edit, m: u16, pages: &mut [Bytes]) -> bool {
    let block = edit.block() as usize;
    let Some(other) = edit.other_block() else {
        return edit.apply(m, &mut pages[block]);
    };
    let both = pages.get_disjoint_mut([block, other as usize]);
    let [page, other] = both.expect("two pages that are there");
    edit.apply_across(m, page, other)
}

/// Goes through all rungs; how many orphans the last leaves.
pub fn mend(pages: &mut [Bytes], m: u16) -> u64 {
    let mut left = 0;
    for rung in [Rung::Entry, Rung::Prune, Rung::Link] {
        let treatment = plan(pages, rung);
        let (_, lost) = make(pages, m, &treatment.edits);
        assert_eq!(lost, 0, "{rung:?}: nobody else wrote");
        left = treatment.left;
    }
    left
}

/// The model as pages now have it: what links lead to, and where searches start.
pub fn read_back(index: &Index, built: &Built, pages: &[Bytes]) -> Index {
    let number = |place: Place| built.places.iter().position(|at| *at == place);
    let to = |place: Place| match place.1 {
        0 => Link::Hole,
        _ => number(place).map_or(Link::At(place), Link::To),
    };
    let mut now = index.clone();
    let m = usize::from(index.m);
    for (el, &at) in now.elements.iter_mut().zip(&built.places) {
        let tuple = place(item(pages, at), 64);
        if el.deleted || tuple.0 as usize >= pages.len() {
            continue;
        }
        let bytes = item(pages, tuple);
        let mut slot = 4;
        el.layers = vec![Vec::new(); usize::from(el.level) + 1];
        for layer in (0..=usize::from(el.level)).rev() {
            for _ in 0..if layer == 0 { 2 * m } else { m } {
                el.layers[layer].push(to(place(bytes, slot)));
                slot += 6;
            }
        }
    }
    let meta = &pages[0];
    let entry = u32::from_le_bytes([meta[40], meta[41], meta[42], meta[43]]);
    let offset = u16::from_le_bytes([meta[44], meta[45]]);
    now.entry = (offset != 0 && entry != u32::MAX).then(|| to((entry, offset)));
    now
}

fn item(pages: &[Bytes], (block, offset): Place) -> &[u8] {
    let page = &pages[block as usize];
    let at = 24 + 4 * (usize::from(offset) - 1);
    &page[usize::from(u16::from_le_bytes([page[at], page[at + 1]]) & 0x7FFF)..]
}

fn place(bytes: &[u8], at: usize) -> Place {
    let half = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
    let block = u32::from(half(at)) << 16 | u32::from(half(at + 2));
    (block, half(at + 4))
}

/// Links that pgvector does not let stand, of elements that it reads links of.
pub fn illegal_links(index: &Index) -> Vec<(usize, usize, Link)> {
    use super::model::Tuple;
    let mut found = Vec::new();
    for (i, el) in index.elements.iter().enumerate() {
        let unread = matches!(
            el.tuple,
            Tuple::OtherVersion | Tuple::OtherCount | Tuple::Missing
        );
        if el.deleted || unread {
            continue;
        }
        for (layer, links) in el.layers.iter().enumerate() {
            let mut seen = HashSet::new();
            let mut ended = false;
            for &link in links {
                let legal = match link {
                    Link::Hole => {
                        ended = true;
                        continue;
                    }
                    Link::At(_) => false,
                    Link::To(to) => {
                        let target: &El = &index.elements[to];
                        !target.deleted
                            && usize::from(target.level) >= layer
                            && to != i
                            && seen.insert(to)
                    }
                };
                if !legal || ended {
                    found.push((i, layer, link));
                }
            }
        }
    }
    found
}

/// Elements with rows that no search reaches.
pub fn orphans(index: &Index) -> Vec<usize> {
    let (seen, _) = reached(index);
    let counts = |i: &usize| !index.elements[*i].deleted && !index.elements[*i].rows.is_empty();
    (0..index.elements.len())
        .filter(|i| counts(i) && !seen.contains(i))
        .collect()
}

/// A graph of random points as pgvector builds one, by slow and obvious means: of the nearest
/// points before it each links to those that are nearer to it than to each other, then to the
/// nearest of the rest; they link back, and give up their farthest link where they have no room.
pub fn grown(points: &[Vec<f32>], m: usize) -> Index {
    let apart = |a: usize, b: usize| -> f32 {
        let pairs = points[a].iter().zip(&points[b]);
        pairs.map(|(x, y)| (x - y) * (x - y)).sum()
    };
    let level = |i: usize| match i {
        0 => 2,
        i if i % (m * m) == 0 => 2,
        i if i % m == 0 => 1,
        _ => 0,
    };
    let mut layers: Vec<Vec<Vec<usize>>> = (0..points.len())
        .map(|i| vec![Vec::new(); level(i) + 1])
        .collect();
    for i in 1..points.len() {
        for layer in 0..layers[i].len() {
            let mut near: Vec<usize> = (0..i).filter(|&j| level(j) >= layer).collect();
            near.sort_by(|&a, &b| apart(i, a).total_cmp(&apart(i, b)));
            near.truncate(4 * m);
            let (mut kept, mut rest): (Vec<usize>, Vec<usize>) = (Vec::new(), Vec::new());
            for &j in &near {
                match kept.len() < m && kept.iter().all(|&k| apart(j, k) > apart(j, i)) {
                    true => kept.push(j),
                    false => rest.push(j),
                }
            }
            kept.extend(rest);
            kept.truncate(m);
            for &j in &kept {
                let room = if layer == 0 { 2 * m } else { m };
                let links = &mut layers[j][layer];
                links.push(i);
                if links.len() > room {
                    links.sort_by(|&a, &b| apart(j, a).total_cmp(&apart(j, b)));
                    links.pop();
                }
            }
            layers[i][layer] = kept;
        }
    }
    let element = |(i, layers): (usize, Vec<Vec<usize>>)| {
        let layers: Vec<&[usize]> = layers.iter().map(Vec::as_slice).collect();
        El::tall(i as u32, &layers).valued(&points[i])
    };
    Index::new(
        m as u16,
        layers.into_iter().enumerate().map(element).collect(),
    )
}

/// Points between 0 and 1, the same for the same seed.
pub fn points(count: usize, dimensions: usize, seed: u64) -> Vec<Vec<f32>> {
    let mut state = seed;
    let mut random = || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (state ^ state >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ z >> 31) >> 40) as f32 / (1 << 24) as f32
    };
    (0..count)
        .map(|_| (0..dimensions).map(|_| random()).collect())
        .collect()
}

/// How many links to these elements others have, those `from` which it is told.
pub fn links_to(index: &Index, which: &[usize], from: impl Fn(usize) -> bool) -> usize {
    let goes = |link: &&Link| matches!(link, Link::To(to) if which.contains(to));
    let elements = index.elements.iter().enumerate();
    let from = elements.filter(|(i, _)| from(*i));
    from.map(|(_, el)| el.layers.iter().flatten().filter(goes).count())
        .sum()
}

/// Takes every link to these elements out.
pub fn cut_off(index: &mut Index, which: &HashSet<usize>) {
    for el in &mut index.elements {
        for links in &mut el.layers {
            links.retain(|link| !matches!(link, Link::To(to) if which.contains(to)));
        }
    }
}
