//! Index pages through the buffer manager: copied out under a short share lock.
//!
//! Never a read mode that zeroes what it cannot verify. Two readers: one for a session, which
//! holds the index open; one for the background, which lets go of everything between batches
//! and notices when the file is no longer the one it began with.

use pgrx::pg_sys;
use ruvector_dag_healing_engine::model::IndexInfo;
use ruvector_dag_healing_engine::ports::PortError;
use ruvector_dag_healing_engine::vector_index::{PAGE_SIZE, PageSource, ReadError};

use super::shmem::Phase;
use super::throttle::Throttle;
use super::xact::{Snapshot, transaction};
use super::{lifecycle, progress};

const _: () = assert!(pg_sys::BLCKSZ as usize == PAGE_SIZE);

type Blocks<'a> = &'a mut dyn Iterator<Item = u32>;
type Sink<'a> = &'a mut dyn FnMut(u32, &[u8; PAGE_SIZE]);

/// Pages after which progress is noted.
const NOTED_EACH: u64 = 128;

/// An index held open under `AccessShareLock` until this goes out of scope.
pub struct OpenIndex {
    relation: pg_sys::Relation,
    strategy: pg_sys::BufferAccessStrategy,
    scratch: Box<[u8; PAGE_SIZE]>,
    pages_read: u64,
    began: Option<LogPosition>,
}

/// How far the server's log of writes had come; nobody writes to an index without one to it.
type LogPosition = u64;

/// pgvector's inserts hold this page of an HNSW index locked, shared, from the first to the last
/// of their writes.
pub(super) const UPDATE_LOCK: u32 = 0;
/// Its searches hold this one, shared, while they go from element to element.
pub(super) const SCAN_LOCK: u32 = 1;

impl OpenIndex {
    /// Opens an index. `None`: it is gone. Waits for a conflicting lock unless `locked` says that
    /// the caller has the lock.
    pub fn open(index: u32, locked: bool) -> Option<Self> {
        let mode = if locked {
            pg_sys::NoLock
        } else {
            pg_sys::AccessShareLock
        };
        // SAFETY: inside a transaction; a null relation is handled.
        unsafe {
            let relation = pg_sys::try_index_open(pg_sys::Oid::from(index), mode as i32);
            if relation.is_null() {
                return None;
            }
            let bulk = pg_sys::BufferAccessStrategyType::BAS_BULKREAD;
            let mut open = Self {
                relation,
                strategy: pg_sys::GetAccessStrategy(bulk),
                scratch: Box::new([0; PAGE_SIZE]),
                pages_read: 0,
                began: None,
            };
            open.began = open.log_position();
            Some(open)
        }
    }

    /// None where writes to the index are not logged here: of an unlogged or temporary one, and
    /// on a standby.
    fn log_position(&self) -> Option<LogPosition> {
        // SAFETY: a value in shared memory.
        unsafe {
            let logged = self.is_logged() && !pg_sys::RecoveryInProgress();
            logged.then(|| pg_sys::GetXLogInsertRecPtr())
        }
    }

    /// Whether what is written to it is logged: not that of an unlogged or temporary one.
    pub(super) fn is_logged(&self) -> bool {
        let permanent = pg_sys::RELPERSISTENCE_PERMANENT as std::ffi::c_char;
        // SAFETY: the relation is open.
        unsafe { (*(*self.relation).rd_rel).relpersistence == permanent }
    }

    /// Whether nothing was written since the log stood there, nor is half written now.
    fn is_still_since(&self, began: Option<LogPosition>) -> bool {
        if began.is_none() || began != self.log_position() {
            return false;
        }
        // An insert under way holds the lock; nobody is kept waiting but for a moment.
        // SAFETY: the relation is open; what is granted is given back.
        unsafe {
            let mode = pg_sys::ExclusiveLock as i32;
            let none_inserts = pg_sys::ConditionalLockPage(self.relation, UPDATE_LOCK, mode);
            if none_inserts {
                pg_sys::UnlockPage(self.relation, UPDATE_LOCK, mode);
            }
            none_inserts && began == self.log_position()
        }
    }

