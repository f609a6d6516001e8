//! The keys in a store, which lie there sealed.

use std::fs;
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use usher::macaroon::unseal;

use super::canary;

/// Has the seal key in a folder looked for, and the signing keys that the store there has by now.
pub(crate) fn hide_keys(folder: &Path) {
    for key in keys(folder) {
        canary::hide(&key);
    }
}

/// The seal key in a folder, and the signing keys that it keeps in the store there.
pub(crate) fn keys(folder: &Path) -> Vec<Vec<u8>> {
    let seal_key = fs::read_to_string(folder.join("seal.key")).unwrap();
    let seal_key: [u8; 32] = STANDARD
        .decode(seal_key.trim())
        .unwrap()
        .try_into()
        .unwrap();
    let store = rusqlite::Connection::open(folder.join("usher.db")).unwrap();
    store.busy_timeout(Duration::from_secs(20)).unwrap();
    let mut query = store.prepare("SELECT sealed FROM signing_key").unwrap();
    let sealed = query.query_map([], |row| row.get::<_, Vec<u8>>(0)).unwrap();
    let opened = sealed.map(|sealed| unseal(&seal_key, &sealed.unwrap()).unwrap().to_vec());
    [seal_key.to_vec()].into_iter().chain(opened).collect()
}
