//! `usher demo` as a newcomer meets it: started as a program, and every command that it prints
//! pasted into a shell.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at what it does not expect"
)]

#[path = "support/canary.rs"]
mod canary;
#[path = "support/keys.rs"]
mod keys;

use std::fs;
use std::io::{BufRead as _, BufReader, Lines};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Output, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use self::canary::Place;

#[test]
fn every_printed_command_does_what_it_says() {
    let demo = Demo::start(&[]);
    let attempts = demo.attempts();
    let statuses: Vec<_> = attempts.iter().map(|(status, _)| status.as_str()).collect();
    assert_eq!(
        statuses,
        [&["200", "403"].repeat(KINDS.len())[..], &["401"]].concat(),
        "permitted and denied with each token, and one without"
    );
    for (status, command) in &attempts {
        let answer = demo.paste(command);
        assert_eq!(status_of(&answer), *status, "{command}\n{answer}");
        if status == "200" {
            let of = |org: &str| answer.contains(&format!(r#""x-usher-org": "{org}""#));
            let beta = command.contains("/beta/");
            assert_eq!((of("2001"), of("2002")), (!beta, beta), "{answer}");
            assert!(answer.contains(r#""authorization": false"#), "{answer}");
        } else {
            assert!(answer.contains("application/problem+json"), "{answer}");
            assert!(!answer.contains("received"), "{answer}");
        }
    }

    let mut log = demo.follow_log();
    for _ in 0..2 {
        assert!(log.line().contains(r#""message":"web is well""#));
    }
    drop(log);

    let reads = |(_, command): &&(String, &str)| command.contains("$READONLY");
    let (_, read) = attempts.iter().find(reads).unwrap();
    assert_eq!(status_of(&demo.paste(read)), "200");
    demo.paste(demo.line_with(" token revoke "));
    let began = Instant::now();
    while status_of(&demo.paste(read)) != "401" {
        assert!(
            began.elapsed() < PATIENCE,
            "a revoked token is still accepted"
        );
    }
}

#[test]
fn a_shell_is_reached_through_the_tunnel_with_the_right_token() {
    // What sshd needs of root, and the start of the system's own server would make.
    let made = fs::create_dir_all("/run/sshd");
    let demo = Demo::start(&[]);
    let line = demo.line_with(" ssh -F none ");
    let reached = demo.paste(&format!("{line} echo reached"));
    assert_eq!(reached.trim(), "reached", "{made:?}");
    let readonly = line.replace("\"$SSH\"", "\"$READONLY\"");
    let refused = demo.shell(&format!("{readonly} echo reached")).output();
    let refused = looked_through(refused.unwrap());
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success() && refused.stdout.is_empty());
    assert!(said.contains("wC is not permitted"), "{said}");
}

#[test]
fn a_signal_ends_streams_and_removes_the_folder() {
    let mut demo = Demo::start(&[]);
    let mut log = demo.follow_log();
    log.line();
    assert_eq!(fs::read_dir(demo.home.path()).unwrap().count(), 1);
    assert!(demo.terminate().success());
    assert!(log.finish().success(), "the stream ends whole");
    assert_eq!(fs::read_dir(demo.home.path()).unwrap().count(), 0);
}

#[test]
fn a_port_in_use_names_the_option_that_helps() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for (option, other) in [("--listen", "--admin"), ("--admin", "--listen")] {
        let home = tempfile::tempdir().unwrap();
        let failed = usher(home.path())
            .args(["demo", option, &address, other, "127.0.0.1:0"])
            .output()
            .unwrap();
        let said = String::from_utf8(failed.stderr).unwrap();
        assert_eq!(failed.status.code(), Some(1), "{said}");
        assert!(
            said.contains(&format!("{address} is in use"))
                && said.contains(&format!("`usher demo {option} 127.0.0.1:0`")),
            "{said}"
        );
        assert!(failed.stdout.is_empty());
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 0);
    }
}

#[test]
fn a_kept_folder_works_with_the_other_commands_and_again() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("it's kept");
    let config = dir.join("usher.yaml");
    let mut headers = Vec::new();
    for run in 1..=2 {
        let mut demo = Demo::start(&["--dir", dir.to_str().unwrap()]);
        for name in [
            "usher.yaml",
            "graphql.yaml",
            "usher.db",
            "seal.key",
            "tokens.json",
        ] {
            let mode = fs::metadata(dir.join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
        let tokens = fs::read_to_string(dir.join("tokens.json")).unwrap();
        let tokens: serde_json::Value = serde_json::from_str(&tokens).unwrap();
        let kinds: Vec<_> = tokens.as_object().unwrap().keys().collect();
        assert_eq!(kinds, KINDS);
        headers.push(tokens["deploy"].as_str().unwrap().to_owned());
        for header in &headers {
            let verified = demo.beside(&["token", "verify", "--token", header], &config);
            assert!(verified.status.success(), "{verified:?}");
        }
        let listed = demo.beside(&["token", "list", "--json"], &config);
        let listed: serde_json::Value = serde_json::from_slice(&listed.stdout).unwrap();
        // The user of the auth token is in two organizations, each with a token of its own.
        assert_eq!(listed.as_array().unwrap().len(), (KINDS.len() + 1) * run);
        demo.paste(demo.line_with(" token revoke "));
        assert!(demo.terminate().success());
    }
    assert!(config.exists());
}

/// A running demo. It is killed when this is dropped.
struct Demo {
    child: Child,
    printed: Vec<String>,
    /// Where temporary folders are made; also the home of every command, so that nobody's
    /// settings change what they do.
    home: TempDir,
    /// Its log at level trace, in which no secret may show, nor in anything else here.
    log: Option<JoinHandle<()>>,
}

impl Demo {
    /// Starts it on free ports and waits until it is ready.
    fn start(args: &[&str]) -> Self {
        let home = tempfile::tempdir().unwrap();
        let mut child = usher(home.path())
            .args(["demo", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
            .args(args)
            .env("USHER_LOG", "trace")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        let log = thread::spawn(move || {
            for line in log.lines() {
                canary::look(Place::Log, line.unwrap().as_bytes());
            }
        });
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let mut demo = Self {
            child,
            printed: Vec::new(),
            home,
            log: Some(log),
        };
        for line in stdout.lines() {
            let line = line.unwrap();
            let ready = line.starts_with("ready");
            if line.starts_with("export ") {
                canary::hide_tokens(&line);
            } else {
                canary::look(Place::Stdout, line.as_bytes());
            }
            demo.printed.push(line);
            if ready {
                keys::hide_keys(&demo.folder(args));
                return demo;
            }
        }
        panic!("it ended: {}", demo.printed.join("\n"));
    }

    /// Where it keeps its store: as it was told, or alone in the temporary folder.
    fn folder(&self, args: &[&str]) -> PathBuf {
        match args {
            ["--dir", dir] => PathBuf::from(dir),
            _ => {
                let mut folders = fs::read_dir(self.home.path()).unwrap();
                folders.next().unwrap().unwrap().path()
            }
        }
    }

    /// Every `curl -i` line with the status that the line before it promises.
    fn attempts(&self) -> Vec<(String, &str)> {
        let pairs = self.printed.windows(2);
        let attempts = pairs.filter(|pair| pair[1].trim().starts_with("curl -i "));
        attempts
            .map(|pair| {
                let (status, _) = pair[0].trim().split_once(',').unwrap();
                (status.to_owned(), pair[1].trim())
            })
            .collect()
    }

    fn line_with(&self, words: &str) -> &str {
        let mut lines = self.printed.iter().filter(|line| line.contains(words));
        let line = lines.next().unwrap();
        assert_eq!(lines.next(), None);
        line
    }

    /// What a command writes after the `export` lines in the same shell.
    fn paste(&self, command: &str) -> String {
        let output = looked_through(self.shell(command).output().unwrap());
        assert!(output.status.success(), "{command}\n{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn follow_log(&self) -> Follow {
        let mut child = self
            .shell(self.line_with("curl -sN "))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Follow {
            lines: Some(lines),
            child,
        }
    }

    fn shell(&self, command: &str) -> Command {
        let is_export = |line: &&str| line.starts_with("export ");
        let lines = self.printed.iter().map(String::as_str);
        let mut script: Vec<&str> = lines.filter(is_export).collect();
        assert_eq!(script.len(), KINDS.len());
        script.push(command);
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(script.join("\n")).stdin(Stdio::null());
        shell.env("HOME", self.home.path()).env("NO_PROXY", "*");
        shell
    }

    /// Another command of usher with the same configuration.
    fn beside(&self, args: &[&str], config: &Path) -> Output {
        let mut command = usher(self.home.path());
        command.args(args).arg("--config").arg(config);
        looked_through(command.output().unwrap())
    }

    fn terminate(&mut self) -> ExitStatus {
        let kill = format!("kill -TERM {}", self.child.id());
        let sent = Command::new("sh").args(["-c", &kill]).status().unwrap();
        assert!(sent.success());
        self.child.wait().unwrap()
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        // Both fail where it has ended already.
        drop(self.child.kill());
        drop(self.child.wait());
        if let Some(log) = self.log.take() {
            drop(log.join());
        }
        canary::assert_hidden();
    }
}

/// What a command has written, in which no secret may show.
fn looked_through(output: Output) -> Output {
    canary::look(Place::Stdout, &output.stdout);
    canary::look(Place::Stderr, &output.stderr);
    canary::assert_hidden();
    output
}

/// A log that is being followed. It ends by the closed pipe when this is dropped.
struct Follow {
    child: Child,
    lines: Option<Lines<BufReader<ChildStdout>>>,
}

impl Follow {
    fn line(&mut self) -> String {
        let line = self.lines.as_mut().unwrap().next().unwrap().unwrap();
        canary::look(Place::Answer, line.as_bytes());
        line
    }

    /// Reads to the end.
    fn finish(mut self) -> ExitStatus {
        for line in self.lines.take().unwrap() {
            canary::look(Place::Answer, line.unwrap().as_bytes());
        }
        self.child.wait().unwrap()
    }
}

impl Drop for Follow {
    fn drop(&mut self) {
        drop(self.lines.take());
        drop(self.child.wait());
    }
}

fn usher(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_usher"));
    command.env("TMPDIR", home).env_remove("USHER_LOG");
    command
}

/// The kinds of token, in the order of the alphabet.
const KINDS: [&str; 8] = [
    "auth",
    "deploy",
    "litefs-cloud",
    "machine-exec",
    "org",
    "readonly",
    "ssh",
    "wireguard",
];

/// The status in the first line of what `curl -i` writes.
fn status_of(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or(answer)
}

/// A change of the store by another process is honoured within a second; the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(30);
