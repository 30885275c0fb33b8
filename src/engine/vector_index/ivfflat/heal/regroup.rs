//! Lists of even size: the largest are split, the smallest dissolved to make room for the parts, and every
//! entry goes to the list whose centre is then nearest. There are as many lists afterwards.
//!
//! Owns which lists are split into how many parts, where their centres are, and which entries
//! move. Only lists whose centre changes are looked at closely: an entry of another can only
//! belong to one of them now (the second of the necessary conditions of Xu et al., SPFresh:
//! Incremental In-Place Update for Billion-Scale Vector Search, SOSP 2023; splitting the largest
//! into the room of the smallest is DeDrift-Split of Baranchuk et al., ICCV 2023), and only if it
//! is farther from its own centre than half as far as that is from the nearest of these (the
//! triangle inequality: Elkan, Using the Triangle Inequality to Accelerate k-Means, ICML 2003).

use std::collections::BinaryHeap;

use super::centers::{Centers, squared_distance};
use super::edit::ListEdit;
use super::moves::Move;
use super::relocation::{Chains, Spare};
use super::survey::{ListSurvey, append_floats, floats};
use super::training::train;
use crate::vector_index::inspection::InspectError;
use crate::vector_index::ivfflat::directory::Directory;
use crate::vector_index::ivfflat::drift::is_spherical;
use crate::vector_index::ivfflat::layout::entries;
use crate::vector_index::ivfflat::lists::each_list;
use crate::vector_index::page::{RawPage, Tid};
use crate::vector_index::shape::IndexShape;
use crate::vector_index::value::Value;
use crate::vector_index::{HeapTid, PageSource, ReadError, varlena};

/// A list, or its part, is large enough past this many times the mean: at twice the mean, the
/// imbalance factor cannot be above 2.
const LARGE: f64 = 1.5;
/// Share of the sum of the squares of all sizes that may be left.
const WORTH_IT: f64 = 0.9;
/// Values drawn from each part, at least, that its centre is computed from.
const LEAST_PER_PART: usize = 4;
/// How much nearer another centre must be, as a share: pgvector computes in single precision.
const NEARER: f64 = 1e-6;
/// Share of the square of the distance between two centres within which an entry is nearer to one of them for
/// certain: a quarter, less what single precision may be wrong by.
const AT_HOME: f64 = 0.2495;
/// Entries compared at a time.
const AT_ONCE: usize = 240;

/// Where the centres of lists are to be, and so which entries belong where.
pub struct Regrouping {
    shape: IndexShape,
    dimensions: usize,
    /// Those of all lists.
    all: Centers,
    /// The lists whose centres change, ascending, and only their centres.
    changed: Vec<u32>,
    of_changed: Centers,
    /// What is no farther from the centre of a list is no nearer to any of those that change, if it does not,
    /// or that do not, if it does: the squares of these distances. None where directions are compared.
    at_home: Vec<f64>,
    edits: Vec<ListEdit>,
}

/// An entry, and the list it is in.
#[derive(Clone, Copy)]
struct Seen {
    row: HeapTid,
    at: Tid,
    list: u32,
}

impl Regrouping {
    /// Splits what is large. None where nothing is, or that evens little, or too little memory was
    /// there to draw values, or a centre cannot be read.
    pub fn of(survey: &ListSurvey) -> Option<Self> {
        let (shape, dimensions) = (&survey.shape, survey.dimensions);
        let present = survey.centers()?;
        let sizes: Vec<u64> = survey.lists.iter().map(|list| list.entries).collect();
        let (parts, mut room) = parts(&sizes);
        let nearest = Centers::new(shape, &present, dimensions).nearest(&survey.sample);
        let (mut centers, mut changed) = (present, Vec::new());
        for (list, parts) in parts {
            let each = survey.sample.chunks_exact(dimensions).zip(&nearest);
            let drawn = each.filter(|(_, at)| **at == list).map(|(value, _)| value);
            let drawn = drawn.collect::<Vec<_>>().concat();
            let most = drawn.len() / dimensions / LEAST_PER_PART;
            let parts = halves(survey, &drawn, (parts as usize).min(most), u64::from(list));
            if parts.len() < 2 {
                continue;
            }
            let places = std::iter::once(list).chain(std::iter::from_fn(|| room.next()));
            for (place, center) in places.zip(parts) {
                centers[place as usize * dimensions..][..dimensions].copy_from_slice(&center);
                changed.push(place);
            }
        }
        changed.sort_unstable();
        let edit = |&list: &u32| {
            let center = &centers[list as usize * dimensions..][..dimensions];
            let to = varlena::plain(&Value::encode(shape.value_type, center)?);
            let listed = &survey.lists[list as usize];
            let was = listed.stored.get(..to.len())?.to_vec();
            Some(ListEdit::Center {
                at: listed.at,
                was,
                to,
            })
        };
        let edits: Option<Vec<ListEdit>> = changed.iter().map(edit).collect();
        let edits = edits.filter(|edits| !edits.is_empty())?;
        let regrouping = Self::with(shape, dimensions, centers, changed, edits);
        let then = squares(&regrouping.sizes(survey));
        (then < WORTH_IT * squares(&sizes)).then_some(regrouping)
    }

