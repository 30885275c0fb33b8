//! Scans of vector indexes in a statement that was executed.

use pgrx::pg_sys;
use pgrx::pg_sys::NodeTag;

use super::compat;

/// Nodes of a plan that are looked at, and that can wait to be.
const MOST_NODES: usize = 1024;
const MOST_WAITING: usize = 128;

/// Shows `sink` each index scan that was ordered by the distance to a value: the index, the
/// value's contents, and `seed`, until it returns `false`. Of a scan that was repeated the last value.
/// Of many partitions any may come first, by `seed`.
///
/// # Safety
/// The statement's execution was started and not ended yet; the value goes with it.
pub unsafe fn each(
    statement: *mut pg_sys::QueryDesc,
    seed: &mut u64,
    sink: &mut dyn FnMut(u32, &[u8], &mut u64) -> bool,
) {
    // SAFETY: the executor's state hangs together until it is ended; every cast follows a tag.
    unsafe {
        let state = (*statement).estate;
        if state.is_null() || (*state).es_top_eflags as u32 & pg_sys::EXEC_FLAG_EXPLAIN_ONLY != 0 {
            return;
        }
        let mut waiting = Waiting::default();
        waiting.add((*statement).planstate);
        waiting.add_list((*state).es_subplanstates);
        for _ in 0..MOST_NODES {
            let Some(node) = waiting.next() else {
                return;
            };
            if (*node).type_ == NodeTag::T_IndexScanState {
                let scan = node.cast::<pg_sys::IndexScanState>();
                if let Some((index, value)) = ordered_by(scan)
                    && !sink(index, value, seed)
                {
                    return;
                }
            }
            waiting.add_children(node, *seed);
        }
    }
}

/// Nodes still to be looked at.
struct Waiting {
    nodes: [*mut pg_sys::PlanState; MOST_WAITING],
    count: usize,
}

impl Default for Waiting {
    fn default() -> Self {
        Self {
            nodes: [std::ptr::null_mut(); MOST_WAITING],
            count: 0,
        }
    }
}

impl Waiting {
    fn next(&mut self) -> Option<*mut pg_sys::PlanState> {
        self.count = self.count.checked_sub(1)?;
        self.nodes.get(self.count).copied()
    }

    /// Past what can wait, nodes are left out.
    fn add(&mut self, node: *mut pg_sys::PlanState) {
        if !node.is_null()
            && let Some(place) = self.nodes.get_mut(self.count)
        {
            *place = node;
            self.count += 1;
        }
    }

    /// # Safety
    /// A list of plan states, some of which may be missing, or null.
    unsafe fn add_list(&mut self, list: *mut pg_sys::List) {
        // SAFETY: as the caller promises; lists are arrays.
        unsafe {
            if let Some(list) = list.as_ref() {
                self.add_array(list.elements.cast(), list.length, 0);
            }
        }
    }

    /// # Safety
    /// So many plan states, or cells of a list that hold them.
    unsafe fn add_array(&mut self, nodes: *mut *mut pg_sys::PlanState, count: i32, first: u64) {
        let count = usize::try_from(count).unwrap_or_default();
        if nodes.is_null() || count == 0 {
            return;
        }
        let first = (first % count as u64) as usize;
        for nth in 0..count.min(MOST_WAITING) {
            // SAFETY: within the array.
            self.add(unsafe { *nodes.add((first + nth) % count) });
        }
    }

    /// Adds what a node has below it, but for subplans, which the statement lists.
    ///
    /// # Safety
    /// A node of a plan that is being executed.
    unsafe fn add_children(&mut self, node: *mut pg_sys::PlanState, first: u64) {
        // SAFETY: every cast follows the node's tag.
        unsafe {
            self.add((*node).lefttree);
            self.add((*node).righttree);
            match (*node).type_ {
                NodeTag::T_AppendState => {
                    let append = node.cast::<pg_sys::AppendState>();
                    self.add_array((*append).appendplans, (*append).as_nplans, first);
                }
                NodeTag::T_MergeAppendState => {
                    let append = node.cast::<pg_sys::MergeAppendState>();
                    self.add_array((*append).mergeplans, (*append).ms_nplans, first);
                }
                NodeTag::T_SubqueryScanState => {
                    self.add((*node.cast::<pg_sys::SubqueryScanState>()).subplan);
                }
                NodeTag::T_CustomScanState => {
                    self.add_list((*node.cast::<pg_sys::CustomScanState>()).custom_ps);
                }
                _ => {}
            }
        }
    }
}

/// The index of a scan and the contents of the value that it was ordered by the distance to, if it
/// was executed and its access method does nothing else than that, as pgvector's.
///
/// # Safety
/// A scan that is being executed.
unsafe fn ordered_by<'a>(scan: *mut pg_sys::IndexScanState) -> Option<(u32, &'a [u8])> {
    // SAFETY: a scan that has begun has its index open, and its keys evaluated.
    unsafe {
        let (scan, index) = (scan.as_ref()?, (*scan).iss_RelationDesc.as_ref()?);
        if scan.iss_ScanDesc.is_null() || scan.iss_NumOrderByKeys != 1 {
            return None;
        }
        let method = index.rd_indam.as_ref()?;
        let key = scan.iss_OrderByKeys.as_ref()?;
        let indexed = *index.rd_opcintype;
        let is_null = key.sk_flags as u32 & pg_sys::SK_ISNULL != 0;
        let only_orders = method.amcanorderbyop && method.amgetbitmap.is_none();
        // A value of the type that is indexed, which is stored as it is.
        let is_indexed = key.sk_subtype == indexed && !method.amstorage;
        if is_null || !only_orders || !is_indexed || compat::first_column(index).attlen != -1 {
            return None;
        }
        let value = key.sk_argument.cast_mut_ptr::<pg_sys::varlena>();
        Some((index.rd_id.to_u32(), plain_contents(value)?))
    }
}

/// What follows the length word of a value that is here as it is; none of one that is compressed
/// or elsewhere.
///
/// # Safety
/// `value` is null or points to a value of variable length.
unsafe fn plain_contents<'a>(value: *const pg_sys::varlena) -> Option<&'a [u8]> {
    // SAFETY: as the caller promises.
    unsafe {
        let plain = !value.is_null()
            && (pgrx::varatt_is_4b_u(value)
                || pgrx::varatt_is_1b(value) && !pgrx::varatt_is_1b_e(value));
        plain.then(|| {
            let size = pgrx::varsize_any_exhdr(value);
            std::slice::from_raw_parts(pgrx::vardata_any(value).cast(), size)
        })
    }
}
