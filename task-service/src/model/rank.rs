//! The sort keys of tasks among their siblings. Between any two keys there is another one, so that moving a task writes
//! only that task.
//!
//! A key consists of decimal digits, read as a fraction after the decimal point. It never ends with a zero. All
//! collations of both engines sort digits alike.

/// The sequence number of a mutation among those of its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SequenceNumber(pub(crate) i64);

/// Number of digits for the sequence number of a mutation. Three digits for the index of a write in it follow.
const SEQUENCE_DIGITS: usize = 13;
const SEQUENCE_MODULUS: i64 = 10_i64.pow(13);

/// Returns a key after all keys of earlier mutations, and after those of earlier writes of this mutation.
pub(crate) fn last(sequence: SequenceNumber, write_index: usize) -> String {
    format!("6{:0SEQUENCE_DIGITS$}{:03}5", sequence.0 % SEQUENCE_MODULUS, write_index % 1000)
}

/// Returns a key after all keys of mutations before the first one of an import, in the order of the rows of its file.
pub(crate) fn imported(first: SequenceNumber, row: u32) -> String {
    format!("6{:0SEQUENCE_DIGITS$}000{row:010}5", first.0 % SEQUENCE_MODULUS)
}

/// Returns a key before all keys of earlier mutations, and before those of earlier writes of this mutation.
pub(crate) fn first(sequence: SequenceNumber, write_index: usize) -> String {
    let sequence = SEQUENCE_MODULUS - 1 - sequence.0 % SEQUENCE_MODULUS;
    format!("4{sequence:0SEQUENCE_DIGITS$}{:03}5", 999 - write_index % 1000)
}

/// Maximum length of a key: `PostgreSQL` cannot index longer ones.
const MAX_DIGITS: usize = 2500;

/// Returns a key between two keys; `low` must be less than `high`. Returns `None` if the key would be too long, which
/// happens after thousands of moves into the same gap.
pub(crate) fn between(low: &str, high: &str) -> Option<String> {
    Some(halfway(low, high)).filter(|key| key.len() <= MAX_DIGITS)
}

fn halfway(low: &str, high: &str) -> String {
    let digit = |key: &str, at: usize| key.as_bytes().get(at).map_or(0, |digit| digit - b'0');
    let mut key = String::new();
    let mut at = 0;
    while digit(low, at) == digit(high, at) && at < high.len() {
        key.push(char::from(b'0' + digit(low, at)));
        at += 1;
    }
    let (from, to) = (digit(low, at), digit(high, at));
    if to > from + 1 {
        key.push(char::from(b'0' + from.midpoint(to)));
        return key;
    }
    if high.len() > at + 1 {
        key.push(char::from(b'0' + to));
        return key;
    }
    // No digit is between `from` and `to`, so the key extends `low`.
    key.push(char::from(b'0' + from));
    loop {
        at += 1;
        let from = digit(low, at);
        if from < 9 {
            // Halfway between this digit and the end of its range.
            key.push(char::from(b'0' + from.midpoint(10)));
            return key;
        }
        key.push('9');
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn is_key(key: &str) -> bool {
        key.bytes().all(|byte| byte.is_ascii_digit()) && !key.is_empty() && !key.ends_with('0')
    }

    #[test]
    fn first_and_last_are_before_and_after_all_earlier_keys() {
        let mut keys = Vec::new();
        for sequence in [1, 2, 99, 1_000_000] {
            for write in [0, 1, 99] {
                let (first, last) = (first(SequenceNumber(sequence), write), last(SequenceNumber(sequence), write));
                assert!(keys.iter().all(|key| first < *key && *key < last), "{first} {last} {keys:?}");
                assert!(is_key(&first) && is_key(&last));
                keys.push(halfway(&first, &last));
                keys.extend([first, last]);
            }
        }
    }

    #[test]
    fn a_thousand_insertions_into_a_gap_keep_keys_short() {
        let (mut low, high) = (last(SequenceNumber(1), 0), last(SequenceNumber(2), 0));
        for _ in 0..1000 {
            low = between(&low, &high).expect("the gap is not full");
        }
        assert!(low.len() < 400, "{}", low.len());
    }

    #[test]
    fn a_gap_is_full_after_thousands_of_insertions() {
        let (low, mut high) = (last(SequenceNumber(1), 0), last(SequenceNumber(2), 0));
        let mut insertions = 0;
        while let Some(key) = between(&low, &high) {
            (high, insertions) = (key, insertions + 1);
        }
        assert!((5000..100_000).contains(&insertions), "{insertions}");
        assert!(high.len() <= MAX_DIGITS);
    }

    proptest! {
        #[test]
        fn there_is_a_key_between_any_two_keys(a in "[0-9]{0,8}[1-9]", b in "[0-9]{0,8}[1-9]") {
            prop_assume!(a != b);
            let (low, high) = if a < b { (a, b) } else { (b, a) };
            let key = halfway(&low, &high);
            prop_assert!(low < key && key < high, "{low} {key} {high}");
            prop_assert!(is_key(&key), "{key}");
        }
    }
}
