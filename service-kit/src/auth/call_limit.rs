//! The rate limit of calls per account.

use std::{sync::Arc, time::Duration};

use clap::Args;
use taskey_proto::errors::v1::ErrorReason;
use uuid::Uuid;

use crate::{
    clock::Clock,
    ops::config::OnOff,
    rate_limit::{Rate, RateLimit},
    status::ApiError,
};

/// The settings of the limit.
#[derive(Args, Clone, Copy, Debug)]
#[command(next_help_heading = "Rate limits")]
pub struct CallRateArgs {
    /// Calls per account to each service: 100+50/s is a burst of 100, then 50 per second. Units are s, m and h
    #[arg(long, env = "TASKEY_CALL_RATE", default_value = "100+50/s", value_name = "RATE")]
    pub call_rate: Rate,
}

/// Counts the calls of each account. Clones share the counters.
#[derive(Clone, Debug, Default)]
pub struct CallLimit(Option<Arc<RateLimit>>);

impl CallLimit {
    /// Creates the limit with all counters at zero. Without rate limits, it permits every call.
    #[must_use]
    pub fn new(args: CallRateArgs, rate_limits: OnOff, clock: Clock) -> Self {
        Self((rate_limits == OnOff::On).then(|| Arc::new(RateLimit::new(args.call_rate, clock))))
    }

    /// Counts a call. `key` is the account, or the session if the account is unknown.
    ///
    /// # Errors
    /// RATE_LIMITED if the limit is exceeded. The call is not counted then.
    pub fn check(&self, key: Uuid) -> Result<(), ApiError> {
        self.0.as_ref().map_or(Ok(()), |limit| limit.check(&key)).map_err(rate_limited)
    }
}

fn rate_limited(wait: Duration) -> ApiError {
    let message = "too many calls in a short time";
    ApiError::limit_exceeded("call_rate", ErrorReason::RateLimited, message).retry_after(wait)
}
