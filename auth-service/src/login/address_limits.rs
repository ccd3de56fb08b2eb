//! Rate limits of addresses, for actions that are costly or reveal whether an account exists.

use std::net::Ipv4Addr;

use clap::Args;
use service_kit::{
    clock::Clock,
    network::rate_limit_key,
    ops::config::OnOff,
    rate_limit::{Rate, RateLimit},
    status::ApiError,
};

use crate::{error, model::client_info::ClientInfo};

/// How often one address may do what.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Rate limits")]
pub struct RateArgs {
    /// Whether to enforce the rate limits below and the delays after wrong passwords. The queue of password hashes is
    /// always limited
    #[arg(long, env = "TASKEY_RATE_LIMITS", default_value = "on", value_name = "SWITCH")]
    pub rate_limits: OnOff,

    /// Logins per IP address or IPv6 /64 network: 10+6/m is a burst of 10, then 6 per minute (s, m or h)
    #[arg(long, env = "TASKEY_LOGIN_RATE", default_value = "10+6/m", value_name = "RATE")]
    pub login_rate: Rate,

    /// Sign-ups per IP address or IPv6 /64 network
    #[arg(long, env = "TASKEY_SIGN_UP_RATE", default_value = "10+3/h", value_name = "RATE")]
    pub sign_up_rate: Rate,

    /// Refreshes per IP address or IPv6 /64 network; many users may share an address
    #[arg(long, env = "TASKEY_REFRESH_RATE", default_value = "120+120/m", value_name = "RATE")]
    pub refresh_rate: Rate,
}

/// What is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RateLimitedAction {
    /// A login.
    Login,
    /// A sign-up.
    SignUp,
    /// A refresh.
    Refresh,
}

/// The rate limits of each address.
#[derive(Debug)]
pub struct AddressLimits {
    is_enforced: bool,
    login: RateLimit,
    sign_up: RateLimit,
    refresh: RateLimit,
}

impl AddressLimits {
    /// Limits that nobody has come near to.
    #[must_use]
    pub fn new(args: &RateArgs, clock: &Clock) -> Self {
        let limit = |rate| RateLimit::new(rate, clock.clone());
        Self {
            is_enforced: args.rate_limits == OnOff::On,
            login: limit(args.login_rate),
            sign_up: limit(args.sign_up_rate),
            refresh: limit(args.refresh_rate),
        }
    }

    /// Counts an action of a client, unless it is one too many. Clients without an address share one.
    ///
    /// # Errors
    /// RATE_LIMITED.
    pub fn check(&self, action: RateLimitedAction, client: &ClientInfo) -> Result<(), ApiError> {
        let limit = match action {
            RateLimitedAction::Login => &self.login,
            RateLimitedAction::SignUp => &self.sign_up,
            RateLimitedAction::Refresh => &self.refresh,
        };
        if !self.is_enforced {
            return Ok(());
        }
        limit
            .check(&rate_limit_key(client.address.unwrap_or(Ipv4Addr::UNSPECIFIED.into())))
            .map_err(error::too_many_calls)
    }
}
