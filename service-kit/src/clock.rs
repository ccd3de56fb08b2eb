//! The only module that reads the system clock. All other code uses a [`Clock`], so that tests can set the time.

use std::{
    fmt,
    ops::{Add, Sub},
    sync::{Arc, LazyLock, Mutex},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use uuid::{ContextV7, Uuid};

/// How far the clocks of services and of their database server may differ.
pub const MAX_CLOCK_SKEW: Duration = Duration::from_secs(5);

/// A point in time in microseconds since the Unix epoch. Databases store it in the same form, because the date types of
/// SQLite do not sort correctly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// Creates a timestamp from microseconds since the Unix epoch.
    #[must_use]
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Creates a timestamp from seconds since the Unix epoch. Saturates at the limits of the type.
    #[must_use]
    pub const fn from_seconds(seconds: i64) -> Self {
        Self(seconds.saturating_mul(1_000_000))
    }

    /// Parses the value of the HTTP header `date`, which has a resolution of one second (RFC 9110, section 6.6.1).
    /// Returns `None` if it is invalid, or before 1970.
    #[must_use]
    pub fn parse_http_date(text: &str) -> Option<Self> {
        let since_epoch = httpdate::parse_http_date(text).ok()?.duration_since(UNIX_EPOCH).ok()?;
        i64::try_from(since_epoch.as_micros()).ok().map(Self)
    }

    /// Returns the microseconds since the Unix epoch.
    #[must_use]
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// Returns whole seconds since the Unix epoch, rounded down: a `NumericDate` of RFC 7519.
    #[must_use]
    pub const fn as_seconds(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    /// Returns the time elapsed since `earlier`, or zero if `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

impl fmt::Display for Timestamp {
    /// Writes whole seconds as in RFC 3339. Times before 1970 are written as 1970.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let since_epoch = Duration::from_micros(u64::try_from(self.0).unwrap_or(0));
        humantime::format_rfc3339_seconds(UNIX_EPOCH + since_epoch).fmt(f)
    }
}

impl Add<Duration> for Timestamp {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)))
    }
}

impl Sub<Duration> for Timestamp {
    type Output = Self;

    fn sub(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)))
    }
}

impl From<Timestamp> for prost_types::Timestamp {
    fn from(at: Timestamp) -> Self {
        let nanos = i32::try_from(at.0.rem_euclid(1_000_000) * 1_000).expect("below one second");
        Self { seconds: at.as_seconds(), nanos }
    }
}

impl From<prost_types::Timestamp> for Timestamp {
    fn from(at: prost_types::Timestamp) -> Self {
        Self(Self::from_seconds(at.seconds).0.saturating_add(i64::from(at.nanos) / 1_000))
    }
}

/// A source of the current time.
#[derive(Clone)]
pub struct Clock {
    now: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    uptime: Arc<dyn Fn() -> Duration + Send + Sync>,
}

impl Clock {
    /// Returns the system clock.
    #[must_use]
    pub fn system() -> Self {
        #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the clock")]
        let (now, start) = (SystemTime::now, Instant::now());
        let now = move || {
            let since_epoch = now().duration_since(UNIX_EPOCH).unwrap_or_default();
            Timestamp(i64::try_from(since_epoch.as_micros()).unwrap_or(i64::MAX))
        };
        Self { now: Arc::new(now), uptime: Arc::new(move || start.elapsed()) }
    }

    /// Creates a clock that reads the time from `now`.
    pub fn from_fn(now: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        let (start, now) = (now(), Arc::new(now));
        let current = Arc::clone(&now);
        Self { now, uptime: Arc::new(move || current().since(start)) }
    }

    /// Returns the current time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        (self.now)()
    }

    /// Returns the time since the clock was created. For the system clock it is monotonic.
    #[must_use]
    pub fn uptime(&self) -> Duration {
        (self.uptime)()
    }

    /// Returns a new `UUIDv7` (RFC 9562, section 5.7). The ids of one process are strictly increasing.
    #[must_use]
    pub fn new_id(&self) -> Uuid {
        static CONTEXT: LazyLock<Mutex<ContextV7>> = LazyLock::new(|| Mutex::new(ContextV7::new()));
        let now = prost_types::Timestamp::from(self.now());
        let seconds = u64::try_from(now.seconds).unwrap_or(0);
        let nanos = u32::try_from(now.nanos).unwrap_or(0);
        Uuid::new_v7(uuid::Timestamp::from_unix(&*CONTEXT, seconds, nanos))
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Clock").field(&self.now()).finish()
    }
}
