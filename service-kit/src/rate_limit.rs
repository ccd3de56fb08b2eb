//! Rate limits: a burst, then a number of actions per unit of time.

use std::{
    array,
    convert::Infallible,
    fmt,
    hash::{BuildHasher, Hash, RandomState},
    num::NonZeroU32,
    str::FromStr,
    sync::{Arc, OnceLock},
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

/// A rate: `10+6/m` allows a burst of ten, then six per minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    burst: NonZeroU32,
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
            let (burst, rest) = text.split_once('+')?;
            let (count, unit) = rest.split_once('/')?;
            let unit = match unit {
                "s" => Unit::Second,
                "m" => Unit::Minute,
                "h" => Unit::Hour,
                _ => return None,
            };
            let number = |text: &str| text.parse().ok().filter(|number: &NonZeroU32| number.get() <= 1_000_000);
            Some(Self { burst: number(burst)?, count: number(count)?, unit })
        };
        rate().ok_or("expected a rate such as 10+6/m: a burst of ten, then six per minute (s, m or h)")
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = match self.unit {
            Unit::Second => 's',
            Unit::Minute => 'm',
            Unit::Hour => 'h',
        };
        write!(f, "{}+{}/{unit}", self.burst, self.count)
    }
}

impl Rate {
    fn quota(self) -> Quota {
        let quota = match self.unit {
            Unit::Second => Quota::per_second(self.count),
            Unit::Minute => Quota::per_minute(self.count),
            Unit::Hour => Quota::per_hour(self.count),
        };
        quota.allow_burst(self.burst)
    }
}

/// Limits the actions of each key, such as an address.
///
/// The number of counters is fixed, so memory is bounded for any number of keys, and no counter has to be removed.
/// A key is mapped to a counter by a hash with a random seed, which clients cannot predict. Two keys can share a
/// counter, which matters only if both are near the limit.
#[derive(Debug)]
pub struct RateLimit {
    counters: RateLimiter<usize, Counters, MonotonicClock, NoOpMiddleware<Nanos>>,
    states: Counters,
    quota: Quota,
    clock: MonotonicClock,
    /// When the limit was created; the counters contain times since then.
    start: Nanos,
    hasher: RandomState,
}

/// Maximum number of actions that are charged at once.
const MAX_CHARGE: u64 = 1_000_000;

/// The number of counters, of eight bytes each.
const COUNTERS: usize = 1 << 18;

/// The number of counters that are allocated together, when the first of them is used. Most servers have far fewer
/// clients than counters.
const BLOCK_SIZE: usize = 64;

impl RateLimit {
    /// Creates a limit that has counted no actions.
    #[must_use]
    pub fn new(rate: Rate, clock: Clock) -> Self {
        let clock = MonotonicClock(clock);
        let states = Counters((0..COUNTERS / BLOCK_SIZE).map(|_| OnceLock::new()).collect());
        let (quota, start) = (rate.quota(), clock::Clock::now(&clock));
        let counters = RateLimiter::new(quota, states.clone(), clock.clone());
        Self { counters, states, quota, clock, start, hasher: RandomState::new() }
    }

    /// Counts an action of a key.
    ///
    /// # Errors
    /// The time to wait, if the limit is exceeded. The action is not counted then.
    pub fn check(&self, key: &impl Hash) -> Result<(), Duration> {
        self.counters.check_key(&self.counter(key)).map_err(|not_until| not_until.wait_time_from(self.clock.now()))
    }

    /// Counts actions of a key that have already happened, even if they exceed the limit.
    pub fn charge(&self, key: &impl Hash, count: u64) {
        let (now, cost) = (self.now(), self.interval() * count.min(MAX_CHARGE));
        let charge = |full_at: Option<Nanos>| Ok::<_, Infallible>(((), full_at.unwrap_or(now).max(now) + cost));
        match self.states.measure_and_replace(&self.counter(key), charge) {
            Ok(()) => {}
            Err(never) => match never {},
        }
    }

    /// Checks that the limit allows an action of a key, and does not count it.
    ///
    /// # Errors
    /// The time to wait, if the limit is exceeded.
    pub fn check_charges(&self, key: &impl Hash) -> Result<(), Duration> {
        let tolerance = self.interval() * u64::from(self.quota.burst_size().get() - 1);
        let latest = self.now() + tolerance;
        // An error leaves the counter as it is.
        let wait = |full_at: Option<Nanos>| Err::<((), Nanos), _>(full_at.map(|at| at.saturating_sub(latest)));
        match self.states.measure_and_replace(&self.counter(key), wait) {
            Err(Some(wait)) if wait > Nanos::default() => Err(wait.into()),
            _ => Ok(()),
        }
    }

