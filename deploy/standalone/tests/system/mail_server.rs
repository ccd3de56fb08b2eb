//! A real SMTP server with STARTTLS and AUTH, which stores the mails that it accepts.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Stdio,
};

use serde_json::Value;
use service_kit::testing::{
    certificates::{Authority, replace},
    report_skipped,
};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

const USER: &str = "taskey@example.org";
const PASSWORD: &str = "a password for SMTP";

pub struct MailServer {
    /// The folder with the mails.
    pub mails: PathBuf,
    /// The flags with which a program sends its mails to the server.
    pub flags: Vec<String>,
    _child: Child,
}

impl MailServer {
    /// Starts the server, with its files in `folder`. Returns `None` if aiosmtpd is not installed.
    pub async fn start(folder: &Path) -> Option<Self> {
        let path = env::var_os("PATH").unwrap_or_default();
        let Some(tool) = env::split_paths(&path).find_map(|folder| folder.join("aiosmtpd").canonicalize().ok()) else {
            report_skipped("a test with an SMTP server", "there is no aiosmtpd; `make tools` installs it");
            return None;
        };
        let mails = folder.join("mails");
        fs::create_dir(&mails).expect("created");
        let authority = Authority::new("a test authority");
        let (ca_file, password_file) = (authority.write(folder, "mail-ca"), folder.join("mail-password"));
        replace(&password_file, PASSWORD, 0o600);
        let [certificate, key] = authority.issue(&["127.0.0.1"]).write(folder, "smtp");
        let mut child = Command::new(tool.with_file_name("python"))
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../../auth-service/tests/smtp_server.py"))
            .args([certificate, key])
            .args([USER, PASSWORD])
            .arg(&mails)
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("Python runs");
        let mut line = String::new();
        let mut stdout = BufReader::new(child.stdout.take().expect("a pipe"));
        stdout.read_line(&mut line).await.expect("readable");
        let port: Value = serde_json::from_str(&line).expect("JSON");
        // The server must not block because nobody reads what it prints.
        tokio::spawn(async move { tokio::io::copy(&mut stdout, &mut tokio::io::sink()).await });
        let flags = [
            ("--mail", format!("smtp://{USER}@127.0.0.1:{}", port["port"])),
            ("--mail-from", "tasks@example.org".to_owned()),
            ("--mail-password-file", password_file.display().to_string()),
            ("--mail-ca-file", ca_file.display().to_string()),
        ];
        let flags = flags.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]).collect();
        Some(Self { mails, flags, _child: child })
    }
}
