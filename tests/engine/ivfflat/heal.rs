//! Edits made on pages in memory, taken back, and lost; and recall told of lists that are not there yet.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use proptest::prelude::*;
use ruvector_dag_healing_engine::recall::blocks::Budget;
use ruvector_dag_healing_engine::recall::measure::{Asked, Truth};
use ruvector_dag_healing_engine::vector_index::edit::{PageEdit, Undo};
use ruvector_dag_healing_engine::vector_index::heap::Root;
use ruvector_dag_healing_engine::vector_index::inspection::InspectOptions;
use ruvector_dag_healing_engine::vector_index::ivfflat::heal::{ListEdit, ListSurvey};
use ruvector_dag_healing_engine::vector_index::ivfflat::{check, directory, inspect};
use ruvector_dag_healing_engine::vector_index::shape::{IndexShape, Metric};
use ruvector_dag_healing_engine::vector_index::table::{RowSink, RowSource};
use ruvector_dag_healing_engine::vector_index::value::{Value, ValueType};
use ruvector_dag_healing_engine::vector_index::{HeapTid, PAGE_SIZE, ReadError};
use ruvector_dag_healing_engine::verification::forecast::Forecast;

use super::model::{Bytes, Index, Source, shape, vector};

const MEMORY: usize = 1 << 20;

/// Clusters around 10, 20, 30 … on a line, with centres `off` of them, which are those of the lists.
fn clusters(lists: usize, rows: usize, off: f32) -> Index {
    let spot = |list: usize| 10.0 * (list + 1) as f32;
    let member = |list: usize, nth: usize| vec![spot(list) + (nth % 7) as f32 * 0.1 - 0.3, 1.0];
    Index {
        centers: (0..lists).map(|list| vec![spot(list) + off, 1.0]).collect(),
        members: (0..lists)
            .map(|list| (0..rows).map(|nth| member(list, nth)).collect())
            .collect(),
        per_page: 50,
        short: false,
    }
}

fn survey(pages: &[Bytes], metric: Metric, rows: &BTreeSet<HeapTid>) -> ListSurvey {
    ListSurvey::take(&mut Source(pages.to_vec()), &shape(metric), rows, MEMORY, 1)
        .expect("an honest index")
        .expect("it fits")
}

fn quality(pages: &[Bytes], metric: Metric) -> f32 {
    let (mut source, options) = (Source(pages.to_vec()), InspectOptions::default());
    let report = inspect(&mut source, &shape(metric), &options).expect("an honest index");
    report.figures.centroid_quality
}

/// Makes edits as whoever holds the locks does, and tells how many were made.
fn make(pages: &mut [Bytes], edits: &[ListEdit]) -> usize {
    let made = |edit: &&ListEdit| {
        let holds = edit.holds(&mut Source(pages.to_vec())).expect("a page");
        holds && edit.apply((), &mut pages[edit.block() as usize])
    };
    edits.iter().filter(made).count()
}

#[test]
fn centers_go_to_the_mean_of_their_members_and_back_byte_by_byte() {
    for metric in [Metric::L2, Metric::InnerProduct, Metric::Cosine] {
        let before = clusters(4, 70, 6.0).pages();
        let mut pages = before.clone();
        if metric == Metric::L2 {
            assert!(quality(&pages, metric) < 0.1);
        }
        let edits = survey(&pages, metric, &BTreeSet::new()).recentering();
        assert_eq!(
            (edits.len(), make(&mut pages, &edits)),
            (4, 4),
            "{metric:?}"
        );
        assert!(quality(&pages, metric) > 0.999, "{metric:?}");
        let again = survey(&pages, metric, &BTreeSet::new()).recentering();
        assert_eq!(again, [], "they are there already");
        if metric != Metric::L2 {
            let centers = survey(&pages, metric, &BTreeSet::new()).as_is().centers;
            for center in centers {
                let norm = Value::decode(ValueType::Vector, &center)
                    .expect("a centre")
                    .norm();
                assert!((norm - 1.0).abs() < 1e-6, "directions are of unit length");
            }
        }
        // Through the journal, as after a crash.
        let text = serde_json::to_string(&edits).expect("text");
        let edits: Vec<ListEdit> = serde_json::from_str(&text).expect("edits");
        let undo: Vec<ListEdit> = edits.iter().filter_map(Undo::undo).collect();
        assert_eq!(make(&mut pages, &undo), 4);
        assert!(pages == before, "{metric:?}");
    }
}

#[test]
fn an_edit_is_lost_where_the_page_is_not_as_it_was_judged() {
    let mut pages = clusters(2, 70, 6.0).pages();
    let edits = survey(&pages, Metric::L2, &BTreeSet::new()).recentering();
    // A component of the first list's centre.
    let at = PAGE_SIZE - 8 - 6;
    pages[1][at] ^= 1;
    let changed = pages.clone();
    assert_eq!(make(&mut pages, &edits[..1]), 0);
    assert!(pages == changed);
    for spoil in [
        |page: &mut Bytes| page[PAGE_SIZE - 2..].fill(0),
        |page: &mut Bytes| page[12..14].copy_from_slice(&24_u16.to_le_bytes()),
        |page: &mut Bytes| page.fill(0),
    ] {
        let mut pages = clusters(2, 70, 6.0).pages();
        spoil(&mut pages[1]);
        let spoilt = pages.clone();
        assert_eq!(make(&mut pages, &edits), 0);
        assert!(pages == spoilt);
    }
}

