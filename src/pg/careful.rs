//! Index pages read so that one that cannot be read does not end the reading.

use std::panic::AssertUnwindSafe;

use pgrx::pg_sys::panic::CaughtError;
use pgrx::{PgSqlErrorCode, PgTryBuilder, pg_sys};
use ruvector_dag_healing_engine::vector_index::{PAGE_SIZE, PageSource, ReadError};

use super::error::classify;
use super::lifecycle;
use super::pages::OpenIndex;

/// Blocks read in one subtransaction, so that its cost is shared.
const BATCH: usize = 32;

/// An open index of which damaged blocks are told apart from the rest.
pub struct CarefulPages {
    index: OpenIndex,
    batch: Vec<(u32, [u8; PAGE_SIZE])>,
}

impl CarefulPages {
    /// Reads an open index.
    pub fn new(index: OpenIndex) -> Self {
        Self {
            index,
            batch: vec![(0, [0; PAGE_SIZE]); BATCH],
        }
    }

    /// Fills the batch. Tells how many blocks were read, and which one could not be, and why.
    fn fill(&mut self, blocks: &mut dyn Iterator<Item = u32>) -> (usize, Option<ReadError>) {
        let end = self.index.blocks();
        let mut read = 0;
        let mut current = 0;
        let Self { index, batch } = self;
        let failure = in_subtransaction(is_damage, || {
            for block in blocks.filter(|block| *block < end).take(BATCH) {
                current = block;
                batch[read].0 = block;
                index.copy(block, &mut batch[read].1);
                read += 1;
            }
        });
        let failure = failure.err().map(|reason| ReadError::Unreadable {
            block: current,
            reason,
        });
        (read, failure)
    }
}

impl PageSource for CarefulPages {
    fn is_still(&mut self) -> bool {
        self.index.is_still()
    }

    fn may_be_vacuumed(&mut self) -> bool {
        self.index.may_be_vacuumed()
    }

    fn block_count(&mut self) -> Result<u32, ReadError> {
        Ok(self.index.blocks())
    }

    fn read(
        &mut self,
        blocks: &mut dyn Iterator<Item = u32>,
        sink: &mut dyn FnMut(u32, &[u8; PAGE_SIZE]),
    ) -> Result<(), ReadError> {
        loop {
            lifecycle::interrupts();
            let (read, failure) = self.fill(blocks);
            for (block, page) in &self.batch[..read] {
                sink(*block, page);
            }
            match failure {
                Some(failure) => return Err(failure),
                None if read < BATCH => return Ok(()),
                None => {}
            }
        }
    }
}

/// Runs `work` in a subtransaction. If it fails with an error that is `forgiven`, all it holds is
/// let go and the reason returned; any other error goes on.
pub fn in_subtransaction<T>(
    forgiven: fn(PgSqlErrorCode) -> bool,
    work: impl FnOnce() -> T,
) -> Result<T, String> {
    // SAFETY: inside a transaction. Memory and resources are switched back to those of before,
    // as PL/pgSQL does for its exception blocks.
    unsafe {
        let memory = pg_sys::CurrentMemoryContext;
        let owner = pg_sys::CurrentResourceOwner;
        pg_sys::BeginInternalSubTransaction(std::ptr::null());
        pg_sys::MemoryContextSwitchTo(memory);
        let done = PgTryBuilder::new(AssertUnwindSafe(|| Ok(work())))
            .catch_others(|error| match code_of(&error).is_some_and(forgiven) {
                true => Err(classify(&error).to_string()),
                false => error.rethrow(),
            })
            .execute();
        match done {
            Ok(_) => pg_sys::ReleaseCurrentSubTransaction(),
            Err(_) => pg_sys::RollbackAndReleaseCurrentSubTransaction(),
        }
        pg_sys::MemoryContextSwitchTo(memory);
        pg_sys::CurrentResourceOwner = owner;
        done
    }
}

fn code_of(error: &CaughtError) -> Option<PgSqlErrorCode> {
    match error {
        CaughtError::PostgresError(report) | CaughtError::ErrorReport(report) => {
            Some(report.sql_error_code())
        }
        CaughtError::RustPanic { .. } => None,
    }
}

/// Whether a page could not be read.
fn is_damage(code: PgSqlErrorCode) -> bool {
    matches!(
        code,
        PgSqlErrorCode::ERRCODE_DATA_CORRUPTED
            | PgSqlErrorCode::ERRCODE_INDEX_CORRUPTED
            | PgSqlErrorCode::ERRCODE_IO_ERROR
    )
}

/// Whether what was read may have caused it, whatever pgvector makes of damage: neither somebody
/// who wants the session to stop, nor a want of something.
pub fn may_be_damage(code: PgSqlErrorCode) -> bool {
    !matches!(
        code,
        PgSqlErrorCode::ERRCODE_QUERY_CANCELED
            | PgSqlErrorCode::ERRCODE_ADMIN_SHUTDOWN
            | PgSqlErrorCode::ERRCODE_CRASH_SHUTDOWN
            | PgSqlErrorCode::ERRCODE_INSUFFICIENT_RESOURCES
            | PgSqlErrorCode::ERRCODE_OUT_OF_MEMORY
            | PgSqlErrorCode::ERRCODE_DISK_FULL
            | PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE
            | PgSqlErrorCode::ERRCODE_T_R_DEADLOCK_DETECTED
            | PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE
    )
}
