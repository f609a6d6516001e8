use proptest::prelude::*;

use super::shadow::takes;
use super::*;

/// Builds a table from lines of `METHOD[,METHOD] [HOST[,HOST]]/PATTERN`.
fn table(lines: &[&str]) -> Result<RouteTable, Vec<Overlap>> {
    RouteTable::build(lines.iter().map(|line| {
        let (methods, place) = line.split_once(' ').unwrap();
        let slash = place.find('/').unwrap();
        let (hosts, path) = place.split_at(slash);
        RouteSpec {
            methods: methods.split(',').map(|m| m.parse().unwrap()).collect(),
            hosts: hosts
                .split(',')
                .filter(|h| !h.is_empty())
                .map(|host| HostPattern::parse(host).unwrap())
                .collect(),
            pattern: Pattern::parse(path).unwrap(),
        }
    }))
}

/// Finds with a request line of `METHOD [HOST]/TARGET`; answers `INDEX value value` or the error.
fn find(table: &RouteTable, request: &str) -> String {
    let (method, place) = request.split_once(' ').unwrap();
    let (host, target) = place.split_at(place.find('/').unwrap());
    let host = if host.is_empty() { "h.example" } else { host };
    let target = Target::parse(target).unwrap();
    match table.find(&method.parse().unwrap(), host, &target) {
        Ok(found) => [found.route.to_string()]
            .into_iter()
            .chain(found.captures.0.iter().map(|v| (*v).to_owned()))
            .chain(found.host.0.iter().map(|v| format!("host:{v}")))
            .collect::<Vec<_>>()
            .join(" "),
        Err(RouteError::NoRoute) => "no route".to_owned(),
        Err(RouteError::NoHost) => "no host".to_owned(),
        Err(RouteError::NoMethod { allow }) => format!("only {allow}"),
        Err(RouteError::Segment { route, name, .. }) => format!("bad {name} of {route}"),
    }
}

#[test]
fn requests_find_the_most_exact_route() {
    let table = table(&[
        "GET /v1/apps",
        "GET,DELETE /v1/apps/{app}",
        "POST /v1/apps/{app}/certificates/acme",
        "GET /v1/apps/{app}/certificates/{hostname:host}",
        "GET /v1/apps/{app}/releases/current",
        "GET /v1/apps/{app}/releases/{rest...}",
        "GET /v2/",
        "POST /v2/{app}/blobs/uploads/",
        "PATCH /v2/{app}/blobs/uploads/{upload}",
        "HEAD /v2/{app}/blobs/{digest:digest}",
        "GET /",
        "GET /v1/{group}/x/list",
        "GET /v1/apps/x/{y}/z",
        "GET /v3/{org}/one|two/{id}",
    ])
    .unwrap();
    for (request, expected) in [
        ("GET /v1/apps", "0"),
        ("GET /v1/apps/", "no route"),
        ("GET /v1/Apps", "no route"),
        ("GET /v1/apps/web", "1 web"),
        ("GET /v1/apps/web/", "no route"),
        ("GET /v1/apps/web.json", "bad app of 1"),
        ("DELETE /v1/apps/web", "1 web"),
        ("HEAD /v1/apps/web", "1 web"),
        ("POST /v1/apps/web", "only DELETE, GET, HEAD"),
        ("OPTIONS /v1/apps/web", "only DELETE, GET, HEAD"),
        ("get /v1/apps/web", "only DELETE, GET, HEAD"),
        ("BREW /v1/nope", "no route"),
        ("POST /v1/apps/web/certificates/acme", "2 web"),
        ("GET /v1/apps/web/certificates/acme", "3 web acme"),
        ("GET /v1/apps/web/certificates/*.a.b", "3 web *.a.b"),
        ("PUT /v1/apps/web/certificates/acme", "only GET, HEAD, POST"),
        ("GET /v1/apps/web/certificates/a_b", "bad hostname of 3"),
        ("GET /v1/apps/web/releases/current", "4 web"),
        ("GET /v1/apps/web/releases/1", "5 web 1"),
        ("GET /v1/apps/web/releases/1/a.b", "5 web 1/a.b"),
        ("GET /v1/apps/web/releases/1/", "no route"),
        ("GET /v1/apps/web/releases/1/a:b", "bad rest of 5"),
        ("GET /v1/apps/web/releases", "no route"),
        ("GET /v2/", "6"),
        ("GET /v2", "no route"),
        ("POST /v2/web/blobs/uploads/", "7 web"),
        ("POST /v2/web/blobs/uploads", "only HEAD"),
        ("PATCH /v2/web/blobs/uploads/1-2", "8 web 1-2"),
        ("HEAD /v2/web/blobs/sha256:ab", "9 web sha256:ab"),
        ("GET /v2/web/blobs/sha256:ab", "only HEAD"),
        ("GET /", "10"),
        ("GET /v1/apps/x/list", "11 apps"),
        ("GET /v1/apps/x/list/z", "12 list"),
        ("GET /v1/apps/x/y/w", "no route"),
        ("GET /v3/acme/one/1", "13 acme 1"),
        ("GET /v3/acme/two/1", "13 acme 1"),
        ("GET /v3/acme/three/1", "no route"),
    ] {
        assert_eq!(find(&table, request), expected, "{request}");
    }
}