#[test]
fn inserts_are_led_back_to_their_list() {
    let before = clusters(3, 70, 0.0).pages();
    let shape = IndexShape {
        option: Some(3),
        ..shape(Metric::L2)
    };
    let breaches = |pages: &[Bytes]| {
        let mut found = Vec::new();
        let mut source = Source(pages.to_vec());
        check(&mut source, &shape, MEMORY, &mut |breach| {
            found.push(breach.check)
        })
        .expect("pages");
        found
    };
    assert_eq!(breaches(&before), Vec::<&str>::new());
    // The list whose tuple is first stands last on the page: past the end, on another list's page,
    // on the metapage.
    for wrong in [900, 5, 0] {
        let mut pages = before.clone();
        let at = PAGE_SIZE - 8 - 24 + 4;
        pages[1][at..at + 4].copy_from_slice(&u32::to_le_bytes(wrong));
        assert_eq!(breaches(&pages), ["insert_page"]);
        let edits = survey(&pages, Metric::L2, &BTreeSet::new()).insert_pages();
        assert_eq!((edits.len(), make(&mut pages, &edits)), (1, 1), "{wrong}");
        assert!(pages == before);
        assert_eq!(edits[0].undo(), None);
        // An insert has moved on meanwhile.
        assert_eq!(make(&mut pages, &edits), 0);
    }
    assert_eq!(
        survey(&before, Metric::L2, &BTreeSet::new()).insert_pages(),
        []
    );
}

/// The rows of an index, as their table has them.
struct Rows(BTreeMap<HeapTid, Vec<u8>>);

impl Rows {
    fn of(index: &Index) -> Self {
        let lists = (0..).zip(&index.members);
        let rows = lists.flat_map(|(block, members)| {
            let row = move |offset| HeapTid { block, offset };
            (1..)
                .zip(members)
                .map(move |(offset, member)| (row(offset), vector(member)))
        });
        Self(rows.collect())
    }

    /// The exact answers to questions that are no rows: each is `off` of one.
    fn truth(&mut self, off: f32, k: u32) -> Truth {
        let beside = |value: &Vec<u8>| {
            let value = Value::decode(ValueType::Vector, value).expect("a value");
            let moved: Vec<f32> = value.components().map(|x| x + off).collect();
            let own_row = None;
            Asked {
                value: vector(&moved),
                own_row,
            }
        };
        let asked = self.0.values().step_by(5).map(beside).collect();
        let budget = Budget {
            bytes: u64::MAX,
            seed: 1,
        };
        let shape = shape(Metric::L2);
        Truth::seek(self, &shape, asked, k, budget, &mut |_| Ok(())).expect("answers")
    }
}

impl RowSource for Rows {
    fn block_count(&mut self) -> Result<u32, ReadError> {
        Ok(self.0.keys().map(|row| row.block + 1).max().unwrap_or(0))
    }
    fn row_count(&self) -> u64 {
        self.0.len() as u64
    }
    fn rows(&mut self, blocks: Range<u32>, sink: &mut RowSink<'_>) -> Result<(), ReadError> {
        let at = |block| HeapTid { block, offset: 0 };
        for (row, value) in self.0.range(at(blocks.start)..at(blocks.end)) {
            sink(*row, &|| value.clone());
        }
        Ok(())
    }
    fn value(&mut self, row: HeapTid) -> Result<Option<&[u8]>, ReadError> {
        Ok(self.0.get(&row).map(Vec::as_slice))
    }
    fn is_dead(&mut self, row: HeapTid) -> Result<bool, ReadError> {
        Ok(!self.0.contains_key(&row))
    }
    fn root(&mut self, _row: HeapTid) -> Result<Root, ReadError> {
        Ok(Root::Sound)
    }
}

fn forecast(index: &Index, probes: u32) -> Forecast {
    let truth = Rows::of(index).truth(0.05, 5);
    let survey = survey(&index.pages(), Metric::L2, &truth.rows());
    Forecast::of(&truth, &survey, probes, 5)
}

#[test]
fn what_is_read_once_says_the_same_as_the_directory() {
    let index = clusters(6, 60, 4.0);
    let truth = Rows::of(&index).truth(0.05, 5);
    let rows = truth.rows();
    let survey = survey(&index.pages(), Metric::L2, &rows);
    let as_is = directory(&mut Source(index.pages()), &rows).expect("an honest index");
    assert_eq!(survey.as_is(), as_is);
    let moved = survey.recentered();
    assert_ne!(moved.centers, as_is.centers);
    assert_eq!((moved.sizes, moved.list_of), (as_is.sizes, as_is.list_of));
}

