//! Logins with a second factor.

use service_kit::{
    auth::authentication::{AuthMethod, AuthMethods, Authentication},
    clock::Timestamp,
    status::ApiError,
};
use taskey_proto::auth::v1::{LoginChallenge as Challenge, TokenPair, login_challenge::Method};
use uuid::Uuid;

use super::{attempts::PermittedAttempt, sessions::Sessions};
use crate::{
    error,
    model::{
        audit::{Actor, Event, Kind},
        client_info::ClientInfo,
        email::Email,
        factor::{AvailableFactors, FactorUse, SecondFactor},
        login_challenge::{LIFETIME, LoginChallenge},
        login_throttle::lock_duration,
        mail::Template,
        passkey_challenge::Use,
        user::Credentials,
    },
    store::{
        audit,
        sessions::{self, NewSession, NewSessionOutcome},
        totp, users,
    },
    webauthn::rejection::Rejection,
};

/// A login whose password is correct, or that needs none.
pub(super) struct VerifiedLogin {
    pub(super) credentials: Credentials,
    /// What the user has proved, besides the second factor.
    pub(super) methods: AuthMethods,
    /// The name of the session.
    pub(super) label: String,
    pub(super) client: ClientInfo,
    pub(super) attempt: PermittedAttempt,
}

impl Sessions {
    /// Returns the use of a factor of an account with what its user has entered, if it is correct. `passkey_use` is what the
    /// challenge of a passkey must be for. The use may have happened before; the update that records it decides.
    ///
    /// # Errors
    /// PASSKEY_INVALID.
    pub(super) async fn find_use(
        &self,
        now: Timestamp,
        user_id: Uuid,
        (factor, passkey_use): (SecondFactor, Use),
        client: &ClientInfo,
    ) -> Result<Option<FactorUse>, ApiError> {
        Ok(match factor {
            SecondFactor::TotpCode(code) => {
                let (secrets, keys) = (totp::secrets(&self.db, user_id).await?, self.issuer.refresh_keys.current());
                secrets.iter().find_map(|secret| secret.accept(&keys, &code, now))
            }
            SecondFactor::RecoveryCode(hash) => Some(FactorUse::RecoveryCode(hash)),
            SecondFactor::Passkey(response) => Some(self.passkeys.verify(&response, passkey_use, client).await?.1),
        })
    }

    /// Returns the challenge of a login. The correct password is not recorded: otherwise a client that knows it could reset
    /// the counter of wrong codes, and guess codes without limit.
    pub(super) async fn challenge(
        &self,
        login: VerifiedLogin,
        available: AvailableFactors,
    ) -> Result<TokenPair, ApiError> {
        let VerifiedLogin { credentials, label, .. } = login;
        let (id, expires_at) = (self.clock.new_id(), self.clock.now() + LIFETIME);
        let (user_id, password_version) = (credentials.user.id, credentials.password_version);
        let challenge = LoginChallenge { id, user_id, password_version, expires_at, label };
        let passkey_options = match available.passkeys {
            0 => None,
            _ => self.passkeys.second_factor_options(user_id).await?,
        };
        let methods = [
            (Method::Totp, available.totp > 0),
            (Method::RecoveryCode, available.recovery_codes > 0),
            (Method::Passkey, passkey_options.is_some()),
        ];
        let methods = methods.into_iter().filter(|(_, is_available)| *is_available).map(|(method, _)| method.into());
        let token = challenge.seal(&self.issuer.refresh_keys.current());
        let challenge = Challenge {
            token,
            methods: methods.collect(),
            expire_time: Some(expires_at.into()),
            passkey_options: passkey_options.unwrap_or_default(),
        };
        Ok(TokenPair { challenge: Some(challenge), ..TokenPair::default() })
    }

    /// Completes a challenge with a second factor, and starts a session.
    ///
    /// # Errors
    /// CHALLENGE_INVALID, CODE_INVALID or RATE_LIMITED.
    pub async fn complete(
        &self,
        challenge: LoginChallenge,
        factor: SecondFactor,
        client: ClientInfo,
    ) -> Result<TokenPair, ApiError> {
        let credentials = users::credentials_by_id(&self.db, challenge.user_id).await?;
        let is_current =
            |account: &Credentials| !account.user.disabled && account.password_version == challenge.password_version;
        let credentials = credentials.filter(is_current).ok_or_else(error::challenge_invalid)?;
        let attempt = self.passwords.permit(&credentials.user.email, &client).await?;
        let methods = AuthMethods::default().with(AuthMethod::Password);
        let login = VerifiedLogin { credentials, methods, label: challenge.label.clone(), client, attempt };
        self.start_with_factor(login, factor, Some(challenge)).await
    }

