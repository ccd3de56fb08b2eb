//! The secrets and signatures of webhooks, as Standard Webhooks defines them.

use aws_lc_rs::hmac;
use base64::{Engine, prelude::BASE64_STANDARD};
use service_kit::clock::Timestamp;
use zeroize::Zeroizing;

/// The prefix of the text of a secret.
const PREFIX: &str = "whsec_";

/// The number of bytes of a secret.
const BYTES: usize = 32;

/// A secret with which messages are signed.
pub(crate) struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Creates a secret from random bytes.
    pub(crate) fn new(bytes: [u8; BYTES]) -> Self {
        Self(Zeroizing::new(bytes.to_vec()))
    }

    /// Returns the secret with the bytes of [`as_bytes`](Self::as_bytes).
    pub(crate) fn from_bytes(bytes: Zeroizing<Vec<u8>>) -> Self {
        Self(bytes)
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Returns the text that receivers configure.
    pub(crate) fn to_text(&self) -> String {
        format!("{PREFIX}{}", BASE64_STANDARD.encode(&*self.0))
    }

    /// Signs a message for an attempt: `v1,base64(HMAC-SHA256(id.seconds.body))`.
    pub(crate) fn sign(&self, id: &str, time: Timestamp, body: &[u8]) -> String {
        let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, &self.0));
        context.update(format!("{id}.{}.", time.as_seconds()).as_bytes());
        context.update(body);
        format!("v1,{}", BASE64_STANDARD.encode(context.sign()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification's reference implementation (`standardwebhooks`).
    #[test]
    fn a_signature_is_that_of_standard_webhooks() {
        let key = BASE64_STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").expect("base64");
        let secret = Secret::from_bytes(Zeroizing::new(key));
        let signature = secret.sign(
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            Timestamp::from_seconds(1_614_265_330),
            br#"{"test": 2432232314}"#,
        );
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn the_text_of_a_secret_has_the_standard_prefix() {
        assert_eq!(Secret::new([0; 32]).to_text(), format!("whsec_{}=", "A".repeat(43)));
    }
}
