//! Carries an approved repair out, step by step, and takes it back where it did not help.

use serde_json::{Value, json};

use super::plan::{Approved, Measured, StepKind};
use super::strategy::RepairStrategy;
use crate::model::Issue;
use crate::ports::{PortError, Workbench};
use crate::verification::Verdict;
use crate::verification::comparison::{compare, compare_again};
use crate::verification::validation;

/// How a repair ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Ending {
    /// The outcome is in place and better than what was there.
    Succeeded,
    /// It was not better and is undone, for the reason given.
    RolledBack(String),
    /// It could not be carried out; what was there is still in place.
    Failed(PortError),
}

impl Ending {
    /// Whether the next try has to wait longer. Where the table was in use nothing was tried.
    pub fn counts_as_failure(&self) -> bool {
        match self {
            Self::Succeeded | Self::Failed(PortError::Busy(_)) => false,
            Self::RolledBack(_) | Self::Failed(_) => true,
        }
    }
}

/// A repair's ending and the figures on both sides of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// How it ended.
    pub ending: Ending,
    /// Figures before.
    pub before: Measured,
    /// Figures after, as far as it came.
    pub after: Option<Measured>,
    /// Whether the replaced index is still there, so that the repair can be undone.
    pub kept_old: bool,
}

impl Outcome {
    /// Why a rebuild is called for after mending in place, if it is: that failed or did not help, and nothing speaks
    /// against a rebuild.
    pub fn calls_for_rebuild(&self) -> Option<&str> {
        let reason = match &self.ending {
            Ending::RolledBack(reason) => reason,
            // Whatever pgvector makes of damage.
            Ending::Failed(PortError::Failed(reason)) => reason,
            _ => return None,
        };
        let forecast = self.after.as_ref().and_then(|after| after.forecast);
        let against = forecast.and_then(|forecast| forecast.against_rebuild());
        against.is_none().then_some(reason)
    }
}

/// Carries out a plan. `before`: the figures of the index in place, just taken. `keep_old`: the replaced index stays for a grace period and is removed
/// later. Whatever happens, one valid index of that name remains. A second index may remain
/// beside it, which no query uses; the journal knows it and it is removed later.
pub fn carry_out(
    plan: &Approved,
    strategy: &dyn RepairStrategy,
    bench: &mut dyn Workbench,
    before: Measured,
    keep_old: bool,
) -> Outcome {
    let mut run = Run {
        bench,
        before,
        after: None,
        copied: false,
        swapped: false,
        stays: false,
        keep_old: keep_old && plan.plan().reversible,
    };
    let ending = match run.all_steps(plan, strategy) {
        Ok(Verdict::Keep) => Ending::Succeeded,
        Ok(Verdict::Undo(reason)) if run.stays => {
            let reason = format!("{reason}; what was done cannot be taken back");
            Ending::Failed(PortError::Failed(reason))
        }
        Ok(Verdict::Undo(reason)) => Ending::RolledBack(reason),
        // Once swapped the outcome stands.
        Err(_) if run.swapped => Ending::Succeeded,
        Err(error) => Ending::Failed(error),
    };
    Outcome {
        ending,
        kept_old: run.swapped && run.copied && run.keep_old,
        before: run.before,
        after: run.after,
    }
}

struct Run<'a> {
    bench: &'a mut dyn Workbench,
    before: Measured,
    after: Option<Measured>,
    /// A second index exists.
    copied: bool,
    /// The outcome is in place.
    swapped: bool,
    /// Something was done that nobody can take back.
    stays: bool,
    keep_old: bool,
}

impl Run<'_> {
    fn all_steps(
        &mut self,
        plan: &Approved,
        strategy: &dyn RepairStrategy,
    ) -> Result<Verdict, PortError> {
        self.bench.note("before", &to_json(&self.before))?;
        let issue = &plan.plan().issue;
        for &step in &plan.plan().steps {
            if step == StepKind::Drop && self.keep_old {
                break;
            }
            self.bench.begin(step)?;
            match step {
                StepKind::Check => {
                    let started = self.bench.elapsed();
                    let mut after = self.bench.measure_replacement()?;
                    let (in_place, replacement) = compare(self.bench)?;
                    self.before.probe = in_place;
                    after.probe = Some(replacement).filter(|probe| probe.queries > 0);
                    self.bench.note("before", &to_json(&self.before))?;
                    self.bench.note("after", &to_json(&after))?;
                    let verdict = strategy.validate(issue, &self.before, &after);
                    self.after = Some(after);
                    let took = self.bench.elapsed().saturating_sub(started);
                    self.bench.note(
                        "check",
                        &json!({
                            "verdict": verdict,
                            "undecided": replacement.is_undecided(),
                            "ms": took.as_millis() as u64,
                        }),
                    )?;
                    if let Verdict::Undo(_) = verdict {
                        if self.copied {
                            self.bench.begin(StepKind::Drop)?;
                            // Failing that, the leftover is removed later; the verdict stands.
                            let _ = self.bench.execute(StepKind::Drop);
                        }
                        return Ok(verdict);
                    }
                }
                StepKind::Verify => return self.verify(issue),
                _ => {
                    self.bench.execute(step)?;
                    match step {
                        StepKind::CreateCopy => self.copied = true,
                        StepKind::Swap | StepKind::SetParameter => self.swapped = true,
                        StepKind::Drop => self.copied = false,
                        StepKind::Relink | StepKind::Vacuum => self.stays = true,
                        _ => {}
                    }
                }
            }
        }
        if self.after.is_none() {
            let after = self.bench.measure()?;
            self.bench.note("after", &to_json(&after))?;
            let verdict = strategy.validate(issue, &self.before, &after);
            self.after = Some(after);
            return Ok(verdict);
        }
        Ok(Verdict::Keep)
    }

    /// Looks at an index that was mended in place, and takes back what did not help.
    fn verify(&mut self, issue: &Issue) -> Result<Verdict, PortError> {
        let mut after = self.bench.measure()?;
        if let Some(asked) = self.bench.ask_again()? {
            let (before, now) = compare_again(&asked);
            (self.before.probe, after.probe) = (Some(before), Some(now));
            self.bench.note("before", &to_json(&self.before))?;
        }
        self.bench.note("after", &to_json(&after))?;
        let verdict = validation::mended(issue, &self.before, &after);
        let undecided = after.probe.is_some_and(|probe| probe.is_undecided());
        self.after = Some(after);
        let check = json!({"verdict": verdict, "undecided": undecided});
        self.bench.note("check", &check)?;
        if let Verdict::Undo(_) = verdict {
            self.bench.begin(StepKind::TakeBack)?;
            self.bench.execute(StepKind::TakeBack)?;
        }
        Ok(verdict)
    }
}

fn to_json(measured: &Measured) -> Value {
    serde_json::to_value(measured).unwrap_or(Value::Null)
}
