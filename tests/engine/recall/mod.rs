//! How recall is measured, watched, compared and tuned; the statistics are held to their promises
//! by simulation.

// The exact neighbours, against a plain reference.
mod exact;
// The alarm when recall is below its target.
mod heartbeat;
// The 95 % interval of a measurement.
mod interval;
// Two indexes compared query by query.
mod paired;
// Random numbers for the simulations.
mod random;
// Recall from a part of the table.
mod sampled;
// The smallest parameter that reaches a recall.
mod tune;
// Values, encoded, and their distances.
mod values;
