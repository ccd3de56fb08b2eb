//! The occurrences of random rules by another algorithm (`tests/recurrence/rules.py`), which tests one day after the other.

use std::{env, fs};

use jiff::{SignedDuration, civil::DateTime};

use super::{rule, time};

/// The limits of the comparison, as in `rules.py`.
const HORIZON: SignedDuration = SignedDuration::from_hours(3000 * 24);
const LIMIT: usize = 10;

/// A file of more vectors (`make test-recurrence`).
const FILE: &str = "TASKEY_TEST_RECURRENCE_VECTORS";

#[test]
fn random_rules_have_the_same_occurrences_by_another_algorithm() {
    let vectors = match env::var_os(FILE) {
        Some(file) => fs::read_to_string(file).expect("the file of vectors exists"),
        None => include_str!("vectors.tsv").to_owned(),
    };
    let mut count = 0;
    for line in vectors.lines() {
        let columns: Vec<_> = line.split('\t').collect();
        let [anchor, text, expected] = columns[..] else { panic!("{line}") };
        let anchor = time(anchor);
        let times = rule(text).occurrences(anchor).take_while(|time| *time <= anchor + HORIZON).take(LIMIT);
        let times: Vec<_> = times.map(compact).collect();
        assert_eq!(times.join(","), expected, "{text} from {anchor}");
        count += 1;
    }
    assert!(count >= 2000, "{count}");
}

fn compact(time: DateTime) -> String {
    time.strftime("%Y%m%dT%H%M%S").to_string()
}
