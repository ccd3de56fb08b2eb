//! Rate limits: a burst, and then a number of actions in a unit of time.

use std::{
    fmt,
    hash::{BuildHasher, Hash, RandomState},
    num::NonZeroU32,
    str::FromStr,
    time::Duration,
};

use governor::{
    Quota, RateLimiter,
    clock::{self, Clock as _},
    middleware::NoOpMiddleware,
    nanos::Nanos,
    state::{InMemoryState, NotKeyed, StateStore},
};

use crate::clock::Clock;

/// How often: `10+6/m` is ten at once, then six a minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    at_once: NonZeroU32,
    count: NonZeroU32,
    unit: Unit,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    Second,
    Minute,
    Hour,
}

impl FromStr for Rate {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let rate = || {
            let (at_once, rest) = text.split_once('+')?;
            let (count, unit) = rest.split_once('/')?;
            let unit = match unit {
                "s" => Unit::Second,
                "m" => Unit::Minute,
                "h" => Unit::Hour,
                _ => return None,
            };
            let number = |text: &str| text.parse().ok().filter(|number: &NonZeroU32| number.get() <= 1_000_000);
            Some(Self { at_once: number(at_once)?, count: number(count)?, unit })
        };
        rate().ok_or("expected a rate such as 10+6/m: ten at once, then six a minute (s, m or h)")
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = match self.unit {
            Unit::Second => 's',
            Unit::Minute => 'm',
            Unit::Hour => 'h',
        };
        write!(f, "{}+{}/{unit}", self.at_once, self.count)
    }
}

impl Rate {
    fn quota(self) -> Quota {
        let quota = match self.unit {
            Unit::Second => Quota::per_second(self.count),
            Unit::Minute => Quota::per_minute(self.count),
            Unit::Hour => Quota::per_hour(self.count),
        };
        quota.allow_burst(self.at_once)
    }
}

/// Counts what is done, by whom.
///
/// There are as many counters as there will ever be from the start on: somebody's counter is found by a hash that
/// nobody outside can foresee. However many come, memory does not grow, and there is nothing to sweep. Two of them can
/// share a counter, which matters only to those who are both near their limit.
#[derive(Debug)]
pub struct RateLimit {
    counters: RateLimiter<usize, Counters, Uptime, NoOpMiddleware<Nanos>>,
    clock: Uptime,
    hasher: RandomState,
}

/// Of eight bytes each.
const COUNTERS: usize = 1 << 18;

impl RateLimit {
    /// A limit that nobody has come near to.
    #[must_use]
    pub fn new(rate: Rate, clock: Clock) -> Self {
        let clock = Uptime(clock);
        let counters = Counters((0..COUNTERS).map(|_| InMemoryState::default()).collect());
        Self { counters: RateLimiter::new(rate.quota(), counters, clock.clone()), clock, hasher: RandomState::new() }
    }

    /// Counts one more.
    ///
    /// # Errors
    /// How long to wait, if it was one too many.
    pub fn check(&self, who: &impl Hash) -> Result<(), Duration> {
        let counter = usize::try_from(self.hasher.hash_one(who) % COUNTERS as u64).unwrap_or(0);
        self.counters.check_key(&counter).map_err(|until| until.wait_time_from(self.clock.now()))
    }
}

#[derive(Debug)]
struct Counters(Box<[InMemoryState]>);

impl StateStore for Counters {
    type Key = usize;

    fn measure_and_replace<T, F, E>(&self, counter: &usize, f: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        self.0[*counter].measure_and_replace(&NotKeyed::NonKey, f)
    }
}

/// It does not matter what the time is set to.
#[derive(Clone, Debug)]
struct Uptime(Clock);

impl clock::Clock for Uptime {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        self.0.uptime().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    fn rate(text: &str) -> Rate {
        text.parse().expect("a rate")
    }

    #[test]
    fn a_rate_is_written_as_it_is_read() {
        for text in ["10+6/m", "1+1/s", "1000000+3/h"] {
            assert_eq!(rate(text).to_string(), text);
        }
        for wrong in ["", "10", "10+6", "0+6/m", "10+0/m", "10+6/d", "-1+6/m", "10+6/m ", "1000001+1/s", "1+1/2m"] {
            assert!(wrong.parse::<Rate>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn after_the_first_ones_at_once_the_rest_come_evenly() {
        let (clock, hands) = testing::clock();
        let limit = RateLimit::new(rate("10+6/m"), clock);
        let passes = || (0..100).filter(|_| limit.check(&"ann").is_ok()).count();
        assert_eq!(passes(), 10);
        assert_eq!(limit.check(&"ann"), Err(Duration::from_secs(10)));
        hands.advance(Duration::from_micros(9_999_999));
        assert_eq!(limit.check(&"ann"), Err(Duration::from_micros(1)));
        hands.advance(Duration::from_micros(1));
        assert_eq!(passes(), 1);
        hands.advance(Duration::from_secs(60));
        assert_eq!(passes(), 6);
        hands.advance(Duration::from_secs(86_400));
        assert_eq!(passes(), 10);
    }

    #[test]
    fn everybody_counts_alone() {
        let limit = RateLimit::new(rate("1+1/h"), testing::clock().0);
        let passed = (0..1000).filter(|number| limit.check(number).is_ok()).count();
        // Some may share a counter: of a thousand, two on the average.
        assert!(passed > 950, "{passed}");
    }
}
