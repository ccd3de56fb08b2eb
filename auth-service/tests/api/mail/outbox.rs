//! Mails are stored with their cause, and each is sent by one server, again if that fails.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use service_kit::{assert_refused, on_each_database, testing::TestDatabase};

use super::{
    FLAGS, Mailbox, NEW_PASSWORD, actions::request_reset, await_that, await_value, cause_mail, change_password, start,
};
use crate::support::{PASSWORD, Server, execute, query_string, run_program, start_replica_with};

on_each_database! {
    a_password_change_is_announced_to_the_owner,
    a_refused_password_change_is_not_announced,
    two_replicas_send_each_mail_once,
    a_failed_mail_is_sent_again_with_increasing_delays,
    a_mail_is_sent_again_if_its_server_has_crashed,
    a_mail_that_cannot_be_sent_for_a_day_is_given_up,
    an_account_gets_at_most_ten_notices_an_hour,
    mails_of_deleted_accounts_are_not_sent,
    without_mail_nothing_is_stored,
    a_full_outbox_does_not_prevent_password_changes,
}

/// A program that appends a line for each mail to the file `sent`, unless there is a file `broken`.
pub struct Program {
    folder: PathBuf,
}

impl Program {
    pub fn new(database: &TestDatabase) -> Self {
        let folder = database.folder().to_owned();
        let program = folder.join("sendmail");
        let script = "#!/bin/sh\ncd \"$(dirname \"$0\")\"\ncat >\"mail.$$\"\necho >>tried\n[ ! -e broken ] || exit 75\n\
                      grep -i '^Message-ID:' \"mail.$$\" >>sent\n";
        fs::write(&program, script).expect("written");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).expect("executable");
        Self { folder }
    }

    fn setting(&self) -> String {
        format!("command:{}/sendmail -i -t", self.folder.display())
    }

    /// Lets the program fail, or succeed again.
    pub fn set_broken(&self, is_broken: bool) {
        let file = self.folder.join("broken");
        if is_broken { fs::write(file, "").expect("written") } else { fs::remove_file(file).expect("removed") }
    }

    fn count_lines(&self, file: &str) -> usize {
        fs::read_to_string(self.folder.join(file)).map_or(0, |text| text.lines().count())
    }

    /// Starts a server that sends its mails by the program.
    pub async fn start(&self, database: TestDatabase) -> Server {
        Server::start_with(database, &[&FLAGS[..], &["--mail", &self.setting()]].concat()).await
    }

    /// Waits until the program was started this often, and the server has recorded the first outcome.
    pub async fn await_attempts(&self, database: &TestDatabase, attempts: usize) {
        await_that(&format!("attempt {attempts}"), || self.count_lines("tried") >= attempts).await;
        await_value(database, "select cast(count(*) as text) from mails where last_error = ''", "0").await;
    }
}

/// Returns the states of all mails.
const STATES: &str = "select coalesce(string_agg(state, ','), '') from mails";

async fn state_of_mails(database: &TestDatabase) -> String {
    query_string(database, STATES).await
}

async fn a_password_change_is_announced_to_the_owner(database: TestDatabase) {
    let (server, mailbox) = start(database).await;
    let pair = server.sign_up_and_login("ann@example.com").await;
    mailbox.await_mail("ann@example.com", 1).await;
    change_password(&server, &pair, PASSWORD, NEW_PASSWORD).await.expect("changed");
    let mail = mailbox.await_mail("ann@example.com", 2).await;
    for part in [
        "From: Taskey <tasks@example.org>\n",
        "Subject: Your password was changed\n",
        "\nAuto-Submitted: auto-generated\n",
        "from the IP address 127.0.0.1.",
        "\nhttps://tasks.example.org\n",
    ] {
        assert!(mail.contains(part), "{part:?} is not in {mail}");
    }
    assert!(mailbox.read("bob@example.com").is_empty());
    server.stop().await;
}

async fn a_refused_password_change_is_not_announced(database: TestDatabase) {
    let (server, mailbox) = start(database).await;
    let pair = server.sign_up_and_login("ann@example.com").await;
    change_password(&server, &pair, "another horse battery", NEW_PASSWORD).await.expect_err("refused");
    cause_mail(&server, "bob@example.com").await;
    mailbox.await_mail("bob@example.com", 1).await;
    assert_eq!(mailbox.read("ann@example.com").len(), 1, "only that of the sign-up");
    server.stop().await;
}

