//! Each reason not to start, with its code, until it is gone.

use super::stage::{Stage, options};

#[test]
fn a_repair_starts_when_the_setting_that_kept_it_lets_it() {
    let stage = Stage::start(options());
    let away: String = stage.value(
        "SELECT to_char(now() + interval '2 hours', 'HH24:MI') || '-' || to_char(now() + interval '3 hours', 'HH24:MI')",
    );
    for (code, name, value) in [
        ("disabled", "ruvector.dag_healing_enabled", "off"),
        (
            "outside_window",
            "ruvector.dag_healing_window",
            away.as_str(),
        ),
    ] {
        let table = format!("kept_by_{code}");
        stage.items(&table, 1_500);
        stage.server.set(name, value);
        stage.decay(&table);
        stays(&stage, &table, code);
        stage.server.reset(name);
        stage.wait_until_healed(&table);
    }
}

#[test]
fn a_repair_too_long_for_the_timeout_starts_when_that_is_raised() {
    let stage = Stage::start(options());
    stage.items("items", 1_500);
    stage.server.set("ruvector.dag_healing_enabled", "off");
    stage.decay("items");
    stays(&stage, "items", "disabled");
    // As remembered, the last build took two seconds for each of now 300 elements.
    stage.execute("UPDATE ruvector_dag_healing.index_state SET build_ms_per_element = 2000");
    stage.server.reset("ruvector.dag_healing_enabled");
    stays(&stage, "items", "estimate_over_timeout");
    let reason: String = stage
        .value("SELECT evidence->'refusal'->>'reason' FROM ruvector_dag_detected_issues('items')");
    assert!(reason.contains("set it to 721 s or more"), "{reason}");
    stage
        .server
        .set("ruvector.dag_healing_repair_timeout", "721s");
    stage.wait_until_healed("items");
}

#[test]
fn a_repair_waits_for_an_old_transaction_to_end() {
    // A quarter of the timeout is old.
    let stage = Stage::start(options().setting("ruvector.dag_healing_repair_timeout", "4s"));
    stage.items("items", 1_500);
    stage.server.set("ruvector.dag_healing_enabled", "off");
    stage.decay("items");
    let old = stage.open_transaction("SELECT txid_current()");
    stage.wait_for(
        "SELECT max(clock_timestamp() - xact_start) > interval '1500 ms' FROM pg_stat_activity
         WHERE backend_xid IS NOT NULL AND pid <> pg_backend_pid()",
    );
    stage.server.reset("ruvector.dag_healing_enabled");
    stays(&stage, "items", "old_transaction");
    drop(old);
    stage.wait_until_healed("items");
}

/// The refusal is noted, for several cycles, and nothing is begun.
fn stays(stage: &Stage, table: &str, code: &str) {
    let refused = format!(
        "SELECT coalesce(bool_and(evidence->'refusal'->>'code' = '{code}'
                                  AND evidence->'refusal'->>'reason' <> ''), false)
         FROM ruvector_dag_detected_issues('{table}') WHERE issue_type = 'fragmentation'"
    );
    stage.wait_for(&refused);
    stage.wait_for_cycles(3);
    assert!(stage.value::<bool>(&refused), "{code} holds");
    let begun = stage.last_repair(table);
    assert!(begun.is_none(), "{code}: {begun:?}");
}