    /// Starts a session if the second factor is correct. A wrong one counts as a wrong password.
    pub(super) async fn start_with_factor(
        &self,
        login: VerifiedLogin,
        factor: SecondFactor,
        challenge: Option<LoginChallenge>,
    ) -> Result<TokenPair, ApiError> {
        let (now, user_id) = (self.clock.now(), login.credentials.user.id);
        match self.find_use(now, user_id, (factor, Use::SecondFactor(user_id)), &login.client).await? {
            Some(used) => self.start(login, Some(used), challenge).await,
            None => Err(self.refuse_code(&login).await?),
        }
    }

    /// Starts a session.
    pub(super) async fn start(
        &self,
        login: VerifiedLogin,
        factor: Option<FactorUse>,
        challenge: Option<LoginChallenge>,
    ) -> Result<TokenPair, ApiError> {
        let (now, is_passkey) = (self.clock.now(), matches!(factor, Some(FactorUse::Passkey(_))));
        let (session, event) = self.new_session(&login, factor, challenge, now);
        let (session, surplus) = match sessions::insert(&self.db, now, session, event).await? {
            NewSessionOutcome::Created(session, surplus) => (session, surplus),
            NewSessionOutcome::AccountChanged if is_passkey => {
                return Err(error::passkey_invalid(Rejection::WrongCredential));
            }
            NewSessionOutcome::FactorUsed if is_passkey => {
                return Err(error::passkey_invalid(Rejection::WrongChallenge));
            }
            NewSessionOutcome::AccountChanged => return Err(error::credentials_invalid()),
            NewSessionOutcome::Throttled => return Err(error::too_many_wrong_passwords(lock_duration(now))),
            NewSessionOutcome::ChallengeCompleted | NewSessionOutcome::PermissionUsed => {
                return Err(error::challenge_invalid());
            }
            NewSessionOutcome::FactorUsed => return Err(self.refuse_code(&login).await?),
        };
        self.mailer.wake();
        tracing::info!(user_id = %session.user_id, session_id = %session.id, surplus, "logged in");
        if surplus > 0 {
            // The oldest sessions were revoked.
            self.feed.wake();
        }
        self.issuer.token_pair(login.credentials.user, &session, now)
    }

    /// Returns the session of a login, and the event of the login.
    fn new_session(
        &self,
        login: &VerifiedLogin,
        factor: Option<FactorUse>,
        challenge: Option<LoginChallenge>,
        now: Timestamp,
    ) -> (NewSession, Event) {
        let VerifiedLogin { credentials, methods, label, client, attempt } = login;
        let is_known = attempt.is_from_known_network;
        let notice = if is_known { None } else { self.mailer.notice(Template::NewDevice, &credentials.user, client) };
        let id = self.clock.new_id();
        let event = Event::new(&self.clock, Kind::Login, Actor::Owner, Some(id), client.clone());
        let (methods, event) = match &factor {
            Some(factor) => (factor.add_to(*methods), event.with_detail("factor", &factor.method())),
            None => (*methods, event),
        };
        let session = NewSession {
            id,
            user_id: credentials.user.id,
            label: label.clone(),
            user_agent: client.user_agent.clone(),
            ip_address: client.ip_address(),
            expires_at: now + self.args.refresh_idle_ttl.min(self.args.refresh_max_ttl),
            ends_at: now + self.args.refresh_max_ttl,
            authentication: Authentication { methods, time: now },
            scopes: None,
            password_version: credentials.password_version,
            attempt: attempt.attempt.clone(),
            factor,
            challenge,
            device_authorization: None,
            notice,
        };
        (session, event)
    }

    /// Counts a wrong code, and returns the error.
    async fn refuse_code(&self, login: &VerifiedLogin) -> Result<ApiError, ApiError> {
        let Self { db, clock, passwords, .. } = self;
        let failed = Event::new(clock, Kind::LoginFailed, Actor::Unknown, None, login.client.clone());
        let email = Email::parse(&login.credentials.user.email).map_err(ApiError::internal)?;
        let audit = audit::failed_login(db, clock.now(), email, true, failed);
        // Both writes run concurrently, to share a commit.
        let (recorded, audited) = tokio::join!(passwords.record_failure(&login.attempt), audit);
        recorded?;
        audited?;
        Ok(error::code_invalid())
    }
}
