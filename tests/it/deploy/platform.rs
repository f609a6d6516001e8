//! The platform that is deployed to: its upstreams, each of which answers as its clients expect and
//! records what came, and the server that usher's directory asks.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use socket2::{Domain, Socket, Type};

use super::runner::Service;
use crate::support::{DEADLINE, Received, Recorder, World};

/// The machine that a deploy makes, and the release.
pub(super) const MADE: &str = "148e1aaa000009";
pub(super) const RELEASE: &str = "rel_10";

/// A release of another app.
pub(super) const FOREIGN_RELEASE: &str = "rel_api";

/// The nonce of the lease.
pub(super) const NONCE: &str = "9f3ac2e1d004";

pub(super) struct Platform {
    machines: Recorder,
    web: Recorder,
    registry: Recorder,
    builder: Result<Recorder, Socket>,
    builder_at: SocketAddr,
    directory: Recorder,
    /// Lets one wait for a machine end.
    pub(super) release: Sender<()>,
}

impl Platform {
    /// All of it but the builder, which starts when it is needed.
    pub(super) fn start() -> Self {
        let (release, held) = mpsc::channel();
        let state = Arc::<Mutex<State>>::default();
        let held = Mutex::new(held);
        let of_machines = Arc::clone(&state);
        let machines = Recorder::answering(move |received| {
            machines(received, &of_machines, &held.lock().unwrap())
        });
        let of_web = Arc::clone(&state);
        let web = Recorder::answering(move |received| web(received, &mut of_web.lock().unwrap()));
        let uploads = Mutex::<Registry>::default();
        let registry =
            Recorder::answering(move |received| uploads.lock().unwrap().answer(received));
        let directory =
            Recorder::answering(move |received| names(received, &state.lock().unwrap()));
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket
            .bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())
            .unwrap();
        Self {
            machines,
            web,
            registry,
            builder_at: socket.local_addr().unwrap().as_socket().unwrap(),
            builder: Err(socket),
            directory,
            release,
        }
    }

    pub(super) fn start_builder(&mut self) {
        if let Err(socket) = &self.builder {
            let socket = socket.try_clone().unwrap();
            self.builder = Ok(Recorder::answering_at(socket, builder));
        }
    }

    /// usher before it: `config/fly.yaml`, with a credential for each upstream and a directory that
    /// asks for what is made meanwhile.
    pub(super) fn world(&self) -> World {
        let (all, names) = (self.machines.address, self.directory.address);
        let asking = format!(
            "  public_names: true
  http:
    apps: {{ url: \"http://{names}/apps/{{name}}\", id: /id, org: /org/id }}
    machines: {{ url: \"http://{names}/machines/{{name}}\", app: /app/id, org: /app/org/id }}
    objects: [ {{ kind: release, url: \"http://{names}/releases/{{name}}\", app: /app/id, org: /app/org/id }} ]
"
        );
        let upstreams = [
            ("machines", self.machines.address),
            ("web", self.web.address),
            ("registry", self.registry.address),
            ("builder", self.builder_at),
        ];
        let world = World::fly(all).with("  public_names: true\n", asking);
        upstreams.iter().fold(world, |world, (name, address)| {
            let line = format!("{{ name: {name}, urls: [ \"http://{all}\" ]");
            let instead = format!(
                "{{ name: {name}, credential: {{ header: Authorization, value: {{ file: {name}.key }} }}, \
                 urls: [ \"http://{address}\" ]"
            );
            let credential = format!("Bearer of-{name}");
            world.with(&line, instead).file(&format!("{name}.key"), credential)
        })
    }

    /// The upstream of a service, and its credential.
    pub(super) fn upstream(&self, service: Service) -> (&Recorder, &'static str) {
        match service {
            Service::Machines => (&self.machines, "Bearer of-machines"),
            Service::GraphQl | Service::Web => (&self.web, "Bearer of-web"),
            Service::Registry => (&self.registry, "Bearer of-registry"),
            Service::Builder => (self.builder.as_ref().unwrap(), "Bearer of-builder"),
        }
    }

    /// All upstreams that run.
    pub(super) fn upstreams(&self) -> impl Iterator<Item = &Recorder> {
        let always = [&self.machines, &self.web, &self.registry];
        always.into_iter().chain(self.builder.as_ref().ok())
    }

    #[track_caller]
    pub(super) fn saw_nothing(&self) {
        self.upstreams().for_each(Recorder::saw_nothing);
    }
}

/// What a deploy changes.
#[derive(Default)]
struct State {
    machines: Vec<&'static str>,
    releases: Vec<&'static str>,
    lease_is_free: bool,
    waited: bool,
    log: u64,
}

/// The Machines API.
fn machines(received: &Received, state: &Mutex<State>, held: &Receiver<()>) -> Vec<u8> {
    let machine = |id: &str, version: &str| json!({ "id": id, "state": "created", "instance_id": version, "config": {} });
    let (method, target) = method_and_target(received);
    let place = target.strip_prefix("/v1/apps/web").unwrap();
    match (method, place) {
        ("GET", "") => ok(json!({ "name": "web", "internal_numeric_id": 3001 })),
        ("GET", "/ip_assignments") => ok(json!({ "ips": [] })),
        ("GET", "/machines?include_deleted=false") => {
            ok(json!([machine("148e1aaa000001", "01H1")]))
        }
        ("POST", "/machines") => {
            state.lock().unwrap().machines.push(MADE);
            ok(machine(MADE, "01H3"))
        }
        ("POST", "/machines/148e1aaa000001/lease?ttl=120") => {
            // Another deploy gives it back a moment later.
            let free = std::mem::replace(&mut state.lock().unwrap().lease_is_free, true);
            match free {
                true => json_answer("201 Created", json!({ "data": { "nonce": NONCE } })),
                false => json_answer("409 Conflict", json!({ "error": "lease currently held" })),
            }
        }
        ("DELETE", "/machines/148e1aaa000001/lease") => ok(json!({ "ok": true })),
        ("POST", "/machines/148e1aaa000001") => ok(machine("148e1aaa000001", "01H2")),
        ("POST", "/machines/148e1aaa000001/start") => ok(json!({ "previous_state": "stopped" })),
        ("GET", wait) if wait.starts_with(&format!("/machines/{MADE}/wait?")) => {
            held.recv_timeout(DEADLINE).unwrap();
            let again = std::mem::replace(&mut state.lock().unwrap().waited, true);
            match again {
                true => ok(json!({ "ok": true })),
                false => json_answer("408 Request Timeout", json!({ "error": "not started yet" })),
            }
        }
        ("POST", metadata)
            if metadata == format!("/machines/{MADE}/metadata/fly_flyctl_version") =>
        {
            answer("204 No Content", "", None)
        }
        other => panic!("the Machines API has no {other:?}"),
    }
}

/// GraphQL and everything else of the web API.
fn web(received: &Received, state: &mut State) -> Vec<u8> {
    let body: Value = serde_json::from_slice(&received.body).unwrap_or_default();
    match method_and_target(received) {
        ("POST", "/graphql") => ok(json!({ "data": { "of": body["query"] } })),
        ("GET", "/api/v1/organizations/acme") => ok(json!({ "slug": "acme" })),
        ("GET", "/api/v1/apps/web/releases/current") => ok(json!({ "id": "rel_9" })),
        ("POST", "/api/v1/builds") => ok(json!({ "id": "build_1" })),
        ("POST", "/api/v1/builds/finish") => ok(json!({ "status": "completed" })),
        ("POST", "/api/v1/releases") => {
            state.releases.push(RELEASE);
            json_answer("201 Created", json!({ "id": RELEASE, "version": 10 }))
        }
        ("PATCH", release) if release == format!("/api/v1/releases/{RELEASE}") => {
            ok(json!({ "status": body["status"] }))
        }
        ("GET", logs) if logs.starts_with("/api/v1/apps/web/logs?") => {
            state.log += 1;
            ok(json!({ "data": [], "meta": { "next_token": state.log.to_string() } }))
        }
        other => panic!("the web API has no {other:?}"),
    }
}

/// The server of names.
fn names(received: &Received, state: &State) -> Vec<u8> {
    let app = |id: u64| json!({ "id": id, "org": { "id": 2001 } });
    match method_and_target(received).1 {
        "/apps/web-builder" => ok(app(3009)),
        "/releases/rel_api" => ok(json!({ "app": app(3002) })),
        target
            if target
                .rsplit('/')
                .next()
                .is_some_and(|name| state.made(name)) =>
        {
            ok(json!({ "app": app(3001) }))
        }
        _ => json_answer("404 Not Found", json!({ "error": "no such name" })),
    }
}

impl State {
    fn made(&self, name: &str) -> bool {
        self.machines.contains(&name) || self.releases.contains(&name)
    }
}

/// The builder: a Docker engine behind a door of its own.
fn builder(received: &Received) -> Vec<u8> {
    match method_and_target(received) {
        ("GET", "/flyio/v1/settings") => ok(json!({ "gpu": false })),
        ("POST", build) if build.starts_with("/v1.44/build?") => {
            let line = "{\"stream\":\"Step 1/1\"}\r\n";
            let chunk = format!("{:x}\r\n{line}\r\n", line.len());
            let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\
                        transfer-encoding: chunked\r\n\r\n";
            format!("{head}{chunk}{chunk}0\r\n\r\n").into_bytes()
        }
        other => panic!("the builder has no {other:?}"),
    }
}

/// A registry that names places by its own address, and takes nothing whose digest is another.
#[derive(Default)]
struct Registry {
    uploads: HashMap<String, Vec<u8>>,
    blobs: HashMap<String, Vec<u8>>,
}

const REPOSITORY: &str = "/v2/web";

impl Registry {
    fn answer(&mut self, received: &Received) -> Vec<u8> {
        let (method, target) = method_and_target(received);
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let place = match path {
            "/v2/" => return ok(json!({})),
            _ => path.strip_prefix(REPOSITORY).unwrap(),
        };
        let host = received.line("host").unwrap();
        match (method, place) {
            ("HEAD", place) => {
                let known = self.blobs.contains_key(place.rsplit('/').next().unwrap());
                let status = if known { "200 OK" } else { "404 Not Found" };
                answer(status, "", None)
            }
            ("POST", "/blobs/uploads/") => {
                let upload = format!("up-{}", self.uploads.len());
                self.uploads.insert(upload.clone(), Vec::new());
                Self::accepted(host, &upload, 0)
            }
            ("PATCH", place) => {
                let upload = place.strip_prefix("/blobs/uploads/").unwrap();
                let kept = self.uploads.get_mut(upload).unwrap();
                assert_eq!(query, format!("_state={}", state_of(upload, kept.len())));
                kept.extend(&received.body);
                Self::accepted(host, upload, kept.len())
            }
            ("PUT", place) if place.starts_with("/manifests/") => {
                self.created(host, "manifests", &digest(&received.body), &received.body)
            }
            ("PUT", place) => {
                let upload = place.strip_prefix("/blobs/uploads/").unwrap();
                let blob = self.uploads.remove(upload).unwrap();
                let found = digest(&blob);
                let state = state_of(upload, blob.len());
                let escaped = found.replace(':', "%3A");
                assert_eq!(query, format!("_state={state}&digest={escaped}"));
                self.created(host, "blobs", &found, &blob)
            }
            other => panic!("the registry has no {other:?}"),
        }
    }

    fn accepted(host: &str, upload: &str, length: usize) -> Vec<u8> {
        let location = format!(
            "http://{host}{REPOSITORY}/blobs/uploads/{upload}?_state={}",
            state_of(upload, length)
        );
        let range = length.saturating_sub(1);
        let lines =
            format!("location: {location}\r\nrange: 0-{range}\r\ndocker-upload-uuid: {upload}\r\n");
        answer("202 Accepted", &lines, Some(""))
    }

    fn created(&mut self, host: &str, kind: &str, digest: &str, content: &[u8]) -> Vec<u8> {
        self.blobs.insert(digest.to_owned(), content.to_vec());
        let lines = format!(
            "location: http://{host}{REPOSITORY}/{kind}/{digest}\r\ndocker-content-digest: {digest}\r\n"
        );
        answer("201 Created", &lines, Some(""))
    }
}

/// What a registry wants to be told again, in the alphabet that it comes in.
fn state_of(upload: &str, length: usize) -> String {
    format!("{upload}_-{length}%3D%3D")
}

pub(super) fn digest(content: &[u8]) -> String {
    let bytes = Sha256::digest(content);
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{digits}")
}

fn method_and_target(received: &Received) -> (&str, &str) {
    let mut words = received.request_line().split(' ');
    (words.next().unwrap(), words.next().unwrap())
}

fn ok(body: Value) -> Vec<u8> {
    json_answer("200 OK", body)
}

fn json_answer(status: &str, body: Value) -> Vec<u8> {
    let media = "content-type: application/json\r\n";
    answer(status, media, Some(&body.to_string()))
}

/// With the lines that clients look at, whatever they asked.
fn answer(status: &str, lines: &str, body: Option<&str>) -> Vec<u8> {
    let length = body.map_or_else(String::new, |body| {
        format!("content-length: {}\r\n", body.len())
    });
    let body = body.unwrap_or_default();
    format!(
        "HTTP/1.1 {status}\r\nfly-request-id: 01KA-ams\r\nfly-trace-id: 4bf92f35\r\n\
         fly-span-id: 00f067aa\r\nset-cookie: fly-session=s1; Path=/; HttpOnly\r\n{lines}{length}\r\n{body}"
    )
    .into_bytes()
}
