//! A deploy from a CI job, end to end: what its clients send with the deploy token of one app, on
//! the routes of `config/fly.yaml`, and what the same clients with the same token cannot do.

mod platform;
mod runner;

use serde_json::{Value, json};
use usher::authority::Kind;
use uuid::Uuid;

use crate::support::{Answer, Received, Usher, header, hour, until};
use platform::{FOREIGN_RELEASE, MADE, NONCE, Platform, RELEASE, digest};
use runner::{Call, Payload, Runner, Service};

const DEPLOY: Kind = Kind::Deploy {
    org: 2001,
    app: 3001,
};

/// Everything between the CI job and the platform.
struct Job {
    platform: Platform,
    usher: Usher,
    runner: Runner,
    token: Uuid,
    steps: usize,
}

impl Job {
    fn start() -> Self {
        let platform = Platform::start();
        let usher = platform.world().start();
        let token = usher.token(&DEPLOY, hour());
        Self {
            runner: Runner::new(usher.address, &header(&[&token])),
            token: token.uuid(),
            platform,
            usher,
            steps: 0,
        }
    }

    /// A request that is permitted, as one for the app or only for its organization.
    #[track_caller]
    fn step(&mut self, call: &Call, app: Option<u64>, status: u16) -> Answer {
        let answer = self.runner.persist(call);
        self.check(call, app, status, answer)
    }

    /// That it came to the upstream as it was sent, and the answer to the client.
    #[track_caller]
    fn check(&mut self, call: &Call, app: Option<u64>, status: u16, answer: Answer) -> Answer {
        let request = &call.request;
        let text = String::from_utf8_lossy(&answer.body);
        assert_eq!(answer.status, status, "{request}: {text}");
        let (upstream, credential) = self.platform.upstream(call.service);
        let received = upstream.last();
        assert_eq!(received.request_line(), format!("{request} HTTP/1.1"));
        assert!(
            received.body == call.payload.bytes(),
            "{request}: another body"
        );
        let chunked = matches!(call.payload, Payload::Chunked(_));
        let framing = received.line("transfer-encoding");
        assert_eq!(framing, chunked.then_some("chunked"), "{request}");

        let token = self.token.to_string();
        let app = app.map(|id| id.to_string());
        let address = upstream.address.to_string();
        let own = [
            ("host", Some(address.as_str())),
            ("authorization", Some(credential)),
            ("x-usher-token-id", Some(token.as_str())),
            ("x-usher-org", (call.request != BASE).then_some("2001")),
            ("x-usher-app", app.as_deref()),
            ("x-forwarded-for", Some("127.0.0.1")),
            ("x-forwarded-host", Some(call.service.host())),
            ("x-forwarded-proto", Some("http")),
        ];
        for (name, value) in own {
            assert_eq!(received.line(name), value, "{request}: {name}");
        }
        let decision = received.line("x-usher-decision").unwrap();
        assert_eq!(decision.len(), 24, "{decision}");
        // All other lines are the client's, and all of the client's are there.
        let of_client = self.runner.sent.iter();
        let mut expected: Vec<_> = of_client
            .filter(|(name, _)| *name != "Authorization")
            .map(|(name, value)| (name.to_ascii_lowercase(), value.clone()))
            .collect();
        expected.sort();
        assert_eq!(of_the_client(&received), expected, "{request}");
        if call.service != Service::Builder {
            for (name, value) in [
                ("fly-request-id", "01KA-ams"),
                ("fly-trace-id", "4bf92f35"),
                ("fly-span-id", "00f067aa"),
                ("set-cookie", "fly-session=s1; Path=/; HttpOnly"),
            ] {
                assert_eq!(answer.line(name), Some(value), "{request}");
            }
        }
        self.steps += 1;
        answer
    }

    fn graphql(&mut self, document: &str, variables: Value, media: &str, app: Option<u64>) {
        let body = json!({ "query": document, "variables": variables });
        let call = Call::new(Service::GraphQl, "POST /graphql")
            .line("Content-Type", media)
            .payload(Payload::Sized(format!("{body}\n").into_bytes()));
        let answer = self.step(&call, app, 200);
        let body: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(body["data"]["of"], document);
    }
}

/// Where a registry is asked for its challenge; it is about no organization.
const BASE: &str = "GET /v2/";

