//! Errors in PostgreSQL's style: SQLSTATE, message, detail, hint.

use pgrx::pg_sys::panic::{CaughtError, ErrorReport};
use pgrx::{PgLogLevel, PgSqlErrorCode};
use ruvector_dag_healing_engine::ports::PortError;

/// An error for the user, raised by [`raise`].
#[derive(Debug)]
pub struct UserError {
    /// SQLSTATE.
    pub code: PgSqlErrorCode,
    /// What is wrong, one line.
    pub message: String,
    /// More about it.
    pub detail: Option<String>,
    /// What to do.
    pub hint: Option<String>,
}

impl UserError {
    /// An error with a message.
    pub fn new(code: PgSqlErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            detail: None,
            hint: None,
        }
    }

    /// Adds a detail.
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// Adds a hint.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl From<PortError> for UserError {
    fn from(error: PortError) -> Self {
        let code = match error {
            PortError::Gone(_) => PgSqlErrorCode::ERRCODE_UNDEFINED_OBJECT,
            PortError::Busy(_) => PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE,
            PortError::Stopped(_) => PgSqlErrorCode::ERRCODE_QUERY_CANCELED,
            PortError::Failed(_) => PgSqlErrorCode::ERRCODE_INTERNAL_ERROR,
        };
        Self::new(code, error.to_string())
    }
}

/// Raises an error; the caller's transaction ends.
pub fn raise(error: impl Into<UserError>) -> ! {
    let error = error.into();
    let mut report = ErrorReport::new(error.code, error.message, "ruvector_dag_healing");
    if let Some(detail) = error.detail {
        report = report.set_detail(detail);
    }
    if let Some(hint) = error.hint {
        report = report.set_hint(hint);
    }
    report.report(PgLogLevel::ERROR);
    unreachable!("an ERROR does not return")
}

/// The value, or the error raised.
pub fn or_raise<T, E: Into<UserError>>(result: Result<T, E>) -> T {
    result.unwrap_or_else(|error| raise(error))
}

/// The error for what needs shared memory, hooks or workers.
pub fn not_preloaded() -> UserError {
    UserError::new(
        PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
        "ruvector_dag_healing is not loaded at server start",
    )
    .hint("Add it to shared_preload_libraries and restart the server.")
}

/// How PostgreSQL says, in every language, that what was found in the catalog was dropped since.
const GONE: [&str; 2] = [
    "could not open relation with OID",
    "cache lookup failed for ",
];

/// Reads a caught error as the engine understands it.
pub fn classify(error: &CaughtError) -> PortError {
    let report = match error {
        CaughtError::PostgresError(report) | CaughtError::ErrorReport(report) => report,
        CaughtError::RustPanic { ereport, .. } => ereport,
    };
    let code = report.sql_error_code();
    let text = match report.detail() {
        Some(detail) => format!("{} ({detail})", report.message()),
        None => report.message().to_owned(),
    };
    use PgSqlErrorCode as Code;
    match code {
        Code::ERRCODE_LOCK_NOT_AVAILABLE | Code::ERRCODE_OBJECT_IN_USE => PortError::Busy(text),
        Code::ERRCODE_QUERY_CANCELED => PortError::Stopped(text),
        Code::ERRCODE_UNDEFINED_TABLE | Code::ERRCODE_UNDEFINED_OBJECT => PortError::Gone(text),
        Code::ERRCODE_INTERNAL_ERROR if GONE.iter().any(|gone| text.starts_with(gone)) => {
            PortError::Gone(text)
        }
        _ => PortError::Failed(text),
    }
}