#[test]
fn a_named_host_comes_before_none() {
    let mixed = table(&[
        "GET /a/{x}",
        "GET builder.example,[::1]/{rest...}",
        "POST builder.example/a/{x}",
    ])
    .unwrap();
    for (request, expected) in [
        ("GET /a/1", "0 1"),
        ("GET builder.example/a/1", "1 a/1"),
        ("GET BUILDER.Example:8443/a/1", "1 a/1"),
        ("GET builder.example./a/1", "0 1"),
        ("GET [::1]:80/a/1", "1 a/1"),
        ("GET [::1]/a/1", "1 a/1"),
        ("GET [::2]/a/1", "0 1"),
        ("POST /a/1", "only GET, HEAD"),
        ("PUT builder.example/a/1", "only GET, HEAD, POST"),
    ] {
        assert_eq!(find(&mixed, request), expected, "{request}");
    }
    let named = table(&["GET a.example/x", "GET b.example/y"]).unwrap();
    assert_eq!(find(&named, "GET /x"), "no host");
    assert_eq!(find(&named, "GET b.example/x"), "no route");
}

#[test]
fn routes_that_cannot_be_told_apart_are_named_with_a_request() {
    let overlaps = table(&[
        "GET,PUT /v1/apps/{app}/x",
        "POST /v1/apps/{app}/x",
        "PUT,GET /v1/apps/{name:name}/x",
        "GET a,b/{rest...}",
        "GET b,c/{all:ip...}",
        "GET /{rest...}",
        "GET /g/y|z",
        "GET /g/x|y",
        "PUT /v1/apps/{third}/x",
    ])
    .unwrap_err();
    let told: Vec<_> = overlaps
        .iter()
        .map(|o| (o.first, o.second, o.witness.as_str()))
        .collect();
    assert_eq!(
        told,
        [
            (0, 2, "PUT /v1/apps/x/x"),
            (3, 4, "GET b/1"),
            (6, 7, "GET /g/y"),
            (0, 8, "PUT /v1/apps/x/x"),
        ]
    );
}

#[test]
fn a_route_does_not_overlap_itself() {
    let table = table(&["GET,GET a.example,a.example,{x}.b,{y}.b/x"]).unwrap();
    assert_eq!(find(&table, "GET a.example/x"), "0");
    assert_eq!(find(&table, "GET c.b/x"), "0 host:c");
}

#[test]
fn shadows_are_reported_where_they_overlap() {
    let table = table(&[
        "GET /c/{hostname:host}",
        "GET /c/acme",
        "POST /c/custom",
        "GET /c/a_b",
        "GET /d/{rest...}",
        "GET /d/{x}/e",
        "GET /d/{x}/{y...}",
        "GET /e/{x:ip}/{y}",
        "GET /e/a/{z:host}",
        "GET /e/x/{z}",
        "GET /f/{x}/g",
        "GET /f/a/{y...}",
        "GET h/c/{hostname:host}",
        "GET /i/{x}/j|k",
        "GET /i/a/k|l",
        "GET,PUT /k/{x}",
        "GET,PUT /k/a",
    ])
    .unwrap();
    let told: Vec<_> = table
        .shadows()
        .into_iter()
        .map(|s| (s.specific, s.general, s.witness))
        .collect();
    let expected = [
        (1, 0, "GET /c/acme"),
        (5, 4, "GET /d/x/e"),
        (6, 4, "GET /d/x/x"),
        (5, 6, "GET /d/x/e"),
        (8, 7, "GET /e/a/x"),
        (11, 10, "GET /f/a/g"),
        (14, 13, "GET /i/a/k"),
        // Once, although two methods are concerned.
        (16, 15, "GET /k/a"),
    ];
    assert_eq!(
        told,
        expected.map(|(s, g, witness)| (s, g, witness.to_owned()))
    );
}

