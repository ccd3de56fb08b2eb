//! Where a call comes from.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use service_kit::secret_file;
use tonic::Request;

use crate::model::text;

/// What the gateway says of its caller, and the secret that lets it.
const FORWARDED_FOR: &str = "x-forwarded-for";
const FORWARDED_USER_AGENT: &str = "x-forwarded-user-agent";
const GATEWAY_SECRET: &str = "x-taskey-gateway";

/// Where a call comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The address of the client; empty if it cannot be told.
    pub ip_address: String,
    /// What the client says of itself.
    pub user_agent: String,
}

impl Origin {
    /// The origin of a call: the peer of the connection, or whom the gateway names if it has shown its secret.
    /// Anybody else who names an address is not believed.
    #[must_use]
    pub fn of<T>(request: &Request<T>, gateway_secret: Option<&secret_file::Key>) -> Self {
        let header = |name| request.metadata().get(name).and_then(|value| value.to_str().ok());
        let peer = request.remote_addr().map(|address| address.ip().to_canonical());
        if !shows_secret(request, gateway_secret) {
            return Self {
                ip_address: peer.map(|ip| ip.to_string()).unwrap_or_default(),
                user_agent: text::user_agent(header("user-agent").unwrap_or_default()),
            };
        }
        let named = header(FORWARDED_FOR).and_then(|address| address.parse().ok());
        Self {
            ip_address: named.or(peer).map(|ip| ip.to_canonical().to_string()).unwrap_or_default(),
            user_agent: text::user_agent(header(FORWARDED_USER_AGENT).unwrap_or_default()),
        }
    }
}

/// Compares in constant time.
fn shows_secret<T>(request: &Request<T>, gateway_secret: Option<&secret_file::Key>) -> bool {
    let shown = request.metadata().get(GATEWAY_SECRET).map(tonic::metadata::MetadataValue::as_bytes);
    match (shown, gateway_secret) {
        (Some(shown), Some(secret)) => verify_slices_are_equal(shown, secret.encode().as_bytes()).is_ok(),
        _ => false,
    }
}
