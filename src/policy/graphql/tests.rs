//! Documents, and what they ask for.

mod rewriting;

use std::fmt::Write as _;

use serde_json::json;

use super::fault::{MAX_DEPTH, MAX_FRAGMENTS, MAX_NAME, MAX_ROOTS, MAX_TOKENS};
use super::*;
use crate::policy::json::Pointer;
use crate::policy::rule::Fields;
use crate::route::{Captures, Target};

pub(super) fn fields(request: &serde_json::Value) -> Result<Vec<RootField>, GraphQlFault> {
    let bytes = serde_json::to_vec(request).unwrap();
    root_fields(&Json::parse(&bytes, 32).unwrap())
}

pub(super) fn fields_of(query: &str) -> Result<Vec<RootField>, GraphQlFault> {
    fields(&json!({ "query": query }))
}

/// `root name(arguments){children}{deeper}`, without what is empty.
pub(super) fn line(field: &RootField) -> String {
    let mut line = match field.root {
        Root::Query => "query ".to_owned(),
        Root::Mutation => "mutation ".to_owned(),
    };
    line.push_str(&field.name);
    if field.arguments != Json::Object(Vec::new()) {
        write!(line, "({})", text(&field.arguments)).unwrap();
    }
    let mut deeper = field.deeper.clone();
    deeper.sort_unstable();
    for names in [&field.children, &deeper] {
        if !names.is_empty() {
            write!(line, "{{{}}}", names.join(" ")).unwrap();
        }
    }
    line
}

fn text(value: &Json) -> String {
    match value {
        Json::Null => "null".to_owned(),
        Json::Bool(value) => value.to_string(),
        Json::Number(number) => number.to_string(),
        Json::Text(text) => format!("{text:?}"),
        Json::List(items) => {
            let items: Vec<_> = items.iter().map(text).collect();
            format!("[{}]", items.join(" "))
        }
        Json::Object(entries) => {
            let entries: Vec<_> = entries
                .iter()
                .map(|(key, value)| format!("{key}:{}", text(value)))
                .collect();
            entries.join(" ")
        }
    }
}

fn check(request: &serde_json::Value, expected: &[&str]) {
    let found = fields(request).unwrap_or_else(|fault| panic!("{request}: {fault}"));
    let found: Vec<_> = found.iter().map(line).collect();
    assert_eq!(found, expected, "{request}");
}

fn refused(request: &serde_json::Value, expected: GraphQlFault) {
    let found = fields(request).map(|fields| fields.iter().map(line).collect::<Vec<_>>());
    assert_eq!(found, Err(expected), "{request}");
}

#[test]
fn root_fields_are_found_however_they_are_written() {
    for (query, expected) in [
        ("{viewer{id}}", &["query viewer{id}"][..]),
        ("query { viewer { id } }", &["query viewer{id}"]),
        ("query Q { viewer { id } }", &["query viewer{id}"]),
        (
            "mutation { deleteApp(appId: \"web\") { organization { id } } }",
            &["mutation deleteApp(appId:\"web\"){organization}{id}"],
        ),
        // Aliases.
        (
            "mutation { issueCertificate: deleteApp(appId: \"web\") { x } }",
            &["mutation deleteApp(appId:\"web\"){x}"],
        ),
        ("{ a: viewer { b: id c: id } }", &["query viewer{id}"]),
        // Fragments: inline, named, in each other, with and without a type.
        (
            "{ ... { a } ... on Query { b { c } } ... @include(if: true) { d } }",
            &["query a", "query b{c}", "query d"],
        ),
        (
            "query { ...F } fragment F on Query { a ...G } fragment G on Query { b { ...H } } \
             fragment H on T { c { d } }",
            &["query a", "query b{c}{d}"],
        ),
        (
            "mutation { ... { ... on Mutation { ...F } } } fragment F on Mutation { x: deleteApp }",
            &["mutation deleteApp"],
        ),
        // What a directive may leave out is asked for.
        (
            "{ a @skip(if: true) ...F @include(if: false) } fragment F on Query @x { b }",
            &["query a", "query b"],
        ),
        // As often as it is asked for, each with what is below it.
        (
            "{ a { b } a { c } z: a { d } }",
            &["query a{b}", "query a{c}", "query a{d}"],
        ),
        // Introspection is a field like others.
        (
            "{ __schema { types { name } } __typename }",
            &["query __schema{types}{name}", "query __typename"],
        ),
        // One fragment at two levels is at both.
        (
            "{ a { ...F b { ...F } } } fragment F on T { c { d } }",
            &["query a{c b}{c d}"],
        ),
        // Commas, comments and white space are nothing.
        ("\n,,{ # { x }\r\n\ta,,b #\n }\n", &["query a", "query b"]),
    ] {
        check(&json!({ "query": query }), expected);
    }
}

