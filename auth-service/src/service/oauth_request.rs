//! Parses the requests of `OAuthService`.

use service_kit::{auth::personal_access_token, status::ApiError};
use taskey_proto::auth::v1 as pb;
use zeroize::Zeroizing;

use crate::{
    error,
    oauth::{
        audiences::Audiences,
        client::ClientCredentials,
        device::DevicePoll,
        exchange::{ACCESS_TOKEN_TYPE, ExchangeRequest},
    },
};

/// The grant type of token exchanges (RFC 8693, section 2.1).
const TOKEN_EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";

/// The other name of the type of access tokens, which are JWTs.
const JWT_TYPE: &str = "urn:ietf:params:oauth:token-type:jwt";

/// An upper bound on the length of tokens.
const MAX_TOKEN_BYTES: usize = 4096;

/// Maximum length of the name of a public client.
const MAX_CLIENT_ID_BYTES: usize = 100;

/// A request for a token.
pub enum Grant {
    /// A service account calls for itself.
    Client { client: ClientCredentials, scope: String },
    /// A device polls.
    Device(DevicePoll),
    /// A user refreshes a session.
    Refresh(String),
    /// A service account calls on behalf of a user.
    Exchange { client: ClientCredentials, request: ExchangeRequest },
}

impl Grant {
    /// Parses the request.
    ///
    /// # Errors
    /// GRANT_TYPE_UNSUPPORTED, SCOPE_INVALID, or VALIDATION_FAILED with the invalid field.
    pub fn parse(request: pb::IssueTokenRequest, audiences: &Audiences) -> Result<Self, ApiError> {
        let is_exchange = request.grant_type == TOKEN_EXCHANGE;
        let audience = audiences.requested(&request.audience, &request.resource, is_exchange)?.to_owned();
        let client = ClientCredentials { id: request.client_id, secret: Zeroizing::new(request.client_secret) };
        match &request.grant_type[..] {
            "" => Err(error::request_invalid("grant_type", "must be set")),
            "client_credentials" => Ok(Self::Client { client, scope: request.scope }),
            "refresh_token" if !request.scope.is_empty() => {
                Err(error::scope_invalid("`scope` is not accepted with this grant type"))
            }
            "refresh_token" => Ok(Self::Refresh(request.refresh_token)),
            "urn:ietf:params:oauth:grant-type:device_code" => {
                let client_id = parse_client_id(client.id)?;
                if request.device_code.is_empty() || request.device_code.len() > MAX_TOKEN_BYTES {
                    return Err(error::request_invalid("device_code", "must be 1 to 4096 bytes long"));
                }
                Ok(Self::Device(DevicePoll { client_id, code: Zeroizing::new(request.device_code) }))
            }
            TOKEN_EXCHANGE => {
                let is_type = |text: &str| [ACCESS_TOKEN_TYPE, JWT_TYPE].contains(&text);
                let field = if !is_type(&request.subject_token_type) {
                    ("subject_token_type", "must be urn:ietf:params:oauth:token-type:access_token")
                } else if !request.requested_token_type.is_empty() && !is_type(&request.requested_token_type) {
                    ("requested_token_type", "must be urn:ietf:params:oauth:token-type:access_token")
                } else if !request.actor_token.is_empty() || !request.actor_token_type.is_empty() {
                    ("actor_token", "is not accepted; the actor is the client")
                } else if request.subject_token.is_empty() {
                    ("subject_token", "must be set")
                } else if request.subject_token.starts_with(personal_access_token::PREFIX) {
                    ("subject_token", "must not be a personal access token")
                } else {
                    let subject_token = Zeroizing::new(request.subject_token);
                    let request = ExchangeRequest { subject_token, scope: request.scope, audience };
                    return Ok(Self::Exchange { client, request });
                };
                Err(error::request_invalid(field.0, field.1))
            }
            _ => Err(error::grant_type_unsupported()),
        }
    }
}

/// Parses the name of a public client, which becomes the label of a session: VSCHARs of RFC 6749, appendix A.1.
///
/// # Errors
/// VALIDATION_FAILED if it is empty, too long, or has other characters.
pub fn parse_client_id(id: String) -> Result<String, ApiError> {
    let is_valid =
        (1..=MAX_CLIENT_ID_BYTES).contains(&id.len()) && id.bytes().all(|byte| (0x20..=0x7e).contains(&byte));
    if !is_valid {
        return Err(error::request_invalid("client_id", "must be 1 to 100 characters of printable ASCII"));
    }
    Ok(id)
}

/// A request to revoke a token.
pub struct Revocation {
    pub(super) token: Zeroizing<String>,
    /// The client, whose id and secret may be empty.
    pub(super) client: ClientCredentials,
}

impl Revocation {
    /// Parses the request.
    ///
    /// # Errors
    /// VALIDATION_FAILED with the invalid field.
    pub fn parse(request: pb::RevokeTokenRequest) -> Result<Self, ApiError> {
        let token = Zeroizing::new(request.token);
        let client = ClientCredentials { id: request.client_id, secret: Zeroizing::new(request.client_secret) };
        if token.is_empty() || token.len() > MAX_TOKEN_BYTES {
            return Err(error::request_invalid("token", "must be 1 to 4096 bytes long"));
        }
        if token.starts_with(personal_access_token::PREFIX) {
            return Err(error::token_not_revocable("a personal access token is deleted by its owner"));
        }
        Ok(Self { token, client })
    }
}