#[test]
fn centers_off_their_members_are_told_to_be_worth_moving() {
    // Searches go to the next list.
    let told = forecast(&clusters(8, 60, 7.0), 1);
    assert!(told.as_is.recall < 0.2, "{told:?}");
    assert_eq!((told.recentered.recall, told.worse), (1.0, false));
    assert_eq!(told.against_moving(), None);
    let enough = forecast(&clusters(8, 60, 7.0), 8);
    assert_eq!((enough.as_is.recall, enough.against_moving()), (1.0, None));
}

/// Two clusters in the first list and half of another in each of the rest.
fn mixed() -> Index {
    let even = clusters(4, 60, 0.0);
    let mut members: Vec<Vec<Vec<f32>>> = vec![Vec::new(); 4];
    members[0].extend(even.members[0].iter().chain(&even.members[1]).cloned());
    for (nth, member) in even.members[2].iter().chain(&even.members[3]).enumerate() {
        members[1 + nth % 3].push(member.clone());
    }
    Index { members, ..even }
}

#[test]
fn where_rows_are_in_the_wrong_lists_a_rebuild_is_told_to_help_more() {
    let told = forecast(&mixed(), 1);
    let rebuilt = told.rebuilt.expect("it fits").recall;
    assert!(rebuilt > 0.95 && told.recentered.recall < 0.9, "{told:?}");
    let reason = told.against_moving().expect("a reason");
    assert!(reason.contains("recall@5"), "{reason}");
    assert_eq!(told.against_rebuild(), None);
}

#[test]
fn a_rebuild_that_would_find_less_is_told_with_the_probes_it_takes() {
    // All in one list: every search looks at everything.
    let spread = clusters(36, 1, 0.0);
    let mut members = vec![Vec::new(); 36];
    members[0] = (0..720)
        .map(|nth| vec![(nth % 27) as f32, (nth / 27) as f32])
        .collect();
    let centers = (0..36)
        .map(|list| vec![13.0 + 500.0 * list as f32, 13.0])
        .collect();
    let told = forecast(
        &Index {
            centers,
            members,
            ..spread
        },
        1,
    );
    assert_eq!((told.as_is.recall, told.as_is.compared), (1.0, 720.0));
    let good = told.rebuilt_as_good.expect("some probes are enough");
    assert!(good.probes > 1 && good.compared < 360.0, "{told:?}");
    let reason = told.against_rebuild().expect("a reason");
    assert!(
        reason.contains(&format!("with {} probes", good.probes)),
        "{reason}"
    );
}

#[test]
fn what_does_not_fit_into_memory_is_not_surveyed() {
    let index = clusters(4, 60, 0.0);
    let take = |memory| {
        let rows = BTreeSet::new();
        ListSurvey::take(
            &mut Source(index.pages()),
            &shape(Metric::L2),
            &rows,
            memory,
            1,
        )
        .expect("an honest index")
    };
    assert!(take(100).is_none());
    let little = take(450).expect("the lists fit");
    assert!(little.rebuilt().is_none(), "but no sample");
    assert!(take(MEMORY).expect("it fits").rebuilt().is_some());
}

#[test]
fn values_are_made_of_components_as_pgvector_stores_them() {
    let made = |kind, components: &[f32]| Value::encode(kind, components);
    for (kind, components) in [
        (ValueType::Vector, vec![1.5, -2.0]),
        (ValueType::HalfVec, vec![0.5, 8.0, -1.0]),
        (
            ValueType::Bit,
            vec![1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 1.0],
        ),
    ] {
        let data = made(kind, &components).expect("a value");
        let value = Value::decode(kind, &data).expect("a value");
        assert_eq!(value.components().collect::<Vec<f32>>(), components);
    }
    // The majority, and not half of them.
    let bits = made(ValueType::Bit, &[0.51, 0.5]).expect("bits");
    assert_eq!(bits[4], 0b1000_0000);
    assert_eq!(made(ValueType::HalfVec, &[70_000.0]), None);
    assert_eq!(made(ValueType::Vector, &[f32::NAN]), None);
    assert_eq!(made(ValueType::SparseVec, &[1.0]), None);
}

proptest! {
    #[test]
    fn any_bytes_are_surveyed_and_edits_stay_in_their_page(
        spoilt in prop::collection::vec((0_usize..6, 0_usize..PAGE_SIZE, any::<u8>()), 0..60),
    ) {
        let mut pages = clusters(3, 60, 6.0).pages();
        for (page, at, byte) in spoilt {
            pages[page][at] = byte;
        }
        let rows = BTreeSet::from([HeapTid { block: 1, offset: 1 }]);
        let mut source = Source(pages.clone());
        let taken = ListSurvey::take(&mut source, &shape(Metric::L2), &rows, MEMORY, 1);
        if let Ok(Some(survey)) = taken {
            survey.rebuilt();
            let edits = [survey.recentering(), survey.insert_pages()].concat();
            let before = pages.clone();
            make(&mut pages, &edits);
            let of_edits: BTreeSet<usize> = edits.iter().map(|e| e.block() as usize).collect();
            for (nth, (page, before)) in pages.iter().zip(&before).enumerate() {
                prop_assert!(of_edits.contains(&nth) || page == before);
            }
        }
    }
}
