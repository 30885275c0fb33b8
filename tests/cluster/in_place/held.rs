//! Repairs held where they write down what they do, and what ends them there.

use super::harness::Mode;
use crate::healing::stage::{Gate, Stage};

/// What ends a worker, or the server with it.
pub type Interrupt = fn(&Stage, i32);

/// `kill -9`, and an immediate stop.
pub const CRASHES: [Interrupt; 2] = [
    |stage, worker| stage.server.crash_by_killing(worker),
    |stage, _| {
        stage.server.stop(Mode::Immediate);
        stage.server.start_again();
    },
];

/// From now on repairs stop before they write a row of this kind (`INSERT ON ruvector_dag_healing.edits`,
/// `WHEN` and a condition after it) until the gate is dropped.
pub fn hold_before(stage: &Stage, event: &str, condition: &str) -> Gate {
    stage.execute(&format!(
        "CREATE FUNCTION gate_rows() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN
             PERFORM pg_advisory_xact_lock_shared(hashtext('rows'));
             IF TG_OP = 'DELETE' THEN
                 RETURN OLD;
             END IF;
             RETURN NEW;
         END $$;
         CREATE TRIGGER gate BEFORE {event} FOR EACH ROW WHEN ({condition}) EXECUTE FUNCTION gate_rows()"
    ));
    stage.hold("rows")
}

/// Before their second batch of edits.
pub fn hold_second_batch(stage: &Stage) -> Gate {
    hold_before(
        stage,
        "INSERT ON ruvector_dag_healing.edits",
        "NEW.batch = 2",
    )
}
