//! A second reader of vector indexes, for tests to compare the first with: straight from the files of the data
//! directory, after a checkpoint. Shares no code and no way of reading with the product; knows the format from
//! pgvector's documentation and sources. Trusts what it reads: it is for indexes that PostgreSQL has written.
//! `PGVECTOR_ORACLE` may name a script that is a third one (`python3 SCRIPT hnsw|ivfflat FILE`).

pub mod hnsw;
pub mod ivfflat;

use std::path::Path;
use std::process::Command;

use serde_json::Value;

const PAGE: usize = 8192;

/// Block and offset number of an item.
type Place = (u32, u16);

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn place_at(bytes: &[u8], at: usize) -> Place {
    let block = u32::from(u16_at(bytes, at)) << 16 | u32::from(u16_at(bytes, at + 2));
    (block, u16_at(bytes, at + 4))
}

/// All segments of a relation, the first of which is `file`.
fn read(file: &Path) -> Vec<u8> {
    let mut bytes =
        std::fs::read(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    for segment in 1.. {
        let next = format!("{}.{segment}", file.display());
        let Ok(more) = std::fs::read(next) else { break };
        bytes.extend(more);
    }
    bytes
}

/// Offset numbers and contents of the items on a page.
fn items(page: &[u8]) -> Vec<(u16, &[u8])> {
    let lower = usize::from(u16_at(page, 12));
    let pointers = (24..lower).step_by(4).zip(1..);
    pointers
        .filter_map(|(at, number)| {
            let pointer = u32_at(page, at);
            let (offset, flags) = ((pointer & 0x7FFF) as usize, pointer >> 15 & 3);
            let length = (pointer >> 17) as usize;
            (flags == 1).then(|| (number, &page[offset..offset + length]))
        })
        .collect()
}

/// What the script says, where there is one.
#[track_caller]
pub fn script(method: &str, file: &Path) -> Option<Value> {
    let script = std::env::var_os("PGVECTOR_ORACLE")?;
    let mut python = Command::new("python3");
    let output = python.arg(script).arg(method).arg(file).output();
    let output = output.expect("python3 runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Some(serde_json::from_slice(&output.stdout).expect("JSON"))
}
