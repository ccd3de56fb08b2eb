//! Registers passkeys, which then are factors.

use std::sync::Arc;

use service_kit::{random, status::ApiError};

use crate::{
    error,
    login::passkeys::Passkeys,
    mail::Mailer,
    model::{
        audit::Event,
        factor::Factor,
        mail::Template,
        passkey_challenge::{LIFETIME, Use},
        recovery_code::NewRecoveryCodes,
        user::User,
    },
    store::{
        passkey_registration::{self, NewPasskey, Registration, RegistrationRecords},
        passkeys,
    },
    webauthn::{
        options::{self, Account},
        registration,
        rejection::Rejection,
        response,
    },
};

/// Registers passkeys.
pub struct PasskeyRegistrations {
    pub(crate) passkeys: Arc<Passkeys>,
    pub(crate) mailer: Arc<Mailer>,
}

impl PasskeyRegistrations {
    /// Returns the options with which a browser creates a passkey for an account.
    ///
    /// # Errors
    /// PASSKEYS_DISABLED or USER_NOT_FOUND.
    pub async fn begin(&self, user: &User) -> Result<String, ApiError> {
        let (db, site) = (&self.passkeys.db, self.passkeys.site()?);
        if passkeys::site(db).await?.is_some_and(|stored| stored != site.id()) {
            return Err(error::passkeys_of_other_site());
        }
        let user_handle = passkeys::user_handle(db, user.id, random::bytes()).await?;
        let user_handle = user_handle.ok_or_else(error::user_not_found)?;
        let registered = passkeys::descriptors(db, user.id).await?;
        let challenge = self.passkeys.challenge(Use::Registration(user.id));
        let account = Account { user_handle: &user_handle, email: &user.email, display_name: &user.display_name };
        Ok(options::creation(site, &challenge, LIFETIME, account, &registered))
    }

    /// Stores a new passkey. Returns new recovery codes if it is the only factor.
    ///
    /// # Errors
    /// PASSKEY_INVALID, PASSKEY_EXISTS, PASSKEYS_DISABLED, QUOTA_EXCEEDED or USER_NOT_FOUND.
    pub async fn finish(
        &self,
        user: &User,
        response: &response::Registration,
        label: String,
        event: Event,
    ) -> Result<(Factor, Vec<String>), ApiError> {
        let Passkeys { db, clock, .. } = &*self.passkeys;
        let site = self.passkeys.site()?;
        let client_data = response.client_data().map_err(error::passkey_refused)?;
        let opened = self.passkeys.open_challenge(Use::Registration(user.id), client_data.challenge());
        let challenge = opened.map_err(error::passkey_refused)?;
        let credential = registration::verify(response, client_data.challenge(), site);
        let credential = credential.map_err(error::passkey_refused)?;
        let NewRecoveryCodes { codes, hashes } = NewRecoveryCodes::random();
        let notice = self.mailer.notice(Template::FactorChanged, user, &event.client);
        let (transports, site) = (response.transports(), site.id().to_owned());
        let id = clock.new_id();
        let new = NewPasskey { id, user_id: user.id, label, credential, transports, challenge, site };
        let event = event.with_detail("factor_id", &id);
        let records = RegistrationRecords { recovery_codes: hashes, event, notice };
        let stored = passkey_registration::insert(db, clock.now(), new, records).await?;
        self.mailer.wake();
        match stored {
            Registration::Registered(factor, is_first) => Ok((factor, if is_first { codes } else { Vec::new() })),
            Registration::ChallengeUsed => Err(error::passkey_refused(Rejection::WrongChallenge)),
            Registration::Exists => Err(error::passkey_exists()),
            Registration::TooMany => Err(error::too_many_factors()),
            Registration::NoAccount => Err(error::user_not_found()),
            Registration::OtherSite => Err(error::passkeys_of_other_site()),
        }
    }
}
