//! usher as the command that people run.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;

use serde_json::Value;

use super::DEADLINE;
use super::canary::{self, Place};
use super::keys::hide_keys;
use super::peer::Peer;

/// A command that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs a command to its end. It inherits nothing that could hold a token.
pub(crate) fn run(arguments: &[&str]) -> Ended {
    canary::hide_tokens(&arguments.join(" "));
    let output = command().args(arguments).output().unwrap();
    let ended = Ended {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    };
    canary::hide_tokens(&ended.stdout);
    // A key that it has made is looked for from here on, first in what it says.
    let mut words = arguments.iter().skip_while(|word| **word != "--config");
    if let (Some(&"key"), Some(config)) = (arguments.first(), words.nth(1)) {
        hide_keys(Path::new(config).parent().unwrap());
    }
    if !canary::prints_tokens(arguments) {
        canary::look(Place::Stdout, ended.stdout.as_bytes());
    }
    canary::look(Place::Stderr, ended.stderr.as_bytes());
    canary::assert_hidden();
    ended
}

fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_usher"));
    command
        .env_remove("USHER_TOKEN")
        .env_remove("FLY_API_TOKEN")
        .env_remove("USHER_LOG")
        .stdin(Stdio::null());
    command
}

/// `usher serve` as a process of its own, with its log at level trace, in which no secret may show.
pub(crate) struct Process {
    child: Child,
    lines: Receiver<String>,
    log: Vec<String>,
    pub(crate) address: SocketAddr,
    pub(crate) admin: SocketAddr,
}

impl Process {
    /// Starts it, and waits until it listens.
    pub(crate) fn serve(config: &Path) -> Self {
        let mut child = command()
            .env("USHER_LOG", "trace")
            .args(["serve", "--config"])
            .arg(config)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in stderr.lines() {
                let line = line.unwrap();
                canary::look(Place::Log, line.as_bytes());
                // The test may have ended before the process.
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let unknown = SocketAddr::from(([0, 0, 0, 0], 0));
        let mut process = Self {
            child,
            lines,
            log: Vec::new(),
            address: unknown,
            admin: unknown,
        };
        process.address = process.listening("listening");
        hide_keys(config.parent().unwrap());
        process.admin = process.listening("admin listening");
        process
    }

    fn listening(&mut self, message: &str) -> SocketAddr {
        let event = self.event(|event| event["message"] == message);
        event["address"].as_str().unwrap().parse().unwrap()
    }

    /// The first event from here on that is as wanted.
    #[track_caller]
    pub(crate) fn event(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        loop {
            let line = match self.lines.recv_timeout(DEADLINE) {
                Ok(line) => line,
                Err(error) => panic!("no such event, {error}; the log is {:#?}", self.log),
            };
            let event = serde_json::from_str(&line).unwrap_or(Value::Null);
            self.log.push(line);
            if wanted(&event) {
                return event;
            }
        }
    }

    pub(crate) fn connect(&self) -> Peer {
        Peer::connect(self.address)
    }

    /// Sends it a signal, by name.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &pid]).status();
        assert!(sent.unwrap().success());
    }

    /// Waits for its end; its exit code, and everything it logged.
    pub(crate) fn wait(mut self) -> (Option<i32>, String) {
        let mut log = std::mem::take(&mut self.log);
        loop {
            match self.lines.recv_timeout(DEADLINE) {
                Ok(line) => log.push(line),
                // The process has closed its log, which it does at its end.
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
                Err(mpsc::RecvTimeoutError::Timeout) => panic!("it does not end: {log:#?}"),
            }
        }
        canary::assert_hidden();
        (self.child.wait().unwrap().code(), log.join("\n"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It has ended already, or the test has failed.
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
        canary::assert_hidden();
    }
}
