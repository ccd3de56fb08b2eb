//! Who calls? The interceptor in front of every protected service: signature, claims and one look into memory, with
//! no I/O.

use std::{sync::Arc, time::Duration};

use taskey_proto::errors::v1::ErrorReason;
use tokio::time::timeout;
use tonic::{Code, Request, Status, metadata::MetadataMap, service::Interceptor};
use uuid::Uuid;

use crate::{
    clock::Clock,
    config::TokenArgs,
    key_source::KeySource,
    revocation::{Freshness, RevocationView, Verdict},
    status::Refusal,
    token::{self, Grant, Unacceptable},
};

/// The role of a service that verifies tokens; the feed of revocations is open to it.
pub const ROLE_VERIFIER: &str = "verifier";

/// How often it is looked whether a token has expired that something long-lived hangs on.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Who calls. There is no way to make one but by a token that was verified.
#[derive(Clone, Debug)]
pub struct Caller(Grant);

impl Caller {
    /// The caller that the interceptor has found.
    ///
    /// # Errors
    /// INTERNAL if the service stands behind no interceptor.
    pub fn of<T>(request: &Request<T>) -> Result<&Self, Refusal> {
        request.extensions().get().ok_or_else(|| Refusal::internal("a protected service stands behind no interceptor"))
    }

    /// The user.
    #[must_use]
    pub fn user_id(&self) -> Uuid {
        self.0.user_id
    }

    /// The session that the user calls from.
    #[must_use]
    pub fn session_id(&self) -> Uuid {
        self.0.session_id
    }

    /// Asks for a role.
    ///
    /// # Errors
    /// PERMISSION_DENIED if the caller does not have it.
    pub fn require_role(&self, role: &str) -> Result<(), Refusal> {
        if self.0.roles.iter().any(|own| own == role) {
            return Ok(());
        }
        let message = format!("this needs the role {role}");
        Err(Refusal::new(Code::PermissionDenied, ErrorReason::PermissionDenied, message))
    }
}

/// Tells callers by their access tokens. As a tonic [`Interceptor`] it stands in front of a whole service.
#[derive(Clone, Debug)]
pub struct Authenticator {
    keys: Arc<KeySource>,
    names: TokenArgs,
    revocations: Arc<RevocationView>,
    clock: Clock,
}

impl Authenticator {
    /// Accepts tokens that are signed with `keys`, bear `names` and whose session `revocations` does not hold.
    #[must_use]
    pub fn new(keys: Arc<KeySource>, names: TokenArgs, revocations: Arc<RevocationView>, clock: Clock) -> Self {
        Self { keys, names, revocations, clock }
    }

    /// The caller of a call with these headers.
    ///
    /// # Errors
    /// UNAUTHENTICATED with the reason, or UNAVAILABLE / VERIFIER_NOT_READY if nobody can say at the moment whether
    /// the session has been revoked: an answer of UNAUTHENTICATED would make clients throw good tokens away.
    pub fn authenticate(&self, headers: &MetadataMap) -> Result<Caller, Refusal> {
        self.grant(bearer(headers)?).map(Caller)
    }

    /// What a token grants at this moment.
    ///
    /// # Errors
    /// As [`Self::authenticate`].
    pub fn grant(&self, token: &str) -> Result<Grant, Refusal> {
        let freshness = self.revocations.freshness();
        let keys = self.keys.current().filter(|_| freshness.serves()).ok_or_else(not_ready)?;
        let grant = token::verify(&keys, &self.names, token, self.clock.now()).map_err(|fault| match fault {
            // New keys come the same way as revocations, and may have been missed like them.
            Unacceptable::KeyUnknown if freshness != Freshness::Fresh => not_ready(),
            fault => fault.into(),
        })?;
        self.check_standing(&grant)?;
        Ok(grant)
    }

    /// Refuses what was granted once and is no longer good.
    fn check_standing(&self, grant: &Grant) -> Result<(), Refusal> {
        if grant.has_expired(self.clock.now()) {
            return Err(Unacceptable::Expired.into());
        }
        match self.revocations.check(grant) {
            Verdict::Live => Ok(()),
            Verdict::Outdated => Err(Unacceptable::Expired.into()),
            Verdict::Revoked => Err(Refusal::new(
                Code::Unauthenticated,
                ErrorReason::TokenRevoked,
                "the session of the access token has ended",
            )),
            Verdict::Unknown => Err(not_ready()),
        }
    }

    /// Waits until the token of a caller is no longer good, and says why: what a caller has opened ends with it.
    pub async fn ended(&self, caller: &Caller) -> Refusal {
        let mut heard = self.revocations.heard();
        loop {
            if let Err(refusal) = self.check_standing(&caller.0) {
                return refusal;
            }
            // Whether something was heard or time has passed, the next step is the same.
            _ = timeout(LOOK_EVERY, heard.changed()).await;
        }
    }

    /// The session that the access token of a call belongs to, ended or not.
    ///
    /// # Errors
    /// UNAUTHENTICATED / TOKEN_MISSING or TOKEN_INVALID, or UNAVAILABLE / VERIFIER_NOT_READY while there are no keys.
    pub fn session(&self, headers: &MetadataMap) -> Result<Uuid, Refusal> {
        let keys = self.keys.current().ok_or_else(not_ready)?;
        Ok(token::verify_ended(&keys, &self.names, bearer(headers)?, self.clock.now())?.session_id)
    }
}

fn not_ready() -> Refusal {
    let message = "revoked tokens cannot be told at the moment, so none is accepted";
    Refusal::new(Code::Unavailable, ErrorReason::VerifierNotReady, message).retry_after(Duration::from_secs(1))
}

impl Interceptor for Authenticator {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let caller = self.authenticate(request.metadata())?;
        request.extensions_mut().insert(caller);
        Ok(request)
    }
}

/// The token of the one `authorization` header (RFC 6750, section 2.1). The name of the scheme is case-insensitive
/// (RFC 9110, section 11.1).
///
/// # Errors
/// UNAUTHENTICATED / TOKEN_MISSING if there is none, TOKEN_INVALID if there are several, or it is something else.
pub fn bearer(headers: &MetadataMap) -> Result<&str, Refusal> {
    let mut values = headers.get_all("authorization").iter();
    let Some(value) = values.next() else {
        return Err(Refusal::new(
            Code::Unauthenticated,
            ErrorReason::TokenMissing,
            "this needs an access token: authorization: Bearer <token>",
        ));
    };
    let credentials = value.to_str().ok().filter(|_| values.next().is_none());
    match credentials.and_then(|credentials| credentials.split_once(' ')) {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => Ok(token),
        _ => Err(Unacceptable::Invalid.into()),
    }
}
