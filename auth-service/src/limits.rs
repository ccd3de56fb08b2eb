//! How often one address may do what is costly, or tells whether an account exists.

use std::{net::Ipv4Addr, time::Duration};

use clap::Args;
use service_kit::{
    clock::Clock,
    config::Switch,
    network::counted,
    rate_limit::{Rate, RateLimit},
};

use crate::origin::Origin;

/// How often one address may do what.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Rate limits")]
pub struct RateArgs {
    /// Whether rate limits count: those below, and how often wrong passwords of an account may be tried. The bound on
    /// waiting password hashes stays
    #[arg(long, env = "TASKEY_RATE_LIMITS", default_value = "on", value_name = "SWITCH")]
    pub rate_limits: Switch,

    /// How often one address, or one network of 64 bits in IPv6, may log in: 10+6/m is ten times at once, then six times
    /// a minute (s, m or h)
    #[arg(long, env = "TASKEY_LOGIN_RATE", default_value = "10+6/m", value_name = "RATE")]
    pub login_rate: Rate,

    /// How often it may sign up
    #[arg(long, env = "TASKEY_SIGN_UP_RATE", default_value = "10+3/h", value_name = "RATE")]
    pub sign_up_rate: Rate,

    /// How often it may refresh its tokens; many people may share an address
    #[arg(long, env = "TASKEY_REFRESH_RATE", default_value = "120+120/m", value_name = "RATE")]
    pub refresh_rate: Rate,
}

/// What is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limited {
    /// A login.
    Login,
    /// A sign-up.
    SignUp,
    /// A refresh.
    Refresh,
}

/// What each address has done lately.
#[derive(Debug)]
pub struct AddressLimits {
    login: RateLimit,
    sign_up: RateLimit,
    refresh: RateLimit,
}

impl AddressLimits {
    /// Limits that nobody has come near to.
    #[must_use]
    pub fn new(args: &RateArgs, clock: &Clock) -> Self {
        let limit = |rate| RateLimit::new(rate, clock.clone());
        Self { login: limit(args.login_rate), sign_up: limit(args.sign_up_rate), refresh: limit(args.refresh_rate) }
    }

    /// Counts one more. Those whose address cannot be told share one.
    ///
    /// # Errors
    /// How long to wait, if it was one too many.
    pub fn check(&self, what: Limited, origin: &Origin) -> Result<(), Duration> {
        let limit = match what {
            Limited::Login => &self.login,
            Limited::SignUp => &self.sign_up,
            Limited::Refresh => &self.refresh,
        };
        limit.check(&counted(origin.address.unwrap_or(Ipv4Addr::UNSPECIFIED.into())))
    }
}
