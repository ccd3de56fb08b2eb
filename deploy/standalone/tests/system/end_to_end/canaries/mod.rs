//! No secret gets into a log, a database, a response that should not contain it, or the public information about a
//! process, whatever is called and whatever fails.

use std::collections::BTreeMap;

use service_kit::testing::TestDatabase;

mod calls;
mod mistakes;
mod recorder;
mod scenario;
mod secrets;

use recorder::Recorder;
use scenario::Scenario;
use secrets::Match;

#[tokio::test(flavor = "multi_thread")]
async fn taskey_on_sqlite_leaks_no_secret() {
    assert_no_secret_leaks(Recorder::start(TestDatabase::sqlite(), false, "json").await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn separate_programs_on_postgres_leak_no_secret() {
    let Some(database) = TestDatabase::postgres().await else { return };
    assert_no_secret_leaks(Recorder::start(database, true, "text").await).await;
}

/// The prefix of a password hash. It may be in the database and nowhere else.
const HASH: &str = "$argon2id$v=19$m";

/// Part of every log line of a call.
const CALL: &str = "service_kit::server::call";

async fn assert_no_secret_leaks(recorder: Recorder) {
    let (mut recorder, mut secrets) = Scenario::run(recorder).await;
    // Texts that must be found, to check that the search works.
    for expected in [scenario::ANN, HASH, CALL, scenario::PLANTED] {
        secrets.add(expected, expected.as_bytes());
    }
    let finder = secrets.finder();
    // One example of each finding is enough.
    let (mut found, mut expected) = (BTreeMap::new(), BTreeMap::<_, usize>::new());
    for (source, mut content) in recorder.all_output() {
        let (is_log, is_database) = (Recorder::is_log(&source), Recorder::is_database(&source));
        assert!(!contains_forged_line(&content), "{source} has a line that was injected by a caller");
        if is_log {
            content.extend(scenario::PLANTED.as_bytes());
        }
        for Match { secret, encoding, context } in finder.find(&content) {
            match &secret[..] {
                scenario::ANN | HASH if is_database => *expected.entry(secret).or_default() += 1,
                CALL | scenario::PLANTED if is_log => *expected.entry(secret).or_default() += 1,
                // Many responses contain email addresses.
                scenario::ANN if !is_log => {}
                _ => _ = found.insert(format!("{source}: {secret} {encoding}"), context),
            }
        }
    }
    assert!(found.is_empty(), "{found:#?}");
    assert!(expected.len() == 4 && expected[CALL] > 200, "{expected:?}");
}

fn contains_forged_line(content: &[u8]) -> bool {
    content.split(|byte| *byte == b'\n').any(|line| line.starts_with(scenario::FORGED.as_bytes()))
}
