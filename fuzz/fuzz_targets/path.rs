//! Any request line: its path is refused, or everybody reads the same from it, and it leads where
//! the plainest search leads.
//!
//! The other readers are the parser of browsers, which removes dot segments, and the URI of the
//! `http` crate. The other search tries every route, one after the other.
#![no_main]

use std::collections::BTreeSet;
use std::sync::LazyLock;

use http::Method;
use http::uri::PathAndQuery;
use libfuzzer_sys::fuzz_target;
use percent_encoding::percent_decode_str;
use url::Url;
use usher::route::{HostPattern, Pattern, RouteError, RouteSpec, RouteTable, Target};

// A method, a host and a target, each on its line.
fuzz_target!(|text: &str| {
    let mut lines = text.splitn(3, '\n');
    let (Some(method), Some(host), Some(raw)) = (lines.next(), lines.next(), lines.next()) else {
        return;
    };
    let target = Target::parse(raw);
    assert_eq!(target.is_ok(), is_plain(raw), "{raw:?}: {target:?}");
    let Ok(target) = target else { return };
    read_alike(raw, &target);
    if let Ok(method) = method.parse::<Method>() {
        found_alike(&method, host, &target);
    }
});

/// The rules for a target, one after the other.
fn is_plain(raw: &str) -> bool {
    let (path, query) = raw.split_once('?').unwrap_or((raw, ""));
    let Some(path) = path.strip_prefix('/') else {
        return false;
    };
    let character = |c: char| c.is_ascii_alphanumeric() || "!$&'()*+,-./:=?@[]_~%".contains(c);
    let segments: Vec<&str> = path.split('/').collect();
    let (last, before) = segments.split_last().unwrap();
    let segment = |segment: &str| !matches!(segment, "." | "..") && !segment.contains('%');
    let mut pairs = query.split('&').filter(|_| !query.is_empty());
    raw.chars().all(character)
        && segment(last)
        && before.iter().all(|s| !s.is_empty() && segment(s))
        && pairs.all(|pair| {
            let key = pair.split('=').next().unwrap();
            let literal = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
            !key.is_empty() && key.chars().all(literal) && is_encoded_once(pair)
        })
}

/// Whether every percent sign begins an encoded byte, which is not NUL.
fn is_encoded_once(text: &str) -> bool {
    text.split('%').skip(1).all(|rest| {
        let digits = rest
            .get(..2)
            .filter(|d| d.chars().all(|c| c.is_ascii_hexdigit()));
        digits.is_some_and(|digits| digits != "00")
    })
}

/// What was accepted means the same to others, however often they decode it.
fn read_alike(raw: &str, target: &Target<'_>) {
    assert_eq!(target.raw(), raw);
    let path = target.path();
    let mut decoded = path.to_owned();
    for _ in 0..3 {
        decoded = percent_decode_str(&decoded)
            .decode_utf8()
            .unwrap()
            .into_owned();
        assert_eq!(decoded, path);
    }
    let uri: PathAndQuery = raw.parse().expect("a target is a URI");
    assert_eq!((uri.as_str(), uri.path()), (raw, path));
    let url = Url::parse(&format!("http://host{raw}")).unwrap();
    assert_eq!(url.path(), path);
    assert!(url.path_segments().unwrap().eq(target.segments()));
    let joined = Url::parse("http://host/other/place")
        .unwrap()
        .join(raw)
        .unwrap();
    assert_eq!(joined.path(), path);
}

/// The route is that of the plainest search, and its captures make the path again.
fn found_alike(method: &Method, host: &str, target: &Target<'_>) {
    let found = TABLE.find(method, host, target);
    let (named, places) = candidates(host, target.path());
    let best = places
        .iter()
        .filter_map(|place| Some((method_rank(&ROUTES[place.route], method)?, place)))
        .min_by(|(a, one), (b, other)| (&one.rank, a).cmp(&(&other.rank, b)))
        .map(|(_, place)| place);
    match (found, best) {
        (Ok(found), Some(best)) => {
            assert_eq!(found.route, best.route);
            assert!(
                best.captured
                    .iter()
                    .all(|(text, letters)| is_made_of(text, letters))
            );
            for (index, (text, _)) in best.captured.iter().enumerate() {
                assert_eq!(found.captures.value(index), Some(*text));
            }
            assert_eq!(found.captures.value(best.captured.len()), None);
            assert!(makes(&ROUTES[best.route], &best.captured, target.path()));
            // Whether or not the route is one of that host.
            let of_host = named.unwrap_or_default();
            for (index, text) in of_host.iter().enumerate() {
                assert_eq!(found.host.value(index), Some(*text));
            }
            assert_eq!(found.host.value(of_host.len()), None);
        }
        (Err(RouteError::Segment { route, .. }), Some(best)) => {
            assert_eq!(route, best.route);
            let outside = |(text, letters): &(&str, &str)| !is_made_of(text, letters);
            assert!(best.captured.iter().any(outside));
        }
        (Err(RouteError::NoMethod { allow }), None) => {
            let methods: BTreeSet<&str> = places
                .iter()
                .flat_map(|place| ROUTES[place.route].0.split(','))
                .flat_map(|method| [Some(method), (method == "GET").then_some("HEAD")])
                .flatten()
                .collect();
            let methods: Vec<&str> = methods.into_iter().collect();
            assert_eq!(*allow, methods.join(", "));
        }
        (Err(RouteError::NoRoute), None) => assert!(places.is_empty()),
        (found, best) => panic!("{found:?}, but {:?}", best.map(|place| place.route)),
    }
}