    /// Whether a vacuum may be at work: somebody else has the table locked as one does, or more. On
    /// a standby what is replayed takes no such lock, so there it always may.
    fn may_have_vacuum(&self) -> bool {
        let mode = pg_sys::ShareUpdateExclusiveLock as i32;
        let mut holders = 0;
        // SAFETY: the relation is open; the locks are read under the lock manager's own.
        unsafe {
            let tag = pg_sys::LOCKTAG {
                locktag_field1: pg_sys::MyDatabaseId.to_u32(),
                locktag_field2: (*(*self.relation).rd_index).indrelid.to_u32(),
                locktag_type: pg_sys::LockTagType::LOCKTAG_RELATION as u8,
                locktag_lockmethodid: pg_sys::DEFAULT_LOCKMETHOD as u8,
                ..pg_sys::LOCKTAG::default()
            };
            pg_sys::RecoveryInProgress() || {
                pg_sys::GetLockConflicts(&raw const tag, mode, &raw mut holders);
                holders > 0
            }
        }
    }

    /// The relation, open as long as this is.
    pub(super) fn relation(&self) -> pg_sys::Relation {
        self.relation
    }

    /// Whether the index is valid and kept up by writes.
    pub(super) fn is_kept_up(&self) -> bool {
        // SAFETY: an open index has its row of the catalog.
        unsafe {
            let form = &*(*self.relation).rd_index;
            form.indisvalid && form.indisready && form.indislive
        }
    }

    pub(super) fn relfilenode(&self) -> u32 {
        // SAFETY: the relation is open.
        unsafe { (*(*self.relation).rd_rel).relfilenode.to_u32() }
    }

    pub(super) fn blocks(&self) -> u32 {
        // SAFETY: the relation is open.
        unsafe {
            let main = pg_sys::ForkNumber::MAIN_FORKNUM;
            pg_sys::RelationGetNumberOfBlocksInFork(self.relation, main)
        }
    }

    /// Copies one block out and hands it on; neither lock nor pin is held meanwhile.
    fn hand_on(&mut self, block: u32, sink: Sink) {
        lifecycle::interrupts();
        // SAFETY: the relation is open.
        unsafe { copy_block(self.relation, self.strategy, block, &mut self.scratch) };
        self.count_page();
        sink(block, &self.scratch);
    }

    /// Copies one block of the index.
    pub(super) fn copy(&mut self, block: u32, page: &mut [u8; PAGE_SIZE]) {
        // SAFETY: the relation is open.
        unsafe { copy_block(self.relation, self.strategy, block, page) };
        self.count_page();
    }

    fn count_page(&mut self) {
        self.pages_read += 1;
        if self.pages_read.is_multiple_of(NOTED_EACH) {
            let total = u64::from(self.blocks());
            // SAFETY: the relation is open.
            let index = unsafe { (*self.relation).rd_id.to_u32() };
            progress::note(index, Phase::Index, self.pages_read, total);
        }
    }
}

/// Copies a block of a relation out of its buffer, of which neither lock nor pin is kept.
///
/// # Safety
/// The relation is open and has the block.
pub(super) unsafe fn copy_block(
    relation: pg_sys::Relation,
    strategy: pg_sys::BufferAccessStrategy,
    block: u32,
    page: &mut [u8; PAGE_SIZE],
) {
    // SAFETY: as the caller promises; the buffer is pinned and share-locked while its 8192 bytes
    // are copied, and released before anything else happens.
    unsafe {
        let buffer = pg_sys::ReadBufferExtended(
            relation,
            pg_sys::ForkNumber::MAIN_FORKNUM,
            block,
            pg_sys::ReadBufferMode::RBM_NORMAL,
            strategy,
        );
        pg_sys::LockBuffer(buffer, pg_sys::BUFFER_LOCK_SHARE as i32);
        page.copy_from_slice(&*pg_sys::BufferGetPage(buffer).cast::<[u8; PAGE_SIZE]>());
        pg_sys::UnlockReleaseBuffer(buffer);
    }
}

impl Drop for OpenIndex {
    fn drop(&mut self) {
        // While an error unwinds, the end of the transaction closes the relation.
        if std::thread::panicking() {
            return;
        }
        // SAFETY: opened by `open`, closed once. The lock stays until the transaction ends.
        unsafe {
            pg_sys::FreeAccessStrategy(self.strategy);
            pg_sys::index_close(self.relation, pg_sys::NoLock as i32);
        }
    }
}

