//! Look-ups over HTTP: where the names go, and where the ids stand in the answers.

use std::time::Duration;

use http::uri::PathAndQuery;

use super::{Compiler, Node, Section, items, path, read, scalar};
use crate::config::problem::Fault;
use crate::config::section::{all, one_or_more};
use crate::config::{HttpDirectory, LookupTemplate, OwnerAt, UpstreamUrl};
use crate::policy::{LookupKind, Pointer};

impl Compiler<'_> {
    /// Compiles `directory.http`.
    pub(super) fn http_directory(&mut self, node: &Node) -> Option<HttpDirectory> {
        let section = Section::open(node, "`http`", &KNOWN, &[], self.report)?;
        let credential = match section.find("credential") {
            Some(node) => self.credential(node).map(Some),
            None => Some(None),
        };
        let base = self.base;
        let ca = section
            .find("ca")
            .map(|node| read(node, self.report, path(base)));
        let ttl = duration_up_to(HttpDirectory::MAX_TTL);
        let ttl = section.read_or("ttl", HttpDirectory::TTL, self.report, ttl);
        let deadline = duration_up_to(HttpDirectory::MAX_DEADLINE);
        let default = HttpDirectory::DEADLINE;
        let deadline = section.read_or("deadline", default, self.report, deadline);
        if let (Some(ttl), Some(deadline)) = (ttl, deadline)
            && ttl < deadline * 2
        {
            let at = section.find("ttl").map_or(section.id, |node| node.id);
            let fault = Fault::new("`ttl` is shorter than twice the `deadline`");
            let hint = "it counts from the question, so a late answer could be used only briefly";
            self.report.error(at, fault.hint(hint));
        }
        let most = scalar::number(1, HttpDirectory::MAX_CONCURRENCY);
        let default = HttpDirectory::CONCURRENCY;
        let concurrency = section.read_or("concurrency", default, self.report, most);
        let kinds = self.lookups(&section);
        Some(HttpDirectory {
            credential: credential?,
            ca: ca.map_or(Some(None), |ca| ca.map(Some))?,
            ttl: ttl?,
            deadline: deadline?,
            concurrency: concurrency?,
            kinds: kinds?,
        })
    }

    fn lookups(&mut self, section: &Section<'_>) -> Option<Vec<(LookupKind, LookupTemplate)>> {
        let mut kinds = Vec::new();
        for (key, kind) in [
            ("orgs", LookupKind::Org),
            ("apps", LookupKind::App),
            ("machines", LookupKind::Machine),
            ("volumes", LookupKind::Volume),
            ("clusters", LookupKind::Cluster),
        ] {
            if let Some(node) = section.find(key) {
                let template = self.lookup(node, &kind);
                kinds.push(template.map(|template| (kind, template)));
            }
        }
        let objects = section.find("objects");
        let objects = objects.and_then(|node| items(node, "`objects`", self.report));
        let mut seen = Vec::new();
        for node in objects.unwrap_or_default() {
            kinds.push(self.object_lookup(node, &mut seen));
        }
        if kinds.is_empty() {
            let fault = Fault::new("`http` looks nothing up");
            let hint = "give at least one of orgs, apps, machines, volumes, clusters, objects";
            self.report.error(section.id, fault.hint(hint));
        }
        kinds.into_iter().collect()
    }

    fn lookup(&mut self, node: &Node, kind: &LookupKind) -> Option<LookupTemplate> {
        let (known, id): (&[&str], _) = match kind {
            LookupKind::Org => (&["url", "name", "id"], "id"),
            LookupKind::Cluster => (&["url", "name", "org"], "org"),
            LookupKind::App => (&["url", "name", "id", "org"], "id"),
            LookupKind::Machine | LookupKind::Volume | LookupKind::Object(_) => {
                (&["url", "name", "app", "org"], "app")
            }
        };
        let section = Section::open(node, "a look-up", known, &[], self.report)?;
        let owner = match kind {
            LookupKind::Org | LookupKind::Cluster => self.pointer(&section, id).map(OwnerAt::Org),
            LookupKind::App | LookupKind::Machine | LookupKind::Volume | LookupKind::Object(_) => {
                self.app_owner(&section, id)
            }
        };
        self.template(&section, owner)
    }

    /// The owner of an object is an app where the look-up has `app`, and else an organization.
    fn object_lookup(
        &mut self,
        node: &Node,
        seen: &mut Vec<String>,
    ) -> Option<(LookupKind, LookupTemplate)> {
        let known = ["kind", "url", "name", "app", "org"];
        let section = Section::open(node, "a look-up", &known, &[], self.report)?;
        let kind = section.read("kind", self.report, |text| {
            let kind = scalar::name(text)?;
            if seen.contains(&kind) {
                return Err(Fault::new(format!("`{kind}` is looked up twice")));
            }
            seen.push(kind.clone());
            Ok(kind)
        });
        let owner = match section.find("app") {
            Some(_) => self.app_owner(&section, "app"),
            None => self.pointer(&section, "org").map(OwnerAt::Org),
        };
        let template = self.template(&section, owner);
        Some((LookupKind::Object(kind?.into()), template?))
    }

    fn template(
        &mut self,
        section: &Section<'_>,
        owner: Option<OwnerAt>,
    ) -> Option<LookupTemplate> {
        let url = section.read("url", self.report, url);
        let nodes = section.find("name").map(one_or_more).unwrap_or_default();
        let name = all(nodes, |node| read(node, self.report, pointer));
        let (server, before, after) = url?;
        Some(LookupTemplate {
            server,
            before,
            after,
            name: name?,
            owner: owner?,
        })
    }

    fn app_owner(&mut self, section: &Section<'_>, key: &str) -> Option<OwnerAt> {
        let app = self.pointer(section, key);
        let org = self.pointer(section, "org");
        Some(OwnerAt::App {
            app: app?,
            org: org?,
        })
    }

    fn pointer(&mut self, section: &Section<'_>, key: &str) -> Option<Pointer> {
        section.read(key, self.report, pointer)
    }
}

