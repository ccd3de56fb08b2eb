//! Repeated proofs of the identity of a user within a session.

use service_kit::status::ApiError;
use taskey_proto::auth::v1::ReauthenticateResponse;
use uuid::Uuid;

use super::{attempts::PermittedAttempt, sessions::Sessions};
use crate::{
    error,
    model::{
        audit::{Event, Kind},
        factor::SecondFactor,
        login_throttle::lock_duration,
        passkey_challenge::Use,
        user::User,
    },
    store::{
        audit,
        reauthentication::{self, Proof, Reauthentication},
    },
    webauthn::rejection::Rejection,
};

impl Sessions {
    /// Records that the user of a session has proved the password, and returns a new access token.
    ///
    /// # Errors
    /// TOKEN_REVOKED if the session has ended.
    pub async fn reauthenticate(
        &self,
        user: User,
        session_id: Uuid,
        event: Event,
    ) -> Result<ReauthenticateResponse, ApiError> {
        let response = self.record_proof(user, session_id, Proof::Password, event).await?;
        response.ok_or_else(|| ApiError::internal("a password can be proved again"))
    }

    /// Checks a second factor, uses it, and returns a new access token.
    ///
    /// # Errors
    /// CODE_INVALID, PASSKEY_INVALID, RATE_LIMITED, or TOKEN_REVOKED if the session has ended.
    pub async fn reauthenticate_with_factor(
        &self,
        user: User,
        session_id: Uuid,
        factor: SecondFactor,
        event: Event,
    ) -> Result<ReauthenticateResponse, ApiError> {
        let (now, user_id) = (self.clock.now(), user.id);
        let attempt = self.passwords.permit(&user.email, &event.client).await?;
        let is_passkey = matches!(factor, SecondFactor::Passkey(_));
        let passkey_use = Use::Reauthentication { user_id, session_id };
        if let Some(used) = self.find_use(now, user_id, (factor, passkey_use), &event.client).await? {
            let proof = Proof::Factor(used, attempt.attempt.clone());
            if let Some(response) = self.record_proof(user, session_id, proof, event.clone()).await? {
                return Ok(response);
            }
            if is_passkey {
                return Err(error::passkey_invalid(Rejection::WrongChallenge));
            }
        }
        Err(self.refuse_code_of_owner(user_id, &attempt, &event).await?)
    }

    /// Returns `None` if the code, or the challenge of the passkey, was used before.
    async fn record_proof(
        &self,
        user: User,
        session_id: Uuid,
        proof: Proof,
        event: Event,
    ) -> Result<Option<ReauthenticateResponse>, ApiError> {
        let now = self.clock.now();
        match reauthentication::record(&self.db, now, (user.id, session_id), proof, event).await? {
            Reauthentication::Done(session) => self.issuer.renewed_access_token(&user, &session, now).map(Some),
            Reauthentication::SessionEnded => Err(error::token_revoked()),
            Reauthentication::Throttled => Err(error::too_many_wrong_passwords(lock_duration(now))),
            Reauthentication::CodeUsed => Ok(None),
        }
    }

    /// Counts a wrong code in a request of a signed-in user, and returns the error. `event` is the event of the change that
    /// requires the code.
    ///
    /// # Errors
    /// RATE_LIMITED.
    pub async fn refuse_code_of_owner(
        &self,
        user_id: Uuid,
        attempt: &PermittedAttempt,
        event: &Event,
    ) -> Result<ApiError, ApiError> {
        let Self { db, clock, passwords, .. } = self;
        let wrong = Event { id: clock.new_id(), kind: Kind::FactorCodeWrong, ..event.clone() };
        let wrong = wrong.with_detail("attempted", &event.kind.name());
        let audit = audit::add(db, clock.now(), user_id, wrong);
        // Both writes run concurrently, to share a commit.
        let (recorded, audited) = tokio::join!(passwords.record_failure(attempt), audit);
        recorded?;
        audited?;
        Ok(error::code_invalid())
    }
}