#[test]
fn ten_thousand_routes_are_found_like_ten() {
    let lines: Vec<_> = (0..10_000)
        .map(|i| format!("GET /v1/group{i}/{{app}}/machines/{{machine}}"))
        .collect();
    let lines: Vec<_> = lines.iter().map(String::as_str).collect();
    let table = table(&lines).unwrap();
    assert_eq!(
        find(&table, "GET /v1/group7777/web/machines/1a"),
        "7777 web 1a"
    );
    assert_eq!(
        find(&table, "GET /v1/group10000/web/machines/1a"),
        "no route"
    );
    assert_eq!(table.shadows(), []);
}

proptest! {
    /// A route is found exactly where a naive reading of all patterns finds one, and what it
    /// captured, put back into its pattern, is the path that was sent.
    #[test]
    fn matched_bytes_are_the_bytes_sent(
        patterns in prop::collection::vec("(/(a|b|c|b\\|c|\\{x\\})){1,4}(/|/\\{r\\.\\.\\.\\})?", 1..12),
        path in "(/[abc.1]){1,5}/?",
    ) {
        let mut lines: Vec<String> = Vec::new();
        for pattern in patterns {
            let mut place = 0;
            let unique: String = pattern
                .split_inclusive("{x")
                .map(|part| {
                    place += 1;
                    if part.ends_with("{x") { format!("{part}{place}") } else { part.to_owned() }
                })
                .collect();
            let line = format!("GET {unique}");
            if !lines.contains(&line) {
                lines.push(line);
            }
        }
        let lines: Vec<_> = lines.iter().map(String::as_str).collect();
        let Ok(target) = Target::parse(&path) else { return Ok(()) };
        // Patterns with choices may overlap.
        let Ok(table) = table(&lines) else { return Ok(()) };
        let segments: Vec<_> = target.segments().collect();
        let naive = table.routes.iter().any(|r| takes(&r.pattern, &segments));
        match table.find(&Method::GET, "h", &target) {
            Ok(found) => {
                let mut values = found.captures.0.iter();
                let rebuilt: String = table.routes[found.route]
                    .pattern
                    .segments()
                    .iter()
                    .zip(&segments)
                    .map(|(step, sent)| match step {
                        Segment::Literal(text) => format!("/{text}"),
                        Segment::OneOf(_) => format!("/{sent}"),
                        Segment::Capture(_) | Segment::Tail(_) => {
                            format!("/{}", values.next().unwrap())
                        }
                    })
                    .collect();
                prop_assert_eq!(rebuilt, path.as_str());
                prop_assert!(naive);
            }
            Err(RouteError::NoRoute) => prop_assert!(!naive),
            Err(RouteError::Segment { .. }) => prop_assert!(path.contains('.')),
            Err(other) => prop_assert!(false, "{:?}", other),
        }
    }
}

#[test]
fn a_host_that_captures_comes_after_one_that_is_named() {
    let table = table(&[
        "GET {builder}.fly.dev/{rest...}",
        "GET docs.fly.dev/v1",
        "GET {machine}.vm.{app}.internal:22/x",
        "GET {app}.internal:22/x",
        "GET {app}.internal/x",
        "GET /y",
        "GET db.example:5432/x",
    ])
    .unwrap();
    for (request, found) in [
        ("GET b1.fly.dev/v1/x", "0 v1/x host:b1"),
        ("GET B1.Fly.Dev:8443/v1", "0 v1 host:B1"),
        ("GET docs.fly.dev/v1", "1"),
        // What names a host is all that answers on it, with what answers everywhere.
        ("GET docs.fly.dev/v2", "no route"),
        ("GET docs.fly.dev/y", "5"),
        ("GET m1.vm.web.internal:22/x", "2 host:m1 host:web"),
        ("GET web.internal:22/x", "3 host:web"),
        ("GET web.internal:23/x", "4 host:web"),
        ("GET web.internal/x", "4 host:web"),
        ("GET a.b.fly.dev/x", "no route"),
        ("GET .fly.dev/x", "no route"),
        ("GET db.example:5432/x", "6"),
        ("GET DB.example:5432/y", "5"),
        ("GET db.example:5433/x", "no route"),
        ("GET db.example/x", "no route"),
    ] {
        assert_eq!(find(&table, request), found, "{request}");
    }
}
