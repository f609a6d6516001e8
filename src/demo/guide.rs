//! What the demo prints: where everything is, and commands to paste.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use super::folder::{CONFIG, Folder};
use super::samples::{Attempt, SampleToken};
use crate::cli::{CliError, Console};

/// All that the guide speaks of.
#[derive(Debug)]
pub(super) struct Guide<'a> {
    pub(super) proxy: SocketAddr,
    pub(super) admin: SocketAddr,
    pub(super) upstream: SocketAddr,
    /// The key for the SSH server behind the tunnels, if there is one.
    pub(super) ssh_key: Option<&'a Path>,
    pub(super) folder: &'a Folder,
    pub(super) tokens: &'a [SampleToken],
    /// Whether the reader is a terminal.
    pub(super) colour: bool,
}

impl Guide<'_> {
    /// Prints it; the last line says that requests are served.
    ///
    /// A command has its line to itself, with what to expect on the line before: a comment behind
    /// it would be an argument in shells that know no comments at their prompt.
    pub(super) fn print(&self, console: &mut Console<'_>) -> Result<(), CliError> {
        self.places(console)?;
        self.variables(console)?;
        for token in self.tokens {
            let sample = &token.sample;
            console.say(self.bold(sample.kind.name()))?;
            self.attempt(&sample.permitted, Some(sample.variable), 200, console)?;
            self.attempt(&sample.denied, Some(sample.variable), 403, console)?;
        }
        console.say(self.bold("no token"))?;
        self.attempt(&ANONYMOUS, None, 401, console)?;
        self.more(console)?;
        console.say("")?;
        console.say(format_args!(
            "ready; each decision is logged below, and Ctrl-C ends it"
        ))
    }

    fn places(&self, console: &mut Console<'_>) -> Result<(), CliError> {
        let folder = self.folder.root().display();
        let fate = if self.folder.is_kept() {
            "kept"
        } else {
            "removed at the end"
        };
        let (proxy, admin) = (reachable(self.proxy), reachable(self.admin));
        console.say(self.bold("usher demo: a proxy, its store, and an API behind it"))?;
        console.say(format_args!("  proxy     http://{proxy}"))?;
        console.say(format_args!("  metrics   http://{admin}/metrics"))?;
        console.say(format_args!(
            "  upstream  http://{}  says what reached it",
            self.upstream
        ))?;
        console.say(format_args!("  files     {folder}  {fate}"))?;
        console.say("")?;
        console.say(
            "The organization acme has the apps web and api, beta has shop, gamma has vault.",
        )?;
        console.say("Their bearers may")?;
        for token in self.tokens {
            let name = token.sample.kind.name();
            console.say(format_args!("  {name:<14}{}", token.sample.may))?;
        }
        console.say("")
    }

    fn variables(&self, console: &mut Console<'_>) -> Result<(), CliError> {
        console.say("Paste these first; the tokens are valid for a day:")?;
        console.say("")?;
        for token in self.tokens {
            // A header value is base64, commas and a space.
            let (name, header) = (token.sample.variable, &token.header);
            console.say(format_args!("export {name}='{header}'"))?;
        }
        console.say("")?;
        console.say("Then try, and look at the status:")?;
        console.say("")
    }

    fn attempt(
        &self,
        attempt: &Attempt,
        variable: Option<&str>,
        status: u16,
        console: &mut Console<'_>,
    ) -> Result<(), CliError> {
        let verdict = self.verdict(status);
        console.say(format_args!("  {verdict} {}:", attempt.does))?;
        let mut command = "curl -i".to_owned();
        // With a body it is POST by itself.
        if attempt.method != "GET" && attempt.body.is_none() {
            command += " -X ";
            command += attempt.method;
        }
        if let Some(variable) = variable {
            command += &format!(" -H \"Authorization: ${variable}\"");
        }
        if let Some(body) = attempt.body {
            let body = shell_word(body);
            command += &format!(" -H 'Content-Type: application/json' -d {body}");
        }
        let url = self.url(attempt.target);
        console.say(format_args!("    {command} {url}"))
    }

    fn more(&self, console: &mut Console<'_>) -> Result<(), CliError> {
        let stream = self.url("/api/v1/apps/web/logs/stream");
        console.say(self.bold("more"))?;
        console.say("  follow the log of web, until Ctrl-C:")?;
        console.say(format_args!(
            "    curl -sN -H \"Authorization: $READONLY\" {stream}"
        ))?;
        let program = std::env::current_exe()?;
        let program = shell_word(&program.display().to_string());
        let config = self.folder.path(CONFIG).display().to_string();
        let config = shell_word(&config);
        if let Some(key) = self.ssh_key {
            let key = shell_word(&key.display().to_string());
            let proxy = reachable(self.proxy);
            let command = shell_word(&format!("{program} connect connect+http://{proxy}/%h:%p"));
            console.say("  open a shell on a machine of web, which this machine plays:")?;
            console.say(format_args!(
                "    USHER_TOKEN=\"$SSH\" ssh -F none -i {key} -o UserKnownHostsFile=/dev/null \
                 -o StrictHostKeyChecking=no -o ProxyCommand={command} \
                 148e1aaa000001.vm.web.internal"
            ))?;
        }
        console.say("  revoke a token; within a second its requests are a 401:")?;
        console.say(format_args!(
            "    {program} token revoke --config {config} \"$READONLY\""
        ))
    }

    fn url(&self, target: &str) -> String {
        shell_word(&format!("http://{}{target}", reachable(self.proxy)))
    }

    fn bold<'t>(&self, text: &'t str) -> impl fmt::Display + use<'t> {
        self.paint("1", text)
    }

    fn verdict(&self, status: u16) -> impl fmt::Display + use<> {
        let (colour, text) = match status {
            200 => ("32", "200, permitted:"),
            403 => ("31", "403, denied:"),
            _ => ("31", "401, no usable token:"),
        };
        self.paint(colour, text)
    }

    fn paint<'t>(&self, code: &'static str, text: &'t str) -> impl fmt::Display + use<'t> {
        let colour = self.colour;
        fmt::from_fn(move |f| {
            if colour {
                write!(f, "\x1b[{code}m{text}\x1b[0m")
            } else {
                f.write_str(text)
            }
        })
    }
}

/// Where a client on this machine reaches a listener.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip @ (IpAddr::V4(_) | IpAddr::V6(_)) => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// The text as one word of any shell.
fn shell_word(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_./:@,+".contains(&b);
    if !text.is_empty() && text.bytes().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

const ANONYMOUS: Attempt = Attempt {
    does: "look at an app",
    method: "GET",
    target: "/v1/apps/web",
    body: None,
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shells_read_one_word() {
        for (text, expected) in [
            ("http://127.0.0.1:8080/v1", "http://127.0.0.1:8080/v1"),
            ("http://[::1]:1/", "'http://[::1]:1/'"),
            ("/a?b=", "'/a?b='"),
            ("/it's here", r"'/it'\''s here'"),
            ("", "''"),
        ] {
            assert_eq!(shell_word(text), expected);
        }
    }

    #[test]
    fn every_interface_is_reached_through_this_machine() {
        for (listens, reached) in [
            ("0.0.0.0:1", "127.0.0.1:1"),
            ("[::]:1", "[::1]:1"),
            ("10.0.0.7:1", "10.0.0.7:1"),
        ] {
            let address = reachable(listens.parse().unwrap());
            assert_eq!(address.to_string(), reached);
        }
    }
}
