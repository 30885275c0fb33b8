//! Damage to plant, and a stage to plant it on.

use std::collections::HashSet;

use crate::check::command;
use crate::check::pages::{File, Place};
use crate::harness::{Mode, Options};
use crate::healing::stage::{DATABASE, Stage, options};

/// A server whose healer mends nothing before it is told to.
pub fn quiet(options: Options) -> Stage {
    let stage = Stage::start(options);
    stage.server.set("ruvector.dag_healing_enabled", "off");
    stage
}

/// The usual one.
pub fn stage() -> Stage {
    quiet(options())
}

/// Stops the server, damages the files of indexes, and starts it again.
pub fn damage(stage: &Stage, indexes: &[(&str, &dyn Fn(&mut File))]) {
    let files: Vec<_> = indexes
        .iter()
        .map(|(index, _)| stage.server.index_file(DATABASE, index))
        .collect();
    let checksums: String = stage.value("SHOW data_checksums");
    stage.server.stop(Mode::Fast);
    if checksums == "on" {
        command(&stage.server, "pg_checksums", &["--disable"]);
    }
    for ((_, plant), file) in indexes.iter().zip(&files) {
        plant(&mut File::open(file));
    }
    stage.server.start_again();
}

/// Every so many elements of the ground layer, the entry point aside.
pub fn ordinary(file: &File, every: usize) -> HashSet<Place> {
    let entry = file.entry();
    let live = file.live().into_iter();
    live.filter(|place| file.level(*place) == 0 && *place != entry)
        .step_by(every)
        .collect()
}

/// Takes every link to these elements out of all others but these.
pub fn cut_off(file: &mut File, which: &HashSet<Place>) {
    for element in file.live() {
        if which.contains(&element) {
            continue;
        }
        for layer in 0..=file.level(element) {
            let mut links = file.links(element, layer);
            let count = links.len();
            links.retain(|link| !which.contains(link));
            if links.len() < count {
                file.set_links(element, layer, &links);
            }
        }
    }
}

/// Takes every link to these elements out.
pub fn orphan(file: &mut File, which: &HashSet<Place>) {
    for element in file.live() {
        for layer in 0..=file.level(element) {
            let mut links = file.links(element, layer);
            links.retain(|link| !which.contains(link));
            file.set_links(element, layer, &links);
        }
    }
}
