//! Mails are sent by SMTP: to a real server over TLS, and to servers that misbehave.

use std::{
    env,
    path::PathBuf,
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use serde_json::Value;
use service_kit::testing::{
    TestDatabase,
    certificates::{Authority, replace},
    report_skipped,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    net::TcpListener,
    process::{Child, ChildStdout, Command},
    time::{sleep, timeout},
};

use super::{FLAGS, PAUSE, TIME_LIMIT, await_that, cause_mail};
use crate::{
    doctor::diagnose,
    support::{Server, query_string},
};

const USER: &str = "taskey@example.org";
const SMTP_PASSWORD: &str = "a password for SMTP";

/// The server of `smtp_server.py`, with a certificate for 127.0.0.1.
struct SmtpServer {
    lines: Lines<BufReader<ChildStdout>>,
    port: u64,
    ca_file: PathBuf,
    _child: Child,
}

impl SmtpServer {
    /// Starts the server. Returns `None` if aiosmtpd is not installed.
    async fn start(database: &TestDatabase) -> Option<Self> {
        let path = env::var_os("PATH").unwrap_or_default();
        let Some(tool) = env::split_paths(&path).find_map(|folder| folder.join("aiosmtpd").canonicalize().ok()) else {
            report_skipped("a test with an SMTP server", "there is no aiosmtpd; `make tools` installs it");
            return None;
        };
        let authority = Authority::new("a test authority");
        let ca_file = authority.write(database.folder(), "mail-ca");
        let [certificate, key] = authority.issue(&["127.0.0.1"]).write(database.folder(), "smtp");
        let mut child = Command::new(tool.with_file_name("python"))
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/smtp_server.py"))
            .args([certificate, key])
            .args([USER, SMTP_PASSWORD])
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("Python runs");
        let stdout = child.stdout.take().expect("a pipe");
        let mut lines = BufReader::new(stdout).lines();
        let port = next_json(&mut lines).await["port"].as_u64().expect("a port");
        Some(Self { lines, port, ca_file, _child: child })
    }

    /// Waits for a mail.
    async fn next_mail(&mut self) -> Value {
        next_json(&mut self.lines).await
    }
}

async fn next_json(lines: &mut Lines<BufReader<ChildStdout>>) -> Value {
    let line = timeout(TIME_LIMIT, lines.next_line()).await.expect("a line in time");
    serde_json::from_str(&line.expect("readable").expect("not the end")).expect("JSON")
}

/// Writes the password of the SMTP server, and returns the path.
fn write_password(database: &TestDatabase, password: &str) -> String {
    let path = database.folder().join("mail-password");
    replace(&path, &format!("{password}\n"), 0o600);
    path.display().to_string()
}

/// Waits until the only mail is in this state after this number of attempts, and the outcome of the first is recorded.
async fn await_state(database: &TestDatabase, state: &str, attempts: i64) {
    let is_recorded = |stored: &str| state == "sent" || !stored.ends_with(' ');
    let reached = async {
        loop {
            let stored = query_string(database, "select state || ' ' || attempts || ' ' || last_error from mails");
            let stored = stored.await;
            if stored.starts_with(&format!("{state} {attempts} ")) && is_recorded(&stored) {
                return;
            }
            sleep(PAUSE).await;
        }
    };
    timeout(TIME_LIMIT, reached).await.unwrap_or_else(|_| panic!("the mail is not {state} after {attempts} attempts"));
}

async fn last_error(database: &TestDatabase) -> String {
    query_string(database, "select last_error from mails").await
}

#[tokio::test]
async fn mail_is_sent_over_starttls_with_a_password_which_can_be_replaced() {
    let database = TestDatabase::sqlite();
    let Some(mut smtp) = SmtpServer::start(&database).await else { return };
    let password_file = write_password(&database, "an old password");
    let mail = format!("smtp://{USER}@127.0.0.1:{}", smtp.port);
    let ca_file = smtp.ca_file.display().to_string();
    let flags = ["--mail", &mail, "--mail-password-file", &password_file, "--mail-ca-file", &ca_file];
    let server = Server::start_with(database, &[&FLAGS[..], &flags].concat()).await;
    cause_mail(&server, "ann@example.com").await;
    await_state(&server.database, "pending", 1).await;
    let error = last_error(&server.database).await;
    assert!(error.contains("535"), "{error}");

    write_password(&server.database, SMTP_PASSWORD);
    server.manual_clock.advance(Duration::from_secs(60));
    let mail = smtp.next_mail().await;
    assert_eq!(mail["sender"], "tasks@example.org");
    assert_eq!(mail["recipients"], serde_json::json!(["ann@example.com"]));
    assert_eq!((mail["user"].as_str(), mail["tls"].as_bool()), (Some(USER), Some(true)));
    let content = mail["content"].as_str().expect("text");
    assert!(content.contains("Subject: Confirm your email address"), "{content}");
    await_state(&server.database, "sent", 2).await;
    server.stop().await;
}

#[tokio::test]
async fn server_with_an_untrusted_certificate_receives_no_mail() {
    let database = TestDatabase::sqlite();
    let Some(smtp) = SmtpServer::start(&database).await else { return };
    let password_file = write_password(&database, SMTP_PASSWORD);
    let other = Authority::new("another authority").write(database.folder(), "other-ca").display().to_string();
    let mail = format!("smtp://{USER}@127.0.0.1:{}", smtp.port);
    let flags = ["--mail", &mail, "--mail-password-file", &password_file, "--mail-ca-file", &other];
    let server = Server::start_with(database, &[&FLAGS[..], &flags].concat()).await;
    cause_mail(&server, "ann@example.com").await;
    await_state(&server.database, "pending", 1).await;
    let error = last_error(&server.database).await;
    assert!(error.contains("certificate"), "{error}");
    server.stop().await;
}

/// How a server misbehaves.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Behaviour {
    /// It accepts connections, and sends nothing.
    Silent,
    /// It refuses the recipient permanently.
    UnknownRecipient,
    /// It refuses the recipient for now.
    Greylisting,
    /// It closes the connection after the content of the mail.
    LosesContent,
    /// It accepts everything, and does not offer STARTTLS.
    WithoutTls,
}

