//! Reads the sources and holds them to the rules of the house that no compiler checks.

use std::fs;
use std::path::{Path, PathBuf};

/// Longer files are to be divided.
const MOST_LINES: usize = 600;

/// What the engine must not reach: the clock and the world outside.
const CLOSED_TO_THE_ENGINE: [&[&str]; 6] = [
    &["std", "time", "Instant"],
    &["std", "time", "SystemTime"],
    &["std", "fs"],
    &["std", "env"],
    &["std", "net"],
    &["std", "process"],
];

#[test]
fn the_sources_keep_the_rules_of_the_house() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .expect("the root is two folders up");
    let mut files = Vec::new();
    for folder in ["src", "tests", "benches"] {
        collect(&root.join(folder), &mut files);
    }
    assert!(
        files.len() > 10,
        "the sources were not found in {}",
        root.display()
    );
    let faults: Vec<String> = files
        .iter()
        .flat_map(|file| {
            let path = file
                .strip_prefix(root)
                .expect("below the root")
                .to_string_lossy();
            check(&path, &fs::read_to_string(file).expect("a source is text"))
        })
        .collect();
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

/// The Rust sources and the package files below `folder`.
fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for path in entries.flatten().map(|entry| entry.path()) {
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs")
            || path.ends_with("Cargo.toml")
        {
            files.push(path);
        }
    }
}

/// The faults of one file; `path` is relative to the root of the checkout.
fn check(path: &str, source: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let mut fault = |line: usize, what: &str| faults.push(format!("{path}:{line}: {what}"));
    let in_engine = path.starts_with("src/engine/");

    if path.ends_with(".toml") {
        for (number, line) in (1..).zip(source.lines()) {
            if in_engine
                && line
                    .split('#')
                    .next()
                    .is_some_and(|entry| entry.contains("pgrx"))
            {
                fault(number, "the engine knows no PostgreSQL: no pgrx");
            }
        }
        return faults;
    }

    if path.starts_with("src/") && source.lines().count() > MOST_LINES {
        fault(MOST_LINES + 1, "a file this long is to be divided");
    }
    let may_be_unsafe = path.starts_with("src/pg/");
    let code = blank(source, false);
    for (number, line) in (1..).zip(code.lines()) {
        let has = |word: &str| identifiers(line).any(|(_, identifier)| identifier == word);
        if has("unsafe") && !may_be_unsafe {
            fault(number, "`unsafe` stands only under src/pg");
        }
        if in_engine && identifiers(line).any(|(_, identifier)| identifier.starts_with("pgrx")) {
            fault(number, "the engine knows no PostgreSQL: no pgrx");
        }
        for name in ["todo", "unimplemented", "dbg"] {
            let called = |(at, word): (usize, &str)| {
                word == name && line[at + name.len()..].starts_with('!')
            };
            if identifiers(line).any(called) {
                fault(
                    number,
                    "nothing is left to be done: no todo!, unimplemented! or dbg!",
                );
            }
        }
    }

    let names_versions = path.starts_with("src/pg/compat") || path == "src/lib.rs";
    for (number, line) in (1..).zip(blank(source, true).lines()) {
        if !names_versions && path.starts_with("src/") && names_a_version(line) {
            fault(
                number,
                "versions of PostgreSQL are told apart only in src/pg/compat*.rs",
            );
        }
    }

    if in_engine {
        for (number, name) in paths(&code, "std") {
            let reaches = |closed: &&[&str]| {
                let shared = name
                    .iter()
                    .zip(closed.iter())
                    .take_while(|(a, b)| *a == *b)
                    .count();
                // The whole module, by name or by glob, brings what is closed along with the rest.
                shared == closed.len() || shared == name.len() || name[shared..] == ["*"]
            };
            if CLOSED_TO_THE_ENGINE.iter().any(reaches) {
                fault(
                    number,
                    "the engine has no clock, no files and no environment",
                );
            }
        }
    }

    for (own, other) in [("api", "worker"), ("worker", "api")] {
        if path.starts_with(&format!("src/{own}/")) || path == format!("src/{own}.rs") {
            for root in ["crate", "super"] {
                for (number, name) in paths(&code, root) {
                    if name.iter().find(|part| **part != root) == Some(&other) {
                        fault(number, "`api` and `worker` do not know each other");
                    }
                }
            }
        }
    }
    faults
}

/// Whether a line has a cfg on a version of PostgreSQL: `feature = "pg…` and a digit.
fn names_a_version(line: &str) -> bool {
    line.match_indices("feature").any(|(at, word)| {
        let rest = line[at + word.len()..].trim_start();
        let value = rest
            .strip_prefix('=')
            .map(str::trim_start)
            .and_then(|rest| rest.strip_prefix("\"pg"));
        value.is_some_and(|value| value.starts_with(|c: char| c.is_ascii_digit()))
    })
}

