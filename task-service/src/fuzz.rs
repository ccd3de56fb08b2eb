//! Properties that hold for every input. The targets in `fuzz/` search for a counterexample; the tests run their
//! corpora.

use service_kit::{
    clock::Timestamp,
    epoch::{CurrentEpoch, Epoch},
    page::PageTokens,
};
use uuid::Uuid;

use crate::{
    model::{file::ImportFormat, filter::Filter, mutation::MAX_LEVELS, recurrence::Rule},
    transfer::import::{entry::Entry, plan::Plan, read},
};

const OWNER: Uuid = Uuid::from_u128(1);

/// The arguments that must not change between pages.
const QUERY: &[u8] = &[0];

fn tokens(key: &[u8; 32], epoch: u128) -> PageTokens {
    PageTokens::new(key, CurrentEpoch::new(Epoch::from(Uuid::from_u128(epoch))))
}

/// Checks that a valid page token is the only encoding of its cursor, and is valid only for its owner, query, key and epoch.
/// Seals the first 16 bytes too, because a random search never finds a valid token.
pub fn page_token(data: &[u8]) {
    let tokens = tokens(&[7; 32], 1);
    if let Ok(text) = std::str::from_utf8(data) {
        check_token(&tokens, text);
    }
    if let Some((cursor, rest)) = data.split_first_chunk() {
        let cursor: &[u8; 16] = cursor;
        let text = tokens.seal(OWNER, QUERY, cursor);
        assert_eq!(tokens.open(OWNER, QUERY, &text).ok(), Some(Some(cursor.to_vec())));
        assert_eq!(text.len(), PageTokens::length(cursor));
        check_token(&tokens, &text);
        let longer = text + &String::from_utf8_lossy(rest);
        assert_eq!(tokens.open(OWNER, QUERY, &longer).is_ok(), rest.is_empty());
    }
}

fn check_token(tokens: &PageTokens, text: &str) {
    let Ok(cursor) = tokens.open(OWNER, QUERY, text) else { return };
    let Some(cursor) = cursor else { return assert_eq!(text, "") };
    assert_eq!(tokens.seal(OWNER, QUERY, &cursor), text);
    assert!(tokens.open(OWNER, &[1], text).is_err());
    assert!(tokens.open(Uuid::from_u128(2), QUERY, text).is_err());
    assert!(self::tokens(&[8; 32], 1).open(OWNER, QUERY, text).is_err());
    assert!(self::tokens(&[7; 32], 2).open(OWNER, QUERY, text).is_err());
}

/// Checks that the canonical form of a filter parses to an equal filter, and is its own canonical form. The error of an
/// invalid filter has a column within the text or at its end, and does not quote the text.
pub fn filter(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match Filter::parse(text) {
        Ok(filter) => {
            let canonical = filter.to_string();
            let reparsed = Filter::parse_unbounded(&canonical);
            assert_eq!(reparsed.as_ref(), Ok(&filter), "{canonical}");
            assert_eq!(reparsed.map(|filter| filter.to_string()), Ok(canonical));
        }
        Err(error) => {
            assert!((1..=text.chars().count() + 1).contains(&error.column), "{error}");
            assert!(error.message.len() < 200, "{error}");
        }
    }
}

/// Checks that the canonical form of a recurrence rule parses to an equal rule, that its occurrences increase from the
/// anchor, and that it has a text. The error of an invalid rule has a column within the text or at its end.
pub fn recurrence(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match Rule::parse(text) {
        Ok(rule) => {
            let anchor = jiff::civil::date(2027, 1, 31).at(9, 0, 0, 0);
            assert_eq!(Rule::parse_unbounded(&rule.to_string()).as_ref(), Ok(&rule), "{rule}");
            let occurrences: Vec<_> = rule.occurrences(anchor).take(20).collect();
            assert!(occurrences.first().is_none_or(|first| *first >= anchor), "{rule}");
            assert!(occurrences.is_sorted_by(|a, b| a < b), "{rule} {occurrences:?}");
            assert!(rule.text(anchor).starts_with("every "), "{rule}");
        }
        Err(error) => {
            assert!((1..=text.chars().count() + 1).contains(&error.column), "{error}");
            assert!(error.description.len() < 300, "{error}");
        }
    }
}

/// Checks that a file, whose format the first byte selects, can be read, and that each task of a file without errors can be
/// created.
pub fn import(data: &[u8]) {
    const FORMATS: [ImportFormat; 7] = [
        ImportFormat::JsonLines,
        ImportFormat::Csv,
        ImportFormat::ICalendar,
        ImportFormat::TodoistCsv,
        ImportFormat::TodoistBackup,
        ImportFormat::GoogleTakeout,
        ImportFormat::MicrosoftTodo,
    ];
    let Some((selector, file)) = data.split_first() else { return };
    let Ok(entries) = read::entries(file, FORMATS[usize::from(*selector) % FORMATS.len()]) else { return };
    let mut plan = Plan::default();
    for entry in entries.clone() {
        plan.add(entry);
    }
    plan.resolve_parents();
    if plan.report.check().is_err() {
        return;
    }
    let tasks = entries.into_iter().filter_map(|entry| if let Entry::Task(task) = entry { Some(*task) } else { None });
    for (index, task) in tasks.enumerate() {
        assert!((1..=MAX_LEVELS).contains(&plan.rows[index].depth), "{task:?}");
        assert!(plan.new_task(index, task.clone(), None, Timestamp::from_seconds(0)).is_some(), "{task:?}");
    }
}

#[cfg(test)]
mod tests {
    use service_kit::testing::run_corpus;

    #[test]
    fn page_token_corpus_passes() {
        run_corpus(concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/page_token"), super::page_token);
    }

    #[test]
    fn import_corpus_passes() {
        run_corpus(concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/import"), super::import);
    }

    #[test]
    fn filter_corpus_passes() {
        run_corpus(concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/filter"), super::filter);
    }

    #[test]
    fn recurrence_corpus_passes() {
        run_corpus(concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/recurrence"), super::recurrence);
    }
}
