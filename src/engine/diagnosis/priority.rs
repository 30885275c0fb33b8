//! Priority of an issue, and severity from priority.

use crate::model::{IndexIssue, Issue, Severity};

/// A smaller reached share than this is critical.
const CRITICAL_CONNECTIVITY: f32 = 0.5;

/// Recall lower than the target by more than this is pressing.
const VERY_LOW_RECALL: f32 = 0.2;

/// Priority of an issue; higher is sooner.
pub fn compute_priority(issue: &Issue) -> u32 {
    let Issue::Index(issue) = issue;
    match issue {
        IndexIssue::Fragmentation { level, .. } => (level * 100.0) as u32,
        IndexIssue::OrphanNodes { count, .. } => (*count).clamp(20, 90) as u32,
        IndexIssue::PoorConnectivity { score, .. } if *score < CRITICAL_CONNECTIVITY => 100,
        IndexIssue::PoorConnectivity { .. } => 50,
        // Every write pays for it and no query gains; where the table is left without an index
        // every search is a sequential scan.
        IndexIssue::InvalidIndex { twin: None, .. } => 80,
        IndexIssue::InvalidIndex { .. } => 50,
        IndexIssue::DanglingEdges { .. }
        | IndexIssue::DeadEntryPoint { .. }
        | IndexIssue::CorruptPage { .. } => 90,
        // Searches, or inserts, only take more steps.
        IndexIssue::WrongLevel { .. } | IndexIssue::DistantInsertPage { .. } => 20,
        IndexIssue::DuplicateSink { unreachable, .. } => (50.0 + 50.0 * unreachable) as u32,
        // Mostly rows that are nobody's nearest.
        IndexIssue::BornUnreachable { .. } => 20,
        IndexIssue::BuiltEmpty { .. } => 80,
        IndexIssue::UnbalancedClusters { .. } | IndexIssue::StaleTraining { .. } => 50,
        IndexIssue::LowRecall { recall, target, .. } if target - recall > VERY_LOW_RECALL => 80,
        IndexIssue::LowRecall { .. } => 50,
        IndexIssue::DeadTuples { .. } => 40,
    }
}

/// Severity of an issue: 100 and up critical, 80 high, 50 medium, else low.
pub fn severity(_issue: &Issue, priority: u32) -> Severity {
    match priority {
        100.. => Severity::Critical,
        80.. => Severity::High,
        50.. => Severity::Medium,
        _ => Severity::Low,
    }
}
