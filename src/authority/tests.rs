use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Barrier;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tempfile::TempDir;

use super::*;
use crate::config::Secret;
use crate::macaroon::{
    Action, Bundle, Limits, SigningKey, TailDigest, Verified, Verifier, VerifyError,
    caveats_to_json,
};

use crate::policy::NameEntry;

const NOW: i64 = 1_764_000_000;

/// A folder with a seal key, and the configuration of a store in it.
struct Place {
    dir: TempDir,
    config: config::Authority,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = config::Authority {
            location: "https://api.fly.io/v1".to_owned(),
            store: dir.path().join("usher.db"),
            seal_key: write_key(&dir.path().join("seal.key"), 1),
            third_parties: vec![],
        };
        Self { dir, config }
    }

    fn open(&self) -> Authority {
        Authority::open(&self.config, NOW).unwrap()
    }
}

fn write_key(path: &Path, byte: u8) -> Secret {
    fs::write(path, format!("{}\n", STANDARD.encode([byte; 32]))).unwrap();
    Secret::File(path.to_owned())
}

fn issue(authority: &Authority) -> Token {
    let kind = Kind::Org { org: 2001 };
    let window = Window {
        not_before: NOW,
        not_after: NOW + 3600,
    };
    let request = Request {
        kind: kind.name(),
        name: Some("ci"),
        org: Some(u64::MAX),
        app: None,
        caveats: &kind.caveats(window)[0],
        issuer: None,
    };
    authority.issue(&request, NOW).unwrap()
}

fn narrowed(token: &Token) -> Token {
    token
        .attenuate(&[Caveat::Action(Action::READ)], &Limits::DEFAULT)
        .unwrap()
}

fn verify(snapshot: &Snapshot, token: &Token) -> Result<Verified, VerifyError> {
    let bundle = Bundle {
        tokens: vec![token.clone()],
        defects: vec![],
    };
    Verifier::new(
        &token.location().into(),
        &|id| snapshot.keys.key(id),
        &snapshot.third_parties,
        &Limits::DEFAULT,
    )
    .verify(&bundle, 0, token)
}

fn revoked(snapshot: &Snapshot, token: &Token) -> bool {
    let verified = verify(snapshot, token).unwrap();
    let digests = || -> Vec<TailDigest> { verified.tails().iter().map(|t| t.digest()).collect() };
    snapshot.revocations.revoked(&token.uuid(), digests)
}

#[test]
fn rotating_keeps_older_tokens_valid() {
    let place = Place::new();
    let authority = place.open();
    let before = issue(&authority);
    let generation = authority.snapshot().generation;
    authority.rotate(NOW + 1).unwrap();
    let after = issue(&authority);

    let snapshot = authority.snapshot();
    assert_ne!(snapshot.generation, generation);
    assert_ne!(before.key_id(), after.key_id());
    assert!(verify(&snapshot, &before).is_ok());
    assert!(verify(&snapshot, &after).is_ok());
    let states: Vec<KeyState> = authority.keys().unwrap().iter().map(|k| k.state).collect();
    assert_eq!(states, [KeyState::Verifying, KeyState::Active]);
}

#[test]
fn an_imported_key_verifies_and_does_not_sign() {
    let place = Place::new();
    let authority = place.open();
    let generation = authority.snapshot().generation;
    let bytes = Zeroizing::new([5; 32]);
    let foreign = |id: &[u8]| {
        let key = SigningKey::new(Zeroizing::new(bytes.to_vec()));
        Token::mint(id, [1; 16], "https://api.fly.io/v1", &key, &[]).unwrap()
    };
    let id = authority.import(b"theirs", &bytes, NOW).unwrap();
    assert_eq!(id.to_string(), "theirs");

    let snapshot = authority.snapshot();
    assert_ne!(snapshot.generation, generation);
    assert!(verify(&snapshot, &foreign(b"theirs")).is_ok());
    assert_eq!(
        verify(&snapshot, &foreign(b"others")).unwrap_err(),
        VerifyError::UnknownKey
    );
    assert_ne!(issue(&authority).key_id(), b"theirs");
    // Sealed like every other key, and there after a restart.
    let sealed = &authority.keys().unwrap()[1].sealed;
    assert!(!sealed.windows(32).any(|window| window == [5; 32]));
    assert!(verify(&place.open().snapshot(), &foreign(b"theirs")).is_ok());
}

