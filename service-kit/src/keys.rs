//! The keys of access tokens: a JWK Set (RFC 7517) in a file. The first key signs, all of them verify.

use std::{collections::HashMap, fmt, path::Path};

use anyhow::Context;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::secret_file;

/// A shorter key than the hash it feeds would weaken it (RFC 7518, section 3.2).
const MIN_KEY_BYTES: usize = 32;

/// One key. The algorithm is pinned to it, so a token cannot choose (RFC 8725, section 3.1).
pub(crate) struct Key {
    pub(crate) id: String,
    pub(crate) algorithm: Algorithm,
    pub(crate) signing: EncodingKey,
    pub(crate) verifying: DecodingKey,
}

/// The keys with which tokens are signed and verified.
pub struct KeySet {
    keys: Vec<Key>,
    by_id: HashMap<String, usize>,
}

impl KeySet {
    /// Reads a key file.
    ///
    /// # Errors
    /// If the file cannot be read, others may read it, or it is not a JWK Set of usable `oct` keys, each with a `kid`
    /// of its own and at least 32 bytes. No text of the file is in the error.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let text = secret_file::read(path)?;
        Self::parse(&text).with_context(|| format!("{} is not a usable key file", path.display()))
    }

    fn parse(text: &str) -> anyhow::Result<Self> {
        // The error of serde_json would quote the file.
        let set: JwkSet = serde_json::from_str(text).map_err(|error| {
            anyhow::anyhow!("not a JWK Set (RFC 7517): line {}, column {}", error.line(), error.column())
        })?;
        anyhow::ensure!(!set.keys.is_empty(), "it holds no key");
        let keys = set.keys.iter().enumerate();
        let keys = keys
            .map(|(index, jwk)| Key::from_jwk(jwk).with_context(|| format!("key {}", index + 1)))
            .collect::<anyhow::Result<Vec<_>>>()?;
        let mut by_id = HashMap::new();
        for (index, key) in keys.iter().enumerate() {
            anyhow::ensure!(by_id.insert(key.id.clone(), index).is_none(), "two keys have the same kid");
        }
        Ok(Self { keys, by_id })
    }

    /// The key that signs.
    pub(crate) fn signing(&self) -> &Key {
        self.keys.first().expect("a key set holds at least one key")
    }

    pub(crate) fn by_id(&self, id: &str) -> Option<&Key> {
        self.by_id.get(id).map(|index| &self.keys[*index])
    }
}

impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.keys.iter().map(|key| &key.id)).finish()
    }
}

impl Key {
    fn from_jwk(jwk: &Jwk) -> anyhow::Result<Self> {
        anyhow::ensure!(jwk.kty == "oct", "kty must be \"oct\"");
        anyhow::ensure!(jwk.alg.as_deref().is_none_or(|alg| alg == "HS256"), "alg must be \"HS256\"");
        anyhow::ensure!(jwk.usage.as_deref().is_none_or(|usage| usage == "sig"), "use must be \"sig\"");
        anyhow::ensure!(!jwk.kid.is_empty() && jwk.kid.len() <= 128, "kid must have 1 to 128 bytes");
        let k = jwk.k.as_ref().map_or("", |k| k.as_str());
        let secret = BASE64_URL_SAFE_NO_PAD.decode(k).map_err(|_| anyhow::anyhow!("k is not base64url"))?;
        let secret = Zeroizing::new(secret);
        anyhow::ensure!(secret.len() >= MIN_KEY_BYTES, "k must have at least {MIN_KEY_BYTES} bytes");
        Ok(Self {
            id: jwk.kid.clone(),
            algorithm: Algorithm::HS256,
            signing: EncodingKey::from_secret(&secret),
            verifying: DecodingKey::from_secret(&secret),
        })
    }
}

/// Writes a new file with one random HS256 key and a random `kid`, with mode 0600.
///
/// # Errors
/// If there is such a file, which is left as it is, or it cannot be written.
pub fn generate(path: &Path) -> std::io::Result<()> {
    let secret = Zeroizing::new(crate::random::bytes::<32>());
    let set = JwkSet {
        keys: vec![Jwk {
            kty: "oct".to_owned(),
            alg: Some("HS256".to_owned()),
            usage: Some("sig".to_owned()),
            kid: BASE64_URL_SAFE_NO_PAD.encode(crate::random::bytes::<12>()),
            k: Some(Zeroizing::new(BASE64_URL_SAFE_NO_PAD.encode(*secret))),
        }],
    };
    let text = Zeroizing::new(serde_json::to_string_pretty(&set).expect("a JWK Set is JSON"));
    secret_file::create(path, &text)
}

#[derive(Deserialize, Serialize)]
struct JwkSet {
    keys: Vec<Jwk>,
}

/// Members that are not named here may be there, and are ignored (RFC 7517, section 4).
#[derive(Deserialize, Serialize)]
struct Jwk {
    kty: String,
    alg: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    kid: String,
    k: Option<Zeroizing<String>>,
}
