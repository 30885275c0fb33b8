//! Repairing, undoing, cancelling, waiting.

use std::time::{Duration, Instant};

use pgrx::PgSqlErrorCode as Code;
use pgrx::datum::JsonB;
use pgrx::prelude::*;
use ruvector_dag_healing_engine::detection::index_health::findings;
use ruvector_dag_healing_engine::model::{Finding, IndexInfo};
use ruvector_dag_healing_engine::repair::guards::approve_on_request;
use ruvector_dag_healing_engine::repair::plan::{PlanFacts, RepairPlan};
use ruvector_dag_healing_engine::repair::strategy::{registry, strategy_for};
use serde_json::json;

use super::health::look_at;
use crate::pg::error::{UserError, not_preloaded, or_raise, raise};
use crate::pg::privilege::{
    as_owner, current_role, require_acting, require_monitoring, require_reading_or_acting,
};
use crate::pg::shmem::{self, Cancel, RepairState, Request};
use crate::pg::{catalog, executor, guc, history, lifecycle, procedure, registration, world};

/// Pause between two looks of a waiting procedure.
const NAP: Duration = Duration::from_millis(100);
/// A worker that has not come up after this will not.
const START_LIMIT: Duration = Duration::from_secs(30);

/// Has an issue repaired, or tells what would be done.
#[pg_extern(sql = "")]
fn ruvector_dag_repair(relation: pg_sys::Oid, issue_id: &str, dry_run: bool) -> JsonB {
    let named = catalog::named(relation.to_u32());
    catalog::require_relation(&named);
    require_acting(named.table_oid, &named.table_name);
    let indexes = or_raise(as_owner(|| catalog::indexes_of(relation.to_u32())));
    if indexes.is_empty() {
        raise(catalog::no_vector_index(&named));
    }
    let finding = find_issue(indexes, issue_id, &named.name);
    let plan = plan(&finding);
    let conditions = or_raise(as_owner(|| executor::conditions(&plan)));
    let mut answer = plan.to_json();
    let approved = approve_on_request(plan, &conditions);
    if dry_run {
        answer["repair_id"] = json!(null);
        answer["status"] = json!("planned");
        answer["refusal"] = json!(approved.err());
        return JsonB(answer);
    }
    lifecycle::require_writable("ruvector_dag_repair()");
    let approved = approved.unwrap_or_else(|refusal| {
        raise(
            UserError::new(Code::ERRCODE_OBJECT_IN_USE, "the repair cannot start now")
                .detail(refusal.reason)
                .hint("See ruvector_dag_repair_history(), or try again later."),
        )
    });
    let id = or_raise(as_owner(history::next_repair_id));
    let asked_by = current_role().to_u32();
    let request = executor::request(approved.plan(), id, asked_by, guc::number("hnsw.ef_search"));
    start(request);
    answer["repair_id"] = json!(id);
    answer["status"] = json!("queued");
    JsonB(answer)
}

/// The issue of that id: a fresh look shows whether it is there, filed or not.
fn find_issue(indexes: Vec<IndexInfo>, issue_id: &str, name: &str) -> Finding {
    let identity = issue_id.rsplit('-').next().unwrap_or_default();
    let index = indexes
        .into_iter()
        .find(|index| index.identity() == identity);
    let found = index.and_then(|index| {
        let found = findings(&look_at(index, issue_id.starts_with("corrupt_page")));
        found
            .into_iter()
            .find(|finding| finding.issue_id() == issue_id)
    });
    found.unwrap_or_else(|| {
        raise(
            UserError::new(
                Code::ERRCODE_UNDEFINED_OBJECT,
                format!("issue \"{issue_id}\" does not exist on {name}"),
            )
            .hint("SELECT * FROM ruvector_dag_detected_issues() lists the open issues."),
        )
    })
}

fn plan(finding: &Finding) -> RepairPlan {
    let strategies = registry();
    let Some(strategy) = strategy_for(&strategies, &finding.issue) else {
        raise(
            UserError::new(
                Code::ERRCODE_FEATURE_NOT_SUPPORTED,
                format!("nothing repairs {} by itself", finding.issue_id()),
            )
            .hint("The issue's impact in ruvector_dag_detected_issues() says what helps."),
        )
    };
    let facts = or_raise(as_owner(|| world::plan_facts(&finding.index)));
    // What was just seen rather than what was seen last.
    let seen = serde_json::from_value(finding.evidence.clone()).ok();
    let lists = serde_json::from_value(finding.evidence.clone()).ok();
    let facts = PlanFacts {
        figures: seen.or(facts.figures.clone()),
        lists: lists.or(facts.lists.clone()),
        // Where no healer stands by, nobody ends what a worker began.
        may_move: shmem::preloaded(),
        ..facts
    };
    strategy.plan(&finding.issue, &finding.index, &facts)
}