#[test]
fn an_import_never_replaces_a_key() {
    let place = Place::new();
    let authority = place.open();
    let token = issue(&authority);
    let taken = token.key_id().to_vec();
    let refused = authority.import(&taken, &Zeroizing::new([5; 32]), NOW);
    assert!(matches!(refused, Err(AuthorityError::KnownKey(_))));
    assert_eq!(authority.keys().unwrap().len(), 1);
    assert!(verify(&authority.snapshot(), &token).is_ok());
}

#[test]
fn revoking_a_lineage_revokes_every_attenuation() {
    let place = Place::new();
    let authority = place.open();
    let (token, other) = (issue(&authority), issue(&authority));
    let generation = authority.snapshot().generation;
    let revocation = Revocation::Lineage(token.uuid());
    assert!(authority.revoke(revocation, NOW).unwrap());
    assert!(!authority.revoke(revocation, NOW).unwrap(), "not new");

    let snapshot = authority.snapshot();
    assert!(revoked(&snapshot, &token));
    assert!(revoked(&snapshot, &narrowed(&token)));
    assert!(!revoked(&snapshot, &other));
    assert_eq!(snapshot.generation, generation, "the keys are the same");
}

#[test]
fn revoking_a_tail_spares_the_parent() {
    let place = Place::new();
    let authority = place.open();
    let token = issue(&authority);
    let child = narrowed(&token);
    let grandchild = child
        .attenuate(&[Caveat::Action(Action::ALL)], &Limits::DEFAULT)
        .unwrap();
    let revocation = Revocation::Tail(child.uuid(), child.tail_digest().unwrap());
    authority.revoke(revocation, NOW).unwrap();

    let snapshot = authority.snapshot();
    assert!(!revoked(&snapshot, &token));
    assert!(revoked(&snapshot, &child));
    assert!(revoked(&snapshot, &grandchild));
}

#[test]
fn reopening_keeps_everything() {
    let place = Place::new();
    let authority = place.open();
    let (kept, lost) = (issue(&authority), issue(&authority));
    authority.rotate(NOW).unwrap();
    let tail = Revocation::Tail(kept.uuid(), narrowed(&kept).tail_digest().unwrap());
    authority
        .revoke(Revocation::Lineage(lost.uuid()), NOW)
        .unwrap();
    authority.revoke(tail, NOW).unwrap();
    let (keys, tokens) = (authority.keys().unwrap(), authority.tokens().unwrap());
    drop(authority);

    let authority = place.open();
    let snapshot = authority.snapshot();
    assert!(!revoked(&snapshot, &kept));
    assert!(revoked(&snapshot, &narrowed(&kept)));
    assert!(revoked(&snapshot, &lost));
    assert_eq!(authority.keys().unwrap(), keys);
    assert_eq!(authority.tokens().unwrap(), tokens);
}

#[test]
fn the_ledger_remembers_the_token_without_holding_it() {
    let place = Place::new();
    let authority = place.open();
    let token = issue(&authority);
    let [entry] = &authority.tokens().unwrap()[..] else {
        panic!("one token was issued")
    };
    assert_eq!(entry.uuid, token.uuid());
    assert_eq!(Some(entry.tail), token.tail_digest());
    assert_eq!(entry.org, Some(u64::MAX), "ids are kept bit for bit");
    assert_eq!(entry.expires_at, Some(NOW + 3600));
    assert_eq!(entry.caveats, caveats_to_json(token.caveats()).to_string());
    // The last 32 bytes of a token are its tail, without which it is worth nothing.
    let tail = &token.bytes()[token.bytes().len() - 32..];
    drop(authority);
    assert!(!contains(&place, tail));
}

#[test]
fn keys_lie_sealed_in_the_file() {
    let place = Place::new();
    let authority = place.open();
    authority.rotate(NOW).unwrap();
    let snapshot = authority.snapshot();
    let (id, key) = snapshot.keys.active();
    let (id, key) = (id.to_vec(), key.expose().to_vec());
    assert_eq!(key.len(), 32);
    drop((snapshot, authority));
    assert!(contains(&place, &id), "the search finds what is there");
    assert!(!contains(&place, &key));
    assert!(!contains(&place, &key[..16]));
}

/// Whether any file of the store holds these bytes in a row.
fn contains(place: &Place, bytes: &[u8]) -> bool {
    let files = fs::read_dir(place.dir.path()).unwrap();
    files
        .map(|file| file.unwrap().path())
        .filter(|path| path.to_string_lossy().contains("usher.db"))
        .any(|path| {
            let content = fs::read(path).unwrap();
            content.windows(bytes.len()).any(|window| window == bytes)
        })
}

