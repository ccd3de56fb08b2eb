//! The challenges and the responses of passkeys, as the only factor of a login or as a second one.

use std::sync::Arc;

use service_kit::{clock::Clock, db::Db, status::ApiError};
use uuid::Uuid;

use super::token_issuer::TokenIssuer;
use crate::{
    error,
    mail::Mailer,
    model::{
        audit::{Actor, Event, Kind},
        client_info::ClientInfo,
        factor::FactorUse,
        mail::Template,
        passkey::{Passkey, PasskeyUse},
        passkey_challenge::{LIFETIME, PasskeyChallenge, Use},
    },
    store::{passkeys, users},
    webauthn::{
        assertion::{self, Counter, Expected, StoredCredential, Verification},
        options,
        rejection::Rejection,
        relying_party::RelyingParty,
        response::Assertion,
    },
};

/// Issues the challenges of passkeys, and verifies their responses.
pub struct Passkeys {
    pub(crate) db: Db,
    pub(crate) clock: Clock,
    pub(crate) issuer: Arc<TokenIssuer>,
    pub(crate) mailer: Arc<Mailer>,
    /// The site of the passkeys. `None` if `--public-url` is not set, or browsers permit no passkeys there.
    pub(crate) site: Option<RelyingParty>,
}

impl Passkeys {
    /// Returns the site.
    ///
    /// # Errors
    /// PASSKEYS_DISABLED if there is none.
    pub fn site(&self) -> Result<&RelyingParty, ApiError> {
        self.site.as_ref().ok_or_else(error::passkeys_disabled)
    }

    /// Returns a new challenge, in base64url.
    #[must_use]
    pub fn challenge(&self, challenge_use: Use) -> String {
        PasskeyChallenge::new(self.clock.now()).seal(&self.issuer.refresh_keys.current(), challenge_use)
    }

    /// Returns the content of a challenge. It may have been used; the transaction that uses it decides.
    ///
    /// # Errors
    /// PASSKEY_INVALID if it is not valid for this use, or has expired.
    pub fn open_challenge(&self, challenge_use: Use, text: &str) -> Result<PasskeyChallenge, Rejection> {
        let keys = self.issuer.refresh_keys.current();
        PasskeyChallenge::open(&keys, challenge_use, text, self.clock.now()).ok_or(Rejection::WrongChallenge)
    }

    /// Returns the options for a login without a password.
    ///
    /// # Errors
    /// PASSKEYS_DISABLED.
    pub fn login_options(&self) -> Result<String, ApiError> {
        Ok(options::request(self.site()?, &self.challenge(Use::Login), LIFETIME, &[]))
    }

    /// Returns the options with which a login to an account is completed. `None` if it has no passkeys, or they are
    /// disabled.
    ///
    /// # Errors
    /// STORE_UNAVAILABLE.
    pub async fn second_factor_options(&self, user_id: Uuid) -> Result<Option<String>, ApiError> {
        let Some(site) = &self.site else { return Ok(None) };
        self.options_for_account(site, user_id, Use::SecondFactor(user_id)).await
    }

    /// Returns the options with which the user of a session proves their identity again.
    ///
    /// # Errors
    /// PASSKEYS_DISABLED, or FACTOR_NOT_FOUND if the account has no passkeys.
    pub async fn reauthentication_options(&self, user_id: Uuid, session_id: Uuid) -> Result<String, ApiError> {
        let challenge_use = Use::Reauthentication { user_id, session_id };
        let options = self.options_for_account(self.site()?, user_id, challenge_use).await?;
        options.ok_or_else(error::factor_not_found)
    }

    async fn options_for_account(
        &self,
        site: &RelyingParty,
        user_id: Uuid,
        challenge_use: Use,
    ) -> Result<Option<String>, ApiError> {
        let credentials = passkeys::descriptors(&self.db, user_id).await?;
        let challenge = self.challenge(challenge_use);
        let has_passkeys = !credentials.is_empty();
        Ok(has_passkeys.then(|| options::request(site, &challenge, LIFETIME, &credentials)))
    }

    /// Verifies a response. Returns the account and the use of its passkey.
    ///
    /// # Errors
    /// PASSKEY_INVALID or PASSKEYS_DISABLED.
    pub async fn verify(
        &self,
        response: &Assertion,
        challenge_use: Use,
        client: &ClientInfo,
    ) -> Result<(Uuid, FactorUse), ApiError> {
        let (site, client_data) = (self.site()?, response.client_data().map_err(error::passkey_invalid)?);
        let opened = self.open_challenge(challenge_use, client_data.challenge());
        let challenge = opened.map_err(error::passkey_invalid)?;
        let passkey = passkeys::by_credential(&self.db, response.id()).await?;
        let is_owner = |passkey: &Passkey| challenge_use.user_id().is_none_or(|user_id| passkey.user_id == user_id);
        let passkey = passkey.filter(is_owner).ok_or_else(|| error::passkey_invalid(Rejection::WrongCredential))?;
        let is_passwordless = challenge_use == Use::Login;
        let expected = Expected { relying_party: site, challenge: client_data.challenge(), is_passwordless };
        let Passkey { id, user_id, user_handle, public_key, sign_count } = &passkey;
        let stored = StoredCredential { id: response.id(), public_key, user_handle, sign_count: *sign_count };
        let verified = assertion::verify(response, expected, stored).map_err(error::passkey_invalid)?;
        self.check_counter(&passkey, (challenge, verified), client).await?;
        Ok((*user_id, FactorUse::Passkey(PasskeyUse { passkey_id: *id, challenge, verified })))
    }

    /// Adds an event to the audit log and informs the owner if the signature counter is not larger than before, which a copy
    /// of the passkey can cause. W3C WebAuthn (section 7.2, step 22) lets the site decide what follows: a counter that went back is refused;
    /// one that has become zero is accepted, because the user may have moved the passkey to an authenticator that does not
    /// count.
    async fn check_counter(
        &self,
        passkey: &Passkey,
        (challenge, verified): (PasskeyChallenge, Verification),
        client: &ClientInfo,
    ) -> Result<(), ApiError> {
        if verified.counter == Counter::Consistent {
            return Ok(());
        }
        let is_accepted = verified.counter == Counter::Stopped;
        let event = Event::new(&self.clock, Kind::PasskeyCloneSuspected, Actor::Unknown, None, client.clone())
            .with_detail("factor_id", &passkey.id)
            .with_detail("stored_counter", &passkey.sign_count)
            .with_detail("received_counter", &verified.sign_count)
            .with_detail("accepted", &is_accepted);
        let (now, user_id) = (self.clock.now(), passkey.user_id);
        let user = users::by_id(&self.db, user_id).await?;
        let notice = user.and_then(|user| self.mailer.notice(Template::PasskeyCloneSuspected, &user, client));
        let refused = (!is_accepted).then_some(challenge);
        if !passkeys::record_suspicion(&self.db, now, user_id, refused, (event, notice)).await? {
            return Err(error::passkey_invalid(Rejection::WrongChallenge));
        }
        self.mailer.wake();
        tracing::warn!(%user_id, passkey_id = %passkey.id, is_accepted, "a passkey may have been copied");
        if is_accepted { Ok(()) } else { Err(error::passkey_invalid(Rejection::CounterWentBack)) }
    }
}
