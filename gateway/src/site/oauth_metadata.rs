//! The metadata of the authorization server (RFC 8414): the endpoints of OAuth 2.0, and what they support.

use http::{Extensions, HeaderMap, Response, StatusCode, Uri};
use serde_json::json;
use service_kit::auth::scope::Scope;
use tonic::body::Body;

use crate::{http::response, session::cookie::CookieSettings};

/// The path of the metadata.
pub const PATH: &str = "/.well-known/oauth-authorization-server";

/// Returns the metadata. The issuer is the public URL, or else the address to which the request was sent.
#[must_use]
pub fn metadata(settings: &CookieSettings, uri: &Uri, headers: &HeaderMap, extensions: &Extensions) -> Response<Body> {
    let issuer = settings.gateway_url(uri, headers, extensions);
    let clients = ["client_secret_basic", "client_secret_post"];
    let document = json!({
        "issuer": issuer,
        "token_endpoint": format!("{issuer}/v1/oauth2/token"),
        "token_endpoint_auth_methods_supported": clients,
        "device_authorization_endpoint": format!("{issuer}/v1/oauth2/device_authorization"),
        "revocation_endpoint": format!("{issuer}/v1/oauth2/revoke"),
        "revocation_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post", "none"],
        "introspection_endpoint": format!("{issuer}/v1/auth/introspect"),
        "jwks_uri": format!("{issuer}/.well-known/jwks.json"),
        "grant_types_supported": [
            "client_credentials",
            "refresh_token",
            "urn:ietf:params:oauth:grant-type:token-exchange",
            "urn:ietf:params:oauth:grant-type:device_code",
        ],
        // Required, and empty: there is no authorization endpoint.
        "response_types_supported": [],
        "scopes_supported": Scope::ALL.map(Scope::name),
        "service_documentation": format!("{issuer}/docs"),
    });
    response::json(StatusCode::OK, document.to_string())
}
