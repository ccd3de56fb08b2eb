//! Calls of auth-service through the gateway.

use std::time::Duration;

use service_kit::{
    clock::{Clock, Timestamp},
    status::{ERROR_DOMAIN, reason_name},
    tls::Dialer,
};
use taskey_proto::{
    auth::v1::{
        AuthorizeDeviceRequest, AuthorizeDeviceResponse, CompleteLoginRequest, IssueTokenRequest, LoginRequest,
        LogoutRequest, RefreshRequest, TokenPair, auth_service_client::AuthServiceClient,
        complete_login_request::Factor, o_auth_service_client::OAuthServiceClient,
    },
    errors::v1::ErrorReason,
};
use tokio::time::{sleep, timeout};
use tonic::{
    Code, Response, Status,
    transport::{Channel, Endpoint},
};
use tonic_types::StatusExt;
use zeroize::Zeroizing;

use super::{args::InstallationArgs, prompt::Credentials, store::StoredSession};

/// Maximum duration of an attempt, including the connection. By default, auth-service needs at most 5 s.
const ATTEMPT_LIMIT: Duration = Duration::from_secs(8);

/// How often a call is sent. All attempts together take less than the 60 s in which the server accepts the same refresh
/// token again.
const MAX_ATTEMPTS: u32 = 3;

/// The pause between two attempts.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// By this name, the user recognizes the session among others.
const SESSION_LABEL: &str = "taskey token";

/// The grant type of devices (RFC 8628).
const DEVICE_GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";

/// A client of an installation.
pub struct AuthClient {
    url: String,
    endpoint: Endpoint,
    dialer: Dialer,
    clock: Clock,
}

/// The outcome of a login with a password.
pub enum Login {
    /// The session.
    Complete(StoredSession),
    /// The account has a second factor. Contains the token of the challenge.
    Challenge(String),
}

/// Why a call has failed.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The server has returned an error.
    #[error("{reason}: {message}")]
    Refused {
        /// The status code.
        code: Code,
        /// The reason for programs.
        reason: String,
        /// The message for people.
        message: String,
    },
    /// There was no valid response, so the call may have taken effect.
    #[error(transparent)]
    NoResponse(anyhow::Error),
}

impl From<Status> for CallError {
    fn from(status: Status) -> Self {
        match status.get_details_error_info() {
            Some(info) if info.domain == ERROR_DOMAIN => {
                Self::Refused { code: status.code(), reason: info.reason, message: status.message().to_owned() }
            }
            _ => Self::NoResponse(anyhow::anyhow!("{:?}: {}", status.code(), status.message())),
        }
    }
}

impl CallError {
    /// Reports whether the same call can succeed later.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Refused { code, .. } => matches!(code, Code::Unavailable | Code::DeadlineExceeded),
            Self::NoResponse(_) => true,
        }
    }

    /// Reports whether the server has returned this reason.
    pub fn is(&self, expected: ErrorReason) -> bool {
        matches!(self, Self::Refused { reason, .. } if reason == reason_name(expected))
    }

    /// Reports whether the user has to prove the password again before the call is repeated.
    pub fn requires_step_up(&self) -> bool {
        self.is(ErrorReason::StepUpRequired)
    }

    /// Reports whether the session of a refresh token does not exist any more.
    pub fn ends_session(&self) -> bool {
        self.is(ErrorReason::RefreshTokenInvalid) || self.is(ErrorReason::RefreshTokenReused)
    }
}

impl AuthClient {
    /// Returns a client, which does not connect yet.
    ///
    /// # Errors
    /// If a file with certificates is unusable, or plaintext is not allowed.
    pub async fn open(installation: &InstallationArgs, clock: &Clock) -> anyhow::Result<Self> {
        let dialer = installation.dialer(clock).await?;
        Ok(Self { url: installation.name(), endpoint: installation.url.clone(), dialer, clock: clock.clone() })
    }

    /// Logs in, or returns the token of a challenge if the account has a second factor. The call is sent once, because each
    /// login creates a session.
    ///
    /// # Errors
    /// If the server refuses the credentials, or does not respond.
    pub async fn log_in(&self, Credentials { email, password }: &Credentials) -> Result<Login, CallError> {
        let start = self.clock.now();
        let request = LoginRequest {
            email: email.clone(),
            password: password.to_string(),
            session_label: SESSION_LABEL.to_owned(),
            ..LoginRequest::default()
        };
        let log_in = async |channel| AuthServiceClient::new(channel).login(request).await;
        let response = self.attempt(log_in).await?;
        match &response.get_ref().challenge {
            Some(challenge) => Ok(Login::Challenge(challenge.token.clone())),
            None => self.session(response, start).map(Login::Complete),
        }
    }

    /// Completes a login with a code of an authenticator app, or with a recovery code. The call is sent once, because a code
    /// is valid once.
    ///
    /// # Errors
    /// If the server refuses the code, or does not respond.
    pub async fn complete_login(&self, challenge_token: String, code: &str) -> Result<StoredSession, CallError> {
        let start = self.clock.now();
        let is_totp = code.chars().all(|character| character.is_ascii_digit() || character == ' ');
        let factor = if is_totp { Factor::TotpCode(code.to_owned()) } else { Factor::RecoveryCode(code.to_owned()) };
        let request = CompleteLoginRequest { challenge_token, factor: Some(factor) };
        let complete = async |channel| AuthServiceClient::new(channel).complete_login(request).await;
        self.session(self.attempt(complete).await?, start)
    }

