//! Any connection: whatever passes the gate, in whatever pieces it comes, two readers of HTTP/1.1
//! take for the same requests.
#![no_main]

#[path = "../../tests/readers/both.rs"]
mod both;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    both::check(bytes);
});