/// The lines of a request that are neither usher's nor framing.
fn of_the_client(received: &Received) -> Vec<(String, String)> {
    let lines = received.head.lines().skip(1);
    let mut lines: Vec<_> = lines
        .map(|line| line.split_once(": ").unwrap())
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .filter(|(name, _)| {
            !name.starts_with("x-usher-")
                && !name.starts_with("x-forwarded-")
                && !OWN.contains(&name.as_str())
        })
        .collect();
    lines.sort();
    lines
}

const OWN: [&str; 4] = [
    "host",
    "authorization",
    "content-length",
    "transfer-encoding",
];

/// What machinebox/graphql and genqlient say.
const MEDIA: [&str; 2] = ["application/json; charset=utf-8", "application/json"];

const WEB: Option<u64> = Some(3001);

#[test]
fn a_ci_job_deploys_with_the_token_of_its_app() {
    let mut job = Job::start();
    find_out(&mut job);
    build(&mut job);
    let layer = push(&mut job);
    release(&mut job, &layer);
    let seen: usize = job.platform.upstreams().map(|u| u.requests().len()).sum();
    assert_eq!(seen, job.steps, "each request went upstream once");
    for upstream in job.platform.upstreams() {
        let bytes = upstream.bytes();
        // Plain, and inside Basic.
        for trace in [&b"fm2_"[..], b"Zm0y", b"Basic "] {
            let found = bytes.windows(trace.len()).any(|window| window == trace);
            assert!(!found, "the token went upstream");
        }
    }
}

/// What flyctl asks before it does anything.
fn find_out(job: &mut Job) {
    use Service::{Machines, Web};
    job.step(&Call::new(Machines, "GET /v1/apps/web"), WEB, 200);
    job.step(&Call::new(Web, "GET /api/v1/organizations/acme"), None, 200);
    let [plain, generated] = MEDIA;
    let app = "\n\t\tquery ($appName: String!) {\n\t\t\tappcompact:app(name: $appName) {\n\t\t\t\tid\n\
               \t\t\t\tname\n\t\t\t\torganization { id internalNumericId slug }\n\t\t\t}\n\t\t}\n\t";
    job.graphql(app, json!({ "appName": "web" }), plain, WEB);
    let org = "query($slug: String!) { organization(slug: $slug) { id slug name } }";
    job.graphql(org, json!({ "slug": "acme" }), plain, None);
    let config =
        "query ($appName: String!) { appconfig:app(name: $appName) { id config { definition } } }";
    job.graphql(config, json!({ "appName": "web" }), plain, WEB);
    let current = "\nquery FlyctlDeployGetLatestImage ($appName: String!) {\n\tapp(name: $appName) {\n\
                   \t\tcurrentReleaseUnprocessed {\n\t\t\tid\n\t\t\timageRef\n\t\t}\n\t}\n}\n";
    job.graphql(current, json!({ "appName": "web" }), generated, WEB);
    let current = Call::new(Web, "GET /api/v1/apps/web/releases/current");
    job.step(&current, WEB, 200);
}

/// The builder, which is still starting when it is asked for the first time.
fn build(job: &mut Job) {
    use Service::{Builder, Web};
    let peer =
        "mutation($input: AddWireGuardPeerInput!) { addWireGuardPeer(input: $input) { peerip } }";
    let input = json!({ "organizationId": "D307G1NJ1QjP9", "region": "ams", "name": "ci-1", "pubkey": "a" });
    job.graphql(peer, json!({ "input": input }), MEDIA[0], None);
    let create = "\nmutation CreateBuild ($input: CreateBuildInput!) {\n\tcreateBuild(input: $input) {\n\
                  \t\tid\n\t\tstatus\n\t}\n}\n";
    let input =
        json!({ "appName": "web", "builderType": "remote", "imageOpts": {}, "machineId": null });
    job.graphql(create, json!({ "input": input }), MEDIA[1], WEB);
    let body = json!({ "app_name": "web", "machine_type": "web-builder" });
    job.step(&Call::new(Web, "POST /api/v1/builds").json(&body), WEB, 200);

    let settings = Call::new(Builder, "GET /flyio/v1/settings");
    let away = job.runner.call(&settings);
    assert_eq!((away.status, &*away.code()), (502, "upstream-connect"));
    job.platform.start_builder();
    job.step(&settings, None, 200);
    let context = content(1_500_000, 7);
    let build = Call::new(
        Builder,
        "POST /v1.44/build?buildargs=%7B%7D&dockerfile=Dockerfile&t=registry.fly.io%2Fweb%3Adeployment-1",
    )
    .line("Content-Type", "application/x-tar")
    .payload(Payload::Chunked(context));
    let progress = job.step(&build, None, 200);
    assert_eq!(progress.text(), "{\"stream\":\"Step 1/1\"}\r\n".repeat(2));
}

