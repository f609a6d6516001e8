//! Any text: the header is refused, or its tokens survive being written and read again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use usher::macaroon::{Bundle, Limits, without_scheme};

fuzz_target!(|value: &str| {
    let limits = Limits::DEFAULT;
    assert_eq!(without_scheme(without_scheme(value)), without_scheme(value));
    let Ok(bundle) = Bundle::parse(value, &limits) else {
        return;
    };
    let parts = bundle.tokens.len() + bundle.defects.len();
    assert_eq!(parts, without_scheme(value).split(',').count());
    if !bundle.tokens.is_empty() {
        let again = Bundle::parse(&bundle.to_header(), &limits).expect("what was read can be read");
        assert_eq!(again.tokens, bundle.tokens);
        assert!(again.defects.is_empty());
    }
});
