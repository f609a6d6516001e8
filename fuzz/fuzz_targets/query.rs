//! Any query: it is refused, or what was judged of it is what every reader of forms reads.
//!
//! The other reader is that of browsers: it splits, decodes and knows nothing of the rules here.
//! Servers differ in which of two equal keys they take, and in which spellings are equal to them;
//! so for each judged key there must be exactly one that any of them could take.
#![no_main]

use std::cell::RefCell;
use std::sync::LazyLock;

use http::HeaderMap;
use libfuzzer_sys::fuzz_target;
use percent_encoding::percent_decode_str;
use url::form_urlencoded;
use usher::macaroon::Action;
use usher::policy::{
    AccessTemplate, Accesses, App, AppIds, Condition, Fields, Fixed, Found, Names, Org, Owner,
    QueryKeys, Rule, Source, Value,
};
use usher::route::{Captures, Target};

fuzz_target!(|query: &str| {
    let raw = format!("/logs?{query}");
    let Ok(target) = Target::parse(&raw) else {
        return;
    };
    let others: Vec<(String, String)> = form_urlencoded::parse(query.as_bytes())
        .into_owned()
        .collect();
    let own: Vec<(&str, &str)> = target.query().pairs().collect();
    assert_eq!(own.len(), others.len());
    for ((key, value), (other_key, other_value)) in own.iter().zip(&others) {
        assert_eq!(key, other_key);
        let value = value.replace('+', " ");
        assert_eq!(percent_decode_str(&value).decode_utf8_lossy(), *other_value);
    }

    let declared = |key: &str| {
        ["org_slug", "org", "subject", "force", "page.size"].contains(&key)
            || key
                .strip_prefix("metadata.")
                .is_some_and(|rest| !rest.is_empty())
    };
    let checked = KEYS.check(&target.query());
    assert_eq!(checked.is_ok(), others.iter().all(|(key, _)| declared(key)));

    for name in ["org_slug", "org", "subject", "force", "page.size"] {
        let alike: Vec<_> = others
            .iter()
            .filter(|(key, _)| folded(key) == folded(name))
            .collect();
        match target.query().one(name) {
            Ok(None) => assert!(alike.is_empty()),
            Ok(Some(_)) => assert!(matches!(alike[..], [(key, _)] if key == name)),
            Err(_) => assert!(alike.len() > 1 || alike.iter().any(|(key, _)| key != name)),
        }
    }
    judged_alike(&target, &others);
});

/// What the accesses of a request are made of is what the other reader has under these keys.
fn judged_alike(target: &Target<'_>, others: &[(String, String)]) {
    let headers = HeaderMap::new();
    let fields = Fields::new(Captures::default(), target.query(), &headers);
    let asked = Asked::default();
    let Ok(accesses) = RULE.accesses(&fields, &asked) else {
        return;
    };
    let of = |name: &str| -> Vec<&str> {
        let alike = others.iter().filter(|(key, _)| folded(key) == folded(name));
        alike.map(|(_, value)| &**value).collect()
    };
    let orgs = [of("org_slug"), of("org")].concat();
    for org in asked.orgs.borrow().iter() {
        assert!(!orgs.is_empty() && orgs.iter().all(|value| value == org));
    }
    let subject = of("subject");
    assert!(subject.len() <= 1);
    let words: Vec<&str> = subject
        .iter()
        .flat_map(|subject| subject.split('.'))
        .collect();
    let wild = words.get(1).is_none_or(|word| matches!(*word, "*" | ">"));
    let rest = words.first().is_some_and(|word| *word == ">");
    match asked.apps.borrow().first() {
        Some(app) => assert_eq!((words[0], words[1]), ("logs", &**app)),
        None => assert!(words.is_empty() || wild || rest, "{words:?}"),
    }
    let force = of("force");
    assert_eq!(accesses.len(), if force == ["true"] { 2 } else { 1 });
    assert!(force.is_empty() || force == ["true"] || force == ["false"]);
}

/// What servers take for one key: some fold case, some `.` and `-` to `_`.
fn folded(key: &str) -> String {
    key.to_lowercase().replace(['.', '-'], "_")
}

/// Knows every name, and which were asked for.
#[derive(Default)]
struct Asked {
    orgs: RefCell<Vec<String>>,
    apps: RefCell<Vec<String>>,
}

impl Names for Asked {
    fn org(&self, slug: &str) -> Found<u64> {
        self.orgs.borrow_mut().push(slug.to_owned());
        Found::Known(1)
    }

    fn app(&self, name: &str) -> Found<AppIds> {
        self.apps.borrow_mut().push(name.to_owned());
        Found::Known(AppIds { app: 2, org: 1 })
    }

    fn app_numbered(&self, _: u64) -> Found<AppIds> {
        Found::Absent
    }

    fn machine(&self, _: &str) -> Found<AppIds> {
        Found::Absent
    }

    fn volume(&self, _: &str) -> Found<AppIds> {
        Found::Absent
    }

    fn cluster_org(&self, _: &str) -> Found<u64> {
        Found::Absent
    }

    fn object(&self, _: &str, _: &str) -> Found<Owner> {
        Found::Absent
    }
}

static KEYS: LazyLock<QueryKeys> = LazyLock::new(|| QueryKeys {
    any: false,
    names: [
        "org_slug",
        "org",
        "subject",
        "force",
        "page.size",
        "metadata.*",
    ]
    .map(Box::from)
    .into(),
});

/// An organization from one of two keys, an app from a subject, and one more access by a flag.
static RULE: LazyLock<Rule> = LazyLock::new(|| {
    let org = Org::Slug(Value {
        source: Source::Query("org_slug".into()),
        others: [Source::Query("org".into())].into(),
        otherwise: None,
    });
    let mut read = AccessTemplate::new(Action::READ, org.clone());
    read.app = Some(App::Named(Value {
        source: Source::Word {
            key: "subject".into(),
            first: "logs".into(),
            index: 2,
        },
        others: Box::default(),
        otherwise: Some(Fixed::Zero),
    }));
    let mut write = AccessTemplate::new(Action::WRITE, org);
    write.when = Some(Condition {
        is: Some(true),
        ..Condition::query("force")
    });
    Rule::Accesses(Accesses::new(vec![read, write]).expect("two templates that can be made"))
});