/// Routes whose host and shape fit, whatever the method.
struct Place<'a> {
    route: usize,
    /// The host first, then each segment: a literal before a capture before a tail.
    rank: Vec<u8>,
    /// What is captured, with the letters it may be made of.
    captured: Vec<(&'a str, &'static str)>,
}

fn candidates<'a>(host: &'a str, path: &'a str) -> (Option<Vec<&'a str>>, Vec<Place<'a>>) {
    let named = HOSTS
        .iter()
        .find_map(|name| Some((*name, host_values(name, host)?)));
    let mut places = Vec::new();
    for (route, (_, hosts, pattern)) in ROUTES.iter().enumerate() {
        let of_host = named
            .as_ref()
            .is_some_and(|(name, _)| hosts.split(',').any(|h| h == *name));
        if !of_host && !hosts.is_empty() {
            continue;
        }
        let host_rank = u8::from(!of_host);
        if let Some((rank, captured)) = shape(pattern, path) {
            let rank = [vec![host_rank], rank].concat();
            places.push(Place {
                route,
                rank,
                captured,
            });
        }
    }
    (named.map(|(_, values)| values), places)
}

type Shape<'a> = (Vec<u8>, Vec<(&'a str, &'static str)>);

fn shape<'a>(pattern: &'static str, path: &'a str) -> Option<Shape<'a>> {
    let (mut rank, mut captured) = (Vec::new(), Vec::new());
    let mut rest = Some(path.strip_prefix('/')?);
    for step in pattern.split('/').skip(1) {
        let here = rest?;
        let (segment, behind) = match here.split_once('/') {
            Some((segment, behind)) => (segment, Some(behind)),
            None => (here, None),
        };
        rest = behind;
        match step
            .strip_prefix('{')
            .and_then(|step| step.strip_suffix('}'))
        {
            None if step.split('|').any(|text| text == segment) => rank.push(0),
            None => return None,
            Some(_) if segment.is_empty() => return None,
            Some(name) => match name.strip_suffix("...") {
                None => {
                    rank.push(1);
                    captured.push((segment, letters(name, "id")));
                }
                Some(_) if here.ends_with('/') => return None,
                Some(name) => {
                    rank.push(2);
                    captured.push((here, letters(name, "name")));
                    rest = None;
                }
            },
        }
    }
    rest.is_none().then_some((rank, captured))
}

/// What a capture may be made of, letters and digits aside.
fn letters(name: &str, usual: &'static str) -> &'static str {
    match name.split_once(':').map_or(usual, |(_, alphabet)| alphabet) {
        "id" => "_-",
        "host" => "*.-",
        "ip" => ".:",
        "name" => "_.-",
        "digest" => ":_+.-",
        other => panic!("{other} is no alphabet"),
    }
}

fn is_made_of(text: &str, letters: &str) -> bool {
    let usual = |c: char| match letters {
        ".:" => c.is_ascii_hexdigit(),
        _ => c.is_ascii_alphanumeric(),
    };
    text.split('/').all(|segment| {
        (1..=255).contains(&segment.len())
            && segment.chars().all(|c| usual(c) || letters.contains(c))
    })
}

/// An exact method comes before GET that serves HEAD.
fn method_rank(route: &Route, method: &Method) -> Option<u8> {
    let has = |wanted: &str| route.0.split(',').any(|known| known == wanted);
    match has(method.as_str()) {
        true => Some(0),
        false => (*method == Method::HEAD && has("GET")).then_some(1),
    }
}

/// Whether the pattern with its captures filled in is the path.
fn makes(route: &Route, captured: &[(&str, &str)], path: &str) -> bool {
    let mut values = captured.iter().map(|(text, _)| *text);
    let mut paths = vec![String::new()];
    for step in route.2.split('/').skip(1) {
        let choices: Vec<&str> = match step.starts_with('{') {
            true => values.next().into_iter().collect(),
            false => step.split('|').collect(),
        };
        let longer = |path: &String| choices.iter().map(|c| format!("{path}/{c}")).collect();
        paths = paths
            .iter()
            .flat_map(|path| -> Vec<String> { longer(path) })
            .collect();
    }
    values.next().is_none() && paths.iter().any(|made| made == path)
}

/// What a host captures where it fits; names are compared without regard to case.
fn host_values<'a>(name: &str, host: &'a str) -> Option<Vec<&'a str>> {
    let split = |text: &'a str| match text.rfind(':') {
        Some(at) if !text[at..].contains(']') => (&text[..at], Some(&text[at + 1..])),
        _ => (text, None),
    };
    let (wanted, wanted_port) = match name.rsplit_once(':') {
        Some((wanted, port)) if !port.contains(']') => (wanted, Some(port)),
        _ => (name, None),
    };
    let (host, port) = split(host);
    let mut values = Vec::new();
    let labels: Vec<&str> = match host.starts_with('[') {
        true => vec![host],
        false => host.split('.').collect(),
    };
    let wanted: Vec<&str> = match wanted.starts_with('[') {
        true => vec![wanted],
        false => wanted.split('.').collect(),
    };
    if labels.len() != wanted.len() {
        return None;
    }
    for (label, wanted) in labels.into_iter().zip(wanted) {
        match wanted.starts_with('{') {
            true if is_made_of(label, "_-") && !label.contains('/') => values.push(label),
            true => return None,
            false if label.eq_ignore_ascii_case(wanted) => {}
            false => return None,
        }
    }
    let number = |port: &str| {
        let number: u16 = port.parse().ok()?;
        (number > 0 && number.to_string() == port).then_some(())
    };
    match (wanted_port, port) {
        (None, _) => Some(values),
        (Some(_), None) => None,
        (Some(wanted), Some(port)) if wanted.starts_with('{') => {
            number(port)?;
            values.push(port);
            Some(values)
        }
        (Some(wanted), Some(port)) => (wanted == port).then_some(values),
    }
}

