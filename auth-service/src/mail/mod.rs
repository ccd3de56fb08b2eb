//! Mails to users. They are stored in the outbox, in the transaction of their cause, and sent from there.
//!
//! - this file: the handle of the other modules.
//! - `sender`: sends the mails in the outbox. `transport`: delivers a mail. `smtp`: delivers it by SMTP. `delivery`: the
//!   errors of both.
//! - `message`: a mail in the Internet Message Format. `letter`: its words.

use std::sync::Arc;

use anyhow::Context;
use service_kit::{clock::Clock, db::Db};
use tokio::sync::Notify;

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
        audit::Event,
        mail::{NewMail, Template},
        mail_transport::TransportSetting,
        user::User,
    },
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
    pub fn open(config: &Config, db: &Db, clock: &Clock) -> anyhow::Result<Self> {
        let stored = Arc::new(Notify::new());
        let args = &config.mail;
        let sender = match &args.mail {
            TransportSetting::Off => None,
            setting => {
                let public_url = config.public_url.clone().context("--mail needs --public-url, for links")?;
                let from = args.mail_from.as_ref().context("--mail needs --mail-from, the address of the sender")?;
                let transport = Transport::open(setting, args)?;
                let composer = Composer::new(from, public_url)?;
                Some(Sender::new(db.clone(), clock.clone(), transport, composer, Arc::clone(&stored)))
            }
        };
        Ok(Self { clock: clock.clone(), stored, sender })
    }

    /// Creates a notice to the owner of an account about an event. Returns `None` if mails are off.
    #[must_use]
    pub fn notice(&self, template: Template, user: &User, event: &Event) -> Option<NewMail> {
        self.sender.as_ref()?;
        let mail = NewMail::new(self.clock.new_id(), template, user);
        Some(mail.with_detail(letter::IP_ADDRESS, event.client.ip_address()))
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
