//! The command `taskey token` over mutual TLS.

use std::{fs, process::Command};

use service_kit::testing::TestDatabase;

use super::{Files, channel, sign_up_and_log_in, start_taskey};
use crate::process::{PASSWORD, program};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn token_commands_use_mutual_tls() {
    let (database, files) = (TestDatabase::sqlite(), Files::new());
    files.write("client", &files.authority.issue(&["client"]));
    let taskey = start_taskey(&database, files.folder.path(), &["--tls-client-ca-file", &files.flag("ca.pem")]);
    let dialer = files.dialer("ca.pem", Some("client")).await;
    sign_up_and_log_in(&channel(&dialer, taskey.address("auth")), "ann@example.com").await;
    fs::write(files.path("password"), PASSWORD).expect("the folder is writable");
    let run = |arguments: &[&str], identity: &[&str]| {
        let mut command = Command::new(program("taskey"));
        command.arg("token").args(arguments).args(identity).args(["--ca-file", &files.flag("ca.pem")]);
        command.env("TASKEY_URL", format!("https://localhost:{}", taskey.address("gateway").port()));
        command.env("TASKEY_TOKEN_FILE", files.path("tokens.json"));
        command.stdin(fs::File::open(files.path("password")).expect("the file exists"));
        let output = command.output().expect("the program runs");
        (output.status.success(), String::from_utf8(output.stderr).expect("UTF-8"))
    };
    let login = ["login", "--email", "ann@example.com", "--password-stdin"];
    let (succeeded, error) = run(&login, &[]);
    assert!(!succeeded && error.contains("cannot log in to https://localhost:"), "{error}");
    let [certificate, key] = ["client.crt", "client.key"].map(|name| files.flag(name));
    let identity = ["--client-cert-file", &certificate, "--client-key-file", &key];
    for arguments in [&login[..], &["print"], &["logout"]] {
        let (succeeded, error) = run(arguments, &identity);
        assert!(succeeded, "{error}");
    }
}