/// The push of an image of one layer; the digest of its manifest.
fn push(job: &mut Job) -> String {
    let base = Call::new(Service::Registry, BASE);
    // What it takes is learnt without a token.
    let mut peer = job.usher.connect();
    peer.send("GET /v2/ HTTP/1.1\r\nHost: registry.fly.io\r\nUser-Agent: docker/24.0.7\r\n\r\n");
    let challenge = peer.answer();
    assert_eq!(challenge.status, 401);
    let scheme = challenge.line("www-authenticate").unwrap();
    assert!(scheme.starts_with("Basic realm="), "{scheme}");
    job.step(&base, None, 200);

    let (layer, config) = (
        content(3_300_000, 1),
        b"{\"architecture\":\"amd64\"}".to_vec(),
    );
    for blob in [&layer, &config] {
        let head = format!("HEAD /v2/web/blobs/{}", digest(blob));
        job.step(&Call::new(Service::Registry, head.clone()), WEB, 404);
        let start = Call::new(Service::Registry, "POST /v2/web/blobs/uploads/");
        let mut place = location(&job.step(&start, WEB, 202));
        // The client goes on wherever it is told.
        for chunk in blob.chunks(2_000_000) {
            let patch = Call::new(Service::Registry, format!("PATCH {place}"))
                .line("Content-Type", "application/octet-stream")
                .payload(Payload::Chunked(chunk.to_vec()));
            place = location(&job.step(&patch, WEB, 202));
        }
        let digest = digest(blob).replace(':', "%3A");
        let put = Call::new(Service::Registry, format!("PUT {place}&digest={digest}"));
        job.step(&put, WEB, 201);
        job.step(&Call::new(Service::Registry, head), WEB, 200);
    }
    let manifest = json!({
        "schemaVersion": 2,
        "config": { "digest": digest(&config), "size": config.len() },
        "layers": [ { "digest": digest(&layer), "size": layer.len() } ],
    });
    let manifest = manifest.to_string().into_bytes();
    let pushed = digest(&manifest);
    let put = Call::new(Service::Registry, "PUT /v2/web/manifests/deployment-1")
        .line("Content-Type", "application/vnd.oci.image.manifest.v1+json")
        .payload(Payload::Expected(manifest));
    let answer = job.step(&put, WEB, 201);
    assert_eq!(answer.line("docker-content-digest"), Some(pushed.as_str()));
    pushed
}

/// Where the registry wants the client to go on: through usher, although it has named itself.
#[track_caller]
fn location(answer: &Answer) -> String {
    let location = answer.line("location").unwrap();
    assert!(location.starts_with("/v2/web/blobs/uploads/"), "{location}");
    location.to_owned()
}

