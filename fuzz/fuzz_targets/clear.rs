//! Any caveats, any access: clearing ends, and one more caveat never permits more.
#![no_main]

use libfuzzer_sys::fuzz_target;
use usher::macaroon::{Action, Limits, decode_caveats};
use usher::policy::{Access, clear};

fuzz_target!(|input: (
    &[u8],
    u16,
    [u8; 6],
    [Option<&str>; 11],
    Option<Vec<String>>,
    i64
)| {
    let (bytes, action, ids, names, command, now) = input;
    let Ok(caveats) = decode_caveats(bytes, &Limits::DEFAULT) else {
        return;
    };
    let id = |at: usize| (ids[at] < 200).then_some(u64::from(ids[at] % 4));
    let access = Access {
        action: Action::from_bits(action),
        org: id(0),
        app: id(1),
        app_feature: names[0],
        feature: names[1],
        volume: names[2],
        machine: names[3],
        machine_feature: names[4],
        mutation: names[5],
        source_machine: names[6],
        source_app: names[7],
        source_organization: names[8],
        cluster: names[9],
        storage_object: names[10],
        command: command.as_deref(),
    };
    let whole = clear(&caveats, &access, now);
    for length in 0..caveats.len() {
        let fewer = clear(&caveats[..length], &access, now);
        assert!(
            whole.is_err() || fewer.is_ok(),
            "a caveat widened the token"
        );
    }
});
