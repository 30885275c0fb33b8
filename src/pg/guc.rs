//! The settings: every knob with its unit, range, default and reason.
//!
//! The prefix `ruvector` is shared with other extensions, so it is not reserved.

use std::ffi::{CStr, CString, c_char, c_void};

use pgrx::guc::{GucContext, GucFlags, GucRegistry, GucSetting, PostgresGucEnum};
use pgrx::{pg_guard, pg_sys};
use ruvector_dag_healing_engine::settings::{
    HealingConfig, MaintenanceWindow, ParameterTuning, Track,
};
use serde_json::{Value, json};

static ENABLED: GucSetting<bool> = GucSetting::<bool>::new(true);
static INTERVAL_MS: GucSetting<i32> = GucSetting::<i32>::new(300_000);
static THRESHOLD: GucSetting<f64> = GucSetting::<f64>::new(0.3);
static ANOMALY_SENSITIVITY: GucSetting<f64> = GucSetting::<f64>::new(0.7);
static MAX_CONCURRENT_REPAIRS: GucSetting<i32> = GucSetting::<i32>::new(3);
static REPAIR_TIMEOUT: GucSetting<i32> = GucSetting::<i32>::new(300);
static ROLLBACK_ENABLED: GucSetting<bool> = GucSetting::<bool>::new(true);
static HISTORY_RETENTION_DAYS: GucSetting<i32> = GucSetting::<i32>::new(30);
static LOCK_TIMEOUT: GucSetting<i32> = GucSetting::<i32>::new(100);
static IO_LIMIT: GucSetting<i32> = GucSetting::<i32>::new(100);
static TARGET_RECALL: GucSetting<f64> = GucSetting::<f64>::new(0.95);
static PARAMETER_TUNING: GucSetting<TuningSetting> =
    GucSetting::<TuningSetting>::new(TuningSetting::Advise);
static TRACK: GucSetting<Tracked> = GucSetting::<Tracked>::new(Tracked::Top);
static WINDOW: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c""));

/// `ruvector.dag_healing_parameter_tuning` as it is typed.
#[derive(Clone, Copy, Debug, PostgresGucEnum)]
enum TuningSetting {
    #[name = c"off"]
    Off,
    #[name = c"advise"]
    Advise,
    #[name = c"apply"]
    Apply,
}

/// The engine's [`Track`] as a setting.
#[derive(Clone, Copy, PostgresGucEnum)]
enum Tracked {
    #[name = c"none"]
    None,
    #[name = c"top"]
    Top,
    #[name = c"all"]
    All,
}