/// The release: machines are updated and made under leases, and waited for.
fn release(job: &mut Job, image: &str) {
    use Service::{Machines, Web};
    let image = format!("registry.fly.io/web:deployment-1@{image}");
    let resolve = "query ($appName: String!, $imageRef: String!) { app(name: $appName) { id \
                   image(ref: $imageRef) { id digest compressedSize } } }";
    let variables = json!({ "appName": "web", "imageRef": image });
    job.graphql(resolve, variables, MEDIA[0], WEB);
    let finish =
        "mutation FinishBuild ($input: FinishBuildInput!) { finishBuild(input: $input) { id } }";
    let input =
        json!({ "appName": "web", "buildId": "build_1", "status": "completed", "logs": "" });
    job.graphql(finish, json!({ "input": input }), MEDIA[1], WEB);
    let body = json!({ "app_name": "web", "build_id": "build_1", "status": "completed" });
    job.step(
        &Call::new(Web, "POST /api/v1/builds/finish").json(&body),
        WEB,
        200,
    );
    let create = "mutation ($input: CreateReleaseInput!) { createRelease(input: $input) { release { id } } }";
    let input = json!({ "appId": "web", "image": image, "platformVersion": "machines", "strategy": "ROLLING" });
    job.graphql(create, json!({ "input": input }), MEDIA[0], WEB);
    // The whole configuration of the app, with the files that go into its machines.
    let files = "QUJD".repeat(64 * 1024);
    let definition = json!({ "files": [ { "guest_path": "/etc/motd", "raw_value": files } ] });
    let body = json!({ "app_name": "web", "image": image, "strategy": "rolling", "definition": definition });
    let created = job.step(
        &Call::new(Web, "POST /api/v1/releases").json(&body),
        WEB,
        201,
    );
    let created: Value = serde_json::from_slice(&created.body).unwrap();
    assert_eq!(created["id"], RELEASE);

    let machine = |rest: &str| format!("/v1/apps/web/machines/148e1aaa000001{rest}");
    let list = Call::new(Machines, "GET /v1/apps/web/machines?include_deleted=false");
    job.step(&list, WEB, 200);
    let lease = Call::new(Machines, format!("POST {}", machine("/lease?ttl=120")));
    // Somebody else has it; the client tries again.
    job.step(&lease, WEB, 409);
    let leased = job.step(&lease, WEB, 201);
    let leased: Value = serde_json::from_slice(&leased.body).unwrap();
    assert_eq!(leased["data"]["nonce"], NONCE);
    let config = json!({
        "config": { "image": image, "files": definition["files"], "env": { "FLY_PROCESS_GROUP": "app" } },
        "region": "ams",
    });
    let held = |call: Call| call.line("Fly-Machine-Lease-Nonce", NONCE);
    let update = held(Call::new(Machines, format!("POST {}", machine("")))).json(&config);
    job.step(&update, WEB, 200);
    let create = Call::new(Machines, "POST /v1/apps/web/machines").json(&config);
    job.step(&create, WEB, 200);
    wait(job);
    let start = held(Call::new(Machines, format!("POST {}", machine("/start"))));
    job.step(&start, WEB, 200);
    let metadata = format!("POST /v1/apps/web/machines/{MADE}/metadata/fly_flyctl_version");
    let metadata = Call::new(Machines, metadata).json(&json!({ "value": "0.3.210" }));
    job.step(&metadata, WEB, 204);
    let release = held(Call::new(Machines, format!("DELETE {}", machine("/lease"))));
    job.step(&release, WEB, 200);
    job.step(
        &Call::new(Machines, "GET /v1/apps/web/ip_assignments"),
        WEB,
        200,
    );
    let update = Call::new(Web, format!("PATCH /api/v1/releases/{RELEASE}"));
    job.step(&update.json(&json!({ "status": "complete" })), WEB, 200);
}

/// The wait for a machine that was made a moment ago: held by the platform, once in vain, while
/// the log of its release command is read.
fn wait(job: &mut Job) {
    let target =
        format!("/v1/apps/web/machines/{MADE}/wait?instance_id=01H3&state=started&timeout=60");
    let wait = Call::new(Service::Machines, format!("GET {target}"));
    let mut cursor = String::new();
    for status in [408, 200] {
        let (machines, _) = job.platform.upstream(Service::Machines);
        let before = machines.requests().len();
        job.runner.begin(&wait);
        until("the wait to be held", || {
            (machines.requests().len() > before).then_some(())
        });
        let sent = job.runner.sent.clone();
        for _ in 0..3 {
            let poll =
                format!("GET /api/v1/apps/web/logs?instance={MADE}&next_token={cursor}&region=");
            let page = job.step(&Call::new(Service::Web, poll), WEB, 200);
            let page: Value = serde_json::from_slice(&page.body).unwrap();
            cursor = page["meta"]["next_token"].as_str().unwrap().to_owned();
        }
        job.runner.sent = sent;
        job.platform.release.send(()).unwrap();
        let answer = job.runner.end(&wait);
        job.check(&wait, WEB, status, answer);
    }
    assert_eq!(cursor, "6");
}

/// Bytes of which no two blocks are alike.
fn content(length: usize, seed: u32) -> Vec<u8> {
    let words = (0_u32..).map(|n| n.wrapping_add(seed).wrapping_mul(2_654_435_761));
    words.flat_map(u32::to_le_bytes).take(length).collect()
}