/// The identifiers and keywords of a text, each with where it begins.
fn identifiers(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    let mut from = 0;
    std::iter::from_fn(move || {
        let start = from + text[from..].find(part)?;
        let end = text[start..]
            .find(|c| !part(c))
            .map_or(text.len(), |length| start + length);
        from = end;
        Some((start, &text[start..end]))
    })
}

/// Every path of `code` that begins with `root`, groups (`std::{fs, time::{self, Instant}}`) taken apart, each
/// with its line.
fn paths<'a>(code: &'a str, root: &str) -> Vec<(usize, Vec<&'a str>)> {
    let mut found = Vec::new();
    for (at, word) in identifiers(code) {
        let continues = code[..at].trim_end().ends_with("::");
        if word == root && !continues {
            let line = 1 + code[..at].matches('\n').count();
            let mut names = Vec::new();
            follow(&code[at..], &[], &mut names);
            found.extend(names.into_iter().map(|name| (line, name)));
        }
    }
    found
}

/// Reads one path, or one group of them, at the beginning of `code`; returns what follows.
fn follow<'a>(code: &'a str, before: &[&'a str], found: &mut Vec<Vec<&'a str>>) -> &'a str {
    let code = code.trim_start();
    if let Some(mut rest) = code.strip_prefix('{') {
        loop {
            rest = rest.trim_start().trim_start_matches(',').trim_start();
            if rest.is_empty() {
                return rest;
            }
            if let Some(after) = rest.strip_prefix('}') {
                return after;
            }
            let length = rest.len();
            rest = follow(rest, before, found);
            if rest.len() == length {
                // Not a path: a renaming, or no `use` at all.
                let mut characters = rest.chars();
                characters.next();
                rest = characters.as_str();
            }
        }
    }
    let mut name = before.to_vec();
    let rest = if let Some(rest) = code.strip_prefix('*') {
        name.push("*");
        rest
    } else {
        let Some((0, word)) = identifiers(code).next() else {
            return code;
        };
        if word != "self" {
            name.push(word);
        }
        &code[word.len()..]
    };
    if let Some(next) = rest.trim_start().strip_prefix("::") {
        let next = next.trim_start();
        if next.starts_with(['{', '*', '_']) || next.starts_with(char::is_alphabetic) {
            return follow(next, &name, found);
        }
    }
    found.push(name);
    rest
}

/// The source with its comments, its character literals and, unless they are kept, its strings blanked out; every
/// line stays where it is.
fn blank(source: &str, keep_strings: bool) -> String {
    let mut code = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let after_identifier = code.ends_with(|c: char| c.is_alphanumeric() || c == '_');
        let (length, keep) = if rest.starts_with("//") {
            (rest.find('\n').unwrap_or(rest.len()), false)
        } else if rest.starts_with("/*") {
            (block_comment(rest), false)
        } else if let Some(length) = string(rest, after_identifier) {
            (length, keep_strings)
        } else if let Some(length) = character(rest) {
            (length, false)
        } else {
            (first.len_utf8(), true)
        };
        let (piece, remaining) = rest.split_at(length);
        if keep {
            code.push_str(piece);
        } else {
            code.extend(piece.chars().map(|c| if c == '\n' { c } else { ' ' }));
        }
        rest = remaining;
    }
    code
}

