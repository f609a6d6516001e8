use http::header::CONTENT_TYPE;

use super::*;
use crate::macaroon::Action;
use crate::policy::{AccessTemplate, Accesses, App, Org, Pointer, Source, Value};

/// A rule for an app that is named at this place, or at one of several.
fn rule(source: Source, others: Vec<Source>) -> Rule {
    let named = Value {
        others: others.into(),
        ..source.into()
    };
    let template = AccessTemplate {
        app: Some(App::Named(named)),
        ..AccessTemplate::new(Action::READ, Org::Owner)
    };
    Rule::Accesses(Accesses::new(vec![template]).unwrap())
}

fn is_refused(rule: &Rule, lines: &[&str]) -> bool {
    let mut headers = HeaderMap::new();
    for line in lines {
        headers.append(CONTENT_TYPE, line.parse().unwrap());
    }
    let refused = Authorizer::check_form(rule, &headers);
    matches!(refused, Err(Denial::BadField(_)))
}

#[test]
fn only_a_body_that_could_contradict_the_query_is_refused() {
    let query = || Source::Query("app".into());
    let body = || Source::Body(Pointer::parse("/app").unwrap());
    let path = || Source::Capture {
        index: 0,
        name: "app".into(),
    };
    let judged_by_query = rule(query(), vec![]);
    let form = "application/x-www-form-urlencoded";
    for media in [
        form,
        " Multipart/Form-Data; boundary=x",
        "application/json",
        "application/vnd.api+JSON; charset=utf-8",
        "text/json, text/plain",
    ] {
        assert!(is_refused(&judged_by_query, &[media]), "{media}");
        assert!(is_refused(&judged_by_query, &["text/plain", media]));
        // What is in the path no body contradicts, and this body is judged itself.
        assert!(!is_refused(&rule(path(), vec![]), &[media]), "{media}");
        assert!(!is_refused(&rule(body(), vec![]), &[media]), "{media}");
        assert!(!is_refused(&rule(query(), vec![body()]), &[media]));
    }
    for media in ["application/octet-stream", "text/plain", "text/jsonp", ""] {
        assert!(!is_refused(&judged_by_query, &[media]), "{media}");
    }
    assert!(!is_refused(&judged_by_query, &[]));
}
