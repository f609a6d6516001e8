use std::path::PathBuf;

use super::*;
use crate::peer::PeerError;
use crate::proxy::tls::Reloader;

fn plan(urls: &[(bool, &str, u16)], ca: Option<PathBuf>) -> Result<UpstreamPlan, StartError> {
    let upstream = config::Upstream {
        name: "one".to_owned(),
        urls: urls
            .iter()
            .map(|(tls, host, port)| UpstreamUrl {
                tls: *tls,
                host: (*host).to_owned(),
                port: *port,
            })
            .collect(),
        tcp: Vec::new(),
        credential: None,
        sign: None,
        ca,
        identity: None,
        protocol: Protocol::Http1,
    };
    let metrics = Metrics::new();
    let tls = Reloader::new(&metrics).upstream(&upstream)?;
    let secrets = Secrets {
        credential: None,
        signer: None,
    };
    UpstreamPlan::new(&upstream, secrets, tls, &metrics)
}

#[test]
fn a_server_is_addressed_without_its_default_port() {
    let servers = plan(
        &[
            (false, "a.internal", 80),
            (false, "a.internal", 8080),
            (false, "::1", 4280),
        ],
        None,
    );
    let servers = servers.unwrap().servers;
    let hosts: Vec<_> = servers.iter().map(|s| s.host.to_str().unwrap()).collect();
    assert_eq!(hosts, ["a.internal", "a.internal:8080", "[::1]:4280"]);
}

#[test]
fn a_host_that_is_none_is_an_error() {
    for host in ["", "a b", "a/b", "user@"] {
        let error = plan(&[(false, host, 80)], None);
        assert!(
            matches!(error, Err(StartError::UpstreamHost { .. })),
            "{host:?}: {error:?}"
        );
    }
}

#[test]
fn roots_that_cannot_be_read_are_an_error() {
    let missing = PathBuf::from("does/not/exist.pem");
    let error = plan(&[(true, "a.internal", 443)], Some(missing));
    assert!(
        matches!(error, Err(StartError::Peer(PeerError::Pem { .. }))),
        "{error:?}"
    );
}

#[test]
fn a_response_that_names_a_server_points_back_here() {
    let servers = [
        (false, "registry.internal", 5000),
        (false, "a.internal", 80),
    ];
    let plan = plan(&servers, None).unwrap();
    for (location, expected) in [
        (
            "http://registry.internal:5000/v2/web/blobs/uploads/1?_state=x",
            "/v2/web/blobs/uploads/1?_state=x",
        ),
        ("http://A.internal/x#y", "/x#y"),
        ("http://a.internal", "/"),
        // Another server, scheme or port is another place.
        ("https://a.internal/x", "https://a.internal/x"),
        ("http://a.internal:81/x", "http://a.internal:81/x"),
        ("http://a.internal.example/x", "http://a.internal.example/x"),
        ("http://a.internal@b/x", "http://a.internal@b/x"),
        ("http://a.internal//evil/x", "http://a.internal//evil/x"),
        ("/v2/web", "/v2/web"),
    ] {
        let mut headers = HeaderMap::new();
        headers.insert(header::LOCATION, location.parse().unwrap());
        plan.keep_here(&mut headers);
        assert_eq!(headers[header::LOCATION], expected, "{location}");
    }
    let mut none = HeaderMap::new();
    plan.keep_here(&mut none);
    assert!(none.is_empty());
}

#[test]
fn a_server_rests_as_long_as_it_took_to_fail_within_bounds() {
    let milliseconds = Duration::from_millis;
    for (took, rest) in [(0, 50), (1, 50), (300, 300), (5_000, 1_000)] {
        assert_eq!(rest_after(milliseconds(took)), milliseconds(rest), "{took}");
    }
}