    fn interval(&self) -> Nanos {
        self.quota.replenish_interval().into()
    }

    /// Returns the time since the limit was created.
    fn now(&self) -> Nanos {
        self.clock.now().saturating_sub(self.start)
    }

    fn counter(&self, key: &impl Hash) -> usize {
        usize::try_from(self.hasher.hash_one(key) % COUNTERS as u64).unwrap_or(0)
    }
}

#[derive(Clone, Debug)]
struct Counters(Arc<[OnceLock<Block>]>);

type Block = Box<[InMemoryState; BLOCK_SIZE]>;

impl StateStore for Counters {
    type Key = usize;

    fn measure_and_replace<T, F, E>(&self, counter: &usize, f: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let block = self.0[counter / BLOCK_SIZE].get_or_init(|| Box::new(array::from_fn(|_| InMemoryState::default())));
        block[counter % BLOCK_SIZE].measure_and_replace(&NotKeyed::NonKey, f)
    }
}

/// Uses the uptime, so that changes of the system time have no effect.
#[derive(Clone, Debug)]
struct MonotonicClock(Clock);

impl clock::Clock for MonotonicClock {
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
    fn rate_is_displayed_as_it_is_parsed() {
        for text in ["10+6/m", "1+1/s", "1000000+3/h"] {
            assert_eq!(rate(text).to_string(), text);
        }
        for invalid in ["", "10", "10+6", "0+6/m", "10+0/m", "10+6/d", "-1+6/m", "10+6/m ", "1000001+1/s", "1+1/2m"] {
            assert!(invalid.parse::<Rate>().is_err(), "{invalid:?}");
        }
    }

    #[test]
    fn burst_is_followed_by_evenly_spaced_actions() {
        let (clock, manual_clock) = testing::clock();
        let limit = RateLimit::new(rate("10+6/m"), clock);
        let count_allowed = || (0..100).filter(|_| limit.check(&"ann").is_ok()).count();
        assert_eq!(count_allowed(), 10);
        assert_eq!(limit.check(&"ann"), Err(Duration::from_secs(10)));
        manual_clock.advance(Duration::from_micros(9_999_999));
        assert_eq!(limit.check(&"ann"), Err(Duration::from_micros(1)));
        manual_clock.advance(Duration::from_micros(1));
        assert_eq!(count_allowed(), 1);
        manual_clock.advance(Duration::from_secs(60));
        assert_eq!(count_allowed(), 6);
        manual_clock.advance(Duration::from_secs(86_400));
        assert_eq!(count_allowed(), 10);
    }

    #[test]
    fn charged_actions_may_exceed_the_limit_and_block_later_ones() {
        let (clock, manual_clock) = testing::clock();
        manual_clock.advance(Duration::from_secs(5));
        let limit = RateLimit::new(rate("10+6/m"), clock);
        assert_eq!(limit.check_charges(&"ann"), Ok(()));
        limit.charge(&"ann", 9);
        assert_eq!(limit.check_charges(&"ann"), Ok(()));
        limit.charge(&"ann", 5);
        // Ten are the burst, four are too many, and one must be left.
        assert_eq!(limit.check_charges(&"ann"), Err(Duration::from_secs(50)));
        manual_clock.advance(Duration::from_secs(50));
        assert_eq!(limit.check_charges(&"ann"), Ok(()));
        assert_eq!(limit.check(&"ann"), Ok(()), "both kinds of actions share the counter");
        assert_eq!(limit.check_charges(&"ann"), Err(Duration::from_secs(10)));
        assert_eq!(limit.check_charges(&"bob"), Ok(()));
    }

    #[test]
    fn each_key_has_its_own_limit() {
        let limit = RateLimit::new(rate("1+1/h"), testing::clock().0);
        let allowed = (0..1000).filter(|number| limit.check(number).is_ok()).count();
        // Some keys may share a counter: on average two of a thousand.
        assert!(allowed > 950, "{allowed}");
    }

    #[test]
    fn counters_are_allocated_in_blocks_when_they_are_used() {
        let limit = RateLimit::new(rate("1+1/h"), testing::clock().0);
        let allocated_blocks = || limit.states.0.iter().filter(|block| block.get().is_some()).count();
        assert_eq!(allocated_blocks(), 0);
        assert_eq!((limit.check(&"ann"), allocated_blocks()), (Ok(()), 1));
        assert!(limit.check(&"ann").is_err());
        assert_eq!(allocated_blocks(), 1);
        for number in 0..200_000 {
            _ = limit.check(&number);
        }
        assert_eq!(allocated_blocks(), COUNTERS / BLOCK_SIZE, "no further key allocates memory");
    }
}
