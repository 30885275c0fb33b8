//! The lists as they are, read once: what centres belong where, whose pages are whose, and where
//! the rows are by which recall is told.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::centers::Centers;
use super::edit::ListEdit;
use super::training::{ITERATIONS, train};
use crate::vector_index::inspection::InspectError;
use crate::vector_index::ivfflat::directory::Directory;
use crate::vector_index::ivfflat::drift::{Members, bytes_per_list, is_spherical};
use crate::vector_index::ivfflat::health::read_meta;
use crate::vector_index::ivfflat::layout::{entries, has_id};
use crate::vector_index::ivfflat::lists::{each_list, each_page_of_entries};
use crate::vector_index::page::{RawPage, Tid};
use crate::vector_index::sample::Reservoir;
use crate::vector_index::shape::IndexShape;
use crate::vector_index::value::Value;
use crate::vector_index::{HeapTid, PageSource, varlena};

/// Entries drawn for each list, to tell from where the centres of a rebuild would be; and for
/// fewer than the least nothing is told.
const SAMPLE_PER_LIST: usize = 24;
const LEAST_PER_LIST: usize = 8;
/// How many values are compared with each centre for that, for each list.
pub(super) const COMPARED_PER_LIST: usize = SAMPLE_PER_LIST * (ITERATIONS + 2);

/// A list as it is.
pub(super) struct Listed {
    pub(super) at: Tid,
    start: u32,
    insert: u32,
    /// Its centre with the length word, and what fills the tuple up.
    pub(super) stored: Vec<u8>,
    members: Members,
    pub(super) entries: u64,
    /// Whether it begins on a page of its kind, and inserts begin on one of its pages.
    begins: bool,
    inserts_begin: bool,
}

/// The lists of an index.
pub struct ListSurvey {
    pub(super) shape: IndexShape,
    pub(super) dimensions: usize,
    pub(super) lists: Vec<Listed>,
    pub(super) list_of: BTreeMap<HeapTid, u32>,
    /// The rows asked for, and their values one after another.
    pub(super) rows: Vec<HeapTid>,
    pub(super) values: Vec<f32>,
    /// Values drawn at random, one after another.
    pub(super) sample: Vec<f32>,
    pub(super) seed: u64,
}

impl ListSurvey {
    /// Reads every page once, those of lists twice. `rows`: those by which recall is told. None
    /// where the lists and these rows do not fit into some `memory_limit` bytes.
    pub fn take(
        source: &mut dyn PageSource,
        shape: &IndexShape,
        rows: &BTreeSet<HeapTid>,
        memory_limit: usize,
        seed: u64,
    ) -> Result<Option<Self>, InspectError> {
        let meta = read_meta(source)?;
        let dimensions = usize::from(meta.dimensions).max(1);
        let lists = usize::from(meta.lists);
        let value_bytes = dimensions * size_of::<f32>();
        let needed = lists * bytes_per_list(meta.dimensions) + rows.len() * value_bytes;
        let Some(room) = memory_limit.checked_sub(needed) else {
            return Ok(None);
        };
        // Training takes the sample, the centres and their sums.
        let drawn = (room / value_bytes).saturating_sub(2 * lists);
        let drawn = drawn.min(SAMPLE_PER_LIST * lists);
        let mut survey = Self {
            shape: shape.clone(),
            dimensions,
            lists: Vec::new(),
            list_of: BTreeMap::new(),
            rows: Vec::new(),
            values: Vec::new(),
            sample: Vec::new(),
            seed,
        };
        survey.read(
            source,
            rows,
            if drawn >= LEAST_PER_LIST * lists {
                drawn
            } else {
                0
            },
        )?;
        Ok(Some(survey))
    }

    fn read(
        &mut self,
        source: &mut dyn PageSource,
        rows: &BTreeSet<HeapTid>,
        drawn: usize,
    ) -> Result<(), InspectError> {
        let list_pages = each_list(source, &mut |_, at, list| {
            let center = list.center.as_deref();
            let center = center.and_then(|center| Members::new(&self.shape, center));
            self.lists.push(Listed {
                at,
                start: list.start,
                insert: list.insert,
                stored: list.stored.to_vec(),
                members: center
                    .filter(|members| members.dimensions() == self.dimensions)
                    .unwrap_or_else(|| Members::anywhere(self.dimensions)),
                entries: 0,
                begins: false,
                inserts_begin: false,
            });
        })?;
        let starts: Vec<u32> = self.lists.iter().map(|list| list.start).collect();
        // Each entry is looked up in it.
        let rows: HashSet<HeapTid> = rows.iter().copied().collect();
        let mut sample: Reservoir<Vec<f32>> = Reservoir::new(drawn, self.seed);
        each_page_of_entries(source, &starts, &list_pages, &mut |number, block, bytes| {
            let page = RawPage::new(bytes);
            let list = &mut self.lists[number as usize];
            list.begins |= block == list.start && has_id(&page);
            list.inserts_begin |= block == list.insert;
            for (_, entry) in entries(&page) {
                list.entries += 1;
                let wanted = rows.contains(&entry.row);
                if wanted {
                    self.list_of.insert(entry.row, number);
                }
                let Some(data) = entry.value() else {
                    continue;
                };
                list.members.add(&self.shape, &data);
                let value = || floats(&self.shape, self.dimensions, &data);
                if wanted && let Some(value) = value() {
                    self.rows.push(entry.row);
                    self.values.extend(value);
                }
                sample.offer_with(|| value().unwrap_or_default());
            }
        })?;
        self.sample = sample.into_items().concat();
        Ok(())
    }