    /// Returns the codes with which a user permits this device to start a session with these scopes.
    ///
    /// # Errors
    /// If the server returns an error, or does not respond.
    pub async fn authorize_device(&self, scope: &str) -> Result<AuthorizeDeviceResponse, CallError> {
        let authorize = async |channel| {
            let (client_id, scope) = (SESSION_LABEL.to_owned(), scope.to_owned());
            OAuthServiceClient::new(channel).authorize_device(AuthorizeDeviceRequest { client_id, scope }).await
        };
        Ok(self.repeat(authorize).await?.into_inner())
    }

    /// Polls with a device code. The call is sent once, because the code is good for one session.
    ///
    /// # Errors
    /// If the user has not agreed, or the server does not respond.
    pub async fn poll_device(&self, device_code: &str) -> Result<StoredSession, CallError> {
        let start = self.clock.now();
        let request = IssueTokenRequest {
            grant_type: DEVICE_GRANT.to_owned(),
            client_id: SESSION_LABEL.to_owned(),
            device_code: device_code.to_owned(),
            ..IssueTokenRequest::default()
        };
        let poll = async |channel| OAuthServiceClient::new(channel).issue_token(request).await;
        let issued = self.attempt(poll).await?.into_inner();
        let Some(refresh_token) = issued.refresh_token.filter(|_| !issued.access_token.is_empty()) else {
            return Err(no_tokens());
        };
        Ok(StoredSession {
            url: self.url.clone(),
            access_token: Zeroizing::new(issued.access_token),
            access_expire_time: (start + Duration::from_secs(issued.expires_in.into())).as_seconds(),
            refresh_token: Zeroizing::new(refresh_token),
        })
    }

    /// Revokes the session that was stored before a login. If this fails, the session ends when its refresh token expires.
    pub async fn log_out_replaced(&self, replaced: Option<StoredSession>) {
        if let Some(replaced) = replaced {
            _ = self.log_out(&replaced.refresh_token).await;
        }
    }

    /// Exchanges a refresh token. If the response is lost, the same token is sent again.
    ///
    /// # Errors
    /// If the server refuses the token, or does not respond.
    pub async fn refresh(&self, refresh_token: &str) -> Result<StoredSession, CallError> {
        let start = self.clock.now();
        let refresh = async |channel| {
            AuthServiceClient::new(channel).refresh(RefreshRequest { refresh_token: refresh_token.to_owned() }).await
        };
        self.session(self.repeat(refresh).await?, start)
    }

    /// Revokes the session of a refresh token. Succeeds if it was revoked before.
    ///
    /// # Errors
    /// If the server does not respond.
    pub async fn log_out(&self, refresh_token: &str) -> Result<(), CallError> {
        let log_out = async |channel| {
            let refresh_token = refresh_token.to_owned();
            AuthServiceClient::new(channel).logout(LogoutRequest { refresh_token, ..LogoutRequest::default() }).await
        };
        self.repeat(log_out).await.map(|_| ())
    }

    /// Sends a call again while this can help.
    ///
    /// # Errors
    /// If the server returns an error, or does not respond.
    pub async fn repeat<T>(
        &self,
        call: impl AsyncFn(Channel) -> Result<Response<T>, Status>,
    ) -> Result<Response<T>, CallError> {
        let mut attempts = 1;
        loop {
            match self.attempt(&call).await {
                Err(error) if error.is_transient() && attempts < MAX_ATTEMPTS => sleep(RETRY_PAUSE).await,
                outcome => return outcome,
            }
            attempts += 1;
        }
    }

    /// Sends a call over a new connection, because an open one may be broken.
    async fn attempt<T>(
        &self,
        call: impl AsyncFnOnce(Channel) -> Result<Response<T>, Status>,
    ) -> Result<Response<T>, CallError> {
        let respond = async {
            let channel = self.endpoint.connect_with_connector(self.dialer.clone()).await;
            let channel = channel.map_err(|error| CallError::NoResponse(error.into()))?;
            Ok(call(channel).await?)
        };
        timeout(ATTEMPT_LIMIT, respond).await.unwrap_or_else(|_| {
            Err(CallError::NoResponse(anyhow::anyhow!("no response within {} s", ATTEMPT_LIMIT.as_secs())))
        })
    }

    /// Returns the tokens of a response to a call that was sent at `start`. Only the clock of the server can be compared
    /// with the time at which a token expires.
    fn session(&self, response: Response<TokenPair>, start: Timestamp) -> Result<StoredSession, CallError> {
        let date = response.metadata().get("date").and_then(|date| Timestamp::parse_http_date(date.to_str().ok()?));
        let pair = response.into_inner();
        let has_tokens = !pair.access_token.is_empty() && !pair.refresh_token.is_empty();
        let Some(expire_time) = pair.access_expire_time.filter(|_| has_tokens) else {
            return Err(no_tokens());
        };
        // The date is rounded down to a second.
        let server_time = date.map_or(start, |date| date + Duration::from_secs(1));
        Ok(StoredSession {
            url: self.url.clone(),
            access_token: Zeroizing::new(pair.access_token),
            access_expire_time: (start + Timestamp::from(expire_time).since(server_time)).as_seconds(),
            refresh_token: Zeroizing::new(pair.refresh_token),
        })
    }
}

fn no_tokens() -> CallError {
    CallError::NoResponse(anyhow::anyhow!("the response contains no tokens"))
}
