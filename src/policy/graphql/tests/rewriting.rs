//! Property: however a document is rewritten, no root field escapes.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use proptest::collection::vec;
use proptest::prelude::*;

use super::{fields_of, line};

/// One root field, and how the rewritten document hides it.
#[derive(Clone, Debug)]
struct Hidden {
    name: &'static str,
    argument: u8,
    alias: Option<u8>,
    directive: Option<&'static str>,
    wraps: Vec<Wrap>,
}

#[derive(Clone, Copy, Debug)]
enum Wrap {
    Inline,
    InlineOn,
    Named,
    /// Spread at a place where another spread of it follows.
    NamedTwice,
}

fn hidden() -> impl Strategy<Value = Hidden> {
    let wrap = prop_oneof![
        Just(Wrap::Inline),
        Just(Wrap::InlineOn),
        Just(Wrap::Named),
        Just(Wrap::NamedTwice),
    ];
    let directive = prop_oneof![
        Just("@skip(if: true)"),
        Just("@include(if: false)"),
        Just("@x(y: {z: [1]})"),
    ];
    (
        prop_oneof![
            Just("deleteApp"),
            Just("setSecrets"),
            Just("app"),
            Just("__typename")
        ],
        0_u8..3,
        proptest::option::of(0_u8..200),
        proptest::option::of(directive),
        vec(wrap, 0..4),
    )
        .prop_map(|(name, argument, alias, directive, wraps)| Hidden {
            name,
            argument,
            alias,
            directive,
            wraps,
        })
}

/// The document with each field in plain sight, one after the other under a key of its own.
fn plain(root: &str, hidden: &[Hidden]) -> String {
    let fields = hidden.iter().enumerate().map(|(index, field)| {
        let Hidden { name, argument, .. } = field;
        format!("k{index}: {name}(n: {argument}) {{below}}")
    });
    format!("{root} {{{}}}", fields.collect::<Vec<_>>().join(" "))
}

/// The same, hidden. Keys stay apart, else the document would be refused as a conflict.
fn rewritten(root: &str, hidden: &[Hidden]) -> String {
    let (mut body, mut fragments) = (String::new(), String::new());
    let mut numbers = 0..;
    for (index, field) in hidden.iter().enumerate() {
        let alias = field
            .alias
            .map_or("k".to_owned(), |alias| format!("app{alias}_"));
        let mut text = format!("{alias}{index}: {}", field.name);
        write!(text, "(n: {})", field.argument).unwrap();
        write!(text, " {} {{below}}", field.directive.unwrap_or_default()).unwrap();
        for wrap in &field.wraps {
            text = match wrap {
                Wrap::Inline => format!("... {{{text}}}"),
                Wrap::InlineOn => format!("... on Other @skip(if: true) {{{text}}}"),
                Wrap::Named | Wrap::NamedTwice => {
                    let count: usize = numbers.next().unwrap();
                    write!(fragments, " fragment F{count} on Other {{{text}}}").unwrap();
                    match wrap {
                        Wrap::NamedTwice => format!("...F{count} @include(if: false) ...F{count}"),
                        Wrap::Named | Wrap::Inline | Wrap::InlineOn => format!("...F{count}"),
                    }
                }
            };
        }
        write!(body, " {text}").unwrap();
    }
    format!("{fragments} {root} Q {{{body}}}")
}

fn lines(document: &str) -> BTreeSet<String> {
    let fields = fields_of(document);
    let fields = fields.unwrap_or_else(|fault| panic!("{document}: {fault}"));
    fields.iter().map(line).collect()
}

proptest! {
    #[test]
    fn rewriting_hides_no_root_field(
        root in prop_oneof![Just("query"), Just("mutation")],
        hidden in vec(hidden(), 1..12),
    ) {
        let plain = lines(&plain(root, &hidden));
        let rewritten = lines(&rewritten(root, &hidden));
        prop_assert!(plain.is_subset(&rewritten), "{plain:?} {rewritten:?}");
    }

    /// Anything at all is judged or refused, and does not panic.
    #[test]
    fn any_text_is_read_or_refused(text in "[{}()a-c$:@!.\\[\\]\" \"\\\\\n#0-9|&=,-]{0,60}") {
        if let Ok(fields) = fields_of(&text) {
            prop_assert!(!fields.is_empty());
        }
    }
}
