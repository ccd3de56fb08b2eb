//! Codes of other implementations are accepted: oathtool and pyotp.

use std::process::Command;

use service_kit::{
    clock::Timestamp,
    on_each_database,
    testing::{TestDatabase, report_skipped},
};

use super::{STEP, challenge, complete, confirm_totp, create_totp, totp};
use crate::support::Server;

on_each_database! {
    codes_of_oathtool_and_pyotp_are_accepted,
}

/// Runs a program that prints a code. Returns `None` if it is not installed.
fn run(program: &str, arguments: &[&str]) -> Option<String> {
    let Ok(output) = Command::new(program).args(arguments).output() else {
        report_skipped("codes of another implementation", &format!("there is no {program}; `make tools` installs it"));
        return None;
    };
    assert!(output.status.success(), "{output:?}");
    Some(String::from_utf8(output.stdout).expect("ASCII").trim().to_owned())
}

fn oathtool(secret: &str, at: Timestamp) -> Option<String> {
    run("oathtool", &["--totp=SHA1", "--digits=6", "--base32", &format!("--now=@{}", at.as_seconds()), secret])
}

/// The program `pyotp` is that of `.ci/install-tools`: the package has none.
fn pyotp(secret: &str, at: Timestamp) -> Option<String> {
    run("pyotp", &[secret, &at.as_seconds().to_string()])
}

async fn codes_of_oathtool_and_pyotp_are_accepted(database: TestDatabase) {
    let server = Server::start(database).await;
    let access = server.sign_up_and_login("ann@example.com").await.access_token;
    let created = create_totp(&server, &access).await.expect("created");
    let Some(code) = oathtool(&created.secret, server.clock.now()) else { return };
    confirm_totp(&server, &access, &created.factor_id, &code).await.expect("confirmed");
    let generators: [fn(&str, Timestamp) -> Option<String>; 2] = [oathtool, pyotp];
    for generate in generators {
        for _ in 0..20 {
            server.manual_clock.advance(STEP);
            let token = challenge(&server, "ann@example.com").await.token;
            let Some(code) = generate(&created.secret, server.clock.now()) else { return };
            complete(&server, &token, totp(&code)).await.expect("logged in");
        }
    }
    server.stop().await;
}
