//! Where a tunnel leads: `{machine_id}.vm.{app_name}.internal:22`.

use thiserror::Error;

use super::host::HostPattern;
use super::pattern::Capture;
use super::table::Captures;

/// A host and port, as far as they do not depend on the request.
///
/// What does is filled in from the captures of the request's route, the same that its access was
/// made from: what was judged is what is dialled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    pattern: HostPattern,
    /// Where each capture of the pattern comes from.
    sources: Box<[Source]>,
}

/// A capture of the route, by its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Path(usize),
    Host(usize),
}

/// A host and port to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Name or address, IPv6 without brackets.
    pub host: String,
    /// Never zero.
    pub port: u16,
}

impl Destination {
    /// Binds the captures of a pattern to those of a route.
    ///
    /// # Errors
    ///
    /// A capture that the route has not, or a pattern that names no port.
    pub fn new(
        pattern: HostPattern,
        path: &[Capture],
        host: &[Capture],
    ) -> Result<Self, DestinationError> {
        if !pattern.has_port() {
            return Err(DestinationError::NoPort);
        }
        let place = |captures: &[Capture], name: &str| {
            let single = |capture: &Capture| *capture.name == *name && !capture.tail;
            captures.iter().position(single)
        };
        let sources = pattern.captures().iter().map(|capture| {
            let name = &capture.name;
            let path = place(path, name).map(Source::Path);
            path.or_else(|| place(host, name).map(Source::Host))
                .ok_or_else(|| DestinationError::NotCaptured(name.clone()))
        });
        Ok(Self {
            sources: sources.collect::<Result<_, _>>()?,
            pattern,
        })
    }

    /// The host and port for what the path and the host of a request captured. `None` if that
    /// cannot be part of a host, or is no port.
    pub fn endpoint(&self, path: &Captures<'_>, host: &Captures<'_>) -> Option<Endpoint> {
        let values = self.sources.iter().map(|source| match source {
            Source::Path(index) => path.value(*index),
            Source::Host(index) => host.value(*index),
        });
        let values: Vec<_> = values.collect::<Option<_>>()?;
        let (host, port) = self.pattern.fill(&values)?;
        Some(Endpoint { host, port })
    }
}

/// Why a route cannot lead there.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DestinationError {
    /// A tunnel has no default port.
    #[error("it names no port, and a tunnel has no default one")]
    NoPort,
    /// Neither the path nor the host of the route has such a capture, for one segment or label.
    #[error("neither the path nor the host of the route captures `{0}`")]
    NotCaptured(Box<str>),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::Pattern;

    fn target(to: &str, path: (&str, &[&str]), host: (&str, &[&str])) -> Option<(String, u16)> {
        let (pattern, labels) = (Pattern::parse(path.0), HostPattern::parse(host.0));
        let (pattern, labels) = (pattern.unwrap(), labels.unwrap());
        let to = HostPattern::parse(to).unwrap();
        let to = Destination::new(to, pattern.captures(), labels.captures()).unwrap();
        let values = |values: &[&'static str]| values.iter().copied().collect::<Captures<'_>>();
        let owned = |list: &[&str]| -> Vec<&'static str> {
            list.iter().map(|text| &*text.to_string().leak()).collect()
        };
        let target = to.endpoint(&values(&owned(path.1)), &values(&owned(host.1)));
        target.map(|target| (target.host, target.port))
    }

    #[test]
    fn captures_are_filled_in_by_name() {
        let machine = "{machine}.vm.{app}.internal:22";
        let told = Some(("148e.vm.web.internal".to_owned(), 22));
        let host = ("{machine}.vm.{app}.internal:22", &["148e", "web"][..]);
        assert_eq!(target(machine, ("/", &[]), host), told);
        let path = ("/apps/{app}/machines/{machine}", &["web", "148e"][..]);
        assert_eq!(target(machine, path, ("x", &[])), told);
        let both = (("/m/{machine}", &["148e"][..]), ("{app}.x", &["web"][..]));
        assert_eq!(target(machine, both.0, both.1), told);
        let port = ("{app}.internal:{port}", &["web", "5432"][..]);
        let told = Some(("web.internal".to_owned(), 5432));
        assert_eq!(target("{app}.internal:{port}", ("/", &[]), port), told);
        let told = Some(("::1".to_owned(), 2222));
        assert_eq!(target("[::1]:2222", ("/", &[]), ("x", &[])), told);
        let told = Some(("127.0.0.1".to_owned(), 2222));
        assert_eq!(target("127.0.0.1:2222", ("/", &[]), ("x", &[])), told);
    }

    #[test]
    fn what_cannot_be_part_of_a_host_is_not_filled_in() {
        let to = "{app}.internal:{port}";
        for (app, port) in [
            ("a.b", "22"),
            ("a:1", "22"),
            ("", "22"),
            ("web", "0"),
            ("web", "022"),
            ("web", "65536"),
            ("web", "ssh"),
        ] {
            let path = ("/{app:digest}/{port:name}", &[app, port][..]);
            assert_eq!(target(to, path, ("x", &[])), None, "{app} {port}");
        }
    }

    #[test]
    fn a_destination_has_a_port_and_captures_of_its_route() {
        let pattern = Pattern::parse("/{app}/{rest...}").unwrap();
        let new = |to: &str| {
            let to = HostPattern::parse(to).unwrap();
            Destination::new(to, pattern.captures(), &[]).err()
        };
        assert_eq!(new("{app}.internal:22"), None);
        assert_eq!(new("{app}.internal"), Some(DestinationError::NoPort));
        for name in ["rest", "machine"] {
            let missing = Some(DestinationError::NotCaptured(name.into()));
            assert_eq!(new(&format!("{{{name}}}.internal:22")), missing);
        }
    }
}