/// Methods, hosts and pattern.
type Route = (&'static str, &'static str, &'static str);

/// Hosts that have routes of their own, in the order of precedence.
const HOSTS: [&str; 7] = [
    "api.test",
    "[::1]",
    "{machine}.vm.{app}.internal:22",
    "{machine}.vm.{app}.internal:{port}",
    "web.{zone}.internal",
    "{app}.{zone}.internal",
    "{app}.test",
];

const ROUTES: [Route; 36] = [
    ("GET", "", "/"),
    ("GET,POST", "", "/v1/apps"),
    ("GET,DELETE", "", "/v1/apps/{app}"),
    ("GET", "", "/v1/apps/{app}/"),
    ("GET,POST", "", "/v1/apps/{app}/machines"),
    ("GET,POST,DELETE", "", "/v1/apps/{app}/machines/{machine}"),
    ("POST", "", "/v1/apps/{app}/machines/{machine}/exec"),
    (
        "GET,PUT",
        "",
        "/v1/apps/{app}/machines/{machine}/metadata/{key:name}",
    ),
    ("HEAD", "", "/v1/apps/web"),
    ("PATCH", "", "/v1/apps/web/machines/{machine}"),
    ("POST", "", "/v1/{group}/web/machines"),
    ("GET", "", "/v1/apps/{app}/certificates/{hostname:host}"),
    ("POST", "", "/v1/apps/{app}/certificates/acme"),
    ("GET", "", "/v1/apps/{app}/ips/{address:ip}"),
    ("GET", "", "/v1/apps/{app}/releases/current"),
    ("GET", "", "/v1/apps/{app}/releases/{rest...}"),
    ("DELETE", "", "/v1/apps/{rest:digest...}"),
    ("GET", "", "/v2/"),
    ("POST", "", "/v2/{app}/blobs/uploads/"),
    ("PUT,PATCH", "", "/v2/{app}/blobs/uploads/{upload}"),
    ("GET,HEAD", "", "/v2/{app}/blobs/{digest:digest}"),
    ("GET,HEAD,PUT", "", "/v2/{app}/manifests/{reference:digest}"),
    ("GET", "", "/v2/{repository...}"),
    ("GET,PUT", "", "/v3/{org}/postgres|postgresv2/{id}"),
    ("PUT", "", "/v3/acme/{kind}/{id}"),
    ("GET", "", "/static/{path:host...}"),
    ("CONNECT", "{machine}.vm.{app}.internal:22", "/"),
    ("GET,CONNECT", "{machine}.vm.{app}.internal:{port}", "/"),
    ("GET", "api.test", "/v1/apps/{app}"),
    ("POST", "api.test,[::1]", "/graphql"),
    ("GET", "api.test", "/{anything...}"),
    ("GET", "web.{zone}.internal", "/{path...}"),
    ("GET", "{app}.{zone}.internal", "/{path:digest...}"),
    ("PUT", "{app}.{zone}.internal", "/state/{key}"),
    ("GET,PUT", "{app}.test", "/state/{key}"),
    ("OPTIONS", "{app}.test", "/state/{key}/"),
];

static TABLE: LazyLock<RouteTable> = LazyLock::new(|| {
    let specs = ROUTES.iter().map(|(methods, hosts, pattern)| RouteSpec {
        methods: methods.split(',').map(|m| m.parse().unwrap()).collect(),
        hosts: hosts
            .split(',')
            .filter(|host| !host.is_empty())
            .map(|host| HostPattern::parse(host).unwrap())
            .collect(),
        pattern: Pattern::parse(pattern).unwrap(),
    });
    RouteTable::build(specs).expect("no two routes answer the same requests")
});
