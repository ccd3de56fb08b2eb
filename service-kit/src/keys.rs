//! The keys of access tokens: a JWK Set (RFC 7517) in a file. The first key signs, all of them verify.

use std::{collections::HashMap, fmt, path::Path};

use anyhow::Context;
use aws_lc_rs::{
    digest,
    signature::{Ed25519KeyPair, KeyPair},
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey};
use serde::{Deserialize, Serialize};
use taskey_proto::auth::v1 as pb;
use zeroize::Zeroizing;

use crate::secret_file;

/// A shorter key than the hash it feeds would weaken it (RFC 7518, section 3.2).
const MIN_KEY_BYTES: usize = 32;

/// What stands before the seed in the PKCS #8 form of a private key on Ed25519 (RFC 8410, section 7).
const ED25519_PKCS8: &[u8] =
    &[0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

/// One key. The algorithm is pinned to it, so a token cannot choose (RFC 8725, section 3.1).
pub(crate) struct Key {
    pub(crate) id: String,
    pub(crate) algorithm: Algorithm,
    pub(crate) signing: EncodingKey,
    pub(crate) verifying: DecodingKey,
    /// What may be shown to anyone; a shared secret has no such half.
    public: Option<pb::Jwk>,
    /// Tells whether two keys are the same without holding the secret once more.
    fingerprint: digest::Digest,
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
    /// If the file cannot be read, others may read it, or it is not a JWK Set of usable keys, each with a `kid` of
    /// its own: `oct` of at least 32 bytes, or `OKP` on Ed25519 with both halves. No text of the file is in the error.
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

    /// The public keys, as a JWK Set (RFC 7517, section 5).
    #[must_use]
    pub fn public(&self) -> pb::JwkSet {
        pb::JwkSet { keys: self.keys.iter().filter_map(|key| key.public.clone()).collect() }
    }

    /// The same as JSON.
    ///
    /// # Errors
    /// None that can be thought of.
    pub fn public_json(&self) -> serde_json::Result<String> {
        let keys = self.public().keys.into_iter().map(|key| Jwk {
            kty: key.kty,
            crv: Some(key.crv),
            x: Some(key.x),
            ..Jwk::new(&key.alg, key.kid)
        });
        serde_json::to_string_pretty(&JwkSet { keys: keys.collect() })
    }

    pub(crate) fn by_id(&self, id: &str) -> Option<&Key> {
        self.by_id.get(id).map(|index| &self.keys[*index])
    }
}

impl PartialEq for KeySet {
    /// Whether both hold the same keys in the same order.
    fn eq(&self, other: &Self) -> bool {
        let identity = |key: &Key| (key.id.clone(), key.algorithm, key.fingerprint.as_ref().to_vec());
        self.keys.iter().map(identity).eq(other.keys.iter().map(identity))
    }
}

impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.keys.iter().map(|key| &key.id)).finish()
    }
}

impl Key {
    fn from_jwk(jwk: &Jwk) -> anyhow::Result<Self> {
        anyhow::ensure!(jwk.usage.as_deref().is_none_or(|usage| usage == "sig"), "use must be \"sig\"");
        anyhow::ensure!(!jwk.kid.is_empty() && jwk.kid.len() <= 128, "kid must have 1 to 128 bytes");
        match jwk.kty.as_str() {
            "oct" => Self::shared(jwk),
            "OKP" => Self::pair(jwk),
            _ => anyhow::bail!("kty must be \"oct\" or \"OKP\""),
        }
    }

    /// A secret that signs and verifies (RFC 7518, section 6.4).
    fn shared(jwk: &Jwk) -> anyhow::Result<Self> {
        anyhow::ensure!(jwk.alg.as_deref().is_none_or(|alg| alg == "HS256"), "alg must be \"HS256\"");
        let secret = decode("k", jwk.k.as_ref())?;
        anyhow::ensure!(secret.len() >= MIN_KEY_BYTES, "k must have at least {MIN_KEY_BYTES} bytes");
        Ok(Self {
            id: jwk.kid.clone(),
            algorithm: Algorithm::HS256,
            signing: EncodingKey::from_secret(&secret),
            verifying: DecodingKey::from_secret(&secret),
            public: None,
            fingerprint: digest::digest(&digest::SHA256, &secret),
        })
    }

