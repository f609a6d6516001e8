//! The shape of the crate, enforced: who may import whom, and what the core never touches.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at what it does not expect"
)]

use std::fs;
use std::path::{Path, PathBuf};

/// Each part of the crate with what it may import. A part may always import itself; nothing is
/// transitive, and nothing may import a part that is not named.
const IMPORTS: &[(&str, &[&str])] = &[
    // The pure core.
    ("macaroon", &[]),
    ("route", &[]),
    ("policy", &["macaroon", "route"]),
    // Shared state.
    ("config", &["macaroon", "route", "policy"]),
    (
        "directory",
        &["route", "policy", "config", "metrics", "peer"],
    ),
    ("metrics", &["macaroon", "config"]),
    ("peer", &["config"]),
    ("clock", &[]),
    ("authority", &["macaroon", "policy", "config", "clock"]),
    (
        "authz",
        &[
            "macaroon",
            "route",
            "policy",
            "config",
            "directory",
            "metrics",
            "authority",
        ],
    ),
    // The edge.
    ("shutdown", &[]),
    (
        "admin",
        &["authority", "authz", "config", "metrics", "shutdown"],
    ),
    (
        "proxy",
        &[
            "route",
            "policy",
            "config",
            "directory",
            "metrics",
            "authority",
            "authz",
            "admin",
            "clock",
            "peer",
            "shutdown",
        ],
    ),
    (
        "demo",
        &[
            "macaroon",
            "config",
            "metrics",
            "authority",
            "authz",
            "proxy",
            "clock",
            "shutdown",
            "cli",
        ],
    ),
    (
        "cli",
        &[
            "macaroon",
            "route",
            "policy",
            "config",
            "directory",
            "metrics",
            "authority",
            "authz",
            "proxy",
            "clock",
            "shutdown",
            "peer",
            "demo",
        ],
    ),
];

/// What the core may not name: it neither waits, nor reads a clock, a file or a socket, nor logs.
const CORE: [&str; 3] = ["macaroon", "route", "policy"];
const IMPURE: [&str; 14] = [
    "tokio",
    "hyper",
    "std::fs",
    "std::net",
    "std::env",
    "std::process",
    "std::thread",
    "SystemTime",
    "Instant",
    "tracing",
    "rusqlite",
    "getrandom",
    "async ",
    ".await",
];

#[test]
fn imports_go_one_way() {
    let mut problems = Vec::new();
    for (file, part, text) in sources() {
        if is_test(&file) {
            continue;
        }
        let Some((_, allowed)) = IMPORTS.iter().find(|(name, _)| *name == part) else {
            problems.push(format!(
                "{}: `{part}` is not in the list of parts",
                file.display()
            ));
            continue;
        };
        for (number, line) in code_lines(&text) {
            for imported in crate_paths(line) {
                let known = IMPORTS.iter().any(|(name, _)| *name == imported);
                if known && imported != part && !allowed.contains(&imported) {
                    let place = format!("{}:{number}", file.display());
                    problems.push(format!("{place}: `{part}` may not import `{imported}`"));
                }
            }
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn the_core_is_pure() {
    let mut problems = Vec::new();
    for (file, part, text) in sources() {
        if !CORE.contains(&part.as_str()) {
            continue;
        }
        for (number, line) in code_lines(&text) {
            for word in IMPURE {
                if line.contains(word) {
                    problems.push(format!("{}:{number}: names `{word}`", file.display()));
                }
            }
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

/// The path of a request has one reader, and the configuration's library one user.
#[test]
fn one_reader_each() {
    for (word, home) in [("serde_yaml::", "config"), (".path_and_query()", "proxy")] {
        for (file, part, text) in sources() {
            let used = code_lines(&text).any(|(_, line)| line.contains(word));
            assert!(
                !used || part == home,
                "{}: `{word}` belongs to `{home}`",
                file.display()
            );
        }
    }
}

/// A `Permit` has no other origin, and no copy: forwarding takes it by value.
#[test]
fn only_a_decision_makes_a_permit() {
    let mut made = 0;
    for (file, _, text) in sources() {
        let lines: Vec<_> = code_lines(&text).collect();
        for (at, (number, line)) in lines.iter().enumerate() {
            let place = format!("{}:{number}: {line}", file.display());
            if line.contains("impl ") && line.contains(" for Permit") {
                panic!("{place}");
            } else if line.contains("pub struct Permit {") {
                assert_eq!(lines[at - 1].1, "#[derive(Debug)]", "{place}");
            } else if !line.contains("impl") && line.contains("Permit {") {
                assert!(file.ends_with("src/authz.rs"), "{place}");
                made += 1;
            } else if line.contains("fn for_test(") && file.ends_with("src/authz.rs") {
                let above = lines[at - 1].1.trim();
                assert_eq!(above, "#[cfg(test)]", "{place}");
            }
        }
    }
    assert!(made > 0, "nothing makes a permit");
}

#[test]
fn files_are_short_and_have_no_mod_rs() {
    for (file, _, text) in sources() {
        assert_ne!(file.file_name().unwrap(), "mod.rs", "{}", file.display());
        let lines = text.lines().count();
        assert!(
            is_test(&file) || lines <= 600,
            "{}: {lines} lines; is there a seam?",
            file.display()
        );
        assert!(
            is_test(&file) || text.starts_with("//!"),
            "{}: says not what it is for",
            file.display()
        );
    }
}

/// Every source file but `lib.rs` and `main.rs`, with the part it belongs to.
fn sources() -> Vec<(PathBuf, String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    assert!(files.len() > 30, "the sources are not where they were");
    let described = files.into_iter().filter_map(|file| {
        let relative = file.strip_prefix(&root).unwrap();
        let part = relative
            .components()
            .next()
            .unwrap()
            .as_os_str()
            .to_str()
            .unwrap();
        let part = part.strip_suffix(".rs").unwrap_or(part).to_owned();
        let text = fs::read_to_string(&file).unwrap();
        (part != "lib" && part != "main").then_some((file, part, text))
    });
    described.collect()
}

fn is_test(file: &Path) -> bool {
    file.components()
        .any(|part| matches!(part.as_os_str().to_str(), Some("tests" | "tests.rs")))
}

/// Numbered lines up to the tests at the end of a file, without comments.
fn code_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let numbered = text
        .lines()
        .enumerate()
        .map(|(index, line)| (index + 1, line));
    numbered
        .take_while(|(_, line)| {
            !line.starts_with("#[cfg(test)]\nmod tests {") && *line != "mod tests {"
        })
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
}

/// First segments of all `crate::` paths of a line.
fn crate_paths(line: &str) -> impl Iterator<Item = &str> {
    line.split("crate::").skip(1).map(|rest| {
        let end = rest
            .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .unwrap_or(rest.len());
        rest.get(..end).unwrap()
    })
}