/// The length of the comment, which may hold others, at the beginning of `text`.
fn block_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        if text[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if text[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += text[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

/// The length of the string, raw or not, at the beginning of `text`, if one begins there.
fn string(text: &str, after_identifier: bool) -> Option<usize> {
    if let Some(body) = text.strip_prefix('"') {
        let mut escaped = false;
        for (at, c) in body.char_indices() {
            match c {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                '"' => return Some(1 + at + 1),
                _ => {}
            }
        }
        return Some(text.len());
    }
    if after_identifier {
        return None;
    }
    let prefix = ["br", "cr", "r"]
        .into_iter()
        .find(|prefix| text.starts_with(prefix))?;
    let marks = text[prefix.len()..]
        .bytes()
        .take_while(|byte| *byte == b'#')
        .count();
    let start = prefix.len() + marks;
    let body = text[start..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(marks));
    Some(
        body.find(&end)
            .map_or(text.len(), |at| start + 1 + at + end.len()),
    )
}

/// The length of the character literal at the beginning of `text`, if it is one and not a lifetime.
fn character(text: &str) -> Option<usize> {
    let body = text.strip_prefix('\'')?;
    if body.starts_with('\\') {
        // What is escaped may be a quote itself.
        let close = body.char_indices().skip(2).find(|(_, c)| *c == '\'')?.0;
        return Some(1 + close + 1);
    }
    let length = body.chars().next()?.len_utf8();
    body[length..].starts_with('\'').then_some(1 + length + 1)
}

#[test]
fn every_rule_can_be_broken() {
    let long = "\n".repeat(MOST_LINES + 1);
    let broken = [
        (
            "src/worker/healer.rs",
            "fn f() { unsafe { g() } }",
            "only under src/pg",
        ),
        (
            "tests/cluster/main.rs",
            "unsafe fn f() {}",
            "only under src/pg",
        ),
        ("src/engine/Cargo.toml", "pgrx = \"1\"", "no pgrx"),
        ("src/engine/cycle.rs", "use pgrx::prelude::*;", "no pgrx"),
        ("src/engine/cycle.rs", "use pgrx_pg_sys as sys;", "no pgrx"),
        (
            "src/api/status.rs",
            "#[cfg(feature = \"pg18\")]",
            "versions",
        ),
        (
            "src/pg/buffers.rs",
            "#[cfg(any(feature=\"pg15\", feature = \"pg16\"))]",
            "versions",
        ),
        (
            "src/engine/cycle.rs",
            "let t = std::time::Instant::now();",
            "no clock",
        ),
        (
            "src/engine/cycle.rs",
            "use std::{collections::HashMap, time::{Duration, SystemTime}};",
            "no clock",
        ),
        ("src/engine/cycle.rs", "use std::time;", "no clock"),
        (
            "src/engine/cycle.rs",
            "use std::time::{self, Duration};",
            "no clock",
        ),
        ("src/engine/cycle.rs", "use std::time::*;", "no clock"),
        (
            "src/engine/cycle.rs",
            "use std::{cmp as c,\n    fs as files};",
            "no clock",
        ),
        ("src/engine/cycle.rs", "std::env::var(\"HOME\")", "no clock"),
        (
            "src/api/status.rs",
            "use crate::worker::healer;",
            "know each other",
        ),
        (
            "src/api/status.rs",
            "use crate::{pg, worker as w};",
            "know each other",
        ),
        (
            "src/api/status.rs",
            "use super::super::worker;",
            "know each other",
        ),
        (
            "src/worker/healer.rs",
            "crate::api::status()",
            "know each other",
        ),
        ("src/pg/buffers.rs", long.as_str(), "divided"),
        ("src/pg/buffers.rs", "fn f() { todo!() }", "todo"),
        (
            "tests/engine/main.rs",
            "fn f() { unimplemented!(\"x\") }",
            "todo",
        ),
    ];
    for (path, source, phrase) in broken {
        let faults = check(path, source);
        assert!(
            faults.len() == 1 && faults[0].contains(phrase),
            "{path}: {source}: {faults:?}"
        );
    }
}

#[test]
fn what_only_looks_like_a_breach_passes() {
    let sound = [
        ("src/pg/buffers.rs", "unsafe fn f() {}"),
        (
            "src/lib.rs",
            "#![deny(unsafe_code, unsafe_op_in_unsafe_fn)]",
        ),
        (
            "src/lib.rs",
            "#[cfg(not(any(feature = \"pg15\")))] compile_error!(\"one\");",
        ),
        ("src/pg/compat.rs", "#[cfg(feature = \"pg18\")]"),
        (
            "src/api/status.rs",
            "// unsafe, todo!() and crate::worker\n/* a /* nested */ unsafe */ fn f() {}",
        ),
        (
            "src/api/status.rs",
            "const A: &str = \"unsafe \\\" unsafe\"; const B: &str = r#\"unsafe \" unsafe\"#;",
        ),
        (
            "src/api/status.rs",
            "fn f<'a>(x: &'a str) -> char { '\"' } // \" unsafe",
        ),
        (
            "src/api/status.rs",
            "let quote = '\\''; let s = \"unsafe\";",
        ),
        (
            "src/api/status.rs",
            "#[cfg(feature = \"server-tests\")] use crate::pg::worker_slots;",
        ),
        ("src/engine/Cargo.toml", "# no pgrx here\nserde = \"1\""),
        (
            "src/engine/cycle.rs",
            "use std::{collections::HashMap, time::Duration}; use crate::ports::Instant;",
        ),
        (
            "src/engine/cycle.rs",
            "let environment = std::mem::take(&mut env);",
        ),
        (
            "src/worker/healer.rs",
            "use super::api_version; fn todo() {}",
        ),
    ];
    for (path, source) in sound {
        assert_eq!(
            check(path, source),
            Vec::<String>::new(),
            "{path}: {source}"
        );
    }
}
