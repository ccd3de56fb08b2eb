//! Delivers mails by SMTP (RFC 5321), with STARTTLS (RFC 3207) or implicit TLS (RFC 8314).

use std::path::PathBuf;

use lettre::{
    AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor,
    transport::smtp::{
        self,
        authentication::Credentials,
        client::{Certificate, CertificateStore, Tls, TlsParameters},
        response::Category,
    },
};
use service_kit::ops::secret_file;

use super::delivery::DeliveryError;
use crate::{config::MailArgs, model::mail_transport::SmtpServer};

/// An SMTP server, and the files that a connection needs.
#[derive(Clone, Debug)]
pub struct Smtp {
    server: SmtpServer,
    password_file: Option<PathBuf>,
    ca_file: Option<PathBuf>,
}

impl Smtp {
    /// Checks the files of a server.
    ///
    /// # Errors
    /// If a file is unusable, or there is a user without a password, or a password without a user.
    pub fn open(server: SmtpServer, args: &MailArgs) -> anyhow::Result<Self> {
        let (password_file, ca_file) = (args.mail_password_file.clone(), args.mail_ca_file.clone());
        anyhow::ensure!(
            server.user.is_some() == password_file.is_some(),
            "--mail with a user needs --mail-password-file, and that file needs a user in --mail"
        );
        let smtp = Self { server, password_file, ca_file };
        smtp.transport()?;
        Ok(smtp)
    }

    /// Delivers a mail over a new connection.
    ///
    /// # Errors
    /// If the server did not accept it.
    pub async fn deliver(&self, message: Message) -> Result<(), DeliveryError> {
        self.open_transport().await?.send(message).await.map(drop).map_err(|error| explain(&error))
    }

    /// Connects, begins TLS and authenticates, as for a mail, but sends none.
    ///
    /// # Errors
    /// If the server is not reachable, or refuses the client.
    pub async fn check(&self) -> Result<(), DeliveryError> {
        match self.open_transport().await?.test_connection().await {
            Ok(true) => Ok(()),
            Ok(false) => Err(DeliveryError::temporary(&"the server closed the connection")),
            Err(error) => Err(explain(&error)),
        }
    }

    async fn open_transport(&self) -> Result<AsyncSmtpTransport<Tokio1Executor>, DeliveryError> {
        let smtp = self.clone();
        let transport = tokio::task::spawn_blocking(move || smtp.transport()).await;
        let transport = transport.map_err(|error| DeliveryError::temporary(&error))?;
        transport.map_err(|error| DeliveryError::temporary(&format!("{error:#}")))
    }

    /// Reads the files again, because they may have been replaced.
    fn transport(&self) -> anyhow::Result<AsyncSmtpTransport<Tokio1Executor>> {
        let SmtpServer { host, port, user, has_implicit_tls } = &self.server;
        let tls = TlsParameters::builder(host.trim_matches(['[', ']']).to_owned());
        let tls = match &self.ca_file {
            Some(file) => {
                let authorities = Certificate::from_pem(&secret_file::read_public(file)?)?;
                tls.certificate_store(CertificateStore::None).add_root_certificate(authorities)
            }
            None => tls,
        };
        let tls = match (has_implicit_tls, self.server.is_local() && user.is_none()) {
            (true, _) => Tls::Wrapper(tls.build()?),
            (false, true) => Tls::Opportunistic(tls.build()?),
            (false, false) => Tls::Required(tls.build()?),
        };
        let transport = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(host).port(*port).tls(tls);
        let Some((user, file)) = user.clone().zip(self.password_file.as_ref()) else { return Ok(transport.build()) };
        let password = secret_file::read(file)?;
        Ok(transport.credentials(Credentials::new(user, password.trim_end().to_owned())).build())
    }
}

/// Describes an error. The server has refused a mail permanently if its code says so, unless the code is about the
/// authentication of the client (5.3.x in RFC 4954), which the operator can mend.
fn explain(error: &smtp::Error) -> DeliveryError {
    let is_permanent =
        error.is_permanent() && error.status().is_some_and(|code| !matches!(code.category, Category::Unspecified3));
    let mut message = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        message = format!("{message}: {cause}");
        source = cause.source();
    }
    DeliveryError::new(&message, is_permanent)
}