#[test]
fn the_file_is_private() {
    let place = Place::new();
    let authority = place.open();
    issue(&authority);
    for name in ["usher.db", "usher.db-wal", "usher.db-shm"] {
        let metadata = fs::metadata(place.dir.path().join(name)).unwrap();
        assert_eq!(metadata.permissions().mode() & 0o777, 0o600, "{name}");
    }
}

#[test]
fn a_wrong_seal_key_is_told_apart() {
    let mut place = Place::new();
    drop(place.open());
    place.config.seal_key = write_key(&place.dir.path().join("other.key"), 2);
    let error = Authority::open(&place.config, NOW).unwrap_err();
    assert!(
        matches!(error, AuthorityError::WrongSealKey { .. }),
        "{error}"
    );
}

#[test]
fn a_key_that_cannot_be_had_is_named_but_not_shown() {
    let mut place = Place::new();
    let path = place.dir.path().join("short.key");
    fs::write(&path, "c2hvcnQ=").unwrap();
    for (secret, expected) in [
        (
            Secret::Env("USHER_TEST_UNSET".to_owned()),
            "authority.seal_key: the environment variable USHER_TEST_UNSET is not set".to_owned(),
        ),
        (
            Secret::File(path.clone()),
            format!(
                "authority.seal_key: {} does not hold a key of 32 bytes in base64; \
                 `openssl rand -base64 32` makes one",
                path.display()
            ),
        ),
    ] {
        place.config.seal_key = secret;
        let error = Authority::open(&place.config, NOW).unwrap_err();
        assert_eq!(error.to_string(), expected);
    }
}

#[test]
fn a_newer_file_is_left_alone() {
    let place = Place::new();
    drop(place.open());
    let db = rusqlite::Connection::open(&place.config.store).unwrap();
    db.pragma_update(None, "user_version", 99).unwrap();
    drop(db);
    let error = Authority::open(&place.config, NOW).unwrap_err();
    assert!(
        matches!(
            error,
            AuthorityError::Store(StoreError::Newer { found: 99, .. })
        ),
        "{error}"
    );
}

#[test]
fn a_foreign_file_is_left_alone() {
    let place = Place::new();
    let db = rusqlite::Connection::open(&place.config.store).unwrap();
    db.execute_batch("CREATE TABLE theirs (a)").unwrap();
    let error = Authority::open(&place.config, NOW).unwrap_err();
    assert!(
        matches!(error, AuthorityError::Store(StoreError::Foreign { .. })),
        "{error}"
    );
    let tables: i64 = db
        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
        .unwrap();
    assert_eq!(tables, 1);
}

#[test]
fn a_damaged_key_is_named() {
    let place = Place::new();
    let id = KeyId::of(place.open().snapshot().keys.active().0);
    let db = rusqlite::Connection::open(&place.config.store).unwrap();
    db.execute("UPDATE signing_key SET sealed = zeroblob(60)", [])
        .unwrap();
    let error = Authority::open(&place.config, NOW).unwrap_err();
    assert!(
        matches!(&error, AuthorityError::Keys(KeyRingError::Damaged(damaged)) if *damaged == id),
        "{error}"
    );
}

#[test]
fn processes_that_create_one_store_together_share_its_first_key() {
    let place = Place::new();
    let ready = Barrier::new(4);
    let ids: Vec<Vec<u8>> = thread::scope(|scope| {
        let openers: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    ready.wait();
                    place.open().snapshot().keys.active().0.to_vec()
                })
            })
            .collect();
        openers
            .into_iter()
            .map(|opener| opener.join().unwrap())
            .collect()
    });
    assert!(ids.iter().all(|id| *id == ids[0]));
}

/// Waits until `authority` has published what `holds` asks for; panics after a minute.
fn wait_until(authority: &Authority, holds: impl Fn(&Snapshot) -> bool) {
    let mut publications = authority.publications();
    let wait = async {
        while !holds(&authority.snapshot()) {
            publications.changed().await.unwrap();
        }
    };
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap()
        .block_on(async { tokio::time::timeout(Duration::from_secs(60), wait).await })
        .expect("the change is seen");
}

#[test]
fn what_another_process_writes_is_seen() {
    let place = Place::new();
    let mut serving = place.open();
    serving.follow().unwrap();
    let token = issue(&serving);
    let generation = serving.snapshot().generation;

    let other = place.open();
    other
        .revoke(Revocation::Lineage(token.uuid()), NOW)
        .unwrap();
    wait_until(&serving, |snapshot| revoked(snapshot, &token));

    other.rotate(NOW).unwrap();
    let newer = issue(&other);
    wait_until(&serving, |snapshot| verify(snapshot, &newer).is_ok());
    assert_ne!(serving.snapshot().generation, generation);
}