/// Requests that are next to those of a deploy, and what they get.
fn neighbours() -> Vec<(Call, u16)> {
    use Service::{Builder, GraphQl, Machines, Registry, Web};
    let plain = |service, request: &str| Call::new(service, request);
    let graphql = |document: &str| {
        plain(GraphQl, "POST /graphql").json(&json!({ "query": document, "variables": null }))
    };
    let octets = |request: &str, payload| {
        plain(Registry, request)
            .line("Content-Type", "application/octet-stream")
            .payload(payload)
    };
    let digest = digest(b"a layer");
    let mount = |from: &str| {
        plain(
            Registry,
            &format!("POST /v2/web/blobs/uploads/?from={from}&mount={digest}"),
        )
    };
    let image = json!({ "config": { "image": "registry.fly.io/api:deployment-1" } });
    let release = json!({ "app_name": "api", "image": "registry.fly.io/web:deployment-1" });
    let patch = format!("PATCH /api/v1/releases/{FOREIGN_RELEASE}");
    vec![
        // Another app of the organization, and another organization's.
        (plain(Machines, "GET /v1/apps/api"), 403),
        (plain(Machines, "GET /v1/apps/shop/machines"), 403),
        (
            plain(Machines, "POST /v1/apps/api/machines/148e1bbb000001/start"),
            403,
        ),
        (
            plain(
                Machines,
                "POST /v1/apps/api/machines/148e1bbb000001/lease?ttl=120",
            ),
            403,
        ),
        (
            plain(Machines, "POST /v1/apps/web/machines/148e1bbb000001/start"),
            403,
        ),
        (
            plain(Machines, "POST /v1/apps/web/machines").json(&image),
            403,
        ),
        (
            plain(Machines, "POST /v1/apps/web/machines/148e1aaa000001").json(&image),
            403,
        ),
        (plain(Machines, "DELETE /v1/apps/api"), 403),
        // All apps, and the making of others.
        (plain(Machines, "GET /v1/apps?org_slug=acme"), 403),
        (plain(Machines, "GET /v1/orgs/acme/machines"), 403),
        (
            plain(Machines, "POST /v1/apps").json(&json!({ "org_slug": "acme", "name": "new" })),
            403,
        ),
        // Tokens that would outlive this one.
        (
            plain(Machines, "POST /v1/apps/web/deploy_token").json(&json!({ "expiry": "9000h" })),
            403,
        ),
        (
            graphql(
                r#"mutation { createLimitedAccessToken(input: {organizationId: "acme", profile: "deploy"}) { t } }"#,
            ),
            403,
        ),
        (
            graphql(r#"mutation { deleteOrganization(input: {organizationId: "acme"}) { x } }"#),
            403,
        ),
        (
            graphql(r#"mutation { deleteApp(appId: "api") { x } }"#),
            403,
        ),
        (
            graphql(
                r#"mutation { a: createRelease(input: {appId: "web"}) { x } b: createRelease(input: {appId: "api"}) { x } }"#,
            ),
            403,
        ),
        (
            graphql(r#"{ organization(slug: "acme") { apps { nodes { id } } } }"#),
            403,
        ),
        (plain(Web, "POST /api/v1/releases").json(&release), 403),
        (plain(Web, &patch).json(&json!({ "status": "failed" })), 403),
        (
            plain(Web, "POST /api/v1/builds").json(&json!({ "app_name": "api" })),
            403,
        ),
        (plain(Web, "GET /api/v1/apps/api/logs?next_token="), 403),
        // Another repository: into it, and out of it.
        (
            octets(
                "PATCH /v2/api/blobs/uploads/up-0?_state=a",
                Payload::Expected(content(100_000, 3)),
            ),
            403,
        ),
        (
            octets(
                "PATCH /v2/api/blobs/uploads/up-0?_state=a",
                Payload::Chunked(content(100, 3)),
            ),
            403,
        ),
        (plain(Registry, "POST /v2/api/blobs/uploads/"), 403),
        (
            plain(Registry, "PUT /v2/api/manifests/latest").payload(Payload::Sized(b"{}".to_vec())),
            403,
        ),
        (plain(Registry, "GET /v2/api/manifests/latest"), 403),
        (mount("api"), 403),
        (mount("nobody"), 404),
        (plain(Registry, "GET /v2/_catalog"), 403),
        // Builds for another app, on a builder of the same organization.
        (
            plain(Builder, "POST /v1.44/build?t=a")
                .line("Content-Type", "application/x-tar")
                .payload(Payload::Chunked(content(100, 3))),
            403,
        ),
    ]
}

#[test]
fn what_is_beside_a_deploy_is_not_done() {
    let mut job = Job::start();
    job.platform.start_builder();
    job.runner.builds_for = "api";
    for (call, status) in neighbours() {
        let answer = job.runner.call(&call);
        job.platform.saw_nothing();
        let text = String::from_utf8_lossy(&answer.body);
        assert_eq!(answer.status, status, "{}: {text}", call.request);
    }
    // The same clients with the same requests, after their token was revoked.
    let lineage = usher::authority::Revocation::Lineage(job.token);
    job.usher
        .authority
        .revoke(lineage, usher::clock::unix_now())
        .unwrap();
    for (call, _) in neighbours() {
        let answer = job.runner.call(&call);
        job.platform.saw_nothing();
        assert_eq!(answer.status, 401, "{}", call.request);
    }
}