/// Defines the settings.
pub fn init() {
    GucRegistry::define_bool_guc(
        c"ruvector.dag_healing_enabled",
        c"Repairs vector indexes automatically.",
        c"When off, detection, diagnosis and reports go on; nothing is repaired by itself.",
        &ENABLED,
        GucContext::Suset,
        GucFlags::default(),
    );
    int(
        c"ruvector.dag_healing_interval_ms",
        c"Time between check cycles, in milliseconds.",
        &INTERVAL_MS,
        (100, 86_400_000),
        GucContext::Suset,
        GucFlags::default(),
    );
    float(
        c"ruvector.dag_healing_threshold",
        c"Performance degradation against the baseline that counts as an issue.",
        &THRESHOLD,
        (0.0, 1.0),
    );
    float(
        c"ruvector.dag_healing_anomaly_sensitivity",
        c"How readily an observation counts as an anomaly; higher finds more.",
        &ANOMALY_SENSITIVITY,
        (0.0, 1.0),
    );
    // Repair workers are counted across databases, so this cannot differ between them.
    int(
        c"ruvector.dag_healing_max_concurrent_repairs",
        c"Repairs that may run at once in the cluster.",
        &MAX_CONCURRENT_REPAIRS,
        (1, 32),
        GucContext::Sighup,
        GucFlags::default(),
    );
    int(
        c"ruvector.dag_healing_repair_timeout",
        c"A repair that takes longer is cancelled and undone.",
        &REPAIR_TIMEOUT,
        (1, 86_400),
        GucContext::Suset,
        GucFlags::UNIT_S,
    );
    GucRegistry::define_bool_guc(
        c"ruvector.dag_healing_rollback_enabled",
        c"Keeps a replaced index for a grace period, so that its repair can be undone.",
        c"",
        &ROLLBACK_ENABLED,
        GucContext::Suset,
        GucFlags::default(),
    );
    int(
        c"ruvector.dag_healing_history_retention_days",
        c"How long finished repairs and resolved issues are kept, in days.",
        &HISTORY_RETENTION_DAYS,
        (1, 3_650),
        GucContext::Suset,
        GucFlags::default(),
    );
    int(
        c"ruvector.dag_healing_lock_timeout",
        c"Longest wait for a lock, and longest anybody may wait behind a repair.",
        &LOCK_TIMEOUT,
        (1, 60_000),
        GucContext::Suset,
        GucFlags::UNIT_MS,
    );
    int(
        c"ruvector.dag_healing_io_limit",
        c"Throttle for index reading in the background, in megabytes a second; 0 means none.",
        &IO_LIMIT,
        (0, 1_000_000),
        GucContext::Suset,
        GucFlags::default(),
    );
    float(
        c"ruvector.dag_healing_target_recall",
        c"The share of the true nearest neighbours that searches shall find.",
        &TARGET_RECALL,
        (0.5, 1.0),
    );
    GucRegistry::define_enum_guc(
        c"ruvector.dag_healing_parameter_tuning",
        c"What is done by itself where another search setting would find enough.",
        c"advise says which helps; apply sets it for the database, and sets it back if it did not help.",
        &PARAMETER_TUNING,
        GucContext::Suset,
        GucFlags::default(),
    );
    GucRegistry::define_enum_guc(
        c"ruvector.dag_healing_track",
        c"The statements whose query vectors are captured to measure recall with.",
        c"top: those that clients send; all: those inside functions, too. none: what was captured is deleted.",
        &TRACK,
        GucContext::Suset,
        GucFlags::default(),
    );
    // SAFETY: the hook is guarded against panics.
    unsafe {
        GucRegistry::define_string_guc_with_hooks(
            c"ruvector.dag_healing_window",
            c"When automatic rebuilds may start: '22:00-05:00' in the server's time zone, '' always.",
            c"",
            &WINDOW,
            GucContext::Suset,
            GucFlags::default(),
            Some(check_window),
            None,
            None,
        );
    }
}

fn int(
    name: &'static CStr,
    description: &'static CStr,
    setting: &'static GucSetting<i32>,
    (min, max): (i32, i32),
    context: GucContext,
    flags: GucFlags,
) {
    GucRegistry::define_int_guc(name, description, c"", setting, min, max, context, flags);
}

fn float(
    name: &'static CStr,
    description: &'static CStr,
    setting: &'static GucSetting<f64>,
    (min, max): (f64, f64),
) {
    let (context, flags) = (GucContext::Suset, GucFlags::default());
    GucRegistry::define_float_guc(name, description, c"", setting, min, max, context, flags);
}

#[pg_guard]
unsafe extern "C-unwind" fn check_window(
    new_value: *mut *mut c_char,
    _extra: *mut *mut c_void,
    _source: pg_sys::GucSource::Type,
) -> bool {
    // SAFETY: PostgreSQL passes a pointer to the new value, which may be null.
    let text = unsafe { super::compat::text(*new_value) };
    match text.parse::<MaintenanceWindow>() {
        Ok(_) => true,
        Err(error) => {
            let detail = CString::new(format!("{error}.")).unwrap_or_default();
            // SAFETY: PostgreSQL reads and frees nothing here; the copy lives in the current
            // memory context until the error is reported.
            unsafe { pg_sys::GUC_check_errdetail_string = pg_sys::pstrdup(detail.as_ptr()) };
            false
        }
    }
}

/// The settings in force in this process.
pub fn config() -> HealingConfig {
    let unsigned = |setting: &GucSetting<i32>| u64::try_from(setting.get()).unwrap_or_default();
    HealingConfig {
        auto_heal_enabled: ENABLED.get(),
        check_interval_ms: unsigned(&INTERVAL_MS),
        anomaly_sensitivity: ANOMALY_SENSITIVITY.get(),
        performance_threshold: THRESHOLD.get(),
        max_concurrent_repairs: unsigned(&MAX_CONCURRENT_REPAIRS) as usize,
        repair_timeout_secs: unsigned(&REPAIR_TIMEOUT),
        rollback_enabled: ROLLBACK_ENABLED.get(),
        history_retention_days: unsigned(&HISTORY_RETENTION_DAYS) as u32,
        lock_timeout_ms: unsigned(&LOCK_TIMEOUT),
        io_limit_mb: unsigned(&IO_LIMIT),
        // The check hook has let through only what parses.
        window: window().parse().unwrap_or_default(),
        target_recall: TARGET_RECALL.get(),
        parameter_tuning: match PARAMETER_TUNING.get() {
            TuningSetting::Off => ParameterTuning::Off,
            TuningSetting::Advise => ParameterTuning::Advise,
            TuningSetting::Apply => ParameterTuning::Apply,
        },
        track: track(),
    }
}

