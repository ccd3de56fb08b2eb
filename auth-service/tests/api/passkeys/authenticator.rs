//! An authenticator in software: it creates passkeys and signs logins, as browsers pass them on.

use std::sync::Arc;

use aws_lc_rs::{
    digest::{SHA256, digest},
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair},
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
use serde_json::{Value, json};

pub const ORIGIN: &str = "https://tasks.example.org";

const USER_PRESENT: u8 = 1;
const USER_VERIFIED: u8 = 1 << 2;
const BACKED_UP: u8 = 3 << 3;
const HAS_CREDENTIAL: u8 = 1 << 6;

/// An authenticator with one ES256 passkey, which is created by [`create`](Self::create).
#[derive(Clone)]
pub struct Authenticator {
    key: Arc<EcdsaKeyPair>,
    id: [u8; 32],
    user_handle: Vec<u8>,
    /// The number of signatures; zero if it does not count them.
    pub sign_count: u32,
    /// Whether it verifies the user.
    pub verifies_user: bool,
    /// Whether it has copied the passkey to other devices.
    pub is_backed_up: bool,
    /// The origin of the page.
    pub origin: String,
}

impl Authenticator {
    pub fn new() -> Self {
        let key = Arc::new(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).expect("a key"));
        let mut id = [0; 32];
        id.copy_from_slice(digest(&SHA256, key.public_key().as_ref()).as_ref());
        let (user_handle, origin) = (Vec::new(), ORIGIN.to_owned());
        Self { key, id, user_handle, sign_count: 0, verifies_user: true, is_backed_up: false, origin }
    }

    /// Returns an authenticator with another key, and the id and the user of a passkey.
    pub fn with_id_of(passkey: &Self) -> Self {
        Self { id: passkey.id, user_handle: passkey.user_handle.clone(), ..Self::new() }
    }

    /// Returns a copy that is used by a page of another origin.
    pub fn with_origin(&self, origin: &str) -> Self {
        Self { origin: origin.to_owned(), ..self.clone() }
    }

    /// Returns a copy that names another user.
    pub fn with_user_handle(&self, user_handle: &[u8]) -> Self {
        Self { user_handle: user_handle.to_vec(), ..self.clone() }
    }

    /// Returns a copy that does not verify the user.
    pub fn without_verification(&self) -> Self {
        Self { verifies_user: false, ..self.clone() }
    }

    /// Returns the response to the options of a registration.
    pub fn create(&mut self, options: &str) -> String {
        let options: Value = serde_json::from_str(options).expect("JSON");
        self.user_handle = BASE64.decode(options["user"]["id"].as_str().expect("a handle")).expect("base64url");
        let public_key = self.key.public_key().as_ref();
        let (x, y) = public_key[1..].split_at(32);
        let cose = [b"\xa5\x01\x02\x03\x26\x20\x01\x21\x58\x20".as_slice(), x, b"\x22\x58\x20", y].concat();
        let site = options["rp"]["id"].as_str().expect("an id");
        let data = [&self.data(site, HAS_CREDENTIAL)[..], &[0; 16], &[0, 32], &self.id, &cose].concat();
        let length = u8::try_from(data.len()).expect("less than 256 bytes");
        let head = [b"\xa3\x63fmt\x64none\x67attStmt\xa0\x68authData\x58".as_slice(), &[length]].concat();
        let client_data = self.client_data("webauthn.create", &options);
        self.credential(&json!({
            "clientDataJSON": BASE64.encode(client_data),
            "attestationObject": BASE64.encode([head, data].concat()),
            "transports": ["internal"],
        }))
    }

    /// Returns the response to the options of a login. The passkey signs once more.
    pub fn get(&mut self, options: &str) -> String {
        let options: Value = serde_json::from_str(options).expect("JSON");
        self.sign_count += u32::from(self.sign_count > 0);
        let client_data = self.client_data("webauthn.get", &options);
        let data = self.data(options["rpId"].as_str().expect("an id"), 0);
        let signed = [data.as_slice(), digest(&SHA256, client_data.as_bytes()).as_ref()].concat();
        let signature = self.key.sign(&SystemRandom::new(), &signed).expect("signed");
        self.credential(&json!({
            "clientDataJSON": BASE64.encode(client_data),
            "authenticatorData": BASE64.encode(data),
            "signature": BASE64.encode(signature.as_ref()),
            "userHandle": BASE64.encode(&self.user_handle),
        }))
    }

    fn data(&self, site: &str, flags: u8) -> Vec<u8> {
        let verified = if self.verifies_user { USER_VERIFIED } else { 0 };
        let backed_up = if self.is_backed_up { BACKED_UP } else { 0 };
        let flags = [USER_PRESENT | verified | backed_up | flags];
        [digest(&SHA256, site.as_bytes()).as_ref(), &flags, &self.sign_count.to_be_bytes()].concat()
    }

    fn client_data(&self, ceremony: &str, options: &Value) -> String {
        json!({"type": ceremony, "challenge": options["challenge"], "origin": self.origin, "crossOrigin": false})
            .to_string()
    }

    fn credential(&self, response: &Value) -> String {
        let id = BASE64.encode(self.id);
        json!({"id": id, "rawId": id, "type": "public-key", "clientExtensionResults": {}, "response": response})
            .to_string()
    }
}
