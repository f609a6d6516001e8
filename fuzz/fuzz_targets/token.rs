//! Any bytes: a token is refused, or is its own only encoding, and a changed one never verifies.
#![no_main]

use libfuzzer_sys::fuzz_target;
use usher::macaroon::{
    Bundle, Limits, SigningKey, Text, ThirdPartyKeys, Token, Verifier, encode_caveats,
};
use zeroize::Zeroizing;

fuzz_target!(|bytes: &[u8]| {
    let limits = Limits::DEFAULT;
    let Ok(token) = Token::decode(bytes.to_vec(), &limits) else {
        return;
    };
    // The one tolerated variant, a nil proof flag, is rewritten; all else is as it came.
    let differs = token
        .bytes()
        .iter()
        .zip(bytes)
        .filter(|(a, b)| a != b)
        .count();
    assert!(token.bytes().len() == bytes.len() && differs <= 1);
    assert_eq!(
        Token::decode(token.bytes().to_vec(), &limits).as_ref(),
        Ok(&token)
    );
    let encoded = encode_caveats(token.caveats());
    assert!(
        token
            .bytes()
            .windows(encoded.len())
            .any(|window| window == encoded)
    );

    // Nobody who does not hold the key makes a token that verifies.
    let key = SigningKey::new(Zeroizing::new(vec![7; 32]));
    let location = Text::from(token.location());
    let signing_key = |_: &[u8]| Some(&key);
    let third_parties = ThirdPartyKeys::default();
    let verifier = Verifier::new(&location, &signing_key, &third_parties, &limits);
    let bundle = Bundle {
        tokens: vec![token],
        defects: Vec::new(),
    };
    assert!(verifier.verify(&bundle, 0, &bundle.tokens[0]).is_err());
});
