//! What sorts a task among its siblings: keys between any two of which there is always room for another, so that to
//! move a task is to write that task alone.
//!
//! A key is a row of digits, read as what follows a decimal point, and never ends with a zero. Digits are sorted alike
//! by every collation of every engine.

/// The number of an act among the owner's changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SequenceNumber(pub(crate) i64);

/// Number of digits for the mutations of an owner. The writes of one mutation have three.
const PLACE_DIGITS: usize = 13;
const PLACES: i64 = 10_i64.pow(13);

/// A key after every key that was made in earlier acts, and after those of earlier writes of this act.
pub(crate) fn last(place: SequenceNumber, write: usize) -> String {
    format!("6{:0PLACE_DIGITS$}{:03}5", place.0 % PLACES, write % 1000)
}

/// A key before every key that was made in earlier acts, and before those of earlier writes of this act.
pub(crate) fn first(place: SequenceNumber, write: usize) -> String {
    format!("4{:0PLACE_DIGITS$}{:03}5", PLACES - 1 - place.0 % PLACES, 999 - write % 1000)
}

/// No key gets longer: `PostgreSQL` cannot have it in an index then.
const MAX_DIGITS: usize = 2500;

/// A key between two, of which the first is the lesser; none if there is no more room, which takes thousands of moves
/// into the same gap.
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
    // There is nothing between the two digits: it goes on after the lower one.
    key.push(char::from(b'0' + from));
    loop {
        at += 1;
        let from = digit(low, at);
        if from < 9 {
            // Halfway to where the next higher digit would begin.
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
    fn first_and_last_are_before_and_after_all_others() {
        let mut keys = Vec::new();
        for place in [1, 2, 99, 1_000_000] {
            for write in [0, 1, 99] {
                let (first, last) = (first(SequenceNumber(place), write), last(SequenceNumber(place), write));
                assert!(keys.iter().all(|key| first < *key && *key < last), "{first} {last} {keys:?}");
                assert!(is_key(&first) && is_key(&last));
                keys.push(halfway(&first, &last));
                keys.extend([first, last]);
            }
        }
    }

    #[test]
    fn a_place_that_is_halved_again_and_again_stays_short() {
        let (mut low, high) = (last(SequenceNumber(1), 0), last(SequenceNumber(2), 0));
        for _ in 0..1000 {
            low = between(&low, &high).expect("there is room");
        }
        assert!(low.len() < 400, "{}", low.len());
    }

    #[test]
    fn a_gap_that_is_halved_thousands_of_times_is_full_in_the_end() {
        let (low, mut high) = (last(SequenceNumber(1), 0), last(SequenceNumber(2), 0));
        let mut halved = 0;
        while let Some(key) = between(&low, &high) {
            (high, halved) = (key, halved + 1);
        }
        assert!((5000..100_000).contains(&halved), "{halved}");
        assert!(high.len() <= MAX_DIGITS);
    }

    proptest! {
        #[test]
        fn there_is_a_key_between_any_two(one in "[0-9]{0,8}[1-9]", other in "[0-9]{0,8}[1-9]") {
            prop_assume!(one != other);
            let (low, high) = if one < other { (one, other) } else { (other, one) };
            let key = halfway(&low, &high);
            prop_assert!(low < key && key < high, "{low} {key} {high}");
            prop_assert!(is_key(&key), "{key}");
        }
    }
}
