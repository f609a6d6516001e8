//! `SECURITY.md` names the tests that hold each promise. Here the names are held to the tests.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at what it does not expect"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

const SECURITY: &str = include_str!("../SECURITY.md");

/// A test as `SECURITY.md` names it.
struct Named<'a> {
    file: &'a str,
    functions: Vec<&'a str>,
}

impl<'a> Named<'a> {
    /// Reads `FILE: FUNCTION, FUNCTION`, or a file alone.
    fn read(span: &'a str) -> Option<Self> {
        let (file, functions) = span.split_once(": ").unwrap_or((span, ""));
        let functions = functions.split(", ").filter(|name| !name.is_empty());
        file.ends_with(".rs").then(|| Self {
            file,
            functions: functions.collect(),
        })
    }

    /// What is wrong with it.
    fn faults(&self) -> Vec<String> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(self.file);
        let Ok(text) = fs::read_to_string(path) else {
            return vec![format!("{} is not there", self.file)];
        };
        let missing = |name: &&&str| !has_test(&text, name);
        let faults = self.functions.iter().filter(missing);
        faults
            .map(|name| format!("{} has no test `{name}`", self.file))
            .collect()
    }
}

/// Whether a file has a function of this name that is a test; one of a property test has arguments.
fn has_test(text: &str, name: &str) -> bool {
    let lines: Vec<&str> = text.lines().map(str::trim_start).collect();
    let begins = format!("fn {name}(");
    let at = lines.iter().position(|line| line.starts_with(&begins));
    at.is_some_and(|at| {
        let above = lines[..at].iter().rev();
        let mut attributes = above.take_while(|line| line.starts_with("#["));
        attributes.any(|line| *line == "#[test]")
    })
}

/// What stands in backquotes, of text in which nothing else does.
fn spans(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

#[test]
fn every_promise_has_its_tests() {
    let section = SECURITY
        .split("\n## ")
        .find(|s| s.starts_with("Promises\n"));
    let rows = section.unwrap().lines().filter(|line| {
        line.starts_with("| ") && *line != "| promise | test |" && !line.starts_with("|---")
    });
    let (mut promises, mut faults) = (BTreeSet::new(), Vec::new());
    for row in rows {
        let cells: Vec<&str> = row.split(" | ").collect();
        let [promise, tests] = cells[..] else {
            panic!("two cells a row: {row}");
        };
        assert!(promises.insert(promise), "twice: {promise}");
        let tests = tests.trim_end_matches(" |");
        assert!(tests.starts_with('`'), "without a test: {row}");
        for span in spans(tests) {
            match Named::read(span) {
                Some(named) if !named.functions.is_empty() => {}
                Some(_) | None => faults.push(format!("`{span}` names no test")),
            }
        }
    }
    assert!(promises.len() > 60, "the table is not where it was");
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn every_test_that_is_named_exists() {
    let named: Vec<Named<'_>> = spans(SECURITY).filter_map(Named::read).collect();
    let functions: usize = named.iter().map(|named| named.functions.len()).sum();
    assert!(functions > 120, "only {functions} tests are named");
    let faults: Vec<String> = named.iter().flat_map(Named::faults).collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// The two above prove nothing if whatever they look for is found.
#[test]
fn a_name_that_is_none_is_noticed() {
    let faults = |span| Named::read(span).unwrap().faults();
    assert!(faults("tests/promises.rs: every_promise_has_its_tests").is_empty());
    for span in [
        "tests/promises.rs: no_such_test",
        "tests/promises.rs: every_promise_has_its_tests, has_test",
        "tests/promises.rs: every_promise_has_its",
        "tests/no_such_file.rs: every_promise_has_its_tests",
    ] {
        assert_eq!(faults(span).len(), 1, "{span}");
    }
}
