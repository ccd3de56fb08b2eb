//! Base32 without padding (RFC 4648, section 6), which people can read out and type.

const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// Bits of a character.
const BITS: u32 = 5;

/// Encodes bytes.
#[must_use]
pub fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 8 / 5 + 1);
    let (mut buffer, mut bits) = (0_u32, 0);
    let character = |value: u32| char::from(ALPHABET[(value % 32) as usize]);
    for byte in bytes {
        buffer = ((buffer << 8) | u32::from(*byte)) & 0xfff;
        bits += 8;
        while bits >= BITS {
            bits -= BITS;
            text.push(character(buffer >> bits));
        }
    }
    if bits > 0 {
        text.push(character(buffer << (BITS - bits)));
    }
    text
}

/// Reports whether a text consists of characters of base32, in upper case.
#[must_use]
pub fn is_base32(text: &str) -> bool {
    text.bytes().all(|byte| ALPHABET.contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::encode;

    #[test]
    fn vectors_of_rfc_4648_are_encoded_without_padding() {
        let vectors = ["", "MY", "MZXQ", "MZXW6", "MZXW6YQ", "MZXW6YTB", "MZXW6YTBOI"];
        for (length, expected) in vectors.into_iter().enumerate() {
            assert_eq!(encode(&b"foobar"[..length]), expected);
        }
        assert_eq!(encode(&[0xff; 10]), "7777777777777777");
    }
}
