//! Which PostgreSQL the tests run against, and what it has.

use std::path::{Path, PathBuf};
use std::process::Command;

/// An installed PostgreSQL: a prefix of `tools/setup.sh`, or any other that `RUVECTOR_TEST_PG` names.
#[derive(Clone, Debug)]
pub struct Installation {
    /// The folder that holds `bin`.
    pub prefix: PathBuf,
    /// Where the control files of extensions stand.
    pub share: PathBuf,
    /// Where the shared libraries of extensions stand.
    pub libraries: PathBuf,
    /// Major and minor version.
    pub version: (u32, u32),
    /// pgvector's version, where it is installed.
    pub pgvector: Option<(u32, u32, u32)>,
}

/// The root of the checkout.
pub fn workspace() -> PathBuf {
    let engine = Path::new(env!("CARGO_MANIFEST_DIR"));
    engine
        .ancestors()
        .nth(2)
        .expect("the engine is two folders below the root")
        .to_path_buf()
}

impl Installation {
    /// The one that `RUVECTOR_TEST_PG` names (relative to the root of the checkout), else `target/pg/18`.
    pub fn chosen() -> Self {
        let prefix = std::env::var_os("RUVECTOR_TEST_PG").unwrap_or_else(|| "target/pg/18".into());
        let prefix = workspace().join(prefix);
        Self::at(&prefix).unwrap_or_else(|| {
            panic!(
                "no PostgreSQL in {}: tools/setup.sh and tools/install.sh put one there",
                prefix.display()
            )
        })
    }

    /// The prefix `target/pg/NAME`, such as `"16.2"`, if it has been set up.
    pub fn named(name: &str) -> Option<Self> {
        Self::at(&workspace().join("target/pg").join(name))
    }

    /// What stands in `prefix`, if that is a PostgreSQL.
    pub fn at(prefix: &Path) -> Option<Self> {
        let prefix = prefix.canonicalize().ok()?;
        let ask = |flag: &str| -> Option<String> {
            let answer = Command::new(prefix.join("bin/pg_config"))
                .arg(flag)
                .output()
                .ok()?;
            Some(String::from_utf8(answer.stdout).ok()?.trim().to_owned())
        };
        let share = PathBuf::from(ask("--sharedir")?);
        let libraries = PathBuf::from(ask("--pkglibdir")?);
        let version = numbers(&ask("--version")?);
        Some(Self {
            version: (*version.first()?, *version.get(1)?),
            pgvector: control_version(&share, "vector"),
            prefix,
            share,
            libraries,
        })
    }

    /// The path of a program of this PostgreSQL.
    pub fn bin(&self, program: &str) -> PathBuf {
        self.prefix.join("bin").join(program)
    }

    /// Whether an extension can be created on it.
    pub fn has_extension(&self, name: &str) -> bool {
        control_file(&self.share, name).exists()
    }
}

fn control_file(share: &Path, extension: &str) -> PathBuf {
    share.join("extension").join(format!("{extension}.control"))
}

fn control_version(share: &Path, extension: &str) -> Option<(u32, u32, u32)> {
    let control = std::fs::read_to_string(control_file(share, extension)).ok()?;
    let line = control
        .lines()
        .find(|line| line.trim_start().starts_with("default_version"))?;
    match numbers(line)[..] {
        [major, minor, patch, ..] => Some((major, minor, patch)),
        _ => None,
    }
}

/// Every run of digits in `text`.
fn numbers(text: &str) -> Vec<u32> {
    text.split(|c: char| !c.is_ascii_digit())
        .filter_map(|digits| digits.parse().ok())
        .collect()
}