    /// Everything goes to the nearest of the lists as they are, whichever it was put into: what
    /// ends a regrouping that was begun and not ended. None where a centre cannot be read.
    pub fn as_is(
        source: &mut dyn PageSource,
        shape: &IndexShape,
    ) -> Result<Option<Self>, InspectError> {
        let mut stored = Vec::new();
        each_list(source, &mut |_, _, list| {
            stored.push(list.center.map(|center| center.into_owned()));
        })?;
        let dimensions = stored.iter().flatten().find_map(|center| {
            Some(Value::decode(shape.value_type, center).ok()?.dimensions() as usize)
        });
        let dimensions = dimensions.unwrap_or(0);
        let center = |center: &Option<Vec<u8>>| floats(shape, dimensions, center.as_deref()?);
        let centers: Option<Vec<Vec<f32>>> = stored.iter().map(center).collect();
        Ok(centers.filter(|_| dimensions > 0).map(|centers| {
            let changed = (0..centers.len() as u32).collect();
            Self::with(shape, dimensions, centers.concat(), changed, Vec::new())
        }))
    }

    fn with(
        shape: &IndexShape,
        dimensions: usize,
        centers: Vec<f32>,
        changed: Vec<u32>,
        edits: Vec<ListEdit>,
    ) -> Self {
        let of_changed: Vec<&[f32]> = changed
            .iter()
            .map(|&list| &centers[list as usize * dimensions..][..dimensions])
            .collect();
        let of_changed = Centers::new(shape, &of_changed.concat(), dimensions);
        let at_home = at_home(shape, dimensions, &centers, &changed, &of_changed);
        Self {
            shape: shape.clone(),
            dimensions,
            all: Centers::new(shape, &centers, dimensions),
            of_changed,
            at_home,
            changed,
            edits,
        }
    }

    /// Lists whose centres change.
    pub fn changed(&self) -> usize {
        self.changed.len()
    }

    /// What gives them these centres.
    pub fn edits(&self) -> &[ListEdit] {
        &self.edits
    }

    /// What has inserts look for room in these lists from their first pages on: what moved away left
    /// some.
    pub fn insert_pages(&self, source: &mut dyn PageSource) -> Result<Vec<ListEdit>, ReadError> {
        let mut edits = Vec::new();
        each_list(source, &mut |number, at, list| {
            if self.is_changed(number) && list.insert != list.start {
                let (start, was) = (list.start, list.insert);
                edits.push(ListEdit::InsertPage { at, start, was });
            }
        })?;
        Ok(edits)
    }

    /// Where the rows that the survey was asked for would be, and how large the lists, about.
    pub fn directory(&self, survey: &ListSurvey) -> Directory {
        let now: Vec<u32> = survey.rows.iter().map(|row| survey.list_of[row]).collect();
        let mut then = now.clone();
        for (nth, value) in survey.values.chunks_exact(self.dimensions).enumerate() {
            let list = now[nth];
            let belongs = self.belongs(value, &[list], self.is_changed(list));
            then[nth] = belongs[0].unwrap_or(list);
        }
        let encode = |center| Value::encode(self.shape.value_type, center).unwrap_or_default();
        Directory {
            centers: self.all.each().map(encode).collect(),
            sizes: self.sizes(survey),
            list_of: survey.rows.iter().copied().zip(then).collect(),
        }
    }

