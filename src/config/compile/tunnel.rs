//! Tunnels: routes whose requests are not forwarded, but become bytes both ways.

use http::Method;

use super::{Named, Report, Section, read};
use crate::config::problem::Fault;
use crate::config::section::{all, one_or_more};
use crate::config::{Protocol, Tunnel, TunnelKind, Upstream};
use crate::policy::Rule;
use crate::route::{Capture, Destination, HostPattern, Pattern};

/// `tunnel: ssh` or `tunnel: tcp`, and no key that means nothing for one.
pub(super) fn kind(section: &Section<'_>, report: &mut Report) -> Option<Option<TunnelKind>> {
    let Some(node) = section.find("tunnel") else {
        return Some(None);
    };
    for key in [
        "method",
        "stream",
        "query",
        "basic",
        "body_limit",
        "upgrade",
    ] {
        if let Some(node) = section.find(key) {
            let fault = Fault::new(format!("a tunnel has no `{key}`"));
            report.error(
                node.id,
                fault.hint("it begins with CONNECT, or with a WebSocket handshake on its `path`"),
            );
        }
    }
    let kind = read(node, report, |text| match text {
        "ssh" => Ok(TunnelKind::Ssh),
        "tcp" => Ok(TunnelKind::Tcp),
        _ => {
            Err(Fault::new(format!("`{text}` is no kind of tunnel")).suggest(text, ["ssh", "tcp"]))
        }
    });
    kind.map(Some)
}

/// Method and pattern of a tunnel that begins with CONNECT: what it is for is all in the host.
pub(super) fn connect() -> Option<(Vec<Method>, Pattern)> {
    Some((vec![Method::CONNECT], Pattern::parse("/").ok()?))
}

/// The hosts that CONNECT names, each with its port.
pub(super) fn hosts(section: &Section<'_>, report: &mut Report) -> Option<Vec<HostPattern>> {
    let Some(node) = section.find("hosts").or_else(|| section.find("host")) else {
        let fault = Fault::new("a tunnel needs a `host` with a port, or a `path`");
        let hint =
            "`host: \"{app}.internal:22\"` for CONNECT, `path: \"/apps/{app}/ssh\"` for WebSocket";
        report.error(section.id, fault.hint(hint));
        return None;
    };
    all(one_or_more(node), |node| {
        read(node, report, |text| {
            let host = HostPattern::parse(text).map_err(|error| Fault::new(error.to_string()))?;
            if host.has_port() {
                return Ok(host);
            }
            let fault = Fault::new(format!("`{text}` has no port"));
            Err(fault.hint("CONNECT always names one; write it, or capture it as `:{port}`"))
        })
    })
}

/// Who may have a tunnel: never everybody, and nobody because of a body that it has not.
pub(super) fn check_rule(section: &Section<'_>, rule: &Rule, report: &mut Report) {
    let Some(node) = section.find("access") else {
        return;
    };
    if matches!(rule, Rule::Public) {
        let fault = Fault::new("a tunnel is never public");
        report.error(
            node.id,
            fault.hint("say what it takes, as in `{ action: wC, app: \"{app}\" }`"),
        );
    }
    if rule.body().is_some() {
        let fault = Fault::new("a tunnel begins with a request that has no body to read");
        report.error(node.id, fault);
    }
}

/// What a route leads to: the index of an upstream, or an upstream of its own; and where a
/// tunnel goes from there.
pub(super) struct Led {
    pub(super) upstream: Result<usize, Upstream>,
    pub(super) tunnel: Option<Tunnel>,
}

/// Binds a tunnel to the addresses of an upstream, which are filled in from what the route
/// captures.
pub(super) fn lead(
    text: &str,
    kind: Option<TunnelKind>,
    name: &str,
    captures: (&[Capture], &[Capture]),
    upstreams: &[Named],
    index: impl FnOnce(&str) -> Result<usize, Fault>,
) -> Result<Led, Fault> {
    let Some(kind) = kind else {
        let upstream = index(text)?;
        if upstreams
            .get(upstream)
            .is_some_and(|known| !known.tcp.is_empty())
        {
            let fault = Fault::new(format!("`{text}` speaks no HTTP"));
            return Err(fault.hint("only a route with `tunnel` leads to `tcp://`"));
        }
        return Ok(Led {
            upstream: Ok(upstream),
            tunnel: None,
        });
    };
    let own;
    let (upstream, patterns) = if text.contains("://") {
        own = [address(text)?];
        let upstream = Upstream {
            name: name.to_owned(),
            urls: Vec::new(),
            tcp: own.to_vec(),
            credential: None,
            sign: None,
            ca: None,
            identity: None,
            protocol: Protocol::Http1,
        };
        (Err(upstream), &own[..])
    } else {
        let upstream = index(text)?;
        let patterns = upstreams.get(upstream).map_or(&[][..], |known| &known.tcp);
        if patterns.is_empty() {
            let fault = Fault::new(format!("a tunnel cannot lead to `{text}`"));
            return Err(fault.hint("its urls would have to be `tcp://host:port`"));
        }
        (Ok(upstream), patterns)
    };
    let (path, host) = captures;
    let bind = |pattern: &HostPattern| {
        let bound = Destination::new(pattern.clone(), path, host);
        bound.map_err(|error| Fault::new(format!("`tcp://{pattern}`: {error}")))
    };
    let destinations = patterns.iter().map(bind).collect::<Result<_, _>>()?;
    Ok(Led {
        upstream,
        tunnel: Some(Tunnel { kind, destinations }),
    })
}

/// `tcp://host:port`, where labels of the host and the port may be captures.
pub(super) fn address(text: &str) -> Result<HostPattern, Fault> {
    let refuse = |why: &str| {
        let fault = Fault::new(format!("`{text}` {why}"));
        fault.hint("write `tcp://host:port`, as in `tcp://{app}.internal:22`")
    };
    let Some(address) = text.strip_prefix("tcp://") else {
        return Err(refuse("is not where a tunnel can lead"));
    };
    let address = HostPattern::parse(address);
    let address = address.map_err(|error| Fault::new(format!("`{text}`: {error}")))?;
    match address.has_port() {
        true => Ok(address),
        false => Err(refuse("has no port")),
    }
}
