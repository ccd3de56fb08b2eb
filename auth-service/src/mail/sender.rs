//! Sends the mails in the outbox.

use std::{sync::Arc, time::Duration};

use futures::{StreamExt, stream};
use service_kit::{
    clock::Clock,
    db::{Db, Error},
    random,
};
use tokio::{sync::Notify, time::sleep};

use super::{delivery::DeliveryError, letter::Letter, message::Composer, transport::Transport};
use crate::{
    model::{
        action_token::Action,
        mail::{AttemptOutcome, Mail, Template},
    },
    refresh_secrets::RefreshKeySource,
    store::{mail_actions, mails},
};

/// How often the outbox is read. Mails of this server are sent at once.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// How often the number of waiting mails is measured.
const COUNT_INTERVAL: Duration = Duration::from_secs(10);

/// Maximum number of mails that are sent at the same time.
const MAX_CONCURRENT: usize = 4;

/// Maximum number of mails that are claimed at once.
const BATCH: usize = MAX_CONCURRENT * ROUNDS as usize;

/// How many times [`MAX_CONCURRENT`] mails are claimed at once.
const ROUNDS: u32 = 4;

/// How long other servers do not send a claimed mail, in addition to the time in which all mails of a batch time out.
const LEASE_MARGIN: Duration = Duration::from_secs(30);

/// Sends mails. Of several servers, one sends a mail. If a server crashes while it does, another one sends the mail
/// again.
pub struct Sender {
    pub(super) db: Db,
    pub(super) clock: Clock,
    pub(super) transport: Transport,
    pub(super) composer: Composer,
    /// The keys of the tokens in mails.
    pub(super) keys: Arc<RefreshKeySource>,
    /// Wakes the sender.
    pub(super) stored: Arc<Notify>,
}

impl Sender {
    /// Sends mails for as long as it is awaited.
    pub async fn run(&self) {
        tokio::join!(self.send(), self.count());
    }

    async fn send(&self) {
        let mut is_failing = false;
        loop {
            let sent = self.send_due().await;
            match &sent {
                Err(error) if !is_failing => tracing::warn!(%error, "cannot read the outbox of mails"),
                _ => {}
            }
            is_failing = sent.is_err();
            if sent.is_ok_and(|count| count == BATCH) {
                continue;
            }
            tokio::select! {
                () = self.stored.notified() => {}
                () = sleep(random::jitter(POLL_INTERVAL)) => {}
            }
        }
    }

    /// Measures periodically how many mails wait.
    async fn count(&self) {
        loop {
            if let Ok(pending) = mails::count_pending(&self.db).await {
                #[expect(clippy::cast_precision_loss, reason = "there are far fewer than 2^53")]
                metrics::gauge!("taskey_mails_pending").set(pending as f64);
            }
            sleep(random::jitter(COUNT_INTERVAL)).await;
        }
    }

    /// Sends a batch of the mails that are due, and returns how many there were.
    async fn send_due(&self) -> Result<usize, Error> {
        let now = self.clock.now();
        // Most of the time, there is none, and a read costs less than a write.
        if !mails::has_due(&self.db, now).await? {
            return Ok(0);
        }
        let lease_end = now + self.transport.timeout() * ROUNDS + LEASE_MARGIN;
        let claimed = mails::claim(&self.db, now, lease_end, BATCH).await?;
        let count = claimed.len();
        stream::iter(claimed).for_each_concurrent(MAX_CONCURRENT, |mail| self.attempt(mail)).await;
        Ok(count)
    }

    async fn attempt(&self, mail: Mail) {
        let outcome = match self.letter(&mail).await {
            Ok(Some(letter)) => match self.deliver(&mail, letter).await {
                Ok(()) => AttemptOutcome::Sent,
                Err(error) => self.after_error(&mail, error),
            },
            Ok(None) => AttemptOutcome::Obsolete,
            Err(error) => self.after_error(&mail, error),
        };
        metrics::counter!("taskey_mail_attempts_total", "outcome" => outcome.name()).increment(1);
        let Mail { id: mail_id, user_id, attempt, .. } = mail;
        match &outcome {
            AttemptOutcome::Sent => tracing::info!(%mail_id, %user_id, attempt, "sent a mail"),
            AttemptOutcome::Retry { error, .. } => {
                tracing::warn!(%mail_id, %user_id, attempt, error, "cannot send a mail yet");
            }
            AttemptOutcome::Failed { error } => {
                tracing::error!(%mail_id, %user_id, attempt, error, "cannot send a mail");
            }
            // Also mails that were requested for an address without an account.
            AttemptOutcome::Obsolete => tracing::debug!(%mail_id, "a mail is no longer needed"),
        }
        if let Err(error) = mails::record_outcome(&self.db, &mail, &outcome).await {
            // The mail is sent again at the end of the lease.
            tracing::warn!(%error, %mail_id, "cannot record the outcome of a mail");
        }
    }

    /// Writes a mail. Returns `None` if its link is no longer valid.
    async fn letter(&self, mail: &Mail) -> Result<Option<Letter>, DeliveryError> {
        let template =
            mail.template.ok_or_else(|| DeliveryError::temporary(&"only newer servers know its template"))?;
        if !template.has_link() {
            return Ok(Some(self.composer.write(mail, template, None)));
        }
        if self.clock.now() >= mail.created_at + template.lifetime() {
            return Err(DeliveryError::new(&"it was not sent before its link expired", true));
        }
        let stored = mail_actions::by_mail_id(&self.db, mail.id).await;
        let stored = stored.map_err(|error| DeliveryError::temporary(&error))?;
        let current = stored.and_then(|stored| stored.current_state(template));
        if current.as_ref() != Some(&mail.account_state) {
            return Ok(None);
        }
        let action = Action { mail_id: mail.id, template, account_state: mail.account_state.clone() };
        let secrets = action.secrets(&self.keys.current());
        Ok(Some(self.composer.write(mail, template, Some(&secrets))))
    }

    async fn deliver(&self, mail: &Mail, letter: Letter) -> Result<(), DeliveryError> {
        let message = self.composer.compose(mail, &letter).map_err(|error| DeliveryError::new(&error, true))?;
        self.transport.deliver(mail.id, message).await
    }

    fn after_error(&self, mail: &Mail, DeliveryError { message, is_permanent }: DeliveryError) -> AttemptOutcome {
        let at = self.clock.now() + random::vary(mail.retry_delay(), 0.2);
        let lifetime = mail.template.map_or(Duration::from_secs(24 * 3600), Template::lifetime);
        if is_permanent || at > mail.created_at + lifetime {
            AttemptOutcome::Failed { error: message }
        } else {
            AttemptOutcome::Retry { at, error: message }
        }
    }
}
