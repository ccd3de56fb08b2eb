//! Mails to users. They are stored in the outbox, in the transaction of their cause, and sent from there.
//!
//! - this file: the handle of the other modules.
//! - `sender`: sends the mails in the outbox. `transport`: delivers a mail. `smtp`: delivers it by SMTP. `delivery`: the
//!   errors of both.
//! - `check`: the check of the command `doctor`.
//! - `message`: a mail in the Internet Message Format. `letter`: its words.

use std::sync::Arc;

use anyhow::Context;
use service_kit::{clock::Clock, db::Db};
use tokio::sync::Notify;

pub mod check;
mod delivery;
mod letter;
mod message;
mod sender;
mod smtp;
mod transport;

use message::Composer;
use sender::Sender;
use transport::Transport;

use crate::{
    config::Config,
    model::{
        client_info::ClientInfo,
        mail::{Details, IP_ADDRESS, NewMail, Template},
        mail_transport::TransportSetting,
        user::{Credentials, User},
    },
    refresh_secrets::RefreshKeySource,
};

/// Creates mails, and sends those in the outbox.
pub struct Mailer {
    clock: Clock,
    /// Notified when mails were stored.
    stored: Arc<Notify>,
    /// `None` if mails are off.
    sender: Option<Sender>,
}

impl Mailer {
    /// Creates a mailer.
    ///
    /// # Errors
    /// If a required setting is missing, or a file is unusable.
    pub fn open(config: &Config, db: &Db, clock: &Clock, keys: &Arc<RefreshKeySource>) -> anyhow::Result<Self> {
        let stored = Arc::new(Notify::new());
        let args = &config.mail;
        let sender = match &args.mail {
            TransportSetting::Off => {
                anyhow::ensure!(!args.require_verified_email, "--require-verified-email needs --mail");
                None
            }
            setting => {
                let public_url = config.public_url.clone().context("--mail needs --public-url, for links")?;
                let from = args.mail_from.as_ref().context("--mail needs --mail-from, the address of the sender")?;
                let transport = Transport::open(setting, args)?;
                let composer = Composer::new(from, public_url)?;
                Some(Sender {
                    db: db.clone(),
                    clock: clock.clone(),
                    transport,
                    composer,
                    keys: Arc::clone(keys),
                    stored: Arc::clone(&stored),
                })
            }
        };
        Ok(Self { clock: clock.clone(), stored, sender })
    }

    /// Creates a notice to the owner of an account about what a client has done. Returns `None` if mails are off.
    #[must_use]
    pub fn notice(&self, template: Template, user: &User, client: &ClientInfo) -> Option<NewMail> {
        self.sender.as_ref()?;
        let mail = NewMail::notice(self.clock.new_id(), template, user);
        Some(mail.with_detail(IP_ADDRESS, client.ip_address()))
    }

    /// Creates a mail with a link that changes an account, for a client that has requested it. Returns `None` if mails are
    /// off.
    #[must_use]
    pub fn action(&self, template: Template, account: &Credentials, client: &ClientInfo) -> Option<NewMail> {
        self.action_with(template, account, client, Details::new())
    }

    /// Creates a mail as [`action`](Self::action), with further details.
    #[must_use]
    pub fn action_with(
        &self,
        template: Template,
        account: &Credentials,
        client: &ClientInfo,
        details: Details,
    ) -> Option<NewMail> {
        self.sender.as_ref()?;
        let mail = NewMail::action(self.clock.new_id(), template, account, details);
        Some(mail.with_detail(IP_ADDRESS, client.ip_address()))
    }

    /// Reports whether mails are sent.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.sender.is_some()
    }

    /// Wakes the sender. Call it after mails were stored.
    pub fn wake(&self) {
        self.stored.notify_one();
    }

    /// Sends the mails in the outbox for as long as it is awaited.
    pub async fn run(&self) {
        match &self.sender {
            Some(sender) => sender.run().await,
            None => std::future::pending().await,
        }
    }
}
