//! The gate of a repair: both indexes answer the same fresh queries until it is shown that the
//! replacement is no worse, or that it is; an index mended in place answers them before and after.

use serde_json::json;

use crate::ports::{AskedTwice, PortError, Workbench};
use crate::recall::interval::{QueryHits, RecallEstimate};
use crate::recall::paired::{DEFAULT_CAP, Gate};
use crate::repair::plan::ProbeFigures;

/// Queries asked for at a time.
const BATCH: u32 = 64;
/// Neighbours asked for.
pub const NEIGHBORS: u32 = 10;
/// Queries at most; rows that can be drawn for them are worth no more.
pub const MAX_QUERIES: u32 = DEFAULT_CAP;

/// Searches both indexes until it is decided, there are no more queries, or there is nothing to
/// compare with. Returns the figures of the index in place, where it answers, and of the
/// replacement.
pub fn compare(
    bench: &mut dyn Workbench,
) -> Result<(Option<ProbeFigures>, ProbeFigures), PortError> {
    let mut gate = Gate::new(MAX_QUERIES);
    let (mut before, mut after) = (Side::default(), Side::default());
    let mut answers = true;
    loop {
        let asked = gate.wanted().min(BATCH);
        let searched = bench.search_both(asked, NEIGHBORS)?;
        answers &= searched.in_place_answers;
        let mut pairs = Vec::with_capacity(searched.probes.len());
        for probe in &searched.probes {
            let (old, new) = probe.recalls(NEIGHBORS);
            pairs.push((old, new));
            before.add(
                old,
                probe.found_itself(&probe.before, NEIGHBORS),
                probe.before.buffers,
            );
            after.add(
                new,
                probe.found_itself(&probe.after, NEIGHBORS),
                probe.after.buffers,
            );
        }
        if !answers {
            break;
        }
        gate.observe(&pairs);
        if gate.wanted() == 0 || searched.exhausted {
            break;
        }
        bench.note(
            "comparison",
            &json!({"queries": gate.queries(), "at_most": MAX_QUERIES}),
        )?;
    }
    let after = ProbeFigures {
        difference: gate.difference(),
        difference_se: gate.standard_error(),
        standing: answers.then(|| gate.standing()),
        ..after.figures()
    };
    Ok((answers.then(|| before.figures()), after))
}

/// What an index answered before it was mended in place, and after.
pub fn compare_again(asked: &AskedTwice) -> (ProbeFigures, ProbeFigures) {
    let pairs: Vec<(f64, f64)> = asked
        .hits
        .iter()
        .filter_map(|(before, after)| before.recall().zip(after.recall()))
        .collect();
    let mut gate = Gate::new(MAX_QUERIES);
    gate.observe(&pairs);
    let side = |hits: Vec<QueryHits>, buffers: u64| {
        let estimate = RecallEstimate::of(&hits, asked.k);
        ProbeFigures {
            queries: estimate.queries,
            k: asked.k,
            recall: estimate.recall,
            recall_low: estimate.ci_low,
            recall_high: estimate.ci_high,
            buffers: buffers as f64 / hits.len().max(1) as f64,
            ..ProbeFigures::default()
        }
    };
    let (before, after) = asked.hits.iter().copied().unzip();
    let after = ProbeFigures {
        difference: gate.difference(),
        difference_se: gate.standard_error(),
        standing: Some(gate.standing()),
        ..side(after, asked.buffers.1)
    };
    (side(before, asked.buffers.0), after)
}

/// What one of the two indexes answered.
#[derive(Default)]
struct Side {
    recalls: Vec<f64>,
    found_themselves: f64,
    buffers: u64,
}

impl Side {
    fn add(&mut self, recall: f64, found_itself: f64, buffers: u64) {
        self.recalls.push(recall);
        self.found_themselves += found_itself;
        self.buffers += buffers;
    }

    fn figures(&self) -> ProbeFigures {
        let recalls = self.recalls.iter().map(|&recall| (recall, NEIGHBORS));
        let estimate = RecallEstimate::of_shares(recalls, NEIGHBORS);
        let queries = self.recalls.len().max(1) as f64;
        ProbeFigures {
            queries: self.recalls.len() as u32,
            k: NEIGHBORS,
            recall: estimate.recall,
            recall_low: estimate.ci_low,
            recall_high: estimate.ci_high,
            self_found: self.found_themselves / queries,
            buffers: self.buffers as f64 / queries,
            ..ProbeFigures::default()
        }
    }
}