/// Starts a server that misbehaves. Returns its port, and the number of connections so far.
async fn start_misbehaving(behaviour: Behaviour) -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    let connections = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&connections);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.expect("accepted");
            counter.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(async move { converse(BufReader::new(stream), behaviour).await });
        }
    });
    (port, connections)
}

async fn converse(mut stream: BufReader<tokio::net::TcpStream>, behaviour: Behaviour) -> std::io::Result<()> {
    if behaviour == Behaviour::Silent {
        return std::future::pending().await;
    }
    stream.write_all(b"220 test ESMTP\r\n").await?;
    let (mut line, mut is_in_content) = (String::new(), false);
    loop {
        line.clear();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let response = match (behaviour, line.split_ascii_whitespace().next().unwrap_or_default()) {
            (Behaviour::LosesContent, ".") if is_in_content => return Ok(()),
            (_, ".") if is_in_content => {
                is_in_content = false;
                "250 OK"
            }
            _ if is_in_content => continue,
            (Behaviour::UnknownRecipient, "RCPT") => "550 5.1.1 <ann@example.com>: no such\x07 user",
            (Behaviour::Greylisting, "RCPT") => "451 4.7.1 try again later",
            (_, "DATA") => {
                is_in_content = true;
                "354 go on"
            }
            (_, "EHLO") => "250-test\r\n250 8BITMIME",
            _ => "250 OK",
        };
        stream.write_all(format!("{response}\r\n").as_bytes()).await?;
    }
}

async fn start_with(behaviour: Behaviour, flags: &[&str]) -> (Server, Arc<AtomicUsize>) {
    let (port, connections) = start_misbehaving(behaviour).await;
    let mail = format!("smtp://127.0.0.1:{port}");
    let flags = [&FLAGS[..], &["--mail", &mail, "--mail-timeout", "2s"], flags].concat();
    (Server::start_with(TestDatabase::sqlite(), &flags).await, connections)
}

#[tokio::test]
async fn silent_server_is_tried_again_later() {
    let (server, connections) = start_with(Behaviour::Silent, &[]).await;
    cause_mail(&server, "ann@example.com").await;
    await_state(&server.database, "pending", 1).await;
    assert_eq!(last_error(&server.database).await, "not accepted within 2s");
    server.manual_clock.advance(Duration::from_secs(60));
    await_that("second connection", || connections.load(Ordering::SeqCst) == 2).await;
    server.stop().await;
}