const KNOWN: [&str; 11] = [
    "credential",
    "ca",
    "ttl",
    "deadline",
    "concurrency",
    "orgs",
    "apps",
    "machines",
    "volumes",
    "clusters",
    "objects",
];

fn duration_up_to(most: Duration) -> impl Fn(&str) -> Result<Duration, Fault> {
    move |text| {
        let duration = scalar::duration(text)?;
        if duration > most {
            let most = most.as_secs();
            return Err(Fault::new(format!("`{text}` is longer than {most}s")));
        }
        Ok(duration)
    }
}

fn pointer(text: &str) -> Result<Pointer, Fault> {
    Pointer::parse(text).ok_or_else(|| {
        Fault::new(format!("`{text}` points to no place in JSON"))
            .hint("write the keys from the outermost one, as in `/organization/id`")
    })
}

/// A URL with one `{name}` in its path or query: the server, and what is before and after it.
fn url(text: &str) -> Result<(UpstreamUrl, String, String), Fault> {
    let refuse = |why: &str| {
        Fault::new(format!("`{text}` {why}"))
            .hint("write `https://host/path/{name}`; the name is put in the place of `{name}`")
    };
    let (scheme, rest) = text
        .split_once("://")
        .ok_or_else(|| refuse("is neither http nor https"))?;
    let slash = rest.find('/').ok_or_else(|| refuse("has no path"))?;
    let (authority, target) = rest.split_at(slash);
    if authority.contains(['{', '}']) {
        return Err(refuse("has a host that depends on the name"));
    }
    let server = scalar::url(&format!("{scheme}://{authority}"))?;
    let (before, after) = target
        .split_once("{name}")
        .ok_or_else(|| refuse("has no `{name}` in its path or query"))?;
    let filled = format!("{before}x{after}");
    // A fragment would be cut off, and never sent.
    let whole = PathAndQuery::try_from(filled.as_str()).is_ok_and(|p| p.as_str() == filled);
    if !whole || filled.contains(['{', '}']) {
        return Err(refuse("is no URL with one `{name}`"));
    }
    Ok((server, before.to_owned(), after.to_owned()))
}
