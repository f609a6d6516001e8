use std::path::PathBuf;

use super::*;
use crate::peer::PeerError;

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
        credential: None,
        ca,
        protocol: Protocol::Http1,
    };
    UpstreamPlan::new(&upstream, None, &Metrics::new())
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