impl PageSource for OpenIndex {
    fn block_count(&mut self) -> Result<u32, ReadError> {
        Ok(self.blocks())
    }

    fn read(&mut self, blocks: Blocks, sink: Sink) -> Result<(), ReadError> {
        let end = self.blocks();
        for block in blocks.filter(|block| *block < end) {
            self.hand_on(block, sink);
        }
        Ok(())
    }

    fn is_still(&mut self) -> bool {
        self.is_still_since(self.began)
    }

    fn may_be_vacuumed(&mut self) -> bool {
        self.may_have_vacuum()
    }
}

/// Blocks read before everything is let go of: 2 MB.
const BATCH: usize = 256;

/// An index read in batches, each a transaction of its own without a snapshot.
pub struct BackgroundPages<'a> {
    index: IndexInfo,
    throttle: Throttle,
    /// Whether to give up, asked between batches.
    stop: &'a dyn Fn() -> bool,
    /// Of the first batch.
    began: Option<LogPosition>,
}

impl<'a> BackgroundPages<'a> {
    /// A reader of the file that `index` describes, which reads at most `limit_mb` megabytes a
    /// second (0: as fast as it can).
    pub fn new(index: &IndexInfo, limit_mb: u64, stop: &'a dyn Fn() -> bool) -> Self {
        Self {
            index: index.clone(),
            throttle: Throttle::new(limit_mb),
            stop,
            began: None,
        }
    }

    /// Runs `work` on the index if it is still the same file and nobody has it locked.
    fn with_index<T>(&self, work: impl FnOnce(&mut OpenIndex) -> T) -> Result<T, ReadError> {
        let done = transaction(Snapshot::None, || {
            let (oid, mode) = (self.index.index_oid, pg_sys::AccessShareLock as i32);
            // SAFETY: inside a transaction, at whose end the lock goes. Never queues.
            if !unsafe { pg_sys::ConditionalLockRelationOid(pg_sys::Oid::from(oid), mode) } {
                return Err(PortError::Gone("the index".into()));
            }
            match OpenIndex::open(oid, true) {
                Some(mut open) if open.relfilenode() == self.index.relfilenode => {
                    Ok(work(&mut open))
                }
                _ => Err(PortError::Gone("the index".into())),
            }
        });
        done.map_err(not_read)
    }
}

impl PageSource for BackgroundPages<'_> {
    fn block_count(&mut self) -> Result<u32, ReadError> {
        self.with_index(|open| open.blocks())
    }

    fn read(&mut self, blocks: Blocks, sink: Sink) -> Result<(), ReadError> {
        let mut blocks = blocks.peekable();
        while blocks.peek().is_some() {
            let mut current = 0;
            let done = self.with_index(|open| {
                let end = open.blocks();
                let mut read = 0;
                for block in blocks.by_ref().take(BATCH).filter(|block| *block < end) {
                    current = block;
                    open.hand_on(block, sink);
                    read += 1;
                }
                (read, open.began)
            });
            let (read, began) = done.map_err(|error| match error {
                ReadError::Unreadable { reason, .. } => ReadError::Unreadable {
                    block: current,
                    reason,
                },
                error => error,
            })?;
            if self.throttle.pages() == 0 {
                self.began = began;
            }
            let pages = self.throttle.pages() + read;
            progress::note(self.index.index_oid, Phase::Index, pages, self.index.blocks);
            self.throttle.read(read, self.stop)?;
        }
        Ok(())
    }

    fn is_still(&mut self) -> bool {
        let still = self.with_index(|open| open.is_still_since(self.began));
        still.unwrap_or(false)
    }

    fn may_be_vacuumed(&mut self) -> bool {
        let locked = self.with_index(|open| open.may_have_vacuum());
        locked.unwrap_or(true)
    }
}

/// Why nothing was read, of a transaction that failed.
pub(super) fn not_read(error: PortError) -> ReadError {
    match error {
        PortError::Gone(_) | PortError::Busy(_) => ReadError::Gone,
        PortError::Stopped(_) => ReadError::Stopped,
        PortError::Failed(reason) => ReadError::Unreadable { block: 0, reason },
    }
}
