//! No secret gets into a log, an answer that is not meant to hold it, a database, or what everyone on the machine may
//! know of a process, whatever is called and whatever fails.

use std::collections::BTreeMap;

use service_kit::testing::TestDatabase;

mod calls;
mod mistakes;
mod scenario;
mod secrets;
mod witness;

use scenario::Scenario;
use secrets::Found;
use witness::Witness;

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_gets_out_of_taskey_on_files() {
    keeps_its_secrets(Witness::start(TestDatabase::sqlite(), false, "json").await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_gets_out_of_the_programs_on_a_server() {
    let Some(database) = TestDatabase::postgres().await else { return };
    keeps_its_secrets(Witness::start(database, true, "text").await).await;
}

/// What a hash of a password begins with. It may be in the database and nowhere else.
const HASH: &str = "$argon2id$v=19$m";

/// What a line of the log about a call has in it.
const CALL: &str = "service_kit::server::call";

async fn keeps_its_secrets(witness: Witness) {
    let (mut witness, mut secrets) = Scenario::play(witness).await;
    // What is there for sure, and would be missed by a search that is blind.
    for expected in [scenario::ANN, HASH, CALL, scenario::PLANTED] {
        secrets.add(expected, expected.as_bytes());
    }
    // One example of each is enough.
    let (mut found, mut expected) = (BTreeMap::new(), BTreeMap::<_, usize>::new());
    for (place, mut text) in witness.everything() {
        let (is_log, is_database) = (Witness::is_log(&place), Witness::is_database(&place));
        assert!(!forged(&text), "{place} has a line that a caller has written");
        if is_log {
            text.extend(scenario::PLANTED.as_bytes());
        }
        for Found { secret, form, around } in secrets.find(&text) {
            match &secret[..] {
                scenario::ANN | HASH if is_database => *expected.entry(secret).or_default() += 1,
                CALL | scenario::PLANTED if is_log => *expected.entry(secret).or_default() += 1,
                // Addresses are in many answers.
                scenario::ANN if !is_log => {}
                _ => _ = found.insert(format!("{place}: {secret} {form}"), around),
            }
        }
    }
    assert!(found.is_empty(), "{found:#?}");
    assert!(expected.len() == 4 && expected[CALL] > 200, "{expected:?}");
}

fn forged(text: &[u8]) -> bool {
    text.split(|byte| *byte == b'\n').any(|line| line.starts_with(scenario::FORGED.as_bytes()))
}