    /// The lists and the rows asked for as they are.
    pub fn as_is(&self) -> Directory {
        let stored = |list: &Listed| varlena::contents(&list.stored).map(|center| center.to_vec());
        Directory {
            centers: self
                .lists
                .iter()
                .map(|list| stored(list).unwrap_or_default())
                .collect(),
            sizes: self.lists.iter().map(|list| list.entries).collect(),
            list_of: self.list_of.clone(),
        }
    }

    /// The centres as they are, one after another. None where one cannot be read.
    pub(super) fn centers(&self) -> Option<Vec<f32>> {
        let center = |list: &Listed| {
            let data = varlena::contents(&list.stored)?;
            floats(&self.shape, self.dimensions, &data)
        };
        let centers: Option<Vec<Vec<f32>>> = self.lists.iter().map(center).collect();
        Some(centers?.concat())
    }

    /// Where everything would be with every centre at the mean of its members, no row moved.
    pub fn recentered(&self) -> Directory {
        let as_is = self.as_is();
        let centers = self.lists.iter().zip(as_is.centers);
        Directory {
            centers: centers
                .map(|(list, center)| self.mean(list).unwrap_or(center))
                .collect(),
            ..as_is
        }
    }

    /// Where the rows asked for would be after a rebuild with as many lists, about. None where there is
    /// too little memory to tell.
    pub fn rebuilt(&self) -> Option<Directory> {
        let lists = self.lists.len();
        if self.sample.is_empty() || lists == 0 {
            return None;
        }
        let trained = train(&self.shape, &self.sample, self.dimensions, lists, self.seed);
        let centers = Centers::new(&self.shape, &trained, self.dimensions);
        let of_rows = centers.nearest(&self.values);
        let mut counts = vec![0_u64; lists];
        for list in centers.nearest(&self.sample) {
            counts[list as usize] += 1;
        }
        let drawn = (self.sample.len() / self.dimensions) as f64;
        let entries: u64 = self.lists.iter().map(|list| list.entries).sum();
        let encode = |center| Value::encode(self.shape.value_type, center).unwrap_or_default();
        Some(Directory {
            centers: trained.chunks_exact(self.dimensions).map(encode).collect(),
            sizes: counts
                .iter()
                .map(|&count| (count as f64 / drawn * entries as f64).round() as u64)
                .collect(),
            list_of: self.rows.iter().copied().zip(of_rows).collect(),
        })
    }

    /// What follows the length word of the centre that a list's members have.
    fn mean(&self, list: &Listed) -> Option<Vec<u8>> {
        Value::encode(self.shape.value_type, &list.members.mean(&self.shape)?)
    }

    /// What puts every centre to the mean of its members, as pgvector would: of unit length where
    /// directions are compared, bit by bit the majority.
    pub fn recentering(&self) -> Vec<ListEdit> {
        let edit = |list: &Listed| {
            let to = varlena::plain(&self.mean(list)?);
            let was = list.stored.get(..to.len())?.to_vec();
            let at = list.at;
            (was != to).then_some(ListEdit::Center { at, was, to })
        };
        self.lists.iter().filter_map(edit).collect()
    }

    /// What has inserts into every list begin on one of its own pages, or rows go where no search
    /// looks for them. A list that begins nowhere is left alone.
    pub fn insert_pages(&self) -> Vec<ListEdit> {
        let astray = self
            .lists
            .iter()
            .filter(|list| list.begins && !list.inserts_begin);
        let edit = |list: &Listed| ListEdit::InsertPage {
            at: list.at,
            start: list.start,
            was: list.insert,
        };
        astray.map(edit).collect()
    }
}

/// The components of a value, of unit length where directions are compared; none of other
/// dimensions, without direction or not finite.
pub(super) fn floats(shape: &IndexShape, dimensions: usize, data: &[u8]) -> Option<Vec<f32>> {
    let mut floats = Vec::with_capacity(dimensions);
    append_floats(shape, dimensions, data, &mut floats).then_some(floats)
}

/// Puts them behind others, and tells whether there are any.
pub(super) fn append_floats(
    shape: &IndexShape,
    dimensions: usize,
    data: &[u8],
    floats: &mut Vec<f32>,
) -> bool {
    let value = Value::decode(shape.value_type, data).ok();
    let Some(value) = value.filter(|value| value.dimensions() as usize == dimensions) else {
        return false;
    };
    let before = floats.len();
    value.append_to(floats);
    let added = &mut floats[before..];
    if is_spherical(shape) {
        let norm = value.norm() as f32;
        added.iter_mut().for_each(|x| *x /= norm);
    }
    let usable = added.len() == dimensions && added.iter().all(|x| x.is_finite());
    if !usable {
        floats.truncate(before);
    }
    usable
}
