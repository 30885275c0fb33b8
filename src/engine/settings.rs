//! The settings the engine obeys, as plain values, and the checks that belong to them.
//!
//! Where they come from (configuration file, system, database, session) is not known here.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Everything a check cycle or a repair is steered by.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HealingConfig {
    /// Whether repairs start by themselves. Detection and reports go on either way.
    pub auto_heal_enabled: bool,
    /// Time between check cycles, in milliseconds.
    pub check_interval_ms: u64,
    /// Anomaly detection sensitivity, 0 to 1.
    pub anomaly_sensitivity: f64,
    /// Performance degradation against the baseline that counts as an issue, 0 to 1.
    pub performance_threshold: f64,
    /// Repairs that may run at once in the cluster.
    pub max_concurrent_repairs: usize,
    /// A repair past this is cancelled, in seconds.
    pub repair_timeout_secs: u64,
    /// Whether the replaced index is kept for a grace period so that a repair can be undone.
    pub rollback_enabled: bool,
    /// How long finished repairs and resolved issues are kept, in days.
    pub history_retention_days: u32,
    /// Longest wait for a lock, and longest anybody may wait behind us, in milliseconds.
    pub lock_timeout_ms: u64,
    /// Throttle for background reading, in megabytes a second; 0 means none.
    pub io_limit_mb: u64,
    /// When heavy repairs may start by themselves.
    pub window: MaintenanceWindow,
    /// The recall that searches shall have, 0.5 to 1.
    pub target_recall: f64,
    /// What parameter tuning may do.
    pub parameter_tuning: ParameterTuning,
    /// Whose queries are captured to measure with.
    pub track: Track,
}

impl Default for HealingConfig {
    fn default() -> Self {
        Self {
            auto_heal_enabled: true,
            check_interval_ms: 300_000,
            anomaly_sensitivity: 0.7,
            performance_threshold: 0.3,
            max_concurrent_repairs: 3,
            repair_timeout_secs: 300,
            rollback_enabled: true,
            history_retention_days: 30,
            lock_timeout_ms: 100,
            io_limit_mb: 100,
            window: MaintenanceWindow::Always,
            target_recall: 0.95,
            parameter_tuning: ParameterTuning::Advise,
            track: Track::Top,
        }
    }
}

impl HealingConfig {
    /// How long a replaced index is kept, still maintained, so that a rebuild can be undone:
    /// two check intervals, at least ten seconds, at most an hour. Nothing when undo is off.
    pub fn grace_period(&self) -> Duration {
        if !self.rollback_enabled {
            return Duration::ZERO;
        }
        Duration::from_millis((2 * self.check_interval_ms).clamp(10_000, 3_600_000))
    }
}

/// What parameter tuning may do by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ParameterTuning {
    /// Nothing.
    Off,
    /// Say what would help.
    #[default]
    Advise,
    /// Set what helps for the database, and set it back where it did not.
    Apply,
}

/// Which statements are observed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Track {
    /// No statement.
    None,
    /// Those that clients send.
    #[default]
    Top,
    /// Those inside functions as well.
    All,
}

/// The part of the day in which heavy repairs may start by themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum MaintenanceWindow {
    /// At any time.
    #[default]
    Always,
    /// From one minute of the day (included) to another (excluded); may pass midnight.
    Daily {
        /// First minute of the window, 0 to 1439.
        from: u16,
        /// First minute after the window, 0 to 1439.
        to: u16,
    },
}

impl MaintenanceWindow {
    /// Whether a minute of the day (0 to 1439) lies in the window.
    pub fn contains(self, minute: u16) -> bool {
        match self {
            Self::Always => true,
            Self::Daily { from, to } if from <= to => (from..to).contains(&minute),
            Self::Daily { from, to } => minute >= from || minute < to,
        }
    }
}

/// Why a text is not a maintenance window.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected '' or 'HH:MM-HH:MM' with two different times between 00:00 and 23:59")]
pub struct WindowError;

impl FromStr for MaintenanceWindow {
    type Err = WindowError;

    fn from_str(text: &str) -> Result<Self, WindowError> {
        fn minute(text: &str) -> Result<u16, WindowError> {
            let (hour, minute) = text.trim().split_once(':').ok_or(WindowError)?;
            let number = |part: &str, end: u16| match part.parse::<u16>() {
                Ok(n) if part.len() <= 2 && !part.starts_with('+') && n < end => Ok(n),
                _ => Err(WindowError),
            };
            Ok(number(hour, 24)? * 60 + number(minute, 60)?)
        }
        if text.trim().is_empty() {
            return Ok(Self::Always);
        }
        let (from, to) = text.split_once('-').ok_or(WindowError)?;
        match (minute(from)?, minute(to)?) {
            (from, to) if from == to => Err(WindowError),
            (from, to) => Ok(Self::Daily { from, to }),
        }
    }
}

impl fmt::Display for MaintenanceWindow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Always => Ok(()),
            Self::Daily { from, to } => write!(
                f,
                "{:02}:{:02}-{:02}:{:02}",
                from / 60,
                from % 60,
                to / 60,
                to % 60
            ),
        }
    }
}

impl From<MaintenanceWindow> for String {
    fn from(window: MaintenanceWindow) -> Self {
        window.to_string()
    }
}

impl TryFrom<String> for MaintenanceWindow {
    type Error = WindowError;
    fn try_from(text: String) -> Result<Self, WindowError> {
        text.parse()
    }
}
