//! Parses the requests of `PersonalAccessTokenService`, and of the exchange of tokens.

use std::{net::IpAddr, sync::LazyLock};

use ipnet::IpNet;
use service_kit::{
    auth::scope::{Scope, Scopes},
    clock::Timestamp,
    id,
    status::{ApiError, Violations},
    update_mask::{ReadOnlyFields, RepeatedFields},
};
use taskey_proto::auth::v1::{self as pb};
use tonic::metadata::MetadataMap;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::{
    caller::ActiveCaller,
    model::{
        personal_access_token::{DEFAULT_LIFETIME, LastUse, MAX_LIFETIME, MAX_NETWORKS, StoredToken},
        role::{Role, Roles},
        text,
    },
};

/// Parses a new token of the caller.
///
/// # Errors
/// VALIDATION_FAILED with the invalid fields.
pub fn new_token(
    request: pb::CreatePersonalAccessTokenRequest,
    caller: &ActiveCaller,
    now: Timestamp,
    (id, session_id): (Uuid, Uuid),
) -> Result<StoredToken, ApiError> {
    let pb::CreatePersonalAccessTokenRequest { label, scopes, expire_time, networks } = request;
    let mut violations = Violations::default();
    let label = violations.check("label", parse_label(label));
    let scopes = parse_scopes(&scopes, caller, &mut violations);
    let expires_at = violations.check("expire_time", parse_expiry(expire_time.map(Timestamp::from), now));
    let networks = parse_networks("networks", &networks, &mut violations);
    let last_use = LastUse { day: None, address: String::new() };
    let parsed = label.zip(expires_at).map(|(label, expires_at)| StoredToken {
        id,
        session_id,
        label,
        scopes,
        networks,
        created_at: now,
        expires_at,
        last_use,
    });
    violations.finish(parsed)
}

/// Parses the name of a credential, which must not be empty.
///
/// # Errors
/// If it is empty, too long, or has control characters.
pub fn parse_label(label: String) -> Result<String, &'static str> {
    if label.is_empty() {
        return Err("must be 1 to 100 characters long");
    }
    text::parse_name(label)
}

/// Parses the scopes of a token, which must not exceed those of the caller.
fn parse_scopes(names: &[String], caller: &ActiveCaller, violations: &mut Violations) -> Scopes {
    let roles = Roles::from_stored(&caller.user.roles);
    let mut parsed = Vec::new();
    if names.is_empty() {
        violations.add("scopes", "must contain at least one scope");
    }
    if names.len() > Scope::ALL.len() {
        violations.add("scopes", "must not contain more scopes than exist");
        return Scopes::default();
    }
    for (index, name) in names.iter().enumerate() {
        let path = format!("scopes[{index}]");
        let Some(scope) = violations.check(&path, name.parse::<Scope>()) else { continue };
        let required_role = match scope {
            Scope::AdminRead | Scope::AdminWrite => Some(Role::Admin),
            Scope::TokensVerify => Some(Role::Verifier),
            _ => None,
        };
        if parsed.contains(&scope) {
            violations.add(path, "is duplicated");
        } else if scope == Scope::ClientsForward {
            violations.add(path, "is only for service tokens");
        } else if let Some(role) = required_role.filter(|role| !roles.contains(*role)) {
            violations.add(path, format!("requires the role `{role}`"));
        } else if caller.scopes.is_some_and(|granted| !granted.contains(scope)) {
            violations.add(path, "is not a scope of the access token of this call");
        }
        parsed.push(scope);
    }
    parsed.into_iter().collect()
}

fn parse_expiry(requested: Option<Timestamp>, now: Timestamp) -> Result<Timestamp, &'static str> {
    match requested {
        None => Ok(now + DEFAULT_LIFETIME),
        Some(at) if at <= now => Err("must be in the future"),
        Some(at) if at > now + MAX_LIFETIME => Err("must be at most 366 days from now"),
        Some(at) => Ok(at),
    }
}