/// Which statements of this session are observed. For the path of every statement.
pub fn track() -> Track {
    match TRACK.get() {
        Tracked::None => Track::None,
        Tracked::Top => Track::Top,
        Tracked::All => Track::All,
    }
}

fn window() -> String {
    let window = WINDOW.get().unwrap_or_default();
    window.to_string_lossy().into_owned()
}

/// The settings as people read them, under the names they type.
pub fn to_json(config: &HealingConfig) -> Value {
    json!({
        "ruvector.dag_healing_enabled": config.auto_heal_enabled,
        "ruvector.dag_healing_interval_ms": config.check_interval_ms,
        "ruvector.dag_healing_threshold": config.performance_threshold,
        "ruvector.dag_healing_anomaly_sensitivity": config.anomaly_sensitivity,
        "ruvector.dag_healing_max_concurrent_repairs": config.max_concurrent_repairs,
        "ruvector.dag_healing_repair_timeout": config.repair_timeout_secs,
        "ruvector.dag_healing_rollback_enabled": config.rollback_enabled,
        "ruvector.dag_healing_history_retention_days": config.history_retention_days,
        "ruvector.dag_healing_lock_timeout": config.lock_timeout_ms,
        "ruvector.dag_healing_io_limit": config.io_limit_mb,
        "ruvector.dag_healing_window": config.window,
        "ruvector.dag_healing_target_recall": config.target_recall,
        "ruvector.dag_healing_parameter_tuning": config.parameter_tuning,
        "ruvector.dag_healing_track": config.track,
    })
}

/// `maintenance_work_mem`, in bytes.
pub fn maintenance_work_mem() -> usize {
    // SAFETY: a plain integer of this process, in kilobytes.
    let kilobytes = unsafe { pg_sys::maintenance_work_mem };
    usize::try_from(kilobytes).unwrap_or_default() * 1024
}

/// Sets a setting of this process for its life, or for the transaction where `local`.
pub fn set(name: &str, value: &str, local: bool) {
    let action = match local {
        true => pg_sys::GucAction::GUC_ACTION_LOCAL,
        false => pg_sys::GucAction::GUC_ACTION_SET,
    };
    set_with(name, value, action);
}

fn set_with(name: &str, value: &str, action: pg_sys::GucAction::Type) {
    let (name, value) = (
        CString::new(name).unwrap_or_default(),
        CString::new(value).unwrap_or_default(),
    );
    // SAFETY: both strings are NUL-terminated and copied by the call.
    unsafe {
        pg_sys::set_config_option(
            name.as_ptr(),
            value.as_ptr(),
            pg_sys::GucContext::PGC_SUSET,
            pg_sys::GucSource::PGC_S_SESSION,
            action,
            true,
            pgrx::PgLogLevel::ERROR as i32,
            false,
        );
    }
}

/// A setting of another extension as a number, 0 where that is not loaded.
pub fn number<T: std::str::FromStr + Default>(name: &str) -> T {
    let name = CString::new(name).unwrap_or_default();
    // SAFETY: a missing setting gives null; the text is copied.
    let text = unsafe { super::compat::text(pg_sys::GetConfigOption(name.as_ptr(), true, false)) };
    text.parse().unwrap_or_default()
}

/// A setting that holds until this is ended, or until the (sub)transaction aborts.
pub struct Nested(i32);

impl Nested {
    /// Sets it. To be ended before any other that was set before.
    pub fn set(name: &str, value: &str) -> Self {
        // SAFETY: opens a level that `end` or the abort closes.
        let level = unsafe { pg_sys::NewGUCNestLevel() };
        set_with(name, value, pg_sys::GucAction::GUC_ACTION_SAVE);
        Self(level)
    }

    /// Sets it back.
    pub fn end(self) {
        // SAFETY: the level is the innermost one, as `set` asks.
        unsafe { pg_sys::AtEOXact_GUC(false, self.0) }
    }
}
