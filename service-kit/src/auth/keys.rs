//! The keys of access tokens: a JWK Set (RFC 7517). The first key signs, all of them verify.

use std::{collections::HashMap, fmt, path::Path};

use anyhow::Context;
use aws_lc_rs::{digest, signature::Ed25519KeyPair};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use curve25519_dalek::edwards::CompressedEdwardsY;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey};
use taskey_proto::auth::v1 as pb;
use zeroize::Zeroizing;

use crate::{clock::Timestamp, ops::secret_file};

use super::{
    claims::VerifiedTokens,
    jwk::{Jwk, JwkSet},
};

/// Minimum length of a shared key. A key shorter than the hash would weaken the HMAC (RFC 7518, section 3.2).
const MIN_KEY_BYTES: usize = 32;

/// The bytes before the seed in the PKCS #8 encoding of an Ed25519 private key (RFC 8410, section 7).
const ED25519_PKCS8_PREFIX: &[u8] =
    &[0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

/// A key. Its algorithm is fixed, so that a token cannot choose another (RFC 8725, section 3.1).
pub(crate) struct Key {
    pub(crate) id: String,
    pub(crate) algorithm: Algorithm,
    /// `None` if only the public half is available.
    pub(crate) signing: Option<EncodingKey>,
    verifying: DecodingKey,
    /// The public half; `None` for a shared secret.
    public: Option<pb::Jwk>,
    /// Identifies the key material, so that keys can be compared without another copy of the secret.
    fingerprint: digest::Digest,
}

/// The keys that sign and verify tokens.
pub struct KeySet {
    keys: Vec<Key>,
    by_id: HashMap<String, usize>,
    /// The `kid` of each expired key in the file.
    expired_ids: Vec<String>,
    /// Tokens that were signed with one of these keys.
    pub(super) verified: VerifiedTokens,
}

impl KeySet {
    /// Reads a key file. Expired keys are left out.
    ///
    /// # Errors
    /// If the file cannot be read, is accessible to other users, or is not a JWK Set of usable keys with distinct
    /// `kid`s: `oct` with at least 32 bytes, or `OKP` on Ed25519. The error does not quote the file.
    pub fn read(path: &Path, now: Timestamp) -> anyhow::Result<Self> {
        let text = secret_file::read(path)?;
        Self::parse(&text, now).with_context(|| format!("{} is not a usable key file", path.display()))
    }

    /// Parses the text of a key file, like [`Self::read`].
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn parse(text: &str, now: Timestamp) -> anyhow::Result<Self> {
        let jwk_set = JwkSet::parse(text)?;
        let keys = jwk_set.keys.iter().enumerate();
        let keys = keys.map(|(index, jwk)| {
            let key = Key::from_jwk(jwk).with_context(|| format!("key {}", index + 1))?;
            Ok((key, jwk.exp))
        });
        let keys = keys.collect::<anyhow::Result<Vec<_>>>()?.into_iter();
        let (valid, expired): (Vec<_>, Vec<_>) =
            keys.partition(|(_, exp)| exp.is_none_or(|exp| Timestamp::from_seconds(exp) > now));
        let set = Self::new(valid.into_iter().map(|(key, _)| key).collect())?;
        Ok(Self { expired_ids: expired.into_iter().map(|(key, _)| key.id).collect(), ..set })
    }

    /// Creates a set of public keys, which verify but do not sign.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn from_public(set: &pb::JwkSet) -> anyhow::Result<Self> {
        let keys = set.keys.iter().map(|key| {
            let jwk = Jwk { crv: Some(key.crv.clone()), ..Jwk::new(&key.kty, &key.alg, key.kid.clone()) };
            Key::from_jwk(&Jwk { x: Some(key.x.clone()), usage: Some(key.r#use.clone()), ..jwk })
        });
        Self::new(keys.collect::<anyhow::Result<_>>()?)
    }

    fn new(keys: Vec<Key>) -> anyhow::Result<Self> {
        anyhow::ensure!(!keys.is_empty(), "it contains no key");
        let mut by_id = HashMap::new();
        for (index, key) in keys.iter().enumerate() {
            anyhow::ensure!(by_id.insert(key.id.clone(), index).is_none(), "two keys have the same kid");
        }
        Ok(Self { keys, by_id, expired_ids: Vec::new(), verified: VerifiedTokens::new() })
    }

    /// Returns the `kid` of each key.
    #[must_use]
    pub fn ids(&self) -> Vec<String> {
        self.keys.iter().map(|key| key.id.clone()).collect()
    }

    /// Returns the `kid` of each expired key in the file, which shows which keys the current ones have replaced.
    #[must_use]
    pub fn expired_ids(&self) -> Vec<String> {
        self.expired_ids.clone()
    }

    /// Returns the signing key: the first key, if its private half is available.
    pub(crate) fn signing(&self) -> Option<(&Key, &EncodingKey)> {
        let first = self.keys.first()?;
        Some((first, first.signing.as_ref()?))
    }

    /// Returns the public keys as a JWK Set (RFC 7517, section 5).
    #[must_use]
    pub fn public(&self) -> pb::JwkSet {
        pb::JwkSet { keys: self.keys.iter().filter_map(|key| key.public.clone()).collect() }
    }

    /// Returns the public keys as the JSON of a JWK Set.
    ///
    /// # Errors
    /// If the keys cannot be serialized, which is not expected.
    pub fn public_json(&self) -> anyhow::Result<String> {
        let keys = self.public().keys.into_iter().map(|key| Jwk {
            crv: Some(key.crv),
            x: Some(key.x),
            ..Jwk::new(&key.kty, &key.alg, key.kid)
        });
        Ok(JwkSet::new(keys.collect()).to_json()?.to_string())
    }

    /// Returns the public keys for verifiers that have no other keys. Returns none if any key is a shared secret: these
    /// verifiers would reject the tokens signed with it as forged.
    #[must_use]
    pub fn public_if_complete(&self) -> pb::JwkSet {
        if self.keys.iter().all(|key| key.public.is_some()) { self.public() } else { pb::JwkSet::default() }
    }

    pub(crate) fn by_id(&self, id: &str) -> Option<&Key> {
        self.by_id.get(id).map(|index| &self.keys[*index])
    }
}

impl PartialEq for KeySet {
    /// Reports whether both contain the same keys in the same order. Expired keys are ignored.
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
            "oct" => Self::from_shared_secret(jwk),
            "OKP" => Self::from_ed25519(jwk),
            _ => anyhow::bail!("kty must be \"oct\" or \"OKP\""),
        }
    }

    /// Creates a key from a shared secret, which signs and verifies (RFC 7518, section 6.4).
    fn from_shared_secret(jwk: &Jwk) -> anyhow::Result<Self> {
        anyhow::ensure!(jwk.alg.as_deref().is_none_or(|alg| alg == "HS256"), "alg must be \"HS256\"");
        let secret = decode("k", jwk.k.as_ref().context("k is missing")?)?;
        anyhow::ensure!(secret.len() >= MIN_KEY_BYTES, "k must have at least {MIN_KEY_BYTES} bytes");
        Ok(Self {
            id: jwk.kid.clone(),
            algorithm: Algorithm::HS256,
            signing: Some(EncodingKey::from_secret(&secret)),
            verifying: DecodingKey::from_secret(&secret),
            public: None,
            fingerprint: digest::digest(&digest::SHA256, &secret),
        })
    }

    /// Creates an Ed25519 key, with or without its private half (RFC 8037, section 2).
    fn from_ed25519(jwk: &Jwk) -> anyhow::Result<Self> {
        anyhow::ensure!(jwk.crv.as_deref() == Some("Ed25519"), "crv must be \"Ed25519\"");
        anyhow::ensure!(jwk.alg.as_deref().is_none_or(|alg| alg == "EdDSA"), "alg must be \"EdDSA\"");
        let x = jwk.x.as_deref().context("x is missing")?;
        let public = decode("x", x)?;
        check_point(&public)?;
        let seed = jwk.d.as_ref().map(|d| decode("d", d)).transpose()?;
        if let Some(seed) = &seed {
            anyhow::ensure!(seed.len() == 32, "d must have 32 bytes");
            Ed25519KeyPair::from_seed_and_public_key(seed, &public)
                .map_err(|_| anyhow::anyhow!("x is not the public key of d"))?;
        }
        let fingerprint = [&public[..], seed.as_ref().map_or(&[], |seed| &seed[..])].concat();
        let der = seed.map(|seed| Zeroizing::new([ED25519_PKCS8_PREFIX, &seed[..]].concat()));
        Ok(Self {
            id: jwk.kid.clone(),
            algorithm: Algorithm::EdDSA,
            signing: der.map(|der| EncodingKey::from_ed_der(&der)),
            verifying: DecodingKey::from_ed_components(x)?,
            public: Some(pb::Jwk {
                kty: "OKP".to_owned(),
                crv: "Ed25519".to_owned(),
                x: x.to_owned(),
                alg: "EdDSA".to_owned(),
                r#use: "sig".to_owned(),
                kid: jwk.kid.clone(),
            }),
            fingerprint: digest::digest(&digest::SHA256, &Zeroizing::new(fingerprint)),
        })
    }

    /// Reports whether a signature of a message was made with this key.
    pub(super) fn verify(&self, message: &str, signature: &str) -> bool {
        let verified = jsonwebtoken::crypto::verify(signature, message.as_bytes(), &self.verifying, self.algorithm);
        matches!(verified, Ok(true))
    }
}

/// Rejects invalid public keys, and those for which signatures can be forged without the private key: the point must be
/// on the curve, canonically encoded, not of small order, and in the prime-order subgroup.
fn check_point(public: &[u8]) -> anyhow::Result<()> {
    let point = CompressedEdwardsY::from_slice(public).ok().and_then(|encoded| {
        let point = encoded.decompress()?;
        (point.compress() == encoded && !point.is_small_order() && point.is_torsion_free()).then_some(point)
    });
    point.map(|_| ()).context("x is not a valid Ed25519 public key")
}

fn decode(name: &str, text: &str) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(text);
    bytes.map(Zeroizing::new).map_err(|_| anyhow::anyhow!("{name} is not base64url"))
}