async fn two_replicas_send_each_mail_once(database: TestDatabase) {
    const MAILS: usize = 12;
    let program = Program::new(&database);
    let server = program.start(database).await;
    let setting = program.setting();
    let flags = [&FLAGS[..], &["--mail", &setting]].concat();
    let replica = start_replica_with(&server, server.clock.clone(), &flags).await;
    for index in 0..MAILS {
        cause_mail(&server, &format!("user{index}@example.com")).await;
    }
    await_that("mails", || program.count_lines("sent") >= MAILS).await;
    let sent = "select cast(count(*) as text) from mails where state = 'sent' and attempts = 1";
    await_value(&server.database, sent, &MAILS.to_string()).await;
    assert_eq!(program.count_lines("sent"), MAILS);
    replica.stop().await;
    server.stop().await;
}

async fn a_failed_mail_is_sent_again_with_increasing_delays(database: TestDatabase) {
    let program = Program::new(&database);
    program.set_broken(true);
    let server = program.start(database).await;
    cause_mail(&server, "ann@example.com").await;
    // The delays are 30 s and 60 s, and differ by up to a fifth. The clock stands still in between.
    let seconds = "select case
        when (next_attempt_at - created_at) / 1000000 between 24 and 36 then 'first delay'
        when (next_attempt_at - created_at) / 1000000 between 36 + 48 and 36 + 72 then 'second delay'
        else 'being sent' end from mails";
    await_value(&server.database, seconds, "first delay").await;
    assert_eq!(program.count_lines("tried"), 1);
    server.manual_clock.advance(Duration::from_secs(36));
    await_value(&server.database, seconds, "second delay").await;
    assert_eq!(program.count_lines("tried"), 2);
    program.set_broken(false);
    server.manual_clock.advance(Duration::from_secs(72));
    await_that("mail", || program.count_lines("sent") == 1).await;
    assert_eq!(program.count_lines("tried"), 3);
    server.stop().await;
}

async fn a_mail_is_sent_again_if_its_server_has_crashed(database: TestDatabase) {
    let program = Program::new(&database);
    let server = Server::start_with(database, &[&FLAGS[..], &["--mail", "command:/bin/cat"]].concat()).await;
    cause_mail(&server, "ann@example.com").await;
    await_value(&server.database, STATES, "sent").await;
    let database = server.stop().await;
    // What another server would have stored that crashed after it had begun to send the mail.
    let lease = "update mails set state = 'pending', attempts = 1, next_attempt_at = next_attempt_at + 600000000";
    execute(&database, lease).await;
    let server = program.start(database).await;
    cause_mail(&server, "bob@example.com").await;
    await_that("mail to bob", || program.count_lines("sent") == 1).await;
    server.manual_clock.advance(Duration::from_secs(1000));
    await_that("mail to ann", || program.count_lines("sent") == 2).await;
    server.stop().await;
}

async fn a_mail_that_cannot_be_sent_for_a_day_is_given_up(database: TestDatabase) {
    let program = Program::new(&database);
    program.set_broken(true);
    let server = program.start(database).await;
    cause_mail(&server, "ann@example.com").await;
    program.await_attempts(&server.database, 1).await;
    server.manual_clock.advance(Duration::from_secs(24 * 3600 - 1));
    await_value(&server.database, STATES, "failed").await;
    assert_eq!(program.count_lines("tried"), 2);
    let error = query_string(&server.database, "select last_error from mails").await;
    assert!(error.ends_with("sendmail: exit status: 75"), "{error}");
    server.stop().await;
}

async fn an_account_gets_at_most_ten_notices_an_hour(database: TestDatabase) {
    let (server, mailbox) = start(database).await;
    let pair = server.sign_up_and_login("ann@example.com").await;
    let mut passwords = [PASSWORD, NEW_PASSWORD].into_iter().cycle();
    let mut current = passwords.next().expect("a password");
    let mut change = async || {
        let new = passwords.next().expect("a password");
        change_password(&server, &pair, current, new).await.expect("changed");
        current = new;
    };
    for _ in 0..12 {
        change().await;
    }
    mailbox.await_mail("ann@example.com", 11).await;
    let notices = "select cast(count(*) as text) from mails where template = 'PASSWORD_CHANGED'";
    assert_eq!(query_string(&server.database, notices).await, "10");
    server.stop().await;
}

