//! A strict reader of CBOR (RFC 8949) in the canonical form of CTAP 2.1, section 8: definite lengths, the shortest
//! encoding of each number, few levels, and no tags. Only the order of the keys of a map is free, because some clients
//! order those of attestations differently.

use super::rejection::Rejection;

/// Maximum number of levels of arrays and maps.
const MAX_DEPTH: u8 = 4;

/// Maximum number of values, keys included. An attestation object has about 20.
const MAX_VALUES: usize = 512;

/// A data item. Floating-point numbers are not supported, because no structure of WebAuthn contains any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// A signed integer. Others than those of 64 bits are refused.
    Integer(i64),
    /// A byte string.
    Bytes(&'a [u8]),
    /// A text string.
    Text(&'a str),
    /// An array.
    Array(Vec<Value<'a>>),
    /// A map.
    Map(Map<'a>),
    /// `true` or `false`.
    Bool(bool),
    /// `null`.
    Null,
}

/// A map whose keys are integers and texts, each at most once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Map<'a>(Vec<(Value<'a>, Value<'a>)>);

impl<'a> Map<'a> {
    /// Returns the entries in their order.
    #[must_use]
    pub fn entries(&self) -> &[(Value<'a>, Value<'a>)] {
        &self.0
    }

    /// Returns the value of a key.
    #[must_use]
    pub fn get(&self, key: &Value<'_>) -> Option<&Value<'a>> {
        self.0.iter().find_map(|(name, value)| (name == key).then_some(value))
    }

    /// Returns the byte string of an integer key.
    #[must_use]
    pub fn bytes(&self, key: i64) -> Option<&'a [u8]> {
        match self.get(&Value::Integer(key)) {
            Some(Value::Bytes(bytes)) => Some(bytes),
            _ => None,
        }
    }

    /// Returns the integer of an integer key.
    #[must_use]
    pub fn integer(&self, key: i64) -> Option<i64> {
        match self.get(&Value::Integer(key)) {
            Some(Value::Integer(integer)) => Some(*integer),
            _ => None,
        }
    }
}

/// Parses a map that is followed by other data, and returns both. `part` is its name in errors.
///
/// # Errors
/// If the data does not begin with a map in canonical form.
pub fn map_prefix<'a>(data: &'a [u8], part: &'static str) -> Result<(Map<'a>, &'a [u8]), Rejection> {
    let mut reader = Reader { rest: data, values: 0 };
    match reader.value(0) {
        Some(Value::Map(map)) => Ok((map, reader.rest)),
        _ => Err(Rejection::Malformed(part)),
    }
}

/// Parses a map that nothing follows. `part` is its name in errors.
///
/// # Errors
/// If the data is not a map in canonical form.
pub fn map<'a>(data: &'a [u8], part: &'static str) -> Result<Map<'a>, Rejection> {
    match map_prefix(data, part)? {
        (map, []) => Ok(map),
        _ => Err(Rejection::Malformed(part)),
    }
}

struct Reader<'a> {
    rest: &'a [u8],
    values: usize,
}

impl<'a> Reader<'a> {
    fn value(&mut self, depth: u8) -> Option<Value<'a>> {
        self.values += 1;
        if self.values > MAX_VALUES {
            return None;
        }
        let initial = *self.bytes(1)?.first()?;
        let (major, info) = (initial >> 5, initial & 0x1f);
        if major == 7 {
            return match info {
                20 => Some(Value::Bool(false)),
                21 => Some(Value::Bool(true)),
                22 => Some(Value::Null),
                _ => None,
            };
        }
        let argument = self.argument(info)?;
        match major {
            0 => i64::try_from(argument).ok().map(Value::Integer),
            1 => i64::try_from(argument).ok().map(|argument| Value::Integer(-1 - argument)),
            2 => self.bytes(usize::try_from(argument).ok()?).map(Value::Bytes),
            3 => str::from_utf8(self.bytes(usize::try_from(argument).ok()?)?).ok().map(Value::Text),
            // Nothing is allocated for the announced length. Each value takes at least a byte.
            4 if depth < MAX_DEPTH => {
                (0..argument).map(|_| self.value(depth + 1)).collect::<Option<Vec<_>>>().map(Value::Array)
            }
            5 if depth < MAX_DEPTH => self.entries(argument, depth).map(Value::Map),
            _ => None,
        }
    }

    fn entries(&mut self, count: u64, depth: u8) -> Option<Map<'a>> {
        let mut map = Map::default();
        for _ in 0..count {
            let key = self.value(depth + 1)?;
            let is_key = matches!(key, Value::Integer(_) | Value::Text(_));
            if !is_key || map.get(&key).is_some() {
                return None;
            }
            let value = self.value(depth + 1)?;
            map.0.push((key, value));
        }
        Some(map)
    }

    /// Reads the number or the length after the initial byte. Refuses those that have a shorter encoding.
    fn argument(&mut self, info: u8) -> Option<u64> {
        let (length, least) = match info {
            0..24 => return Some(info.into()),
            24 => (1, 24),
            25 => (2, 1 << 8),
            26 => (4, 1 << 16),
            27 => (8, 1 << 32),
            _ => return None,
        };
        let argument = self.bytes(length)?.iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
        (argument >= least).then_some(argument)
    }

    fn bytes(&mut self, length: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_are_read_with_their_values() {
        let data = b"\xa6\x01\x18\x18\x20\x39\x01\x00\x61a\x43xyz\x61b\x82\x01\xf6\x61c\xa0\x61d\xf5";
        let entries = [
            (Value::Integer(1), Value::Integer(24)),
            (Value::Integer(-1), Value::Integer(-257)),
            (Value::Text("a"), Value::Bytes(b"xyz")),
            (Value::Text("b"), Value::Array(vec![Value::Integer(1), Value::Null])),
            (Value::Text("c"), Value::Map(Map::default())),
            (Value::Text("d"), Value::Bool(true)),
        ];
        let map = map(data, "map").expect("a map");
        assert_eq!(map.entries(), entries);
        assert_eq!((map.integer(-1), map.integer(2), map.bytes(1)), (Some(-257), None, None));
        let followed = [data.as_slice(), b"rest"].concat();
        assert_eq!(map_prefix(&followed, "map"), Ok((map, b"rest".as_slice())));
    }

    #[test]
    fn other_encodings_than_the_canonical_one_are_refused() {
        for (what, data) in [
            ("empty", b"".as_slice()),
            ("no map", b"\x01"),
            ("indefinite length", b"\xbf\xff"),
            ("number in two bytes", b"\xa1\x01\x18\x17"),
            ("number in three bytes", b"\xa1\x01\x19\x00\xff"),
            ("length in two bytes", b"\xa1\x01\x58\x03xyz"),
            ("reserved length", b"\xa1\x01\x1c"),
            ("duplicate key", b"\xa2\x01\x02\x01\x03"),
            ("byte string as key", b"\xa1\x41a\x01"),
            ("missing value", b"\xa1\x01"),
            ("truncated byte string", b"\xa1\x01\x43xy"),
            ("invalid UTF-8", b"\xa1\x01\x61\xff"),
            ("tag", b"\xa1\x01\xc0\x61a"),
            ("floating-point number", b"\xa1\x01\xf9\x00\x00"),
            ("undefined", b"\xa1\x01\xf7"),
            ("more than 64 bits", b"\xa1\x01\x1b\xff\xff\xff\xff\xff\xff\xff\xff"),
            ("trailing byte", b"\xa0\x00"),
        ] {
            assert_eq!(map(data, "map"), Err(Rejection::Malformed("map")), "{what}");
        }
    }

    #[test]
    fn data_of_64_kib_cannot_exceed_the_limits() {
        const LENGTH: usize = 64 * 1024;
        let nested = vec![0x81; LENGTH];
        let wide = [b"\xa1\x01\x99\xff\xfd".as_slice(), &vec![0; LENGTH]].concat();
        let huge_length = [b"\xa1\x01\x9b\xff\xff\xff\xff\xff\xff\xff\xff".as_slice(), &vec![0; LENGTH]].concat();
        let huge_text = [b"\xa1\x01\x7b\xff\xff\xff\xff\xff\xff\xff\xff".as_slice(), &vec![b'a'; LENGTH]].concat();
        for data in [[b"\xa1\x01".as_slice(), &nested].concat(), wide, huge_length, huge_text] {
            assert_eq!(map(&data, "map"), Err(Rejection::Malformed("map")));
        }
        let array = |depth: usize| [b"\xa1\x01".as_slice(), &vec![0x81; depth], b"\x00"].concat();
        assert!(map(&array(usize::from(MAX_DEPTH) - 1), "map").is_ok());
        assert!(map(&array(usize::from(MAX_DEPTH)), "map").is_err());
    }
}