/// Parses networks. An address is a network of one address.
fn parse_networks(path: &str, texts: &[String], violations: &mut Violations) -> Vec<IpNet> {
    if texts.len() > MAX_NETWORKS {
        violations.add(path, format!("must contain at most {MAX_NETWORKS} networks"));
        return Vec::new();
    }
    let mut networks = Vec::new();
    for (index, text) in texts.iter().enumerate() {
        let path = format!("{path}[{index}]");
        let address = text.parse().map(|address: IpAddr| IpNet::from(address.to_canonical()));
        let parsed = text.parse::<IpNet>().map(|network| network.trunc()).or(address);
        let message = "must be an IP address, or a network such as 192.0.2.0/24";
        let Some(network) = violations.check(&path, parsed.map_err(|_| message)) else { continue };
        if networks.contains(&network) {
            violations.add(path, "is duplicated");
        }
        networks.push(network);
    }
    networks
}

/// The new values of a token. `None` if they do not change.
#[derive(Debug)]
pub struct TokenUpdate {
    pub(super) id: Uuid,
    pub(super) label: Option<String>,
    pub(super) networks: Option<Vec<IpNet>>,
    /// The fields that must repeat the current values.
    pub(super) repeated: RepeatedFields,
}

impl TokenUpdate {
    /// Parses the request.
    ///
    /// # Errors
    /// VALIDATION_FAILED with the invalid fields.
    pub fn parse(metadata: &MetadataMap, request: pb::UpdatePersonalAccessTokenRequest) -> Result<Self, ApiError> {
        static READ_ONLY: LazyLock<ReadOnlyFields> =
            LazyLock::new(|| ReadOnlyFields::of("taskey.auth.v1.PersonalAccessToken", "personal_access_token"));
        let mut violations = Violations::default();
        let Some(token) = request.personal_access_token else {
            violations.add("personal_access_token", "must be set");
            return violations.finish(None);
        };
        let mut mask = request.update_mask.unwrap_or_default();
        let repeated = READ_ONLY.split_off(metadata, Some(&mut mask), Some(&token));
        let is_known = |path: &str| ["label", "networks", "*"].contains(&path);
        if let Some(path) = mask.paths.iter().find(|path| !is_known(path)) {
            // Truncated to keep the message short. No name of a field is longer.
            violations.add("update_mask", cannot_be_changed(&path.chars().take(50).collect::<String>()));
        }
        let is_in_mask = |name: &str| mask.paths.iter().any(|path| path == name);
        let is_updated =
            |name: &str, is_set: bool| is_in_mask(name) || is_in_mask("*") || (mask.paths.is_empty() && is_set);
        let id = violations.check("personal_access_token.id", id::parse(&token.id).ok_or("must be a UUID"));
        let label = is_updated("label", !token.label.is_empty())
            .then(|| violations.check("personal_access_token.label", parse_label(token.label)))
            .flatten();
        let networks = is_updated("networks", !token.networks.is_empty())
            .then(|| parse_networks("personal_access_token.networks", &token.networks, &mut violations));
        violations.finish(id.map(|id| Self { id, label, networks, repeated }))
    }
}

/// Returns the description of the violation for a path of a mask.
fn cannot_be_changed(path: &str) -> String {
    format!("{path:?} cannot be changed; the mask can contain label, networks or *")
}

/// Parses a token to exchange, and the address of the client.
///
/// # Errors
/// VALIDATION_FAILED with the invalid fields.
pub fn exchange(
    request: pb::ExchangePersonalAccessTokenRequest,
) -> Result<(Zeroizing<String>, Option<IpAddr>), ApiError> {
    let mut violations = Violations::default();
    let token = Zeroizing::new(request.token);
    if token.is_empty() {
        violations.add("token", "must not be empty");
    }
    let address = match &request.client_address[..] {
        "" => Some(None),
        text => violations.check("client_address", text.parse().map_err(|_| "must be an IP address")).map(Some),
    };
    violations.finish(address.map(|address| (token, address)))
}