async fn mails_of_deleted_accounts_are_not_sent(database: TestDatabase) {
    let program = Program::new(&database);
    program.set_broken(true);
    let server = program.start(database).await;
    let pair = server.sign_up_and_login("ann@example.com").await;
    program.await_attempts(&server.database, 1).await;
    server.delete_me(&pair.access_token, PASSWORD).await.expect("deleted");
    assert_eq!(state_of_mails(&server.database).await, "");
    server.stop().await;
}

async fn without_mail_nothing_is_stored(database: TestDatabase) {
    let server = Server::start(database).await;
    let pair = server.sign_up_and_login("ann@example.com").await;
    change_password(&server, &pair, PASSWORD, NEW_PASSWORD).await.expect("changed");
    assert_eq!(state_of_mails(&server.database).await, "");
    server.stop().await;
}

async fn a_full_outbox_does_not_prevent_password_changes(database: TestDatabase) {
    let program = Program::new(&database);
    program.set_broken(true);
    let server = program.start(database).await;
    cause_mail(&server, "ann@example.com").await;
    program.await_attempts(&server.database, 1).await;
    let is_sqlite = server.database.url().starts_with("sqlite:");
    let ids = if is_sqlite { "randomblob(16)" } else { "gen_random_uuid()" };
    execute(
        &server.database,
        format!(
            "insert into mails (id, user_id, template, recipient, details, account_state, is_requested, state,
                attempts, next_attempt_at, last_error, created_at)
            with recursive numbers (n) as (select 1 union all select n + 1 from numbers where n < 10000)
            select {ids}, user_id, template, recipient, details, account_state, is_requested, state, attempts,
                next_attempt_at, last_error, 0 from mails, numbers"
        ),
    )
    .await;
    cause_mail(&server, "bob@example.com").await;
    let count = "select cast(count(*) as text) from mails where recipient = 'bob@example.com'";
    assert_eq!(query_string(&server.database, count).await, "0");
    let requested = request_reset(&server, "ann@example.com").await;
    assert_refused!(requested, ResourceExhausted, "OVERLOADED");
    server.stop().await;
}

#[tokio::test]
async fn missing_settings_are_reported_at_start() {
    let database = TestDatabase::sqlite();
    let keys = database.key_file().display().to_string();
    let start = |flags: &[&str]| {
        let common = ["--listen", "127.0.0.1:0", "--key-file", &keys];
        let (succeeded, _, error) = run_program(&database, &[&common[..], flags].concat());
        assert!(!succeeded);
        error
    };
    let folder = database.folder().display().to_string();
    let mail = format!("file:{folder}");
    let [url, from] = [&FLAGS[..2], &FLAGS[2..]];
    assert!(start(&[&["--mail", &mail], from].concat()).contains("--mail needs --public-url"));
    assert!(start(&[&["--mail", &mail], url].concat()).contains("--mail needs --mail-from"));
    let missing = format!("file:{folder}/missing");
    assert!(start(&[&["--mail", &missing], &FLAGS[..]].concat()).contains("missing is not a directory"));
    assert!(start(&[&["--mail", "smtp://ann@h"], &FLAGS[..]].concat()).contains("needs --mail-password-file"));
    let error = start(&[&["--mail", "smtp://ann:hunter2@h"], &FLAGS[..]].concat());
    assert!(error.contains("must not contain the password") && !error.contains("hunter2"), "{error}");
}

#[tokio::test]
async fn files_are_readable_only_for_the_owner() {
    let database = TestDatabase::sqlite();
    let mailbox = Mailbox::new(&database);
    let (server, _) = start(database).await;
    cause_mail(&server, "ann@example.com").await;
    mailbox.await_mail("ann@example.com", 1).await;
    let folder: &Path = &server.database.folder().join("mails");
    let file = fs::read_dir(folder).expect("readable").next().expect("a file").expect("readable");
    assert_eq!(file.metadata().expect("readable").permissions().mode() & 0o777, 0o600);
    server.stop().await;
}
