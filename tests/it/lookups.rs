//! Names that a platform's own API knows: asked over HTTP, never guessed.

mod served;

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::time::{Duration, Instant};

use usher::config::{self, Config};
use usher::directory::{Directory, Unanswered};
use usher::metrics::Metrics;
use usher::policy::{AppIds, Found, Lookup, LookupKind, NameTable, Names as _, Owner};

use crate::support::{DEADLINE, Identity, Recorder, until};

/// A platform whose apps can be made, moved and removed while it is asked.
#[derive(Clone, Default)]
struct Platform(Arc<Mutex<HashMap<String, AppIds>>>);

impl Platform {
    fn with(self, name: &str, app: u64, org: u64) -> Self {
        let ids = AppIds { app, org };
        self.0.lock().unwrap().insert(name.to_owned(), ids);
        self
    }

    fn serve(&self) -> Recorder {
        let platform = self.clone();
        Recorder::answering(move |request| platform.answer(request.request_line()))
    }

    fn answer(&self, line: &str) -> Vec<u8> {
        let path = line.split(' ').nth(1).unwrap();
        let name = path.strip_prefix("/v1/apps/").unwrap();
        match self.0.lock().unwrap().get(name) {
            Some(ids) => ok(&app(name, ids)),
            None => plain("404 Not Found", "{\"error\":\"no such app\"}"),
        }
    }
}

/// As the Machines API describes an app.
fn app(name: &str, AppIds { app, org }: &AppIds) -> String {
    format!(
        "{{\"id\":\"{name}-id\",\"internal_numeric_id\":{app},\"name\":\"{name}\",\
          \"organization\":{{\"internal_numeric_id\":{org},\"name\":\"Some\",\"slug\":\"some\"}},\"status\":\"deployed\"}}"
    )
}

fn plain(status: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n\r\n{body}").into_bytes()
}

fn ok(body: &str) -> Vec<u8> {
    plain("200 OK", body)
}

