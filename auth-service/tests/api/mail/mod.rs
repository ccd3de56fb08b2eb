//! Mails: the outbox, and the transports.

pub mod actions;
mod administrators;
pub mod email_change;
mod email_recovery;
mod enumeration;
mod model;
mod notices;
mod outbox;
mod smtp;
mod verified_only;

use std::{fs, path::PathBuf, time::Duration};

use service_kit::testing::TestDatabase;
use taskey_proto::auth::v1::{ChangePasswordRequest, TokenPair};
use tokio::time::{sleep, timeout};
use tonic::Status;

use crate::support::{Server, bearer, query_string};

pub const NEW_PASSWORD: &str = "a stapled battery of horses";

/// How long a mail may take to be sent, on a machine that is busy with other tests.
const TIME_LIMIT: Duration = Duration::from_secs(30);

const PAUSE: Duration = Duration::from_millis(50);

/// The flags that are the same for all transports.
pub const FLAGS: [&str; 4] = ["--public-url", "https://tasks.example.org", "--mail-from", "tasks@example.org"];

/// The directory to which a server writes mails.
pub struct Mailbox(PathBuf);

impl Mailbox {
    /// Creates the directory beside a database.
    pub fn new(database: &TestDatabase) -> Self {
        let folder = database.folder().join("mails");
        fs::create_dir_all(&folder).expect("created");
        Self(folder)
    }

    /// Returns the value of `--mail`.
    pub fn setting(&self) -> String {
        format!("file:{}", self.0.display())
    }

    /// Returns the mails to an address, in the order in which they were stored.
    pub fn read(&self, recipient: &str) -> Vec<String> {
        let files = fs::read_dir(&self.0).expect("readable").map(|file| file.expect("readable").path());
        let mut files: Vec<_> = files.filter(|path| path.extension().is_some_and(|name| name == "eml")).collect();
        files.sort();
        let mails = files.iter().map(|path| fs::read_to_string(path).expect("readable").replace("\r\n", "\n"));
        mails.filter(|mail| mail.contains(&format!("\nTo: {recipient}\n"))).collect()
    }

    /// Deletes the mails to an address.
    pub fn delete(&self, recipient: &str) {
        let to = format!("\r\nTo: {recipient}\r\n");
        for file in fs::read_dir(&self.0).expect("readable").map(|file| file.expect("readable").path()) {
            if fs::read_to_string(&file).expect("readable").contains(&to) {
                fs::remove_file(file).expect("removed");
            }
        }
    }

    /// Waits until there are this many mails to an address, and returns the last one.
    pub async fn await_mail(&self, recipient: &str, number: usize) -> String {
        await_that(&format!("mail {number} to {recipient}"), || self.read(recipient).len() >= number).await;
        let mails = self.read(recipient);
        assert_eq!(mails.len(), number, "{mails:#?}");
        mails.last().expect("a mail").clone()
    }
}

/// Returns the token in the link of a mail to this view of the page.
pub fn token_in(mail: &str, view: &str) -> String {
    let link = format!("https://tasks.example.org/#{view}=");
    let token = mail.lines().find_map(|line| line.strip_prefix(&link));
    token.unwrap_or_else(|| panic!("no {view} in {mail}")).to_owned()
}

/// Returns the code in a mail, with its space.
pub fn code_in(mail: &str) -> String {
    let code = mail.lines().find_map(|line| line.strip_prefix("    "));
    code.unwrap_or_else(|| panic!("no code in {mail}")).to_owned()
}

/// Starts a server that writes its mails to a directory.
pub async fn start(database: TestDatabase) -> (Server, Mailbox) {
    start_with(database, &[]).await
}

/// Starts a server with these flags that writes its mails to a directory.
pub async fn start_with(database: TestDatabase, flags: &[&str]) -> (Server, Mailbox) {
    let mailbox = Mailbox::new(&database);
    let setting = mailbox.setting();
    let server = Server::start_with(database, &[&FLAGS[..], &["--mail", &setting], flags].concat()).await;
    (server, mailbox)
}

/// Waits until a condition is met.
pub async fn await_that(what: &str, mut is_met: impl FnMut() -> bool) {
    let met = async {
        while !is_met() {
            sleep(PAUSE).await;
        }
    };
    timeout(TIME_LIMIT, met).await.unwrap_or_else(|_| panic!("no {what}"));
}

/// Waits until a query returns this text.
pub async fn await_value(database: &TestDatabase, sql: &'static str, expected: &str) {
    let reached = async {
        while query_string(database, sql).await != expected {
            sleep(PAUSE).await;
        }
    };
    timeout(TIME_LIMIT, reached).await.unwrap_or_else(|_| panic!("{sql} does not return {expected:?}"));
}

/// Changes the password of a user.
pub async fn change_password(server: &Server, pair: &TokenPair, current: &str, new: &str) -> Result<(), Status> {
    let request = ChangePasswordRequest { current_password: current.to_owned(), new_password: new.to_owned() };
    server.account().change_password(bearer(&pair.access_token, request)).await.map(|_| ())
}

/// Signs up a user, which causes a mail.
pub async fn cause_mail(server: &Server, email: &str) {
    server.sign_up(email).await.expect("signed up");
}
