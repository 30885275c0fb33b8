//! Damage to plant, and a stage to plant it on.

use crate::check::command;
use crate::check::pages::File;
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

/// What is done to the file of an index, by its name.
pub type Plant<'a> = (&'a str, &'a dyn Fn(&mut File));

/// Stops the server, damages the files of indexes, and starts it again.
pub fn damage(stage: &Stage, indexes: &[Plant]) {
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