    /// A pair of keys on Ed25519 (RFC 8037, section 2).
    fn pair(jwk: &Jwk) -> anyhow::Result<Self> {
        anyhow::ensure!(jwk.crv.as_deref() == Some("Ed25519"), "crv must be \"Ed25519\"");
        anyhow::ensure!(jwk.alg.as_deref().is_none_or(|alg| alg == "EdDSA"), "alg must be \"EdDSA\"");
        let (seed, x) = (decode("d", jwk.d.as_ref())?, jwk.x.as_deref().unwrap_or_default());
        let public = BASE64_URL_SAFE_NO_PAD.decode(x).map_err(|_| anyhow::anyhow!("x is not base64url"))?;
        anyhow::ensure!(seed.len() == 32, "d must have 32 bytes");
        // It also refuses a public key that does not belong to the private one.
        Ed25519KeyPair::from_seed_and_public_key(&seed, &public)
            .map_err(|_| anyhow::anyhow!("x does not go with d"))?;
        let der = Zeroizing::new([ED25519_PKCS8, &seed[..]].concat());
        Ok(Self {
            id: jwk.kid.clone(),
            algorithm: Algorithm::EdDSA,
            signing: EncodingKey::from_ed_der(&der),
            verifying: DecodingKey::from_ed_components(x)?,
            public: Some(pb::Jwk {
                kty: "OKP".to_owned(),
                crv: "Ed25519".to_owned(),
                x: x.to_owned(),
                alg: "EdDSA".to_owned(),
                r#use: "sig".to_owned(),
                kid: jwk.kid.clone(),
            }),
            fingerprint: digest::digest(&digest::SHA256, &seed),
        })
    }
}

fn decode(name: &str, member: Option<&Zeroizing<String>>) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    let text = member.with_context(|| format!("{name} is missing"))?;
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(text.as_bytes());
    bytes.map(Zeroizing::new).map_err(|_| anyhow::anyhow!("{name} is not base64url"))
}

/// What a new key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum NewKey {
    /// A secret that all services share.
    #[value(name = "HS256")]
    Hs256,
    /// A private key for auth-service; the others need only the public one.
    #[value(name = "EdDSA")]
    EdDsa,
}

/// Writes a new file with one random key and a random `kid`, with mode 0600.
///
/// # Errors
/// If there is such a file, which is left as it is, or it cannot be written.
pub fn generate(kind: NewKey, path: &Path) -> anyhow::Result<()> {
    let kid = BASE64_URL_SAFE_NO_PAD.encode(crate::random::bytes::<12>());
    let secret = Zeroizing::new(crate::random::bytes::<32>());
    let encoded = Some(Zeroizing::new(BASE64_URL_SAFE_NO_PAD.encode(*secret)));
    let jwk = match kind {
        NewKey::Hs256 => Jwk { kty: "oct".to_owned(), k: encoded, ..Jwk::new("HS256", kid) },
        NewKey::EdDsa => {
            let pair = Ed25519KeyPair::from_seed_unchecked(&*secret).context("cannot make a key")?;
            let x = BASE64_URL_SAFE_NO_PAD.encode(pair.public_key());
            let crv = Some("Ed25519".to_owned());
            Jwk { kty: "OKP".to_owned(), crv, x: Some(x), d: encoded, ..Jwk::new("EdDSA", kid) }
        }
    };
    let text = serde_json::to_string_pretty(&JwkSet { keys: vec![jwk] }).context("a JWK Set is JSON")?;
    secret_file::generate(path, &Zeroizing::new(text))
}

#[derive(Deserialize, Serialize)]
struct JwkSet {
    keys: Vec<Jwk>,
}

/// Members that are not named here may be there, and are ignored (RFC 7517, section 4).
#[derive(Default, Deserialize, Serialize)]
struct Jwk {
    kty: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    alg: Option<String>,
    #[serde(rename = "use", skip_serializing_if = "Option::is_none")]
    usage: Option<String>,
    kid: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    crv: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    x: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    d: Option<Zeroizing<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    k: Option<Zeroizing<String>>,
}

impl Jwk {
    fn new(alg: &str, kid: String) -> Self {
        Self { alg: Some(alg.to_owned()), usage: Some("sig".to_owned()), kid, ..Self::default() }
    }
}
