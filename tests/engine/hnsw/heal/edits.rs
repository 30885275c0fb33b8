use ruvector_dag_healing_engine::vector_index::edit::{PageEdit, Undo};
use ruvector_dag_healing_engine::vector_index::hnsw::heal::{Change, Edit, Judged, Rung};
use ruvector_dag_healing_engine::vector_index::page::Tid;

use super::super::model::{Bytes, El, Index, Link};
use super::super::source::Source;
use super::plan;

/// Three elements in a ring and one that nothing leads to, on one page; m = 2.
fn pages(change: impl Fn(&mut Index)) -> Vec<Bytes> {
    let ground = |row, links: &[usize]| El::ground(row, links).valued(&[row as f32, 0.0, 0.0]);
    let mut index = Index::new(
        2,
        vec![
            ground(1, &[1]),
            ground(2, &[2]),
            ground(3, &[0]),
            ground(4, &[0, 1]),
        ],
    );
    change(&mut index);
    index.build().pages
}

/// The link to the one that nothing leads to.
fn put() -> Edit {
    let mut edits = plan(&pages(|_| {}), Rung::Link).edits;
    assert!(!edits.is_empty());
    edits.remove(0)
}

fn made(edit: &Edit, pages: &mut [Bytes]) -> bool {
    let holds = edit.holds(&mut Source::quiet(pages.to_vec()));
    holds.expect("pages that can be read") && edit.apply(2, &mut pages[edit.block() as usize])
}

#[test]
fn an_edit_is_made_where_nothing_has_changed() {
    assert!(made(&put(), &mut pages(|_| {})));
}

#[test]
fn an_edit_is_lost_where_anything_it_was_judged_by_has_changed() {
    let edit = put();
    let Edit::Links { of, .. } = &edit else {
        panic!("{edit:?}");
    };
    let owner = usize::from(of.at.offset) / 2;
    let changes: [&dyn Fn(&mut Index); 7] = [
        &|index| index.elements[3] = index.elements[3].clone().deleted(),
        &|index| index.elements[3].version += 1,
        &|index| index.elements[owner] = index.elements[owner].clone().deleted(),
        &|index| index.elements[owner].version += 1,
        &|index| index.elements[owner].layers[0].clear(),
        &|index| index.elements[owner].layers[0].push(Link::To(3)),
        &|index| index.elements[owner].layers[0].push(Link::To((owner + 2) % 3)),
    ];
    for (nth, change) in changes.iter().enumerate() {
        let mut pages = pages(change);
        let before = pages.clone();
        assert!(!made(&edit, &mut pages), "change {nth}");
        assert_eq!(pages, before, "change {nth}");
    }
}

#[test]
fn an_edit_of_a_page_that_is_none_is_lost() {
    let edit = put();
    for damage in [
        &(|page: &mut Bytes| page[8190] = 0x84) as &dyn Fn(&mut Bytes),
        &|page| page.fill(0),
        &|page| page[12..14].copy_from_slice(&9_000_u16.to_le_bytes()),
        &|page| page.fill(0xFF),
    ] {
        let mut pages = pages(|_| {});
        damage(&mut pages[edit.block() as usize]);
        assert!(!edit.apply(2, &mut pages[edit.block() as usize]));
    }
}

#[test]
fn what_has_become_a_legal_link_is_not_pruned() {
    let dead = |index: &mut Index| index.elements[3] = index.elements[3].clone().deleted();
    let damaged = pages(|index| {
        index.elements[0].layers[0].push(Link::To(3));
        dead(index);
    });
    let edits = plan(&damaged, Rung::Prune).edits;
    let [edit] = &edits[..] else {
        panic!("{edits:?}");
    };
    assert!(made(edit, &mut damaged.clone()));
    // An insert has used the slot again meanwhile, and linked to it.
    let mut reused = pages(|index| index.elements[0].layers[0].push(Link::To(3)));
    assert!(!made(edit, &mut reused));
}

/// The first element leads to the last instead of the second; the element is the first.
fn rewrite(pages: &[Bytes]) -> Edit {
    let Edit::Links { change, .. } = put() else {
        panic!("it is of links");
    };
    let (Change::Append { to, .. }, survey) = (change, pages) else {
        panic!("there is room");
    };
    let judged = |offset| Judged {
        at: Tid { block: 1, offset },
        ..to[0]
    };
    assert_eq!(to[0].at, judged(7).at, "{} pages", survey.len());
    Edit::Links {
        of: judged(1),
        tuple: judged(2).at,
        layer: 0,
        change: Change::Rewrite {
            was: vec![judged(3)],
            to: vec![judged(7), judged(5)],
        },
    }
}

#[test]
fn links_are_rewritten_where_nothing_has_changed_and_put_back() {
    let before = pages(|_| {});
    let (edit, mut now) = (rewrite(&before), before.clone());
    assert!(made(&edit, &mut now));
    assert_ne!(now, before);
    assert!(!made(&edit, &mut now), "it is done");
    let undo = edit.undo().expect("an undo");
    assert!(made(&undo, &mut now));
    assert_eq!(now, before);
    // Fewer links than there are, and an insert that has chosen a slot would leave a hole.
    assert!(undo.excludes_inserts() && !edit.excludes_inserts());
}

#[test]
fn a_rewrite_is_lost_where_anything_it_was_judged_by_has_changed() {
    let edit = rewrite(&pages(|_| {}));
    let changes: [&dyn Fn(&mut Index); 7] = [
        &|index| index.elements[3] = index.elements[3].clone().deleted(),
        &|index| index.elements[2].version += 1,
        &|index| index.elements[0].version += 1,
        &|index| index.elements[0] = index.elements[0].clone().deleted(),
        &|index| index.elements[0].layers[0].clear(),
        &|index| index.elements[0].layers[0].push(Link::To(2)),
        &|index| index.elements[0].layers[0].extend([Link::Hole, Link::To(2)]),
    ];
    for (nth, change) in changes.iter().enumerate() {
        let mut pages = pages(change);
        let before = pages.clone();
        assert!(!made(&edit, &mut pages), "change {nth}");
        assert_eq!(pages, before, "change {nth}");
    }
    let Edit::Links { of, tuple, .. } = edit else {
        panic!("it is of links");
    };
    let Edit::Links {
        change: Change::Rewrite { was, to },
        ..
    } = rewrite(&pages(|_| {}))
    else {
        panic!("it is a rewrite");
    };
    let too_many = vec![to[0]; 5];
    let change = Change::Rewrite { was, to: too_many };
    let edit = Edit::Links {
        of,
        tuple,
        layer: 0,
        change,
    };
    assert!(!made(&edit, &mut pages(|_| {})));
}

#[test]
fn what_moves_links_up_or_sets_the_entry_point_lets_no_insert_be_under_way() {
    let at = Tid {
        block: 1,
        offset: 1,
    };
    let of = Judged {
        at,
        level: 0,
        version: 1,
    };
    let links = |change| Edit::Links {
        of,
        tuple: at,
        layer: 0,
        change,
    };
    assert!(!put().excludes_inserts());
    assert!(links(Change::Unlink { links: vec![at] }).excludes_inserts());
    assert!(
        links(Change::Prune {
            was: vec![],
            stays: vec![]
        })
        .excludes_inserts()
    );
    assert!(
        Edit::Entry {
            was: None,
            was_level: -1,
            to: of
        }
        .excludes_inserts()
    );
}