/// Hands a request to a worker: through the board, or directly where there is none.
fn start(request: Request) {
    let (started, hint) = match shmem::preloaded() {
        true => (
            executor::enqueue(request),
            "Wait for queued repairs to end; see ruvector_dag_repair_history().",
        ),
        false => (
            registration::start_repair_unboarded(&request),
            "Raise max_worker_processes, or wait for other workers to end.",
        ),
    };
    if !started {
        raise(
            UserError::new(
                Code::ERRCODE_INSUFFICIENT_RESOURCES,
                "no room for another repair",
            )
            .hint(hint),
        );
    }
}

/// Undoes a repair: puts a replaced index back that is still kept, or a setting.
#[pg_extern(sql = "")]
fn ruvector_dag_rollback(repair_id: i64) -> JsonB {
    let row = acting_on(repair_id);
    lifecycle::require_writable("ruvector_dag_rollback()");
    if !row.undoable() {
        raise(
            UserError::new(
                Code::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!("repair {repair_id} cannot be undone"),
            )
            .detail(format!("Its status is {}; {}.", row.status, row.why_not_undoable()))
            .hint("A repair can be undone until its grace period ends: see keep_until in its details."),
        );
    }
    start(executor::undo(&row, current_role().to_u32()));
    JsonB(json!({"repair_id": repair_id, "status": "queued"}))
}

/// Cancels a repair that is queued or under way. `false`: it was neither.
#[pg_extern(sql = "")]
fn ruvector_dag_cancel_repair(repair_id: i64) -> bool {
    if !shmem::preloaded() {
        raise(not_preloaded());
    }
    let database = lifecycle::my_database();
    let found = shmem::read(|board| {
        let place = board.repair(database, repair_id)?;
        Some(board.repairs[place].request.table_oid)
    });
    let Some(table) = found.flatten() else {
        acting_on(repair_id);
        return false;
    };
    let named = catalog::named(table);
    require_acting(table, &named.name);
    let pid = shmem::write(|board| {
        let place = board.repair(database, repair_id)?;
        let repair = &mut board.repairs[place];
        match repair.state {
            RepairState::Queued => *repair = shmem::Repair::default(),
            _ => repair.cancel = Cancel::Asked,
        }
        Some(repair.pid)
    });
    match pid.flatten() {
        Some(0) => true,
        Some(pid) => {
            lifecycle::cancel(pid);
            true
        }
        None => false,
    }
}

/// The repair of that number, which the caller may act on.
fn acting_on(repair_id: i64) -> history::RepairRow {
    let row = or_raise(as_owner(|| history::repair(repair_id)));
    let row = row.unwrap_or_else(|| raise(unknown_repair(repair_id)));
    require_acting(row.table_oid, &catalog::named(row.table_oid).name);
    row
}

fn unknown_repair(repair_id: i64) -> UserError {
    UserError::new(
        Code::ERRCODE_UNDEFINED_OBJECT,
        format!("repair {repair_id} does not exist"),
    )
    .hint("SELECT * FROM ruvector_dag_repair_history() lists the repairs.")
}

/// Waits until a repair has ended. A procedure cannot be strict, so it says itself what it needs.
#[pg_extern(sql = "")]
fn ruvector_dag_wait(repair_id: Option<i64>, fcinfo: pg_sys::FunctionCallInfo) {
    let Some(repair_id) = repair_id else {
        raise(
            UserError::new(
                Code::ERRCODE_NULL_VALUE_NOT_ALLOWED,
                "the number of the repair must not be null",
            )
            .hint("ruvector_dag_repair() returns it as repair_id."),
        );
    };
    let database = lifecycle::my_database();
    let table = shmem::read(|board| {
        let place = board.repair(database, repair_id)?;
        Some(board.repairs[place].request.table_oid)
    });
    let table = table.flatten().or_else(|| {
        let row = or_raise(as_owner(|| history::repair(repair_id)));
        row.map(|row| row.table_oid)
    });
    if let Some(table) = table {
        require_reading_or_acting(table);
    }
    let started = Instant::now();
    procedure::poll(fcinfo, NAP, || {
        let waiting = shmem::read(|board| board.repair(database, repair_id).is_some());
        if waiting == Some(true) {
            return false;
        }
        match or_raise(as_owner(|| history::repair(repair_id))) {
            Some(row) => row.status != "running",
            // Without a board a worker that has just been started has no row yet.
            None if !shmem::preloaded() && started.elapsed() < START_LIMIT => false,
            None => raise(unknown_repair(repair_id)),
        }
    });
}

/// Has the healer run one check cycle now.
#[pg_extern(sql = "")]
fn ruvector_dag_healing_cycle() {
    require_monitoring(
        "a check cycle",
        "It looks at every vector index in the database.",
    );
    lifecycle::require_writable("ruvector_dag_healing_cycle()");
    if !shmem::preloaded() {
        raise(not_preloaded());
    }
    let database = lifecycle::my_database();
    shmem::write(|board| match board.healer_mut(database) {
        Some(healer) => healer.check_now = true,
        None => board.want_healer(database),
    });
    shmem::wake_healer(database);
    shmem::wake_launcher();
}
