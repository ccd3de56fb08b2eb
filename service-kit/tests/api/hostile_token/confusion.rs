//! Signatures with a wrong key, a wrong algorithm or no key.

use aws_lc_rs::hmac;
use base64::{Engine, prelude::BASE64_STANDARD};

use super::{
    BASE64, SECRET, SEED, assert_accepted, assert_refused, claims, ed25519, header, json, message, pair_header,
    pair_signed, public_key, signed, signed_by, valid_token, with, with_signature, without,
};

#[test]
pub(super) fn no_spelling_of_alg_none_is_accepted() {
    for alg in ["none", "None", "NONE", "nOnE", "none ", " none", "none\0", "n\u{f6}ne", "\u{ff4e}one", "null", ""] {
        for header in [header(), pair_header(), without(header(), "kid")] {
            let message = message(with(header, "alg", json!(alg)), claims());
            assert_refused(&message);
            assert_refused(&format!("{message}."));
            assert_refused(&with_signature(&message, &[0; 32]));
            assert_refused(&with_signature(&message, &[0; 64]));
            assert_refused(&signed(&message));
            assert_refused(&pair_signed(&message));
            assert_refused(&signed_by(hmac::HMAC_SHA256, b"", &message));
        }
    }
}

/// Returns the public key in every encoding that an attacker might use as a secret.
fn public_key_encodings() -> Vec<Vec<u8>> {
    let key = public_key();
    let spki = [&b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00"[..], &key].concat();
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----", BASE64_STANDARD.encode(&spki));
    let hex = key.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
    let x = BASE64.encode(&key);
    let jwk = json!({"kty": "OKP", "crv": "Ed25519", "x": x});
    let texts = [
        x.clone(),
        format!("{x}="),
        BASE64_STANDARD.encode(&key),
        hex.to_uppercase(),
        format!("0x{hex}"),
        hex,
        BASE64.encode(&spki),
        BASE64_STANDARD.encode(&spki),
        format!("{pem}\n"),
        pem.replace('\n', "\r\n"),
        pem,
        jwk.to_string(),
        json!({"keys": [jwk]}).to_string(),
    ];
    [key, spki].into_iter().chain(texts.map(String::into_bytes)).collect()
}

#[test]
pub(super) fn public_key_is_not_accepted_as_shared_secret() {
    for secret in public_key_encodings() {
        for (alg, algorithm) in
            [("HS256", hmac::HMAC_SHA256), ("HS384", hmac::HMAC_SHA384), ("HS512", hmac::HMAC_SHA512)]
        {
            for header in [header(), pair_header(), without(header(), "kid")] {
                let message = message(with(header, "alg", json!(alg)), claims());
                assert_refused(&signed_by(algorithm, &secret, &message));
            }
        }
        // The algorithm matches the key, but the signature is an HMAC.
        assert_refused(&signed_by(hmac::HMAC_SHA256, &secret, &message(pair_header(), claims())));
        assert_refused(&signed_by(hmac::HMAC_SHA512, &secret, &message(pair_header(), claims())));
    }
}

#[test]
pub(super) fn key_does_not_sign_for_the_other_key() {
    for header in [header(), pair_header(), with(header(), "alg", json!("EdDSA")), with(header(), "kid", json!("pair"))]
    {
        let message = message(&header, claims());
        // The shared secret used as a private key, and the private key used as a shared secret.
        assert_refused(&with_signature(&message, ed25519(SECRET).sign(message.as_bytes()).as_ref()));
        assert_refused(&signed_by(hmac::HMAC_SHA256, SEED, &message));
        let is_valid = [super::header(), pair_header()].contains(&header);
        if !is_valid {
            assert_refused(&signed(&message));
            assert_refused(&pair_signed(&message));
        }
    }
}

#[test]
pub(super) fn other_algorithms_are_refused_despite_a_valid_signature() {
    for alg in ["HS384", "HS512", "RS256", "PS256", "ES256", "ES256K", "ES384", "ES512", "Ed25519", "Ed448"] {
        assert_refused(&signed(&message(with(header(), "alg", json!(alg)), claims())));
        assert_refused(&pair_signed(&message(with(pair_header(), "alg", json!(alg)), claims())));
    }
    for alg in
        ["hs256", "Hs256", "HS256 ", "HS-256", "HMACSHA256", "http://www.w3.org/2001/04/xmldsig-more#hmac-sha256"]
    {
        assert_refused(&signed(&message(with(header(), "alg", json!(alg)), claims())));
    }
    for alg in ["eddsa", "EDDSA", "EdDsa", "Ed25519ph"] {
        assert_refused(&pair_signed(&message(with(pair_header(), "alg", json!(alg)), claims())));
    }
}

#[test]
pub(super) fn degenerate_signatures_are_refused() {
    // ECDSA with r = s = 0 (CVE-2022-21449) in DER; the identity as R and S = 0; a point of small order.
    let der = b"\x30\x06\x02\x01\x00\x02\x01\x00".to_vec();
    let identity = [&[1][..], &[0; 63]].concat();
    let small_order = [&b"\x26\xe8\x95\x8f\xc2\xb2\x27\xb0\x45\xc3\xf4\x89\xf2\xef\x98\xf0"[..], &[0; 48]].concat();
    let zeros = [0, 1, 16, 31, 32, 33, 48, 63, 64, 65, 96, 132].map(|length| vec![0; length]);
    let ones = [32, 64].map(|length| vec![0xff; length]);
    for signature in [der, identity, small_order].into_iter().chain(zeros).chain(ones) {
        for header in [header(), pair_header()] {
            assert_refused(&with_signature(&message(header, claims()), &signature));
        }
    }
}

#[test]
pub(super) fn truncated_extended_or_changed_signature_is_refused() {
    for token in [valid_token(), pair_signed(&message(pair_header(), claims()))] {
        let (message, signature) = token.rsplit_once('.').expect("three parts");
        let signature = BASE64.decode(signature).expect("base64url");
        for length in 0..signature.len() {
            assert_refused(&with_signature(message, &signature[..length]));
        }
        assert_refused(&with_signature(message, &[&signature[..], &[0]].concat()));
        assert_refused(&with_signature(message, &[&signature[..], &signature[..]].concat()));
        for bit in 0..signature.len() * 8 {
            let mut changed = signature.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_refused(&with_signature(message, &changed));
        }
    }
}

/// An Ed25519 signature whose S is not below the order of the group is refused (RFC 8032, section 5.1.7). Otherwise
/// anyone could derive another valid token from a token.
#[test]
pub(super) fn signature_is_not_malleable() {
    const ORDER: [u8; 32] = *b"\xed\xd3\xf5\x5c\x1a\x63\x12\x58\xd6\x9c\xf7\xa2\xde\xf9\xde\x14\
        \0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x10";
    let message = message(pair_header(), claims());
    let signature = ed25519(SEED).sign(message.as_bytes());
    let (r, s) = signature.as_ref().split_at(32);
    let mut carry = 0;
    let sum = s.iter().zip(ORDER).map(|(a, b)| {
        let [low, high] = (u16::from(*a) + u16::from(b) + carry).to_le_bytes();
        carry = u16::from(high);
        low
    });
    let other = [r, &sum.collect::<Vec<_>>()].concat();
    assert_accepted(&with_signature(&message, signature.as_ref()));
    assert_refused(&with_signature(&message, &other));
}
