//! Where names come by their ids: the store's tables, beside a running usher.

use std::path::Path;

use usher::authority::Kind;

use crate::support::{Process, Recorder, World, run_usher, until};

/// Runs `usher directory ...` on a configuration; what it printed, and its exit code.
fn directory(config: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let config = config.to_str().unwrap();
    let ended = run_usher(&[&["directory"], arguments, &["--config", config]].concat());
    (ended.code, ended.stdout, ended.stderr)
}

const DOCUMENT: &str = r#"{
	"orgs": [ { "slug": "delta", "id": 2004, "aliases": [ "D307G1NJ==" ] } ],
	"apps": [ { "name": "lift", "id": 3004, "org": "delta" } ],
	"machines": [ { "id": "9080e6f3a12345", "app": "lift" }, { "id": "148e0000000009", "app": "web" } ],
	"objects": [ { "kind": "release", "id": "rel_9", "app": "lift" } ]
}"#;

#[test]
fn a_running_usher_sees_what_is_imported_beside_it() {
    let upstream = Recorder::ok();
    let world = World::before(upstream.address)
        .with("public_names: true", "public_names: true\n  store: true")
        .file("names.json", DOCUMENT)
        .file("moved.json", DOCUMENT.replace("delta\" }", "acme\" }"));
    let config = world.write();
    let names = world.folder().join("names.json");
    let moved = world.folder().join("moved.json");
    let usher = world.start();
    let token = usher.credential(&Kind::Org { org: 2004 });
    let lift = "GET /v1/apps/lift";
    let refused = usher.ask(lift, Some(&token));
    upstream.saw_nothing();
    assert_eq!((refused.status, &*refused.code()), (404, "unknown-name"));

    let (code, out, err) = directory(&config, &["import", names.to_str().unwrap()]);
    assert_eq!(code, Some(0), "{err}");
    assert_eq!(
        out,
        "added organization delta\nadded alias of an organization D307G1NJ==\nadded app lift\n\
         added machine 148e0000000009\nadded machine 9080e6f3a12345\nadded release rel_9\n"
    );
    assert_eq!(err, "6 added, 0 changed, 0 removed\n");
    until("the import", || {
        (usher.ask(lift, Some(&token)).status == 200).then_some(())
    });

    // The app moves: its old organization loses it, with all that belongs to it.
    let (code, out, err) = directory(&config, &["import", moved.to_str().unwrap()]);
    assert_eq!(code, Some(0), "{err}");
    assert_eq!(out, "changed app lift\n");
    let refused = until("the move", || {
        let answer = usher.ask(lift, Some(&token));
        (answer.status != 200).then_some(answer)
    });
    let seen = upstream.requests().len();
    assert_eq!((refused.status, &*refused.code()), (403, "prohibited"));
    assert_eq!(usher.ask(lift, Some(&token)).status, 403);
    assert_eq!(upstream.requests().len(), seen);
    let acme = usher.credential(&Kind::Org { org: 2001 });
    assert_eq!(usher.ask(lift, Some(&acme)).status, 200);
}

#[test]
fn a_document_with_mistakes_is_refused_as_a_whole_with_all_of_them() {
    let upstream = Recorder::ok();
    let world = World::before(upstream.address)
        .file(
            "bad.json",
            r#"{ "orgs": [ { "slug": "delta", "id": 2004 }, { "slug": "personal", "id": 5 } ],
  "apps": [ { "name": "lift", "id": 3004, "org": "dleta" }, { "name": "web", "id": 9, "org": "acme" } ],
  "apps": [],
  "wings": [] }"#,
        )
        .file("good.json", DOCUMENT);
    let config = world.write();
    let bad = world.folder().join("bad.json");
    let (code, out, err) = directory(&config, &["import", bad.to_str().unwrap()]);
    let name = bad.display();
    assert_eq!(code, Some(78));
    assert_eq!(out, "");
    for expected in [
        format!("{name}:1:56: `personal` means another organization for each user"),
        format!("{name}:2:50: the directory has no org `dleta`"),
        format!("{name}:2:71: the configuration says something else about the app `web`"),
        format!("{name}:3:3: `apps` is given twice"),
        format!("{name}:4:3: unknown key `wings` in a directory"),
    ] {
        assert!(err.contains(&expected), "{expected} not in {err}");
    }
    let (_, out, err) = directory(&config, &["list"]);
    assert_eq!(out, "");
    assert!(err.contains("the store has no names"), "{err}");

    // What is listed can be imported again, also in the place of all there is.
    let good = world.folder().join("good.json");
    let (code, _, err) = directory(&config, &["import", good.to_str().unwrap()]);
    assert_eq!(code, Some(0), "{err}");
    assert!(err.contains("directory: { store: true }"), "{err}");
    let (_, listed, _) = directory(&config, &["list", "--json"]);
    let world = world.file("listed.json", &listed);
    let again = world.folder().join("listed.json");
    let replaced = directory(&config, &["import", "--replace", again.to_str().unwrap()]);
    assert_eq!(replaced.0, Some(0), "{}", replaced.2);
    assert_eq!(replaced.1, "");
    assert!(replaced.2.starts_with("0 added, 0 changed, 0 removed"));
    let (_, table, _) = directory(&config, &["list"]);
    assert!(
        table
            .lines()
            .any(|line| line.split_whitespace().eq(["app", "lift", "3004", "delta"]))
    );
}

#[test]
fn tokens_are_made_for_names_in_the_store() {
    let upstream = Recorder::ok();
    let world = World::before(upstream.address)
        .with("public_names: true", "public_names: true\n  store: true")
        .file("names.json", DOCUMENT);
    let config = world.write();
    let names = world.folder().join("names.json");
    let (code, _, err) = directory(&config, &["import", names.to_str().unwrap()]);
    assert_eq!(code, Some(0), "{err}");
    let server = Process::serve(&config);
    let path = config.to_str().unwrap();
    let made = run_usher(&[
        "token", "create", "deploy", "--app", "lift", "--config", path,
    ]);
    assert_eq!(made.code, Some(0), "{}", made.stderr);
    let mut peer = server.connect();
    peer.send(format!(
        "GET /v1/apps/lift HTTP/1.1\r\nhost: usher.test\r\nauthorization: {}\r\n\r\n",
        made.stdout.trim()
    ));
    assert_eq!(peer.answer().status, 200);
}
