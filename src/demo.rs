//! `usher demo`: a whole system in one process.
//!
//! It writes a configuration into a folder, and from there on is `usher serve` with that file. The
//! API behind it is played by a small server of its own, for a platform that exists nowhere else.

mod folder;
mod guide;
mod platform;
mod samples;
mod sshd;
mod upstream;

use std::io::{self, IsTerminal as _};
use std::net::SocketAddr;
use std::path::PathBuf;

use thiserror::Error;

use crate::cli::{self, CliError, ConfigFile, Console, Demo};
use crate::proxy::StartError;
use crate::shutdown::Shutdown;

use folder::{CONFIG, Folder};
use guide::Guide;
use sshd::Sshd;
use upstream::Upstream;

/// Runs the demo until a signal ends it.
pub fn run(args: &Demo, console: &mut Console<'_>) -> Result<(), CliError> {
    // First of all, so that no signal can leave the folder behind.
    let shutdown = Shutdown::on_signals().map_err(CliError::Signals)?;
    let folder = Folder::open(args.dir.as_deref())?;
    serve(args, &folder, shutdown, console)?;
    Ok(folder.close()?)
}

fn serve(
    args: &Demo,
    folder: &Folder,
    shutdown: Shutdown,
    console: &mut Console<'_>,
) -> Result<(), CliError> {
    let upstream = Upstream::bind().map_err(DemoError::Upstream)?;
    let address = upstream.address();
    let sshd = Sshd::start(&folder.within(folder::SSH)?).map_err(DemoError::Sshd)?;
    let text = configuration(args.listen, args.admin, address);
    let text = match &sshd {
        None => text,
        Some(sshd) => text.replace(SSH, &format!("urls: [ \"tcp://{}\" ]", sshd.address)),
    };
    folder.write(CONFIG, &text)?;
    folder.write(folder::FIELDS, include_str!("../config/graphql.yaml"))?;
    folder.provide_seal_key()?;
    let file = ConfigFile {
        config: folder.path(CONFIG),
    };
    let (server, authority) =
        cli::open_server(&file, console).map_err(|error| taken(error, args))?;
    let tokens = samples::issue(&authority, console.now)?;
    folder.write(folder::TOKENS, &samples::to_json(&tokens))?;
    let _upstream = upstream
        .start(shutdown.drain.clone())
        .map_err(DemoError::Upstream)?;
    cli::log_to_stderr();
    let guide = Guide {
        proxy: server.addresses().first().copied().unwrap_or(args.listen),
        admin: server.admin_address().unwrap_or(args.admin),
        upstream: address,
        ssh_key: sshd.as_ref().map(|sshd| sshd.key.as_path()),
        folder,
        tokens: &tokens,
        colour: io::stdout().is_terminal() && (console.env)("NO_COLOR").is_none(),
    };
    guide.print(console)?;
    Ok(server.run(shutdown)?)
}

/// The demo's configuration with these addresses in the place of its own: a platform of its own, and
/// the routes that stand in front of the real one.
///
/// An address has no character that could end the quotes it is put in.
fn configuration(listen: SocketAddr, admin: SocketAddr, upstream: SocketAddr) -> String {
    let routes = FLY.split_once(ROUTES).map_or("", |(_, routes)| routes);
    let head = PLATFORM
        .replace(LISTEN, &format!("- address: \"{listen}\""))
        .replace(ADMIN, &format!("admin: {{ address: \"{admin}\" }}"))
        .replace(UPSTREAM, &format!("urls: [ \"http://{upstream}\" ]"));
    format!("{head}{ROUTES}{routes}")
}

/// Names the option that helps where a port is in use.
fn taken(error: CliError, args: &Demo) -> CliError {
    let CliError::Start(StartError::Bind { address, source }) = error else {
        return error;
    };
    if source.kind() != io::ErrorKind::AddrInUse {
        return StartError::Bind { address, source }.into();
    }
    let option = if address == args.listen {
        "--listen"
    } else {
        "--admin"
    };
    let free = SocketAddr::new(address.ip(), 0);
    DemoError::Taken {
        address,
        option,
        free,
    }
    .into()
}

/// Why there can be no demo.
#[derive(Debug, Error)]
pub enum DemoError {
    /// The folder or a file in it.
    #[error("cannot use {} for the files of the demo; --dir DIR takes another folder", path.display())]
    Folder {
        /// Which.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The demo would write over what is somebody's.
    #[error(
        "{} was not written by `usher demo`; --dir DIR takes another folder, or one that is new",
        path.display()
    )]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// Something else listens there, perhaps another demo.
    #[error("{address} is in use; `usher demo {option} {free}` takes a port that is free")]
    Taken {
        /// Where.
        address: SocketAddr,
        /// The option that sets it.
        option: &'static str,
        /// What to set it to.
        free: SocketAddr,
    },
    /// The API behind the proxy.
    #[error("cannot start the upstream of the demo")]
    Upstream(#[source] io::Error),
    /// The SSH server behind the tunnels.
    #[error("cannot start an SSH server for the demo")]
    Sshd(#[source] io::Error),
    /// No random bytes.
    #[error("the system gives no random bytes")]
    Random(#[from] getrandom::Error),
}

const PLATFORM: &str = include_str!("../config/demo.yaml");
const FLY: &str = include_str!("../config/fly.yaml");
/// Where the routes begin in it; they are its last section.
const ROUTES: &str = "\nroutes:\n";
// With enough around the addresses that none of them can be taken for another.
const LISTEN: &str = r#"- address: "127.0.0.1:8080""#;
const ADMIN: &str = r#"admin: { address: "127.0.0.1:9090" }"#;
const UPSTREAM: &str = r#"urls: [ "http://127.0.0.1:8081" ]"#;
const SSH: &str = r#"urls: [ "tcp://127.0.0.1:22" ]"#;

#[cfg(test)]
mod tests;