    /// How large the lists will be, about.
    fn sizes(&self, survey: &ListSurvey) -> Vec<u64> {
        let mut counts = vec![0_u64; survey.lists.len()];
        for list in self.all.nearest(&survey.sample) {
            counts[list as usize] += 1;
        }
        let drawn = (survey.sample.len() / self.dimensions) as f64;
        let entries: u64 = survey.lists.iter().map(|list| list.entries).sum();
        let size = |count: u64| (count as f64 / drawn * entries as f64).round() as u64;
        counts.into_iter().map(size).collect()
    }

    fn is_changed(&self, list: u32) -> bool {
        self.changed.binary_search(&list).is_ok()
    }

    /// The list that each value belongs into, unless it is in it. `lists`: those they are in, all of
    /// which change, or none.
    fn belongs(&self, values: &[f32], lists: &[u32], are_changed: bool) -> Vec<Option<u32>> {
        let value = |nth: usize| &values[nth * self.dimensions..][..self.dimensions];
        let nearer = |nth: usize, best: u32, apart: f64| {
            let own = self.all.apart(value(nth), self.all.center(lists[nth]));
            let is_nearer = own - apart > NEARER * apart.abs();
            (is_nearer && best != lists[nth]).then_some(best)
        };
        let mut found = vec![None; lists.len()];
        let mut undecided = Vec::new();
        if are_changed && self.at_home.is_empty() {
            undecided.extend(0..lists.len());
        } else {
            self.of_changed
                .nearest_each(values, &mut |nth, best, apart| {
                    let best = self.changed[best as usize];
                    match !are_changed || apart <= self.at_home[best as usize] {
                        true => found[nth] = nearer(nth, best, apart),
                        false => undecided.push(nth),
                    }
                });
        }
        let left: Vec<f32> = undecided
            .iter()
            .flat_map(|&nth| value(nth))
            .copied()
            .collect();
        self.all.nearest_each(&left, &mut |nth, best, apart| {
            let nth = undecided[nth];
            found[nth] = nearer(nth, best, apart);
        });
        found
    }

    /// The entries that are not in the list they belong into, and the pages of all lists. Reads every
    /// page once, those of lists twice.
    pub fn moves(
        &self,
        source: &mut dyn PageSource,
        spare: Spare,
    ) -> Result<(Vec<Move>, Chains), ReadError> {
        let mut moves = Vec::new();
        let mut waiting: [(Vec<Seen>, Vec<f32>); 2] = Default::default();
        let chains = Chains::look(source, spare, &mut |list, block, bytes| {
            let is_changed = self.is_changed(list);
            let home = self.at_home.get(list as usize).filter(|_| !is_changed);
            let (seen, values) = &mut waiting[usize::from(is_changed)];
            for (offset, entry) in entries(&RawPage::new(bytes)) {
                let data = entry.value().unwrap_or_default();
                let before = values.len();
                if !append_floats(&self.shape, self.dimensions, &data, values) {
                    continue;
                }
                let value = &values[before..];
                let apart = || f64::from(squared_distance(value, self.all.center(list)));
                if home.is_some_and(|&home| apart() <= home) {
                    values.truncate(before);
                } else {
                    let row = entry.row;
                    let at = Tid { block, offset };
                    seen.push(Seen { row, at, list });
                }
            }
            if seen.len() >= AT_ONCE {
                self.compare(seen, values, is_changed, &mut moves);
            }
        })?;
        for (is_changed, (seen, values)) in [false, true].into_iter().zip(&mut waiting) {
            self.compare(seen, values, is_changed, &mut moves);
        }
        Ok((moves, chains))
    }

    fn compare(
        &self,
        seen: &mut Vec<Seen>,
        values: &mut Vec<f32>,
        are_changed: bool,
        moves: &mut Vec<Move>,
    ) {
        let lists: Vec<u32> = seen.iter().map(|seen| seen.list).collect();
        let belongs = self.belongs(values, &lists, are_changed);
        moves.extend(seen.drain(..).zip(belongs).filter_map(|(seen, to)| {
            Some(Move {
                row: seen.row,
                from: seen.list,
                to: to?,
                at: seen.at,
            })
        }));
        values.clear();
    }
}

