//! Where a call comes from.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use service_kit::{
    clock::Clock,
    credential::{SERVICE_TOKEN, service_token},
    db::{Db, Error},
    network::ProxyArgs,
    secret_file::Key,
};
use tonic::Request;

use crate::{
    model::{service_token::Hash, text},
    store::service_tokens,
};

/// What a proxy says of its caller.
const FORWARDED_FOR: &str = "x-forwarded-for";
const FORWARDED_USER_AGENT: &str = "x-forwarded-user-agent";

/// For so long a service token is believed without asking the database again.
const BELIEVED: Duration = Duration::from_secs(2);

/// Where a call comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientInfo {
    /// The address of the client, if it can be told.
    pub address: Option<IpAddr>,
    /// What the client says of itself.
    pub user_agent: String,
}

impl ClientInfo {
    /// The address as it is stored; empty if it cannot be told.
    #[must_use]
    pub fn ip_address(&self) -> String {
        self.address.map(|address| address.to_string()).unwrap_or_default()
    }
}

/// Who is believed when they say for whom they call: trusted proxies, and services that show their token.
#[derive(Debug)]
pub struct ClientInfoResolver {
    proxies: ProxyArgs,
    /// Of the gateway in this process.
    own: Option<Hash>,
    /// Tokens that were good, and when: never more than have been issued.
    good: Mutex<HashMap<Hash, Duration>>,
}

impl ClientInfoResolver {
    /// With these proxies, and the token of this key where the gateway runs in the same process.
    #[must_use]
    pub fn new(proxies: ProxyArgs, gateway: Option<&Key>) -> Self {
        let own = gateway.and_then(|key| Hash::of(&service_token(key)));
        Self { proxies, own, good: Mutex::default() }
    }

    /// Where a call comes from: the peer of the connection, or for whom it says to call, if it is believed. Anybody else
    /// who names an address is not.
    ///
    /// # Errors
    /// If the database cannot say whether a service token is good.
    pub async fn of<T: Sync>(&self, request: &Request<T>, db: &Db, clock: &Clock) -> Result<ClientInfo, Error> {
        let header = |name| request.metadata().get(name).and_then(|value| value.to_str().ok());
        let user_agent = || header("user-agent").unwrap_or_default();
        let Some(peer) = request.remote_addr().map(|peer| peer.ip().to_canonical()) else {
            return Ok(ClientInfo { address: None, user_agent: text::user_agent(user_agent()) });
        };
        let token = header(SERVICE_TOKEN).and_then(Hash::of);
        let is_service = match token {
            Some(token) => self.is_good(token, db, clock).await?,
            None => false,
        };
        let user_agent = header(FORWARDED_USER_AGENT).filter(|_| is_service).unwrap_or_else(user_agent);
        let forwarded_for = request.metadata().get_all(FORWARDED_FOR).into_iter();
        let forwarded_for: Vec<_> = forwarded_for.filter_map(|value| value.to_str().ok()).collect();
        let address = if is_service {
            forwarded_for.last().and_then(|address| address.parse().ok()).unwrap_or(peer)
        } else {
            self.proxies.client(peer, forwarded_for.into_iter())
        };
        Ok(ClientInfo { address: Some(address.to_canonical()), user_agent: text::user_agent(user_agent) })
    }

    async fn is_good(&self, token: Hash, db: &Db, clock: &Clock) -> Result<bool, Error> {
        let now = clock.uptime();
        let lately = |at: &Duration| now.saturating_sub(*at) < BELIEVED;
        if self.own.as_ref() == Some(&token) || self.good().get(&token).is_some_and(lately) {
            return Ok(true);
        }
        let good = service_tokens::name(db, &token).await?.is_some();
        if good {
            self.good().insert(token, now);
        } else {
            self.good().remove(&token);
        }
        Ok(good)
    }

    // Held for a lookup, never across an await.
    fn good(&self) -> std::sync::MutexGuard<'_, HashMap<Hash, Duration>> {
        self.good.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
