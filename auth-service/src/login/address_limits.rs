//! Rate limits per IP address for actions that are costly or reveal whether an account exists.

use service_kit::{clock::Clock, ops::config::OnOff, rate_limit::RateLimit, status::ApiError};

use crate::{config::RateArgs, error, model::client_info::ClientInfo};

/// An action with a rate limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RateLimitedAction {
    /// A login, or another call that contains the current password.
    Login,
    /// A sign-up.
    SignUp,
    /// A token refresh.
    Refresh,
}

/// The rate limits of each IP address.
#[derive(Debug)]
pub struct AddressLimits {
    is_enforced: bool,
    login: RateLimit,
    sign_up: RateLimit,
    refresh: RateLimit,
    /// Failed authentications of OAuth 2.0 clients, at the rate of logins.
    client_failures: RateLimit,
}

impl AddressLimits {
    /// Creates the limits, with all counters at zero.
    #[must_use]
    pub fn new(args: &RateArgs, clock: &Clock) -> Self {
        let limit = |rate| RateLimit::new(rate, clock.clone());
        Self {
            is_enforced: args.rate_limits == OnOff::On,
            login: limit(args.login_rate),
            sign_up: limit(args.sign_up_rate),
            refresh: limit(args.refresh_rate),
            client_failures: limit(args.login_rate),
        }
    }

    /// Checks that a client is below its rate limit and counts the action. Clients without an address share a limit.
    ///
    /// # Errors
    /// RATE_LIMITED if the limit is reached.
    pub fn check(&self, action: RateLimitedAction, client: &ClientInfo) -> Result<(), ApiError> {
        let (name, limit) = match action {
            RateLimitedAction::Login => ("login_rate", &self.login),
            RateLimitedAction::SignUp => ("sign_up_rate", &self.sign_up),
            RateLimitedAction::Refresh => ("refresh_rate", &self.refresh),
        };
        if !self.is_enforced {
            return Ok(());
        }
        limit.check(&client.rate_limit_key()).map_err(|wait| error::too_many_calls(name, wait))
    }

    /// Checks that a client is below the limit of failed authentications of OAuth 2.0 clients.
    ///
    /// # Errors
    /// RATE_LIMITED if the limit is reached.
    pub fn check_client_failures(&self, client: &ClientInfo) -> Result<(), ApiError> {
        if !self.is_enforced {
            return Ok(());
        }
        let checked = self.client_failures.check_charges(&client.rate_limit_key());
        checked.map_err(|wait| error::too_many_calls("client_failures", wait))
    }

    /// Counts a failed authentication of an OAuth 2.0 client.
    pub fn count_client_failure(&self, client: &ClientInfo) {
        self.client_failures.charge(&client.rate_limit_key(), 1);
    }
}
