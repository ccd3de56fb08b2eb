//! The secrets of factors survive a rotation of the refresh secret, with which they are encrypted.

use service_kit::{on_each_database, testing::TestDatabase};

use super::{challenge, code, complete, enroll, recovery, totp};
use crate::{
    refresh_secrets::{ids, remove, rotate},
    support::{Server, execute, query_string},
};

on_each_database! {
    codes_are_accepted_after_the_earlier_secret_was_removed,
    a_factor_that_cannot_be_decrypted_leaves_the_recovery_codes,
}

async fn codes_are_accepted_after_the_earlier_secret_was_removed(database: TestDatabase) {
    let server = Server::start(database).await;
    let ann = enroll(&server, "ann@example.com").await;
    let server = rotate(server).await;
    let [new, old] = &ids(&server.database)[..] else { panic!("two secrets") };
    // Waits until the secrets of the factors are encrypted with the new one.
    remove(&server, old).await;
    let sealed_with = query_string(&server.database, "select sealed_with from factors").await;
    assert_eq!(sealed_with, *new);
    let server = Server::start(server.stop().await).await;
    server.manual_clock.advance(super::STEP * 3);
    let token = challenge(&server, "ann@example.com").await.token;
    complete(&server, &token, totp(&code(&server, &ann.secret))).await.expect("logged in");
    server.stop().await;
}

async fn a_factor_that_cannot_be_decrypted_leaves_the_recovery_codes(database: TestDatabase) {
    let server = Server::start(database).await;
    let ann = enroll(&server, "ann@example.com").await;
    // The secret of another row, which has been copied.
    let bob = enroll(&server, "bob@example.com").await;
    let copy = "update factors set sealed_secret = (
        select sealed_secret from factors others where others.id <> factors.id)";
    execute(&server.database, copy).await;
    let token = challenge(&server, "ann@example.com").await.token;
    for secret in [&ann.secret, &bob.secret] {
        let outcome = complete(&server, &token, totp(&code(&server, secret))).await;
        service_kit::assert_refused!(outcome, Unauthenticated, "CODE_INVALID");
    }
    complete(&server, &token, recovery(&ann.recovery_codes[0])).await.expect("logged in");
    server.stop().await;
}
