//! The figures computed the slow and obvious way from a model, without its pages. Shares no
//! code with what is tested.

use std::collections::{HashMap, HashSet};

use super::model::{El, Index, Link, Tuple};

/// What an inspection must find.
#[derive(Debug, Clone, PartialEq)]
pub struct Expected {
    pub connectivity_score: f32,
    pub layer_distribution: Vec<u64>,
    pub entry_point_quality: f32,
    pub orphan_count: u64,
    pub orphans_with_rows: u64,
    pub elements: u64,
    pub live_elements: u64,
    pub ghosts: u64,
    pub heap_tids: u64,
    pub zero_in_degree: u64,
    pub low_degree: u64,
    pub mean_degree_fill: f32,
    pub dangling_edges: u64,
}

/// The links of an element on a layer that pgvector 0.8 would follow.
fn links(el: &El, layer: u8) -> Vec<Link> {
    if el.deleted
        || matches!(
            el.tuple,
            Tuple::OtherVersion | Tuple::OtherCount | Tuple::Missing
        )
    {
        return Vec::new();
    }
    let slots = el
        .layers
        .get(usize::from(layer))
        .map_or(&[][..], |links| links);
    slots
        .iter()
        .copied()
        .take_while(|link| *link != Link::Hole)
        .collect()
}

/// The element a link leads to, if it is a live one.
fn live(index: &Index, link: Link) -> Option<usize> {
    match link {
        Link::To(i) if !index.elements[i].deleted => Some(i),
        _ => None,
    }
}

/// Which elements a search can come to, and how many of them on the entry point's own layer.
pub fn reached(index: &Index) -> (HashSet<usize>, usize) {
    let Some(entry) = index.entry.and_then(|entry| live(index, entry)) else {
        return Default::default();
    };
    let mut seen = HashSet::from([entry]);
    let mut on_top = 0;
    let top = index.elements[entry].level;
    for layer in (0..=top).rev() {
        let mut stack: Vec<usize> = seen.iter().copied().collect();
        while let Some(i) = stack.pop() {
            for to in links(&index.elements[i], layer)
                .into_iter()
                .filter_map(|link| live(index, link))
            {
                if index.elements[to].level >= layer && seen.insert(to) {
                    stack.push(to);
                }
            }
        }
        if layer == top {
            on_top = seen.len();
        }
    }
    (seen, on_top)
}

fn ratio(part: usize, whole: usize) -> f32 {
    if whole == 0 {
        1.0
    } else {
        (part as f64 / whole as f64) as f32
    }
}

/// The figures of a model.
pub fn expected(index: &Index) -> Expected {
    let els: HashMap<usize, &El> = index
        .elements
        .iter()
        .enumerate()
        .filter(|(_, el)| !el.deleted)
        .collect();
    let entry = index.entry.and_then(|entry| live(index, entry));
    let (seen, on_top) = reached(index);
    let highest = els.values().map(|el| el.level).max();
    let mut levels = vec![0; highest.map_or(0, |level| usize::from(level) + 1)];
    els.values()
        .for_each(|el| levels[usize::from(el.level)] += 1);

    let all_links = |el: &El| {
        (0..=el.level)
            .flat_map(|layer| links(el, layer))
            .collect::<Vec<_>>()
    };
    let linked: HashSet<usize> = els
        .values()
        .flat_map(|el| links(el, 0))
        .filter_map(|link| live(index, link))
        .collect();
    let most = (2 * usize::from(index.m)).min(els.len().saturating_sub(1));
    let fill = |el: &&El| links(el, 0).len().min(most) as f64 / most as f64;

    Expected {
        connectivity_score: ratio(seen.len(), els.len()),
        layer_distribution: levels,
        entry_point_quality: match entry {
            _ if els.is_empty() => 1.0,
            None => 0.0,
            Some(entry) => {
                let (level, highest) = (els[&entry].level, highest.unwrap_or(0));
                let on_layer = els.values().filter(|el| el.level >= level).count();
                let height = if highest == 0 {
                    1.0
                } else {
                    ratio(level.into(), highest.into())
                };
                height * ratio(on_top, on_layer)
            }
        },
        orphan_count: els.keys().filter(|i| !seen.contains(i)).count() as u64,
        orphans_with_rows: els
            .iter()
            .filter(|(i, el)| !seen.contains(i) && !el.rows.is_empty())
            .count() as u64,
        elements: index.elements.len() as u64,
        live_elements: els.len() as u64,
        ghosts: els.values().filter(|el| el.rows.is_empty()).count() as u64,
        heap_tids: els.values().map(|el| el.rows.len() as u64).sum(),
        zero_in_degree: els
            .keys()
            .filter(|i| !linked.contains(i) && Some(**i) != entry)
            .count() as u64,
        low_degree: els
            .values()
            .filter(|el| links(el, 0).len() < usize::from(index.m))
            .count() as u64,
        mean_degree_fill: if most == 0 {
            1.0
        } else {
            (els.values().map(fill).sum::<f64>() / els.len() as f64) as f32
        },
        dangling_edges: els
            .values()
            .flat_map(|el| all_links(el).into_iter().map(move |link| (el, link)))
            .filter(|&(_, link)| live(index, link).is_none())
            // Of what a vacuum deletes, one element may be deleted before another.
            .filter(|(el, link)| !el.rows.is_empty() || !is_deleted(index, *link))
            .count() as u64,
    }
}

/// Whether a link leads to a deleted element.
fn is_deleted(index: &Index, link: Link) -> bool {
    matches!(link, Link::To(i) if index.elements[i].deleted)
}
