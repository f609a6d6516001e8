//! gRPC through ordinary routes: both directions as they come, the status at the end, and a refusal
//! as a status of its own.

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::Frame;
use usher::authority::{Kind, Revocation};
use usher::clock::unix_now;

use crate::support::{H2Client, H2Upstream, Usher, World, fed, header, hour, run, trailers};

const ORG: Kind = Kind::Org { org: 2001 };
const READONLY: Kind = Kind::Readonly { org: 2001 };
const CALL: &str = "POST /talk.Talk/web";
const LINES: [(&str, &str); 2] = [("content-type", "application/grpc"), ("te", "trailers")];

fn usher(upstream: &H2Upstream) -> Usher {
    let url = format!("urls: [ \"http://{}\" ]", upstream.address);
    World::before(upstream.address)
        .with(&url, format_args!("{url}, protocol: http2"))
        .and(r#"  - { name: talk, method: POST, path: "/talk.Talk/{app}", access: { action: w, app: "{app}" }, upstream: machines, stream: true }"#)
        .start()
}

/// A message of gRPC: not compressed, its length, its bytes.
fn message(text: &str) -> Bytes {
    let length = u32::try_from(text.len()).unwrap().to_be_bytes();
    [&[0], &length[..], text.as_bytes()].concat().into()
}

#[test]
fn a_call_is_a_conversation_with_a_status_at_its_end() {
    run(async {
        let upstream = H2Upstream::cleartext().await;
        let usher = usher(&upstream);
        let mut client = H2Client::cleartext(usher.address).await;
        let token = usher.credential(&ORG);
        let (feed, body) = fed();
        let request = client.request(CALL, Some(&token), &LINES, body);
        let mut response = client.send(request).await;
        assert_eq!(response.status(), 200);
        // Each answer is read before the next message is sent.
        for text in ["one", "two", &"x".repeat(50_000)] {
            let sent = message(text);
            feed.send(Frame::data(sent.clone())).await.unwrap();
            let mut came = Vec::new();
            while came.len() < sent.len() {
                let frame = response.body_mut().frame().await.unwrap().unwrap();
                came.extend_from_slice(&frame.into_data().unwrap());
            }
            assert!(came == sent);
        }
        feed.send(trailers(&[("grpc-status", "0"), ("x-sum", "7")]))
            .await
            .unwrap();
        drop(feed);
        let last = response.body_mut().frame().await.unwrap().unwrap();
        let last = last.into_trailers().unwrap();
        assert_eq!(last["grpc-status"], "0");
        assert_eq!(last["x-sum"], "7");
        let seen = &upstream.heads()[0];
        assert_eq!(seen.headers["te"], "trailers");
        assert_eq!(seen.headers["x-usher-app"], "3001");
        assert_eq!(seen.headers.get("authorization"), None);
    });
}

#[test]
fn a_denied_call_has_the_status_of_grpc() {
    run(async {
        let upstream = H2Upstream::cleartext().await;
        let usher = usher(&upstream);
        let mut client = H2Client::cleartext(usher.address).await;
        let readonly = usher.credential(&READONLY);
        for (token, status, code) in [
            (Some(&*readonly), "7", "prohibited"),
            (None, "16", "token-missing"),
        ] {
            let (_open, body) = fed();
            let request = client.request(CALL, token, &LINES, body);
            let response = client.send(request).await;
            assert!(upstream.heads().is_empty());
            assert_eq!(response.status(), 200);
            assert_eq!(response.headers()["grpc-status"], status);
            let told = response.headers()["grpc-message"].to_str().unwrap();
            assert!(told.starts_with(code), "{told}");
        }
    });
}

#[test]
fn a_call_is_cut_when_its_token_is_revoked() {
    run(async {
        let upstream = H2Upstream::cleartext().await;
        let usher = usher(&upstream);
        let mut client = H2Client::cleartext(usher.address).await;
        let token = usher.token(&ORG, hour());
        let (feed, body) = fed();
        let request = client.request(CALL, Some(&header(&[&token])), &LINES, body);
        let mut response = client.send(request).await;
        feed.send(Frame::data(message("one"))).await.unwrap();
        let frame = response.body_mut().frame().await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), message("one"));
        let lineage = Revocation::Lineage(token.uuid());
        assert!(usher.authority.revoke(lineage, unix_now()).unwrap());
        // No status that could be taken for the end of a conversation: the stream is reset.
        assert!(response.body_mut().frame().await.unwrap().is_err());
    });
}
