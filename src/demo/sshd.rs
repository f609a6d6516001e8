//! The SSH server that tunnels of the demo can lead to, where OpenSSH is installed.

use std::fs;
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A server on the loopback interface that lets in whoever has its key, as who runs the demo. It
/// ends when dropped.
#[derive(Debug)]
pub(super) struct Sshd {
    child: Child,
    /// Where it listens.
    pub(super) address: SocketAddr,
    /// The private key of its one client.
    pub(super) key: PathBuf,
}

impl Sshd {
    /// Starts it with new keys in `folder`, which has to exist and to be private. `None` where
    /// OpenSSH is not installed, or where its server cannot run as this user.
    pub(super) fn start(folder: &Path) -> io::Result<Option<Self>> {
        if !Path::new(SERVER).exists() {
            return Ok(None);
        }
        let (host, key) = (folder.join("host"), folder.join("key"));
        if !(make_key(&host)? && make_key(&key)?) {
            return Ok(None);
        }
        // Nothing else can hold the port but for the moment until the server does.
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = free.local_addr()?;
        let config = folder.join("sshd_config");
        let lines = format!(
            "ListenAddress {address}\nHostKey \"{}\"\nAuthorizedKeysFile \"{}.pub\"\n\
             AuthenticationMethods publickey\nPermitRootLogin prohibit-password\n\
             StrictModes no\nUsePAM no\nPidFile none\n",
            host.display(),
            key.display()
        );
        fs::write(&config, lines)?;
        let server = |mode: &str| {
            let mut server = Command::new(SERVER);
            server.args([mode, "-f"]).arg(&config);
            server
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            server
        };
        // A root without /run/sshd, say.
        if !server("-t").status()?.success() {
            return Ok(None);
        }
        drop(free);
        let child = server("-D").spawn()?;
        Ok(Some(Self {
            child,
            address,
            key,
        }))
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// Makes a key pair; an older one of this name goes. False where there is no tool for it.
fn make_key(path: &Path) -> io::Result<bool> {
    for old in [path.to_owned(), path.with_extension("pub")] {
        match fs::remove_file(&old) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-C", "usher demo", "-f"])
        .arg(path)
        .stdin(Stdio::null())
        .status();
    match made {
        Ok(status) => Ok(status.success()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

const SERVER: &str = "/usr/sbin/sshd";

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::net::TcpStream;
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn it_listens_until_it_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        // What a root needs, and the start of the system's own server would make.
        let made = fs::create_dir_all("/run/sshd");
        let sshd = Sshd::start(folder.path()).unwrap();
        let sshd = sshd.unwrap_or_else(|| panic!("{SERVER} is missing, or /run/sshd: {made:?}"));
        assert!(sshd.address.ip().is_loopback() && sshd.key.exists());
        let begun = Instant::now();
        let mut tcp = loop {
            match TcpStream::connect(sshd.address) {
                Ok(tcp) => break tcp,
                Err(error) => assert!(begun.elapsed() < Duration::from_secs(20), "{error}"),
            }
            std::thread::yield_now();
        };
        let mut banner = [0; 8];
        tcp.read_exact(&mut banner).unwrap();
        assert_eq!(&banner, b"SSH-2.0-");
        let address = sshd.address;
        drop(sshd);
        assert!(TcpStream::connect(address).is_err());
        let again = Sshd::start(folder.path()).unwrap();
        assert!(again.is_some(), "an earlier demo's keys are no obstacle");
    }
}