/// A configuration whose directory asks `base`, with further settings.
fn config(base: &str, settings: &str) -> Config {
    let yaml = format!(
        "
listeners: [ {{ address: 127.0.0.1:0 }} ]
authority: {{ location: https://api.fly.io/v1, store: sqlite:usher.db, seal_key: {{ env: SEAL }} }}
directory:
  orgs: [ {{ slug: acme, id: 2001 }} ]
  apps: [ {{ name: fixed, id: 3001, org: acme }} ]
  http:
    apps: {{ url: \"{base}/v1/apps/{{name}}\", id: /internal_numeric_id, org: /organization/internal_numeric_id, name: [ /name, /id ] }}
{settings}
upstreams: [ {{ name: api, urls: [ \"http://127.0.0.1:1\" ] }} ]
routes: [ {{ name: a, method: GET, path: /a, access: public, upstream: api }} ]
"
    );
    let (config, _) =
        config::parse(&yaml, Path::new("usher.yaml")).unwrap_or_else(|e| panic!("{e}"));
    config
}

/// A directory and what it counts.
struct Asking {
    directory: Directory,
    metrics: Arc<Metrics>,
}

impl Asking {
    fn of(upstream: &Recorder, settings: &str) -> Self {
        Self::at(&format!("http://{}", upstream.address), settings)
    }

    fn at(base: &str, settings: &str) -> Self {
        let metrics = Arc::new(Metrics::new());
        let config = config(base, settings);
        let directory = Directory::open(&config.directory, &metrics).unwrap();
        Self { directory, metrics }
    }

    fn look(&self, name: &str) -> Found<AppIds> {
        self.directory.view(&NameTable::default()).app(name)
    }

    /// Looks, asks if that is what it takes, and looks again.
    fn find(&self, name: &str) -> Result<Option<AppIds>, Unanswered> {
        let none = NameTable::default();
        self.directory.view(&none).settle(|view| view.app(name))
    }

    fn counted(&self, outcome: &str) -> u64 {
        let mut text = String::new();
        self.metrics.write(&mut text).unwrap();
        let start = format!("usher_directory_lookups_total{{outcome=\"{outcome}\"}} ");
        let line = text.lines().find_map(|line| line.strip_prefix(&start));
        line.map_or(0, |count| count.parse().unwrap())
    }
}

const WEB: AppIds = AppIds { app: 7, org: 1 };

#[test]
fn an_app_is_asked_for_once_and_then_known() {
    let upstream = Platform::default().with("web", 7, 1).serve();
    let asking = Asking::of(&upstream, "");
    let lookup = Lookup {
        kind: LookupKind::App,
        name: "web".into(),
    };
    assert_eq!(asking.look("web"), Found::Unresolved(lookup));
    upstream.saw_nothing();
    assert_eq!(asking.find("web"), Ok(Some(WEB)));
    assert_eq!(asking.look("web"), Found::Known(WEB));
    assert_eq!(asking.find("web"), Ok(Some(WEB)));
    let requests = upstream.requests();
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].request_line(), "GET /v1/apps/web HTTP/1.1");
    assert_eq!(requests[0].line("authorization"), None);
    assert_eq!(asking.counted("found"), 1);
}

#[test]
fn what_an_earlier_source_has_and_what_no_url_can_hold_is_not_asked_for() {
    let upstream = Platform::default().with("fixed", 99, 9).serve();
    let asking = Asking::of(&upstream, "");
    let fixed = AppIds {
        app: 3001,
        org: 2001,
    };
    assert_eq!(asking.find("fixed"), Ok(Some(fixed)));
    for name in [
        "", "a/b", "..", ".", "a b", "a%2fb", "a?b", "a#b", "\u{e9}", "a\r\nb",
    ] {
        assert_eq!(asking.look(name), Found::Absent, "{name:?}");
    }
    // A kind without a look-up.
    let none = NameTable::default();
    let view = asking.directory.view(&none);
    assert_eq!(view.machine("m1"), Found::Absent);
    assert_eq!(view.object("release", "r1"), Found::Absent);
    assert_eq!(view.org("personal"), Found::Absent);
    upstream.saw_nothing();
}

#[test]
fn a_hundred_that_wait_for_one_name_cause_one_look_up() {
    const MANY: usize = 100;
    let (go, going) = mpsc::channel::<()>();
    let going = Mutex::new(going);
    let upstream = Recorder::answering(move |_| {
        going.lock().unwrap().recv_timeout(DEADLINE).unwrap();
        ok(&app("web", &WEB))
    });
    let asking = Asking::of(&upstream, "    deadline: 10s\n    ttl: 1m");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let lookup = Lookup {
        kind: LookupKind::App,
        name: "web".into(),
    };
    runtime.block_on(async {
        let mut all: Vec<_> = (0..MANY)
            .map(|_| Box::pin(asking.directory.resolve(&lookup, None)))
            .collect();
        // Every one of them has asked before there is an answer.
        for one in &mut all {
            let waits = std::future::poll_fn(|cx| std::task::Poll::Ready(one.as_mut().poll(cx)));
            assert!(waits.await.is_pending());
        }
        go.send(()).unwrap();
        for one in all {
            assert_eq!(one.await, Ok(()));
        }
    });
    assert_eq!(asking.look("web"), Found::Known(WEB));
    assert_eq!(upstream.requests().len(), 1);
    assert_eq!(asking.counted("found"), 1);
}

#[test]
fn whatever_is_no_answer_is_none() {
    let huge = format!("{{\"pad\":\"{}\"}}", "x".repeat(64 * 1024));
    let twice = app("web", &WEB).replace("\"name\":\"web\"", "\"name\":\"web\",\"Name\":\"web\"");
    let ids = app("web", &WEB).replacen('{', "{\"INTERNAL_NUMERIC_ID\":8,", 1);
    let moved = b"HTTP/1.1 302 Found\r\nlocation: /v1/apps/other\r\ncontent-length: 0\r\n\r\n";
    let good = app("web", &WEB);
    let cases: Vec<(&str, Vec<u8>, Unanswered)> = vec![
        ("500", plain("500 Oops", &good), Unanswered::Status(500)),
        ("503", plain("503 Busy", ""), Unanswered::Status(503)),
        ("401", plain("401 No", "{}"), Unanswered::Status(401)),
        ("403", plain("403 No", "{}"), Unanswered::Status(403)),
        (
            "204",
            b"HTTP/1.1 204 None\r\n\r\n".to_vec(),
            Unanswered::Status(204),
        ),
        ("206", plain("206 Part", &good), Unanswered::Status(206)),
        ("redirect", moved.to_vec(), Unanswered::Status(302)),
        ("garbage", b"garbage\r\n\r\n".to_vec(), Unanswered::Broken),
        ("empty", ok(""), Unanswered::NotJson),
        ("html", ok("<html>"), Unanswered::NotJson),
        (
            "two documents",
            ok(&format!("{good}{good}")),
            Unanswered::NotJson,
        ),
        ("two keys", ok(&twice), Unanswered::NotJson),
        ("two ids", ok(&ids), Unanswered::NotJson),
        (
            "cut",
            ok(good.strip_suffix("\"}").unwrap()),
            Unanswered::NotJson,
        ),
        ("huge", ok(&huge), Unanswered::TooLong),
        ("a list", ok("[]"), Unanswered::OtherName),
        (
            "no organization",
            ok("{\"name\":\"web\",\"internal_numeric_id\":7}"),
            Unanswered::NoIds,
        ),
        ("id 0", ok(&good.replace(":7,", ":0,")), Unanswered::NoIds),
        (
            "a negative id",
            ok(&good.replace(":7,", ":-7,")),
            Unanswered::NoIds,
        ),
        (
            "a fraction",
            ok(&good.replace(":7,", ":7.5,")),
            Unanswered::NoIds,
        ),
        (
            "null",
            ok(&good.replace(":7,", ":null,")),
            Unanswered::NoIds,
        ),
        (
            "an object",
            ok(&good.replace(":7,", ":{\"n\":7},")),
            Unanswered::NoIds,
        ),
        ("another app", ok(&app("web2", &WEB)), Unanswered::OtherName),
    ];
    for (what, answer, expected) in cases {
        let upstream = Recorder::answering(move |_| answer.clone());
        let asking = Asking::of(&upstream, "    deadline: 4s");
        assert_eq!(asking.find("web"), Err(expected), "{what}");
        assert!(matches!(asking.look("web"), Found::Unresolved(_)), "{what}");
        let asked = upstream.requests();
        assert!(
            asked
                .iter()
                .all(|one| one.request_line() == "GET /v1/apps/web HTTP/1.1")
        );
    }
}

#[test]
fn a_server_that_is_down_slow_or_breaks_off_is_no_answer() {
    let gone = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    let asking = Asking::at(&format!("http://{gone}"), "");
    assert_eq!(asking.find("web"), Err(Unanswered::Connect));

    let breaks = Recorder::script(|exchange| drop(exchange.request()));
    let asking = Asking::of(&breaks, "");
    assert_eq!(asking.find("web"), Err(Unanswered::Broken));

    let cut = Recorder::script(|exchange| {
        exchange.request().unwrap();
        exchange
            .peer
            .send("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{");
    });
    let asking = Asking::of(&cut, "");
    assert_eq!(asking.find("web"), Err(Unanswered::Broken));

    // It answers never: not with a head, and not with the rest of a body.
    let (settings, deadline) = ("    deadline: 200ms", Duration::from_millis(200));
    for begun in ["", "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{"] {
        let silent = Recorder::script(move |exchange| {
            exchange.request().unwrap();
            exchange.peer.send(begun);
            // Until usher has had enough.
            exchange.peer.rest();
        });
        let asking = Asking::of(&silent, settings);
        let began = Instant::now();
        assert_eq!(asking.find("web"), Err(Unanswered::Late));
        assert!(began.elapsed() >= deadline);
        assert_eq!(asking.counted("late"), 1);
    }
}

#[test]
fn a_failure_is_not_kept() {
    let fails = Arc::new(AtomicUsize::new(1));
    let left = Arc::clone(&fails);
    let upstream = Recorder::answering(move |_| {
        let failing = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        match failing {
            Ok(_) => plain("500 Oops", ""),
            Err(_) => ok(&app("web", &WEB)),
        }
    });
    let asking = Asking::of(&upstream, "");
    assert_eq!(asking.find("web"), Err(Unanswered::Status(500)));
    assert_eq!(asking.find("web"), Ok(Some(WEB)));
}

#[test]
fn a_name_that_is_taken_after_a_404_is_seen_within_about_a_second() {
    let platform = Platform::default();
    let upstream = platform.serve();
    let asking = Asking::of(&upstream, "");
    assert_eq!(asking.find("web"), Ok(None));
    assert_eq!(asking.look("web"), Found::Absent);
    let made = Instant::now();
    let _platform = platform.with("web", 7, 1);
    until("the new app", || asking.find("web").unwrap());
    let after = made.elapsed();
    assert!(after < DEADLINE / 4, "{after:?}");
    // Whoever polls meanwhile does not pass the polling on.
    assert_eq!(upstream.requests().len(), 2);
}

#[test]
fn an_app_that_moves_is_seen_to_have_moved_within_the_time_to_live() {
    let platform = Platform::default().with("web", 7, 1);
    let upstream = platform.serve();
    let ttl = Duration::from_millis(600);
    let asking = Asking::of(&upstream, "    ttl: 600ms\n    deadline: 300ms");
    assert_eq!(asking.find("web"), Ok(Some(WEB)));
    let moved = Instant::now();
    let platform = platform.with("web", 7, 2);
    until("the move", || {
        (asking.find("web") == Ok(Some(AppIds { app: 7, org: 2 }))).then_some(())
    });
    assert!(
        moved.elapsed() < ttl + DEADLINE / 4,
        "{:?}",
        moved.elapsed()
    );

    // And what is not answered any more is not known any more.
    platform.0.lock().unwrap().clear();
    until("the end", || (asking.find("web") == Ok(None)).then_some(()));
}

#[test]
fn an_answer_is_not_used_past_its_time_when_the_server_has_gone() {
    let up = Arc::new(Mutex::new(true));
    let is_up = Arc::clone(&up);
    let upstream = Recorder::script(move |exchange| {
        while *is_up.lock().unwrap() && exchange.request().is_some() {
            if !*is_up.lock().unwrap() {
                return;
            }
            exchange.peer.send(ok(&app("web", &WEB)));
        }
    });
    let asking = Asking::of(&upstream, "    ttl: 400ms\n    deadline: 200ms");
    assert_eq!(asking.find("web"), Ok(Some(WEB)));
    *up.lock().unwrap() = false;
    let refused = until("the end of the answer", || asking.find("web").err());
    assert_eq!(refused, Unanswered::Broken);
    assert!(matches!(asking.look("web"), Found::Unresolved(_)));
}

#[test]
fn no_more_are_asked_at_once_than_may_be() {
    let together = Arc::new(AtomicUsize::new(0));
    let most = Arc::new(AtomicUsize::new(0));
    let pair = Arc::new(Barrier::new(2));
    let (now, peak) = (Arc::clone(&together), Arc::clone(&most));
    let upstream = Recorder::answering(move |request| {
        let count = now.fetch_add(1, Ordering::SeqCst) + 1;
        peak.fetch_max(count, Ordering::SeqCst);
        // Two are there together, or this never ends.
        pair.wait();
        now.fetch_sub(1, Ordering::SeqCst);
        let name = request.request_line().split(' ').nth(1).unwrap();
        ok(&app(name.strip_prefix("/v1/apps/").unwrap(), &WEB))
    });
    let asking = Asking::of(
        &upstream,
        "    concurrency: 2\n    deadline: 10s\n    ttl: 1m",
    );
    std::thread::scope(|scope| {
        for number in 0..20 {
            let asking = &asking;
            scope.spawn(move || {
                assert_eq!(asking.find(&format!("app{number}")), Ok(Some(WEB)));
            });
        }
    });
    assert_eq!(most.load(Ordering::SeqCst), 2);
    assert_eq!(upstream.requests().len(), 20);
    assert!(upstream.connections() <= 3, "connections are used again");
}

#[test]
fn the_credential_goes_with_every_look_up_inside_tls() {
    let identity = Identity::new();
    let upstream = Recorder::secured(&identity, |_| ok(&app("web", &WEB)));
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("token");
    std::fs::write(&secret, "Bearer platform\n").unwrap();
    let base = format!("https://localhost:{}", upstream.address.port());
    let credential = format!(
        "    credential: {{ header: authorization, value: {{ file: {} }} }}",
        secret.display()
    );
    let trusted = format!("{credential}\n    ca: {}", identity.certificate.display());
    let asking = Asking::at(&base, &trusted);
    assert_eq!(asking.find("web"), Ok(Some(WEB)));
    assert_eq!(
        upstream.last().line("authorization"),
        Some("Bearer platform")
    );

    // A server that cannot prove who it is learns nothing.
    let stranger = Identity::new();
    let upstream = Recorder::secured(&stranger, |_| ok(&app("web", &WEB)));
    let base = format!("https://localhost:{}", upstream.address.port());
    let asking = Asking::at(&base, &trusted);
    assert_eq!(asking.find("web"), Err(Unanswered::Connect));
    assert!(upstream.bytes().is_empty());
}

#[test]
fn every_kind_is_asked_for_in_its_own_way() {
    let upstream = Recorder::answering(|request| {
        let path = request.request_line().split(' ').nth(1).unwrap();
        ok(match path {
            "/orgs?slug=acme2" => {
                "{\"data\":{\"organization\":{\"internalNumericId\":\"18446744073709551615\"}}}"
            }
            "/m/m1" => "{\"app\":7,\"org\":1}",
            "/v/v1/owner" => "{\"app\":8,\"org\":1}",
            "/c/pg" => "{\"org\":{\"id\":4}}",
            "/r/r1" => "{\"app\":7,\"org\":1}",
            "/pg/r1" => "{\"org\":5}",
            other => panic!("{other}"),
        })
    });
    let at = format!("http://{}", upstream.address);
    let asking = Asking::of(
        &upstream,
        &format!(
            "    orgs: {{ url: \"{at}/orgs?slug={{name}}\", id: /data/organization/internalNumericId }}
    machines: {{ url: \"{at}/m/{{name}}\", app: /app, org: /org }}
    volumes: {{ url: \"{at}/v/{{name}}/owner\", app: /app, org: /org }}
    clusters: {{ url: \"{at}/c/{{name}}\", org: /org/id }}
    objects:
      - {{ kind: release, url: \"{at}/r/{{name}}\", app: /app, org: /org }}
      - {{ kind: postgres, url: \"{at}/pg/{{name}}\", org: /org }}"
        ),
    );
    let none = NameTable::default();
    let view = asking.directory.view(&none);
    assert_eq!(view.settle(|view| view.org("acme2")), Ok(Some(u64::MAX)));
    assert_eq!(view.settle(|view| view.machine("m1")), Ok(Some(WEB)));
    let volume = AppIds { app: 8, org: 1 };
    assert_eq!(view.settle(|view| view.volume("v1")), Ok(Some(volume)));
    assert_eq!(view.settle(|view| view.cluster_org("pg")), Ok(Some(4)));
    let release = view.settle(|view| view.object("release", "r1"));
    assert_eq!(release, Ok(Some(Owner::App(WEB))));
    let postgres = view.settle(|view| view.object("postgres", "r1"));
    assert_eq!(postgres, Ok(Some(Owner::Org(5))));
    assert_eq!(view.settle(|view| view.object("addon", "r1")), Ok(None));
}
