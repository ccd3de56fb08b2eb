//! Who calls? The interceptor in front of every protected service: signature, claims and one look into memory, with
//! no I/O.

use std::{fmt, sync::Arc};

use taskey_proto::errors::v1::ErrorReason;
use tonic::{
    Code, Request, Status,
    metadata::{MetadataMap, MetadataValue},
    service::Interceptor,
};
use uuid::Uuid;

use crate::{
    clock::Clock,
    config::TokenArgs,
    key_file::KeyFile,
    revocation::{RevocationView, Verdict},
    status::Refusal,
    token::{self, Grant, Unacceptable},
};

/// The role of a service that verifies tokens; the feed of revocations is open to it.
pub const ROLE_VERIFIER: &str = "verifier";

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
#[derive(Clone)]
pub struct Authenticator {
    keys: Arc<KeyFile>,
    names: TokenArgs,
    revocations: Arc<RevocationView>,
    clock: Clock,
}

impl Authenticator {
    /// Accepts tokens that are signed with `keys`, bear `names` and whose session `revocations` does not hold.
    #[must_use]
    pub fn new(keys: Arc<KeyFile>, names: TokenArgs, revocations: Arc<RevocationView>, clock: Clock) -> Self {
        Self { keys, names, revocations, clock }
    }

    /// The caller of a call with these headers.
    ///
    /// # Errors
    /// UNAUTHENTICATED with the reason, or UNAVAILABLE / VERIFIER_NOT_READY if nobody can say at the moment whether
    /// the session has been revoked: an answer of UNAUTHENTICATED would make clients throw good tokens away.
    pub fn authenticate(&self, headers: &MetadataMap) -> Result<Caller, Refusal> {
        let token = bearer(headers)?;
        let grant = token::verify(&self.keys.current(), &self.names, token, self.clock.now())?;
        match self.revocations.check(grant.session_id) {
            Verdict::Live => Ok(Caller(grant)),
            Verdict::Revoked => Err(Refusal::new(
                Code::Unauthenticated,
                ErrorReason::TokenRevoked,
                "the session of the access token has ended",
            )),
            Verdict::Unknown { retry_after } => Err(Refusal::new(
                Code::Unavailable,
                ErrorReason::VerifierNotReady,
                "revoked tokens cannot be told at the moment, so none is accepted",
            )
            .retry_after(retry_after)),
        }
    }

    /// The session that the access token of a call belongs to, ended or not.
    ///
    /// # Errors
    /// UNAUTHENTICATED / TOKEN_MISSING or TOKEN_INVALID.
    pub fn session(&self, headers: &MetadataMap) -> Result<Uuid, Refusal> {
        let grant = token::verify_ended(&self.keys.current(), &self.names, bearer(headers)?, self.clock.now())?;
        Ok(grant.session_id)
    }

    /// A bearer token with which a process that holds the shared key proves that it may verify tokens.
    ///
    /// # Errors
    /// If the key cannot sign.
    pub fn verifier_credential(&self) -> anyhow::Result<MetadataValue<tonic::metadata::Ascii>> {
        let now = self.clock.now();
        let grant = Grant {
            user_id: self.clock.new_id(),
            session_id: self.clock.new_id(),
            roles: vec![ROLE_VERIFIER.to_owned()],
            expires_at: now + token::MAX_LIFE,
        };
        let token = token::sign(&self.keys.current(), &self.names, self.clock.new_id(), &grant, now)?;
        let mut credential: MetadataValue<_> = format!("Bearer {token}").parse()?;
        credential.set_sensitive(true);
        Ok(credential)
    }
}

impl Interceptor for Authenticator {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let caller = self.authenticate(request.metadata())?;
        request.extensions_mut().insert(caller);
        Ok(request)
    }
}

impl fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authenticator").field("keys", &self.keys).field("names", &self.names).finish_non_exhaustive()
    }
}

/// The token of the one `authorization` header (RFC 6750, section 2.1). The name of the scheme is case-insensitive
/// (RFC 9110, section 11.1).
fn bearer(headers: &MetadataMap) -> Result<&str, Refusal> {
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
