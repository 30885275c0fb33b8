//! Few pages from which many are served: whoever wants several things of which each is on some page
//! gets them from as few pages as can be told in passing.
//!
//! Greedy: always the page that serves most of what is still wanted, which takes no more than
//! ln(most that one page serves) + 1 times the pages needed (Wolsey, 1982). A page only ever comes to
//! serve less, so it is counted anew only when it is first in the queue. Memory: 8 bytes an offer,
//! and some 50 a page.

use std::collections::{BinaryHeap, HashMap, HashSet};

/// How many things somebody wants, and the page of each that would do.
#[derive(Debug, Clone)]
pub(super) struct Want {
    pub(super) open: u16,
    pub(super) pages: Vec<u32>,
}

/// The pages from which more than one thing is to be taken. What is wanted besides can be taken
/// from any page as well as from another.
pub(super) fn shared_pages(mut wants: Vec<Want>) -> HashSet<u32> {
    // Who would be served by each page, once for each thing, in order.
    let mut served: HashMap<u32, Vec<usize>> = HashMap::new();
    for (nth, want) in wants.iter().enumerate() {
        for &page in &want.pages {
            served.entry(page).or_default().push(nth);
        }
    }
    let promises = served.iter().map(|(&page, by)| (by.len(), page));
    let mut queue: BinaryHeap<(usize, u32)> = promises.collect();
    let mut chosen = HashSet::new();
    while let Some((promised, page)) = queue.pop() {
        let mut takes = Vec::new();
        for same in served[&page].chunk_by(|a, b| a == b) {
            let open = usize::from(wants[same[0]].open);
            takes.push((same[0], open.min(same.len())));
        }
        match takes.iter().map(|(_, things)| things).sum() {
            0 | 1 => {}
            now if now < promised => queue.push((now, page)),
            _ => {
                chosen.insert(page);
                for (nth, things) in takes {
                    wants[nth].open -= things as u16;
                }
            }
        }
    }
    chosen
}