/// How far from each centre everything is nearer to it than to those of the other kind, changed or not.
fn at_home(
    shape: &IndexShape,
    dimensions: usize,
    centers: &[f32],
    changed: &[u32],
    of_changed: &Centers,
) -> Vec<f64> {
    let lists = 0..(centers.len() / dimensions) as u32;
    let unchanged: Vec<u32> = lists
        .filter(|list| changed.binary_search(list).is_err())
        .collect();
    if is_spherical(shape) || changed.is_empty() || unchanged.is_empty() {
        return Vec::new();
    }
    let of = |lists: &[u32]| {
        let center = |&list: &u32| &centers[list as usize * dimensions..][..dimensions];
        lists.iter().flat_map(center).copied().collect::<Vec<f32>>()
    };
    let mut at_home = vec![0.0; centers.len() / dimensions];
    let (of_these, of_those) = (of(changed), of(&unchanged));
    let unchanged_centers = Centers::new(shape, &of_those, dimensions);
    for (lists, values, others) in [
        (changed, &of_these, &unchanged_centers),
        (&unchanged, &of_those, of_changed),
    ] {
        others.nearest_each(values, &mut |nth, _, apart| {
            at_home[lists[nth] as usize] = apart * AT_HOME;
        });
    }
    at_home
}

/// Into how many parts to split which lists, and the lists to dissolve for their sake, the smallest
/// first.
///
/// A part is worth a list as long as it lowers the sum of the squares of all sizes, which searches
/// compare in the mean, by more than the entries of the list that is dissolved raise it where
/// they go.
fn parts(sizes: &[u64]) -> (Vec<(u32, u32)>, std::vec::IntoIter<u32>) {
    let mean = sizes.iter().sum::<u64>() as f64 / sizes.len().max(1) as f64;
    let mut smallest: Vec<u32> = (0..sizes.len() as u32).collect();
    smallest.sort_by_key(|&list| sizes[list as usize]);
    let mut dissolved = Vec::new();
    let mut parts = vec![1_u32; sizes.len()];
    let mut largest: BinaryHeap<(u64, u32)> =
        (0..).zip(sizes).map(|(list, &size)| (size, list)).collect();
    for small in smallest {
        let Some((part, list)) = largest.pop() else {
            break;
        };
        let (size, count) = (sizes[list as usize] as f64, f64::from(parts[list as usize]));
        let given_up = sizes[small as usize] as f64;
        let gain = size * size / (count * (count + 1.0));
        let loss = given_up * (2.0 * mean + given_up);
        if part as f64 <= LARGE * mean || gain <= loss || parts[small as usize] > 1 || small == list
        {
            break;
        }
        parts[list as usize] += 1;
        dissolved.push(small);
        largest.push(((size / (count + 1.0)) as u64, list));
    }
    let split = (0..).zip(parts).filter(|(_, parts)| *parts > 1).collect();
    (split, dissolved.into_iter())
}

fn squares(sizes: &[u64]) -> f64 {
    sizes.iter().map(|&size| (size as f64).powi(2)).sum()
}

/// The centres of so many parts of a list that values were drawn from, as they can be stored; that of
/// the largest part first. Fewer where values are alike.
fn halves(survey: &ListSurvey, drawn: &[f32], parts: usize, seed: u64) -> Vec<Vec<f32>> {
    let (shape, dimensions) = (&survey.shape, survey.dimensions);
    if parts < 2 {
        return Vec::new();
    }
    let trained = train(shape, drawn, dimensions, parts, survey.seed ^ seed);
    let stored = |center| {
        let data = Value::encode(shape.value_type, center)?;
        floats(shape, dimensions, &data)
    };
    let mut centers: Vec<Vec<f32>> = trained
        .chunks_exact(dimensions)
        .filter_map(stored)
        .collect();
    centers.sort_by(|a, b| {
        a.iter()
            .map(|x| x.to_bits())
            .cmp(b.iter().map(|x| x.to_bits()))
    });
    centers.dedup();
    let mut counts = vec![0_u32; centers.len()];
    for part in Centers::new(shape, &centers.concat(), dimensions).nearest(drawn) {
        counts[part as usize] += 1;
    }
    let mut counted: Vec<(u32, Vec<f32>)> = counts.into_iter().zip(centers).collect();
    counted.retain(|(count, _)| *count > 0);
    counted.sort_by_key(|(count, _)| std::cmp::Reverse(*count));
    counted.into_iter().map(|(_, center)| center).collect()
}
