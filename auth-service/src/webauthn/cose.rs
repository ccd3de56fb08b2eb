//! Public keys in the form of COSE (RFC 9052 and RFC 9053), and their signatures.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents,
};

use super::{
    cbor::{self, Map},
    rejection::Rejection,
};

const PART: &str = "public key";

/// Labels of the parameters of a key (RFC 9052, section 7.1; RFC 9053, section 7; RFC 8230, section 4).
const KEY_TYPE: i64 = 1;
const ALGORITHM: i64 = 3;
const CURVE: i64 = -1;
const X: i64 = -2;
const Y: i64 = -3;
const RSA_MODULUS: i64 = -1;
const RSA_EXPONENT: i64 = -2;

/// Length of a coordinate of P-256 and of an Ed25519 key.
const COORDINATE_BYTES: usize = 32;

/// Lengths of RSA moduli, of 2048 to 4096 bits. The cost of a verification grows with the length.
const RSA_MODULUS_BYTES: std::ops::RangeInclusive<usize> = 256..=512;

/// Maximum length of an RSA exponent. The usual one, 65537, has three bytes.
const MAX_RSA_EXPONENT_BYTES: usize = 4;

/// A signature algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// ECDSA with P-256 and SHA-256.
    Es256,
    /// EdDSA with Ed25519.
    EdDsa,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
}

impl Algorithm {
    /// All algorithms, the preferred one first.
    pub const ALL: [Self; 3] = [Self::Es256, Self::EdDsa, Self::Rs256];

    /// Returns the number of the algorithm in the registry of COSE.
    #[must_use]
    pub fn number(self) -> i64 {
        match self {
            Self::Es256 => -7,
            Self::EdDsa => -8,
            Self::Rs256 => -257,
        }
    }
}

/// A valid public key.
#[derive(Clone)]
pub struct PublicKey {
    /// The algorithm of its signatures.
    pub algorithm: Algorithm,
    key: ParsedPublicKey,
}

impl PublicKey {
    /// Parses a key.
    ///
    /// # Errors
    /// If it is malformed, or its algorithm is not supported.
    pub fn parse(cose: &[u8]) -> Result<Self, Rejection> {
        let map = cbor::map(cose, PART)?;
        match (map.integer(KEY_TYPE), map.integer(ALGORITHM), map.integer(CURVE)) {
            (Some(1), Some(-8), Some(6)) => Self::ed25519(&map),
            (Some(2), Some(-7), Some(1)) => Self::p256(&map),
            (Some(3), Some(-257), None) => Self::rsa(&map),
            _ => Err(Rejection::UnsupportedKey),
        }
    }

    fn ed25519(map: &Map<'_>) -> Result<Self, Rejection> {
        let key = ParsedPublicKey::new(&ED25519, coordinate(map, X)?).map_err(|_| Rejection::Malformed(PART))?;
        Ok(Self { algorithm: Algorithm::EdDsa, key })
    }

    fn p256(map: &Map<'_>) -> Result<Self, Rejection> {
        // The prefix of an uncompressed point (SEC 1, section 2.3.3).
        let point = [&[4], coordinate(map, X)?, coordinate(map, Y)?].concat();
        let key = ParsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point).map_err(|_| Rejection::Malformed(PART))?;
        Ok(Self { algorithm: Algorithm::Es256, key })
    }

    fn rsa(map: &Map<'_>) -> Result<Self, Rejection> {
        let (n, e) = map.bytes(RSA_MODULUS).zip(map.bytes(RSA_EXPONENT)).ok_or(Rejection::Malformed(PART))?;
        if !RSA_MODULUS_BYTES.contains(&n.len()) || e.len() > MAX_RSA_EXPONENT_BYTES {
            return Err(Rejection::UnsupportedKey);
        }
        let key = RsaPublicKeyComponents { n, e }.to_parsed_public_key(&RSA_PKCS1_2048_8192_SHA256);
        Ok(Self { algorithm: Algorithm::Rs256, key: key.map_err(|_| Rejection::Malformed(PART))? })
    }

    /// Checks a signature of a message.
    ///
    /// # Errors
    /// If the signature belongs to another key or message.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), Rejection> {
        self.key.verify_sig(message, signature).map_err(|_| Rejection::WrongSignature)
    }
}

fn coordinate<'a>(map: &Map<'a>, label: i64) -> Result<&'a [u8], Rejection> {
    map.bytes(label).filter(|bytes| bytes.len() == COORDINATE_BYTES).ok_or(Rejection::Malformed(PART))
}
