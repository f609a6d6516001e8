//! TLS of listeners and upstreams.

use super::super::file::Node;
use super::super::problem::Fault;
use super::super::section::{Section, read};
use super::super::{ClientCertificates, ListenerTls, TlsIdentity, UpstreamUrl};
use super::{Compiler, path};

impl Compiler<'_> {
    /// `tls` of a listener.
    pub(super) fn listener_tls(&mut self, node: &Node) -> Option<ListenerTls> {
        let known = ["certificate", "key", "client_ca", "client_certificates"];
        let section = Section::open(node, "`tls`", &known, &[], self.report)?;
        let (identity, clients) = (self.identity(&section), self.client_certificates(&section));
        Some(ListenerTls {
            identity: identity?,
            clients: clients?,
        })
    }

    /// Certificates of clients. Whoever names roots wants them to count, so they are required
    /// unless it says otherwise.
    fn client_certificates(&mut self, tls: &Section<'_>) -> Option<Option<ClientCertificates>> {
        let required = tls.read_or("client_certificates", true, self.report, required);
        match (tls.find("client_ca"), tls.find("client_certificates")) {
            (Some(node), _) => {
                let ca = read(node, self.report, path(self.base));
                Some(Some(ClientCertificates {
                    ca: ca?,
                    required: required?,
                }))
            }
            (None, Some(node)) => {
                let message = "there is nothing to verify client certificates with";
                let fault = Fault::new(message).hint("`client_ca` names a file of PEM roots");
                self.report.error(node.id, fault);
                None
            }
            (None, None) => Some(None),
        }
    }

    /// `identity` of an upstream: what usher shows to its servers.
    pub(super) fn upstream_identity(
        &mut self,
        upstream: &Section<'_>,
        urls: Option<&[UpstreamUrl]>,
    ) -> Option<Option<TlsIdentity>> {
        let Some(node) = upstream.find("identity") else {
            return Some(None);
        };
        if urls.is_some_and(|urls| !urls.is_empty() && !urls.iter().any(|url| url.tls)) {
            let message = "no server of this upstream would see the certificate";
            let fault = Fault::new(message).hint("it is shown to https servers only");
            self.report.error(node.id, fault);
        }
        let known = ["certificate", "key"];
        let section = Section::open(node, "`identity`", &known, &[], self.report)?;
        self.identity(&section).map(Some)
    }

    fn identity(&mut self, section: &Section<'_>) -> Option<TlsIdentity> {
        let base = self.base;
        let certificate = section.read("certificate", self.report, path(base));
        let key = section.read("key", self.report, path(base));
        Some(TlsIdentity {
            certificate: certificate?,
            key: key?,
        })
    }
}

fn required(text: &str) -> Result<bool, Fault> {
    match text {
        "required" => Ok(true),
        "optional" => Ok(false),
        _ => {
            let fault = Fault::new("client certificates are either required or optional");
            Err(fault.suggest(text, ["required", "optional"]))
        }
    }
}