#[test]
fn arguments_are_resolved() {
    for (query, variables, expected) in [
        (
            r#"{ f(a: 1, b: -2.50, c: true, d: null, e: ENUM, f: "x", g: [1 "y"], h: {i: "z"}) }"#,
            json!({}),
            r#"query f(a:1 b:-2.50 c:true d:null e:"ENUM" f:"x" g:[1 "y"] h:i:"z")"#,
        ),
        // Strings as the specification reads them.
        (
            r#"{ f(a: "w\u0065b", b: "w\u{65}b", c: """web""", d: """
                 web
               """, e: "\uD83D\uDCA9\n\"") }"#,
            json!({}),
            r#"query f(a:"web" b:"web" c:"web" d:"web" e:"💩\n\"")"#,
        ),
        // Variables everywhere; one that is not given is absent, in a list it is null.
        (
            "query($a: ID!, $b: ID, $c: ID) { f(a: $a, b: $b, l: [$a, $b], o: {a: $a, b: $b}) }",
            json!({ "a": "web", "other": 1 }),
            r#"query f(a:"web" l:["web" null] o:a:"web")"#,
        ),
        // A default stands in for what is not given, and not for null.
        (
            r#"query($a: ID = "web", $b: ID = "web", $c: I = {k: [1]}) { f(a: $a, b: $b, c: $c) }"#,
            json!({ "b": null }),
            r#"query f(a:"web" b:null c:k:[1])"#,
        ),
        (
            "mutation($input: SetSecretsInput!) { setSecrets(input: $input) { release { id } } }",
            json!({ "input": { "appId": "web", "secrets": [{ "key": "K", "value": "V" }] } }),
            r#"mutation setSecrets(input:appId:"web" secrets:[key:"K" value:"V"]){release}{id}"#,
        ),
        // The arguments of directives and of fields below are others.
        (
            "query($s: Boolean!) { f(a: 1) @skip(if: $s) { g(a: $s, b: $undeclared) } }",
            json!({ "s": true }),
            "query f(a:1){g}",
        ),
    ] {
        check(
            &json!({ "query": query, "variables": variables }),
            &[expected],
        );
    }
}

#[test]
fn all_operations_are_judged_whichever_is_selected() {
    let query = "query Read { viewer { id } } mutation Delete { deleteApp(appId: \"web\") { x } }";
    let all = ["query viewer{id}", "mutation deleteApp(appId:\"web\"){x}"];
    check(&json!({ "query": query, "operationName": "Read" }), &all);
    check(&json!({ "query": query, "operationName": "Delete" }), &all);
    for (operation, fault) in [
        (json!(null), GraphQlFault::Unselected),
        (json!("Other"), GraphQlFault::UnknownOperation),
        (json!("read"), GraphQlFault::UnknownOperation),
        (json!(""), GraphQlFault::UnknownOperation),
    ] {
        refused(
            &json!({ "query": query, "operationName": operation }),
            fault,
        );
    }
    // Each operation has its own variables.
    check(
        &json!({
            "query": "query A($x: ID = 1) { a(x: $x) } query B($x: ID, $y: ID = 2) { b(x: $x, y: $y) }",
            "operationName": "A",
            "variables": { "y": 3 },
        }),
        &["query a(x:1)", "query b(y:3)"],
    );
}

#[test]
fn one_operation_may_be_selected_by_its_own_name_only() {
    let named = "query Q { a }";
    check(
        &json!({ "query": named, "operationName": "Q", "variables": null }),
        &["query a"],
    );
    check(
        &json!({ "query": named, "operationName": null }),
        &["query a"],
    );
    let other = json!({ "query": named, "operationName": "R" });
    refused(&other, GraphQlFault::UnknownOperation);
    let unnamed = json!({ "query": "{ a }", "operationName": "R" });
    refused(&unnamed, GraphQlFault::UnknownOperation);
}

/// Each fault with a request that has it; the last test below counts them.
fn faulty() -> Vec<(serde_json::Value, GraphQlFault)> {
    let query = |text: &str| json!({ "query": text });
    let long = "n".repeat(MAX_NAME + 1);
    let many = |count, text: &str| text.repeat(count);
    let copies = json!({
        "query": format!("query($v: V) {{ f(a: [{}]) }}", many(200, "$v ")),
        "variables": { "v": "x".repeat(1000) },
    });
    vec![
        (json!([{ "query": "{a}" }]), GraphQlFault::Batch),
        (json!([]), GraphQlFault::Batch),
        (json!("{a}"), GraphQlFault::NoRequest),
        (json!(null), GraphQlFault::NoRequest),
        (json!({}), GraphQlFault::NoQuery),
        (json!({ "query": null }), GraphQlFault::NoQuery),
        (json!({ "query": ["{a}"] }), GraphQlFault::NoQuery),
        (json!({ "variables": {} }), GraphQlFault::NoQuery),
        (
            json!({ "query": "{a}", "id": "1" }),
            GraphQlFault::UnknownKey,
        ),
        (
            json!({ "query": "{a}", "documentId": "1" }),
            GraphQlFault::UnknownKey,
        ),
        (
            json!({ "extensions": { "persistedQuery": { "sha256Hash": "00" } } }),
            GraphQlFault::UnknownKey,
        ),
        (
            json!({ "query": "{a}", "extensions": null }),
            GraphQlFault::UnknownKey,
        ),
        (
            json!({ "query": "{a}", "variables": "{}" }),
            GraphQlFault::Variables,
        ),
        (
            json!({ "query": "{a}", "variables": [] }),
            GraphQlFault::Variables,
        ),
        (
            json!({ "query": "{a}", "operationName": 1 }),
            GraphQlFault::OperationName,
        ),
        // One reader's comment is another's query.
        (query("{a #\r b\n}"), GraphQlFault::Character { offset: 4 }),
        (
            query("{a #\u{2028} b\n}"),
            GraphQlFault::Character { offset: 4 },
        ),
        (query("{a}\0{b}"), GraphQlFault::Character { offset: 3 }),
        (query("\u{feff}{a}"), GraphQlFault::Character { offset: 0 }),
        (
            query("{ f(a: \"\u{85}\") }"),
            GraphQlFault::Character { offset: 8 },
        ),
        (query(&format!("{{ {long} }}")), GraphQlFault::LongName),
        (query(&format!("{{ a: {long} }}")), GraphQlFault::LongName),
        (
            query(&format!("{{{}}}", many(MAX_TOKENS, "a "))),
            GraphQlFault::TooManyTokens,
        ),
        (
            query(&many(MAX_TOKENS + 1, ",")),
            GraphQlFault::TooManyTokens,
        ),
        (query(&many(100_000, "{a")), GraphQlFault::TooManyTokens),
        (
            query(&format!(
                "{}{}",
                many(MAX_DEPTH + 1, "{a"),
                many(MAX_DEPTH + 1, "}")
            )),
            GraphQlFault::TooDeep,
        ),
        (
            query(&format!(
                "{{a(b: {}{})}}",
                many(MAX_DEPTH + 1, "["),
                many(MAX_DEPTH + 1, "]")
            )),
            GraphQlFault::TooDeep,
        ),
        (query(&chain(2, MAX_DEPTH / 2)), GraphQlFault::TooDeep),
        (
            query(&chain(MAX_FRAGMENTS + 1, 1)),
            GraphQlFault::TooManyFragments,
        ),
        (
            query(&format!("{{{}}}", many(MAX_ROOTS + 1, "a "))),
            GraphQlFault::TooManyRoots,
        ),
        (copies, GraphQlFault::TooManyCopies),
        (query("type T { a: Int }"), GraphQlFault::NotExecutable),
        (
            query("{a} extend type Query { b: Int }"),
            GraphQlFault::NotExecutable,
        ),
        (query("subscription { a }"), GraphQlFault::Subscription),
        (query("fragment F on T { a }"), GraphQlFault::NoOperation),
        (query("{a} {b}"), GraphQlFault::Unnamed),
        (query("query A {a} {b}"), GraphQlFault::Unnamed),
        (
            query("query A {a} mutation A {b}"),
            GraphQlFault::RepeatedOperation,
        ),
        (query("query A {a} query B {b}"), GraphQlFault::Unselected),
        (
            json!({ "query": "query A {a}", "operationName": "B" }),
            GraphQlFault::UnknownOperation,
        ),
        (
            query("{...F} fragment F on T {a} fragment F on T {b}"),
            GraphQlFault::RepeatedFragment,
        ),
        (query("{...F}"), GraphQlFault::UnknownFragment),
        (
            query("{a} fragment F on T {...G}"),
            GraphQlFault::UnknownFragment,
        ),
        (
            query("{...F} fragment F on T {a ...F}"),
            GraphQlFault::FragmentCycle,
        ),
        (
            query("{a} fragment F on T {a {...G}} fragment G on T {b ... {c {...F}}}"),
            GraphQlFault::FragmentCycle,
        ),
        (query("{a(b: 1, b: 1)}"), GraphQlFault::RepeatedArgument),
        (query("{a(b: 1, B: 1)}"), GraphQlFault::RepeatedArgument),
        (
            query("{a(app_id: 1, appId: 1)}"),
            GraphQlFault::RepeatedArgument,
        ),
        (
            query("{a(b: [{c: 1, c: 2}])}"),
            GraphQlFault::RepeatedArgument,
        ),
        (query("{a {b(c: 1, c: 2)}}"), GraphQlFault::RepeatedArgument),
        (
            query("query($a: A, $a: A) {b(c: $a)}"),
            GraphQlFault::RepeatedVariable,
        ),
        (query("{b(c: $a)}"), GraphQlFault::UndeclaredVariable),
        (query("{b(c: [{d: $a}])}"), GraphQlFault::UndeclaredVariable),
        // The upstream may take the arguments of the one and the selection of the other.
        (query("{a(b: 1) {c} a(b: 2) {d}}"), GraphQlFault::Conflict),
        (
            query("{a {c} ...F} fragment F on T {a: b {d}}"),
            GraphQlFault::Conflict,
        ),
        (query("{x: a(b: 1) {c} x: a {d}}"), GraphQlFault::Conflict),
    ]
}

/// `count` fragments of which each nests `depth` levels and spreads the next at the innermost.
fn chain(count: usize, depth: usize) -> String {
    let mut document = "{a {...F0}}".to_owned();
    for index in 0..count {
        let (open, close) = ("{a ".repeat(depth), "}".repeat(depth));
        let next = match (1..count).nth(index) {
            Some(next) => format!("...F{next}"),
            None => "{a}".to_owned(),
        };
        write!(document, " fragment F{index} on T {open}{next}{close}").unwrap();
    }
    document
}

#[test]
fn what_can_be_read_two_ways_is_refused() {
    for (request, fault) in faulty() {
        refused(&request, fault);
    }
}

#[test]
fn malformed_documents_are_refused() {
    for query in [
        "",
        " ",
        "#",
        "{",
        "}",
        "{}",
        "{a",
        "{a}}",
        "{a} b",
        "query",
        "query {",
        "query Q",
        "{a:}",
        "{a()}",
        "{a(b)}",
        "{a(b:)}",
        "{a(b: 1}",
        "{a(b: {c})}",
        "{a(b: {c: })}",
        "{a(b: [1)}",
        "{a(b: \"x)}",
        "{a(b: \"\"\"x)}",
        "{a(b: 01)}",
        "{a(b: 1x)}",
        "{a(b: 1.)}",
        "{a(b: -)}",
        "{a(b: \"\\x\")}",
        "{a(b: \"\\uD800\")}",
        "{a(b: \"\\u{110000}\")}",
        "{a(b: \"\n\")}",
        "{a(b: [null_])}",
        "{a(b: [c trueD])}",
        "{a(b: {c: falsehood})}",
        "{a(b: \"\"\"c\\\"\"\"d\"\"\")}",
        "{a(b: {c: [\"\"\"\\\"\"\"\"\"\"]})}",
        "{a {b(c: \"\"\" \\\"\"\" \"\"\")}}",
        "{a {}}",
        "{...}",
        "{... on}",
        "{... on T}",
        "{...on}",
        "{..F}",
        "{a @}",
        "{a @b(}",
        "{é}",
        "query() {a}",
        "query($a) {b}",
        "query($a: ) {b}",
        "query($a: A = $b) {c}",
        "query($: A) {b}",
        "{a} fragment on on T {b}",
        "{a} fragment F {b}",
        "{a} fragment F on T",
        "{a} fragment",
        "{a(b: 1 2)}",
        "{a b: }",
        "mutation Q R {a}",
        "querY {a}",
        "{a} extend",
        "\"d\" {a}",
        "'a'",
        "{a(b: 'c')}",
        "{a(b: .5)}",
        "{a(b: +1)}",
        "{a;b}",
        "{a/*}*/}",
        "{-a}",
        "{\"a\"}",
    ] {
        let fault = fields_of(query).map(|fields| fields.iter().map(line).collect::<Vec<_>>());
        assert!(
            matches!(fault, Err(GraphQlFault::Syntax { .. })),
            "{query:?}: {fault:?}"
        );
    }
}

/// Else a field that is denied unless something is given would be had for giving nothing.
#[test]
fn an_empty_text_is_nothing_given() {
    let rule = NamedRule {
        root: Root::Query,
        field: "node".into(),
        below: None,
        asks: Asks::If {
            given: Pointer::parse("/id").unwrap(),
            then: Box::new(Asks::User),
            otherwise: Box::new(Asks::Denied),
        },
    };
    let rules = GraphQlRules::new(vec![rule]).unwrap();
    let asks_for_a_user = |query: &str| {
        let roots = fields_of(query).unwrap();
        let headers = http::HeaderMap::new();
        let target = Target::parse("/").unwrap();
        let fields = Fields {
            roots: Some(&roots),
            ..Fields::new(Captures::default(), target.query(), &headers)
        };
        rules.needs_user(&fields)
    };
    for nothing in ["{node}", "{node(id: null)}", "{node(id: \"\")}"] {
        assert!(!asks_for_a_user(nothing), "{nothing}");
    }
    for something in [
        "{node(id: \"x\")}",
        "{node(id: \" \")}",
        "{node(id: 0)}",
        "{node(id: [])}",
    ] {
        assert!(asks_for_a_user(something), "{something}");
    }
}

#[test]
fn bounds_are_inclusive() {
    let deep = |depth| format!("{}{}", "{a".repeat(depth), "}".repeat(depth));
    assert_eq!(fields_of(&deep(MAX_DEPTH)).unwrap().len(), 1);
    assert_eq!(
        fields_of(&format!("{{{}}}", "a ".repeat(MAX_ROOTS)))
            .unwrap()
            .len(),
        MAX_ROOTS
    );
    assert_eq!(
        fields_of(&format!("{{{}}}", "n".repeat(MAX_NAME)))
            .unwrap()
            .len(),
        1
    );
    // Both braces, the name, the end of the text, and as many commas as there is room for.
    let commas = |count| fields_of(&format!("{{a{}}}", ",".repeat(count)));
    assert!(commas(MAX_TOKENS - 4).is_ok());
    assert_eq!(commas(MAX_TOKENS - 3), Err(GraphQlFault::TooManyTokens));
    // Each fragment of the chain goes one level deeper.
    assert!(fields_of(&chain(MAX_DEPTH - 3, 2)).is_ok());
    assert_eq!(
        fields_of(&chain(MAX_DEPTH - 2, 2)),
        Err(GraphQlFault::TooDeep)
    );
    // A spread nests no deeper than where it stands, so `depth` of them in a row are one level.
    let flat = (0..MAX_FRAGMENTS).fold("{...F0}".to_owned(), |mut text, index| {
        let next = (index + 1) % MAX_FRAGMENTS;
        let spread = if next == 0 {
            "a".to_owned()
        } else {
            format!("...F{next}")
        };
        write!(text, " fragment F{index} on T {{{spread}}}").unwrap();
        text
    });
    assert_eq!(fields_of(&flat).unwrap().len(), 1);
}

/// Expanded one by one these would make 2 to the power of 49 fields, above and below the root.
#[test]
fn fragments_that_double_cost_nothing() {
    let doubling = |open: &str, close: &str| {
        let mut text = "{...F0}".to_owned();
        for index in 1..MAX_FRAGMENTS {
            let spread = format!("{open}...F{index}{close}");
            let last = index - 1;
            write!(text, " fragment F{last} on T {{{spread} {spread}}}").unwrap();
        }
        let last = MAX_FRAGMENTS - 1;
        format!("{text} fragment F{last} on T {{x}}")
    };
    assert_eq!(line(&fields_of(&doubling("", "")).unwrap()[0]), "query x");
    assert_eq!(fields_of(&doubling("a {", "}")), Err(GraphQlFault::TooDeep));
    let below = doubling("", "").replacen("{...F0}", "{r {...F0 s {...F0}}}", 1);
    assert_eq!(line(&fields_of(&below).unwrap()[0]), "query r{x s}{x}");
}

#[test]
fn variables_may_be_used_more_than_once() {
    // Short ones as often as they are needed, long ones a few times.
    for (uses, bytes) in [(4, 100_000), (30, 1_000)] {
        let request = json!({
            "query": format!("query($v: V) {{ f(a: [{}]) }}", "$v ".repeat(uses)),
            "variables": { "v": "x".repeat(bytes) },
        });
        assert_eq!(fields(&request).unwrap().len(), 1, "{uses} of {bytes}");
    }
}

#[test]
fn each_fault_has_a_request() {
    let kind = |fault: &GraphQlFault| format!("{fault:?}").split(' ').next().unwrap().to_owned();
    let mut kinds: Vec<_> = faulty().iter().map(|(_, fault)| kind(fault)).collect();
    kinds.push("Syntax".to_owned());
    kinds.sort_unstable();
    kinds.dedup();
    let source = include_str!("fault.rs");
    let (_, variants) = source.split_once("pub enum GraphQlFault {").unwrap();
    let variant = |line: &&str| {
        line.strip_prefix("    ")
            .is_some_and(|l| l.starts_with(char::is_uppercase))
    };
    assert_eq!(
        kinds.len(),
        variants.lines().filter(variant).count(),
        "{kinds:?}"
    );
}

#[test]
fn what_variables_may_be_copied_is_counted_over_all_operations() {
    let operation = |n| format!("query q{n}($v: V) {{ f(a: $v) }} ");
    let request = |count| {
        json!({
            "query": (0..count).map(operation).collect::<String>(),
            "operationName": "q0",
            "variables": { "v": "x".repeat(100_000) },
        })
    };
    assert_eq!(fields(&request(2)).unwrap().len(), 2);
    assert_eq!(fields(&request(8)), Err(GraphQlFault::TooManyCopies));
}