fn org(slug: &str, id: u64) -> NameTable {
    let mut names = NameTable::default();
    let slug = slug.into();
    names.add(NameEntry::Org { slug, id }).unwrap();
    names
}

#[test]
fn names_are_replaced_as_a_whole_and_seen_by_others() {
    let place = Place::new();
    let (writer, mut reader) = (place.open(), place.open());
    reader.follow().unwrap();
    assert_eq!(reader.snapshot().names.org("acme"), None);
    let before = writer.snapshot();
    assert!(
        writer
            .replace_names(&before, &org("acme", u64::MAX))
            .unwrap()
    );
    assert_eq!(writer.snapshot().names.org("acme"), Some(u64::MAX));
    wait_until(&reader, |now| now.names.org("acme") == Some(u64::MAX));
    assert_eq!(reader.snapshot().generation, 0, "no key has changed");

    // Whoever started from the same names comes too late, and changes nothing.
    assert!(!writer.replace_names(&before, &org("beta", 2)).unwrap());
    assert!(!reader.replace_names(&before, &org("beta", 2)).unwrap());
    assert_eq!(place.open().snapshot().names.org("acme"), Some(u64::MAX));
    let now = reader.snapshot();
    assert!(reader.replace_names(&now, &org("beta", 2)).unwrap());
    wait_until(&reader, |now| now.names.org("beta") == Some(2));
    assert_eq!(reader.snapshot().names.org("acme"), None);
}

#[test]
fn names_are_read_again_only_when_they_change() {
    let place = Place::new();
    let authority = place.open();
    let before = authority.snapshot();
    authority.replace_names(&before, &org("acme", 1)).unwrap();
    let first = authority.snapshot();
    authority.rotate(NOW).unwrap();
    let second = authority.snapshot();
    assert_ne!(first.generation, second.generation);
    assert!(Arc::ptr_eq(&first.names, &second.names));
}

#[test]
fn names_that_contradict_each_other_make_the_store_unreadable() {
    let place = Place::new();
    let authority = place.open();
    let before = authority.snapshot();
    authority.replace_names(&before, &org("acme", 1)).unwrap();
    let db = rusqlite::Connection::open(&place.config.store).unwrap();
    db.execute(
        "INSERT INTO directory_entry (kind, object, name, app, org) VALUES ('org', '', 'beta', 0, 1)",
        [],
    )
    .unwrap();
    let error = Authority::open(&place.config, NOW).unwrap_err();
    assert!(
        matches!(error, AuthorityError::Store(StoreError::Sql { .. })),
        "{error}"
    );
}

#[test]
fn without_a_feed_it_goes_stale() {
    let place = Place::new();
    let authority = place.open();
    let opened = authority.shared.opened;
    assert!(authority.fresh(opened + MAX_STALENESS));
    assert!(!authority.fresh(opened + MAX_STALENESS + Duration::from_millis(1)));
}

#[test]
fn a_store_that_is_replaced_or_gone_is_not_current() {
    let place = Place::new();
    let authority = place.open();
    authority.shared.poll().unwrap();
    let moved = place.dir.path().join("moved");
    fs::rename(&place.config.store, &moved).unwrap();
    assert!(authority.shared.poll().is_err(), "gone");
    fs::copy(&moved, &place.config.store).unwrap();
    let error = authority.shared.poll().unwrap_err();
    assert!(
        matches!(error, AuthorityError::Store(StoreError::Replaced { .. })),
        "{error}"
    );
}

#[test]
fn third_party_keys_are_read_from_where_the_configuration_says() {
    let mut place = Place::new();
    let key = write_key(&place.dir.path().join("auth.key"), 9);
    let third_party = |key| config::ThirdParty {
        location: "https://auth.example".to_owned(),
        key,
    };
    place.config.third_parties = vec![third_party(key)];
    let debug = format!("{:?}", place.open().snapshot().third_parties);
    assert!(debug.contains("https://auth.example"), "{debug}");

    let missing = Secret::File(place.dir.path().join("none"));
    place.config.third_parties.push(third_party(missing));
    let error = Authority::open(&place.config, NOW).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("authority.third_parties[1].key: cannot read "),
        "{error}"
    );
}
