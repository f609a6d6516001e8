//! The SSH server of OpenSSH, for tunnels to lead to, and its client.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::canary::{self, Place};

/// A server with keys of its own, which lets in whoever runs the tests. It goes on until the
/// process ends.
pub(crate) struct Sshd {
    pub(crate) address: SocketAddr,
    folder: tempfile::TempDir,
    connections: Arc<AtomicUsize>,
}

impl Sshd {
    /// Starts it; there is no test without it.
    pub(crate) fn start() -> Self {
        let server = Path::new(SERVER);
        assert!(
            server.exists(),
            "{SERVER} is missing: apt-get install openssh-server"
        );
        let folder = tempfile::tempdir().unwrap();
        let [host, user] = ["host", "user"].map(|name| key(&folder.path().join(name)));
        let keys = folder.path().join("authorized_keys");
        fs::copy(user.with_extension("pub"), &keys).unwrap();
        // Where it changes its root to while it talks to strangers, if it is root itself.
        if current_user() == "root" {
            fs::create_dir_all("/run/sshd").unwrap();
        }
        let config = folder.path().join("sshd_config");
        let lines = format!(
            "HostKey {}\nAuthorizedKeysFile {}\nStrictModes no\nUsePAM no\n\
             PasswordAuthentication no\nPermitRootLogin prohibit-password\nPidFile none\n",
            host.display(),
            keys.display()
        );
        fs::write(&config, lines).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        // One server for each connection, as under inetd: so it listens from the first moment.
        thread::spawn(move || {
            for accepted in listener.incoming() {
                count.fetch_add(1, Ordering::SeqCst);
                let socket = OwnedFd::from(accepted.unwrap());
                let mut child = Command::new(SERVER)
                    .args(["-i", "-e", "-f"])
                    .arg(&config)
                    .stdin(Stdio::from(socket.try_clone().unwrap()))
                    .stdout(Stdio::from(socket))
                    .stderr(Stdio::null())
                    .spawn()
                    .unwrap();
                thread::spawn(move || child.wait());
            }
        });
        Self {
            address,
            folder,
            connections,
        }
    }

    /// How many connections were made to it.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// The client, about to run a command on a host that it reaches through `usher connect` and
    /// these arguments.
    pub(crate) fn client(
        &self,
        token: &str,
        arguments: &str,
        host: &str,
        command: &str,
    ) -> Command {
        let mut client = Command::new("ssh");
        let usher = env!("CARGO_BIN_EXE_usher");
        client
            .args([
                "-F",
                "/dev/null",
                "-o",
                "BatchMode=yes",
                "-o",
                "StrictHostKeyChecking=no",
            ])
            .args(["-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"])
            .arg("-o")
            .arg(format!("ProxyCommand={usher} connect {arguments}"))
            .arg("-i")
            .arg(self.folder.path().join("user"))
            .args(["-l", &current_user(), host, command])
            .env("USHER_TOKEN", token)
            .env_remove("FLY_API_TOKEN")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        client
    }
}

/// Ends a client, if a test leaves it running.
pub(crate) struct Client(pub(crate) Child);

impl Client {
    /// Runs one to its end. What `usher connect` has said is on its standard error.
    pub(crate) fn output(mut command: Command) -> Output {
        let output = command.output().unwrap();
        canary::look(Place::Stdout, &output.stdout);
        canary::look(Place::Stderr, &output.stderr);
        output
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ended = self.0.kill();
        let _waited = self.0.wait();
    }
}

fn key(path: &Path) -> PathBuf {
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-f"])
        .arg(path)
        .status()
        .expect("ssh-keygen is missing: apt-get install openssh-client");
    assert!(made.success());
    path.to_owned()
}

fn current_user() -> String {
    let output = Command::new("id").arg("-un").output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

const SERVER: &str = "/usr/sbin/sshd";
