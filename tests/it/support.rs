//! Both neighbours of usher, and usher itself between them.

#[path = "../support/canary.rs"]
pub(crate) mod canary;
pub(crate) mod frames;
mod h2;
mod hpack;
mod identity;
#[path = "../support/keys.rs"]
pub(crate) mod keys;
mod peer;
mod process;
mod recorder;
mod sshd;
mod tokens;
mod usher;

use std::time::Duration;

pub(crate) use h2::{H2Client, H2Upstream, collect, fed, run, trailers};
pub(crate) use identity::{Ca, Identity};
pub(crate) use peer::{Answer, Peer};
pub(crate) use process::{Process, run as run_usher};
pub(crate) use recorder::{Received, Recorder};
pub(crate) use sshd::{Client, Sshd};
pub(crate) use tokens::{ThirdParty, distinct, forever, header, hide, hour, window};
pub(crate) use usher::{Usher, World};

/// How long anything is waited for. Never reached by a test that passes.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// Asks again until there is an answer: for what nothing but asking tells, like the clock of
/// another process. The pause leaves the processor to whoever is asked.
#[track_caller]
pub(crate) fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = std::time::Instant::now() + DEADLINE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(
            std::time::Instant::now() < deadline,
            "waited in vain for {what}"
        );
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// Says what a test has counted, past the harness, which captures what `println` prints.
pub(crate) fn report(text: std::fmt::Arguments<'_>) {
    use std::io::Write as _;
    std::io::stdout()
        .write_all(format!("{text}\n").as_bytes())
        .unwrap();
}