#[tokio::test]
async fn permanent_refusal_is_not_repeated() {
    let (server, connections) = start_with(Behaviour::UnknownRecipient, &[]).await;
    cause_mail(&server, "ann@example.com").await;
    await_state(&server.database, "failed", 1).await;
    let error = last_error(&server.database).await;
    assert!(error.contains("[address] no such user"), "without control characters and addresses: {error:?}");
    assert_eq!(connections.load(Ordering::SeqCst), 1);
    server.stop().await;
}

#[tokio::test]
async fn temporary_refusals_and_lost_content_are_repeated() {
    for behaviour in [Behaviour::Greylisting, Behaviour::LosesContent] {
        let (server, connections) = start_with(behaviour, &[]).await;
        cause_mail(&server, "ann@example.com").await;
        await_state(&server.database, "pending", 1).await;
        server.manual_clock.advance(Duration::from_secs(60));
        await_that("second connection", || connections.load(Ordering::SeqCst) == 2).await;
        server.stop().await;
    }
}

#[tokio::test]
async fn passwords_are_not_sent_without_tls() {
    let database = TestDatabase::sqlite();
    let password_file = write_password(&database, SMTP_PASSWORD);
    let (port, _) = start_misbehaving(Behaviour::WithoutTls).await;
    let mail = format!("smtp://{USER}@127.0.0.1:{port}");
    let flags = ["--mail", &mail, "--mail-password-file", &password_file];
    let server = Server::start_with(database, &[&FLAGS[..], &flags].concat()).await;
    cause_mail(&server, "ann@example.com").await;
    await_state(&server.database, "pending", 1).await;
    let error = last_error(&server.database).await;
    assert!(error.contains("STARTTLS"), "{error}");
    server.stop().await;
}

#[tokio::test]
async fn local_server_without_tls_is_accepted() {
    let (server, _) = start_with(Behaviour::WithoutTls, &[]).await;
    cause_mail(&server, "ann@example.com").await;
    await_state(&server.database, "sent", 1).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn doctor_authenticates_to_the_server_and_sends_no_mail() {
    let database = TestDatabase::sqlite();
    let Some(mut smtp) = SmtpServer::start(&database).await else { return };
    let password_file = write_password(&database, SMTP_PASSWORD);
    let other_ca = Authority::new("another authority").write(database.folder(), "other-ca").display().to_string();
    let (mail, ca_file) = (format!("smtp://{USER}@127.0.0.1:{}", smtp.port), smtp.ca_file.display().to_string());
    let check = |mail: &str, ca_file: &str| {
        let flags = ["--mail", mail, "--mail-password-file", &password_file, "--mail-ca-file", ca_file];
        diagnose(&database, &flags)
    };
    let report = check(&mail, &ca_file);
    assert_eq!(report.finding("mail"), ["ok", &format!("127.0.0.1:{} accepts this client", smtp.port), ""]);

    for (mail, ca_file, expected) in
        [(&mail, &other_ca, "certificate"), (&format!("smtp://{USER}@127.0.0.1:1"), &ca_file, "refused")]
    {
        let report = check(mail, ca_file);
        let [level, message, fix] = report.finding("mail");
        assert!(level == "failed" && message.contains(expected) && !report.succeeded, "{message}");
        assert!(fix.contains("--mail-ca-file"), "{fix}");
    }
    write_password(&database, "a wrong password");
    let report = check(&mail, &ca_file);
    let [level, message, _] = report.finding("mail");
    assert!(level == "failed" && message.contains("535"), "{message}");
    let mails = timeout(PAUSE, smtp.next_mail()).await;
    assert!(mails.is_err(), "a mail was sent: {mails:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn doctor_reports_servers_without_tls_or_a_response() {
    let database = TestDatabase::sqlite();
    let password_file = write_password(&database, SMTP_PASSWORD);
    for (behaviour, expected) in
        [(Behaviour::WithoutTls, "STARTTLS"), (Behaviour::Silent, "no mail can be sent: no response within 2s")]
    {
        let (port, _) = start_misbehaving(behaviour).await;
        let mail = format!("smtp://{USER}@127.0.0.1:{port}");
        let flags = ["--mail", &mail, "--mail-password-file", &password_file, "--mail-timeout", "2s"];
        let report = diagnose(&database, &flags);
        let [level, message, _] = report.finding("mail");
        assert!(level == "failed" && message.contains(expected), "{message}");
    }
}
