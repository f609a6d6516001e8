//! What a configuration changes for an usher that runs under another one.

use std::collections::HashMap;

use super::{Config, Route, Tunnel};
use crate::policy::{QueryKeys, Rule};
use crate::route::RouteSpec;

impl Config {
    /// The sections in which `next` differs and that only a start can put into use: sockets,
    /// threads, and the store with its keys.
    pub fn needs_restart(&self, next: &Self) -> Vec<&'static str> {
        let differs = [
            ("listeners", self.listeners != next.listeners),
            ("admin", self.admin != next.admin),
            ("authority", self.authority != next.authority),
            ("threads", self.threads != next.threads),
        ];
        let differs = differs.into_iter().filter(|(_, differs)| *differs);
        differs.map(|(section, _)| section).collect()
    }

    /// For each route of `next` the index of the same route here, if everything that it permitted
    /// here it permits there: it is written alike, and nothing that is new or written differently
    /// could take requests from it.
    ///
    /// A yes for certain only. Two texts that mean the same may count as different, and a route
    /// that could take a request need not have taken one.
    pub fn standing_routes(&self, next: &Self) -> Vec<Option<usize>> {
        let here: HashMap<_, _> = (self.routes.iter().enumerate())
            .map(|(index, route)| (&*route.name, index))
            .collect();
        let alike = |(index, route): (usize, &Route)| {
            let here = *here.get(&*route.name)?;
            (self.whole(here)? == next.whole(index)?).then_some(here)
        };
        let alike: Vec<_> = next.routes.iter().enumerate().map(alike).collect();
        let unknown: Vec<_> = alike
            .iter()
            .zip(next.table.routes())
            .filter_map(|(alike, spec)| alike.is_none().then_some(spec))
            .collect();
        let stands = |(alike, spec): (Option<usize>, &RouteSpec)| {
            alike.filter(|_| !unknown.iter().any(|other| other.meets(spec)))
        };
        let alike = alike.into_iter().zip(next.table.routes());
        alike.map(stands).collect()
    }

    /// A route as it is written: with its place in the table, and the name of its upstream instead
    /// of an index, which changes when one is inserted before it.
    fn whole(&self, index: usize) -> Option<Whole<'_>> {
        let Route {
            name,
            rule,
            upstream,
            stream,
            query,
            basic,
            body_limit,
            websocket,
            tunnel,
        } = self.routes.get(index)?;
        Some(Whole {
            name,
            spec: self.table.routes().get(index)?,
            rule,
            upstream: &self.upstreams.get(*upstream)?.name,
            switches: [*stream, *basic, *websocket],
            query,
            body_limit: *body_limit,
            tunnel: tunnel.as_ref(),
        })
    }
}

#[derive(PartialEq)]
struct Whole<'a> {
    name: &'a str,
    spec: &'a RouteSpec,
    rule: &'a Rule,
    upstream: &'a str,
    switches: [bool; 3],
    query: &'a QueryKeys,
    body_limit: usize,
    tunnel: Option<&'a Tunnel>,
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::config::parse;

    use super::*;

    const HEAD: &str = "
listeners: [ { address: 127.0.0.1:0 } ]
authority: { location: https://usher.test/v1, store: sqlite:usher.db, seal_key: { env: SEAL } }
directory: { orgs: [ { slug: acme, id: 1 } ] }
upstreams: [ { name: one, urls: [ \"http://127.0.0.1:1\" ] }, { name: two, urls: [ \"http://127.0.0.1:2\" ] } ]
";
    const APP: &str =
        r#"{ name: app, method: GET, path: "/apps/{app}", access: authenticated, upstream: one }"#;
    const LOGS: &str = r#"{ name: logs, method: GET, path: "/logs/{place...}", access: authenticated, upstream: one }"#;

    fn config(head: &str, routes: &[&str]) -> Config {
        let text = format!("{head}routes: [ {} ]", routes.join(", "));
        parse(&text, Path::new("usher.yaml")).unwrap().0
    }

    #[track_caller]
    fn stand(next: &[&str], expected: &[Option<usize>]) {
        let old = config(HEAD, &[APP, LOGS]);
        let next = config(HEAD, next);
        assert_eq!(old.standing_routes(&next), expected);
    }

    #[test]
    fn routes_that_are_written_alike_stand_wherever_they_are() {
        stand(&[APP, LOGS], &[Some(0), Some(1)]);
        stand(&[LOGS, APP], &[Some(1), Some(0)]);
        stand(&[LOGS], &[Some(1)]);
    }

    #[test]
    fn a_route_that_is_written_differently_does_not_stand() {
        for (from, to) in [
            ("GET", "[ GET, HEAD ]"),
            ("/apps/{app}", "/apps/{other}"),
            ("authenticated", "denied"),
            ("upstream: one", "upstream: two"),
            ("upstream: one", "upstream: one, host: a.test"),
            ("upstream: one", "upstream: one, stream: true"),
            ("upstream: one", "upstream: one, basic: true"),
            ("upstream: one", "upstream: one, query: [ a ]"),
            ("name: app", "name: other"),
        ] {
            let app = APP.replacen(from, to, 1);
            assert_ne!(app, APP, "{from}");
            stand(&[&app, LOGS], &[None, Some(1)]);
        }
    }

    #[test]
    fn a_route_does_not_stand_where_a_new_one_could_take_its_requests() {
        let new = |method: &str, path: &str| {
            format!(
                "{{ name: new, method: {method}, path: \"{path}\", access: denied, upstream: one }}"
            )
        };
        for (method, path) in [("GET", "/apps/secret"), ("HEAD", "/apps/(a|b)")] {
            stand(&[APP, LOGS, &new(method, path)], &[None, Some(1), None]);
        }
        for path in ["/logs/a", "/logs/{x}/y", "/{a}/{b}/{c}"] {
            stand(&[APP, LOGS, &new("GET", path)], &[Some(0), None, None]);
        }
        for (method, path) in [("POST", "/apps/a"), ("GET", "/logs"), ("GET", "/apps/a/b")] {
            stand(&[APP, LOGS, &new(method, path)], &[Some(0), Some(1), None]);
        }
        // Of another host, which a request of the old one may have named.
        let hosted = new("GET", "/apps/{app}").replace("upstream", "host: a.test, upstream");
        stand(&[APP, LOGS, &hosted], &[None, Some(1), None]);
    }

    #[test]
    fn sockets_threads_and_the_store_need_a_restart_and_nothing_else_does() {
        let old = config(HEAD, &[APP]);
        for (from, to, section) in [
            ("127.0.0.1:0", "127.0.0.1:1", "listeners"),
            (
                "listeners",
                "admin: { address: 127.0.0.1:9 }\nlisteners",
                "admin",
            ),
            ("usher.db", "other.db", "authority"),
            ("env: SEAL", "file: seal", "authority"),
            ("listeners", "threads: 3\nlisteners", "threads"),
        ] {
            let head = HEAD.replacen(from, to, 1);
            assert_ne!(head, HEAD, "{from}");
            assert_eq!(old.needs_restart(&config(&head, &[APP])), [section]);
        }
        let head = HEAD
            .replace("127.0.0.1:2", "127.0.0.1:3")
            .replace("acme", "beta");
        let head = format!("{head}limits: {{ headers: 50 }}\ntimeouts: {{ idle: 1m }}\n");
        assert_eq!(old.needs_restart(&config(&head, &[LOGS])), [""; 0]);
    }
}
