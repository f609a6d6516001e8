//! The matrix says in its own words which caveat decides; here they become usher's.

use regex_lite::Regex;

/// Checks that the detail of a denial names, for each token, the caveat of the matrix: what it is,
/// where it is nested, what it says and what the request asks for.
#[track_caller]
pub(super) fn check(reason: &str, detail: &str, case: &str) {
    let sentences = sentences(detail);
    let parts: Vec<&str> = reason.split("; ").collect();
    assert!(
        parts.len() == 1 || parts.len() == sentences.len(),
        "{case}: {reason}"
    );
    for (index, sentence) in sentences.iter().enumerate() {
        let part = parts.get(index).or(parts.first()).unwrap();
        for fragment in fragments(part) {
            assert!(
                sentence.contains(&fragment),
                "{case}\n  wants {fragment:?} for {part:?}"
            );
        }
    }
}

/// One sentence for each token.
fn sentences(detail: &str) -> Vec<&str> {
    let start = Regex::new(r"token \d+, caveat \d+, ").unwrap();
    let starts: Vec<usize> = start.find_iter(detail).map(|found| found.start()).collect();
    assert!(!starts.is_empty(), "no caveat is named: {detail}");
    let ends = starts.iter().skip(1).copied().chain([detail.len()]);
    starts
        .iter()
        .zip(ends)
        .map(|(start, end)| detail.get(*start..end).unwrap())
        .collect()
}

/// What a sentence has to have in it.
fn fragments(part: &str) -> Vec<String> {
    let groups = |pattern: &str| -> Option<Vec<String>> {
        let found = Regex::new(&format!("^(?:{pattern})$")).unwrap();
        let found = found.captures(part)?;
        Some(
            found
                .iter()
                .skip(1)
                .flatten()
                .map(|group| group.as_str().to_owned())
                .collect(),
        )
    };
    if let Some([id, other]) = groups(r"Organization (\d+): request is for org (\d+)").as_deref() {
        return vec![
            format!(", Organization {id}: rwcdC: the request is for another organization"),
            format!("a token for organization {other}"),
        ];
    }
    if let Some([id, mask, missing]) =
        groups(r"Organization (\d+) mask (\w+): (\w+) not allowed").as_deref()
    {
        return vec![format!(
            ", Organization {id}: {mask}: {missing} is not permitted;"
        )];
    }
    if let Some([mask, missing]) = groups(r"Action (\w+): (\w+) not allowed").as_deref() {
        return vec![format!(", Action: {mask}: {missing} is not permitted;")];
    }
    if let Some([caveat, mask, missing]) =
        groups(r"IfPresent\((\w+)[/\w]*\) else (\w+): (\w+) not allowed").as_deref()
    {
        return vec![
            format!(", IfPresent: {caveat}: "),
            format!("; else {mask}: {missing} is not permitted where none of its caveats applies"),
        ];
    }
    if let Some([caveat, kind, object, list]) =
        groups(r"((?:IfPresent > )?\w+): (\w+) (\S+) not in (?:\[(.*)\]|empty set)").as_deref()
    {
        return vec![
            format!(
                ", {caveat}: {}: the request is for another {kind}",
                masks(list)
            ),
            format!("a token for {kind} {}", wanted(kind, object)),
        ];
    }
    if let Some([caveat, kind, object]) =
        groups(r"((?:IfPresent > )?\w+): (\w+) (\S+) not in empty set").as_deref()
    {
        return vec![
            format!(", {caveat}: none: the request is for another {kind}"),
            format!("a token for {kind} {}", wanted(kind, object)),
        ];
    }
    if let Some([mutation]) = groups(r"Mutations: (\w+) not listed").as_deref() {
        return vec![
            format!(", Mutations: {MUTATIONS}: the request is for another mutation"),
            format!("a token for mutation \"{mutation}\""),
        ];
    }
    match part {
        "FeatureSet: feature not named" => {
            vec![", FeatureSet: litefs-cloud (rwcdC): the request names no feature".to_owned()]
        }
        "Mutations: request is not a GraphQL mutation" => {
            vec![format!(
                ", Mutations: {MUTATIONS}: the request names no mutation"
            )]
        }
        "IsMember: d on feature deletion needs admin" => {
            vec![
                ", IsMember: nothing that only an admin may do: only an admin may do this"
                    .to_owned(),
            ]
        }
        "IfPresent > Commands: uptime -p not allowed"
        | "IfPresent > Commands: sh -c id not allowed" => {
            let commands = r#"exactly "uptime", "ls" "-l" and more"#;
            vec![format!(
                ", IfPresent > Commands: {commands}: the request is for another command"
            )]
        }
        other => panic!("`{other}` is no reason that is known here"),
    }
}

/// `3001` or `'wg', 'builder'` as caveats are described.
fn masks(list: &str) -> String {
    let mut names: Vec<&str> = list
        .split(", ")
        .map(|name| name.trim_matches('\''))
        .collect();
    names.sort_unstable();
    let masks: Vec<_> = names.iter().map(|name| format!("{name} (rwcdC)")).collect();
    masks.join(", ")
}

/// An object as a remedy names it.
fn wanted(kind: &str, object: &str) -> String {
    match (kind, object) {
        (_, "(all)") => "any".to_owned(),
        ("app", id) => id.to_owned(),
        (_, name) => format!("{name:?}"),
    }
}

const MUTATIONS: &str = "issueCertificate, addWireGuardPeer";
