//! Delivers mails: by SMTP, by a program, or to a directory.

use std::{
    io::ErrorKind,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use lettre::Message;
use service_kit::ops::secret_file;
use tokio::{io::AsyncWriteExt, process::Command, task::spawn_blocking, time::timeout};
use uuid::Uuid;

use super::{delivery::DeliveryError, smtp::Smtp};
use crate::{config::MailArgs, model::mail_transport::TransportSetting};

/// Delivers mails.
#[derive(Clone, Debug)]
pub struct Transport {
    kind: TransportKind,
    /// Maximum time to deliver a mail.
    timeout: Duration,
}

#[derive(Clone, Debug)]
enum TransportKind {
    /// By an SMTP server.
    Smtp(Smtp),
    /// By a program.
    Command(Vec<String>),
    /// As files in a directory.
    File(PathBuf),
}

impl Transport {
    /// Creates a transport.
    ///
    /// # Errors
    /// If mails are off, or a file or a directory is unusable.
    pub fn open(setting: &TransportSetting, args: &MailArgs) -> anyhow::Result<Self> {
        let kind = match setting {
            TransportSetting::Smtp(server) => TransportKind::Smtp(Smtp::open(server.clone(), args)?),
            TransportSetting::Command(command) => TransportKind::Command(command.clone()),
            TransportSetting::File(folder) => {
                anyhow::ensure!(folder.is_dir(), "--mail: {} is not a directory", folder.display());
                TransportKind::File(folder.clone())
            }
            TransportSetting::Off => anyhow::bail!("mails are off"),
        };
        Ok(Self { kind, timeout: args.mail_timeout })
    }

    /// Returns the maximum time to deliver a mail.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Delivers a mail with this id.
    ///
    /// # Errors
    /// If the mail was not accepted.
    pub async fn deliver(&self, id: Uuid, message: Message) -> Result<(), DeliveryError> {
        let delivery = async {
            match &self.kind {
                TransportKind::Smtp(smtp) => smtp.deliver(message).await,
                TransportKind::Command(command) => run(command, &message.formatted()).await,
                TransportKind::File(folder) => write(folder, id, message).await,
            }
        };
        let delivered = timeout(self.timeout, delivery).await;
        let late = |_| Err(DeliveryError::temporary(&format!("not accepted within {:?}", self.timeout)));
        delivered.unwrap_or_else(late)
    }

    /// Checks that the SMTP server accepts connections and authenticates this client. Other transports are not checked.
    ///
    /// # Errors
    /// If the server does not.
    pub async fn check(&self) -> Result<(), DeliveryError> {
        let TransportKind::Smtp(smtp) = &self.kind else { return Ok(()) };
        let checked = timeout(self.timeout, smtp.check()).await;
        checked.unwrap_or_else(|_| Err(DeliveryError::temporary(&format!("no response within {:?}", self.timeout))))
    }
}

/// Runs a program with the mail as its standard input. It is killed if this future is dropped.
async fn run(command: &[String], mail: &[u8]) -> Result<(), DeliveryError> {
    let (program, arguments) = command.split_first().ok_or_else(|| DeliveryError::temporary(&"no program"))?;
    let mut command = Command::new(program);
    command.args(arguments).kill_on_drop(true).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    // The settings of this program may contain the password of the database.
    command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    let failed = |error| DeliveryError::temporary(&format!("{program}: {error}"));
    let mut child = command.spawn().map_err(failed)?;
    let mut stdin = child.stdin.take().ok_or_else(|| DeliveryError::temporary(&"no standard input"))?;
    // A program that fails early does not read everything. Its exit code is the better message.
    let written = stdin.write_all(mail).await;
    drop(stdin);
    let status = child.wait().await.map_err(failed)?;
    if !status.success() {
        return Err(DeliveryError::temporary(&format!("{program}: {status}")));
    }
    written.map_err(failed)
}

/// Writes a mail to a file, which only the owner can read. An existing file is that of an earlier attempt.
async fn write(folder: &Path, id: Uuid, message: Message) -> Result<(), DeliveryError> {
    let path = folder.join(id.to_string()).with_extension("eml");
    let created = spawn_blocking(move || {
        let text = String::from_utf8_lossy(&message.formatted()).into_owned();
        match secret_file::create(&path, &text) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(format!("{}: {error}", path.display())),
            _ => Ok(()),
        }
    });
    let created = created.await.map_err(|error| DeliveryError::temporary(&error))?;
    created.map_err(|error| DeliveryError::temporary(&error))
}
