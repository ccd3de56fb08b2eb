//! The codes of the device authorization grant (RFC 8628), and how often devices may poll.

use std::time::Duration;

use service_kit::{auth::scope::Scopes, clock::Timestamp, random};
use uuid::Uuid;

use super::{
    refresh_token::RefreshKeys,
    sealed::{self, Purpose},
};

/// How long a device can wait for the decision of a user.
pub const LIFETIME: Duration = Duration::from_secs(600);

/// The minimum time between two polls, and by how much it grows after each poll that comes too early.
pub const INTERVAL: Duration = Duration::from_secs(5);

/// Maximum number of devices that wait.
pub const MAX_PENDING: i64 = 10_000;

/// By how much less than the interval the time between two polls can be: one may have been longer on the way than the next.
const INTERVAL_TOLERANCE: Duration = Duration::from_secs(1);

/// An upper bound on the length of device codes.
const MAX_DEVICE_CODE_BYTES: usize = 128;

/// The letters of user codes: no vowels, so that they form no words (RFC 8628, section 6.1).
const LETTERS: &[u8; 20] = b"BCDFGHJKLMNPQRSTVWXZ";

/// Number of letters of a user code.
const USER_CODE_LETTERS: usize = 8;

/// An upper bound on the length of user codes as users type them.
const MAX_USER_CODE_BYTES: usize = 32;

/// A request of a device.
#[derive(Clone, Debug)]
pub struct DeviceAuthorization {
    /// The code that the user types.
    pub user_code: UserCode,
    /// The name that the client has given itself.
    pub client_id: String,
    /// The scopes of the session, or `None` if it permits all that the roles of the user do.
    pub scopes: Option<Scopes>,
    /// The user agent of the device.
    pub user_agent: String,
    /// The address of the device.
    pub ip_address: String,
    /// When the device asked.
    pub created_at: Timestamp,
    /// When the request expires.
    pub expires_at: Timestamp,
}

/// The content of the code with which a device polls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceCode {
    /// Identifies the request.
    pub id: Uuid,
    /// When the request expires.
    pub expires_at: Timestamp,
}

impl DeviceCode {
    /// Returns the code.
    #[must_use]
    pub fn seal(&self, keys: &RefreshKeys) -> String {
        let content = [&self.id.as_bytes()[..], &self.expires_at.as_micros().to_be_bytes()].concat();
        sealed::seal(keys.first(), Purpose::DeviceCode, b"", &content)
    }

    /// Returns the content of a code, whether or not it has expired. Codes that were not issued here cost no query.
    #[must_use]
    pub fn open(keys: &RefreshKeys, code: &str) -> Option<Self> {
        if code.len() > MAX_DEVICE_CODE_BYTES {
            return None;
        }
        let content = sealed::open(keys, Purpose::DeviceCode, b"", code)?;
        let (id, expires_at) = content.split_first_chunk()?;
        let expires_at = i64::from_be_bytes(expires_at.try_into().ok()?);
        Some(Self { id: Uuid::from_bytes(*id), expires_at: Timestamp::from_micros(expires_at) })
    }
}

/// The code that the user types, without its hyphen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserCode(pub(crate) String);

impl UserCode {
    /// Generates a code: one of 2.56e10.
    #[must_use]
    pub fn generate() -> Self {
        // Of numbers with 64 bits, the remainders of a division by 20 are equally likely, but for 1 of 1e18.
        let letter = |_| {
            let number = u64::from_le_bytes(random::bytes::<8>()) % LETTERS.len() as u64;
            char::from(LETTERS[usize::try_from(number).unwrap_or_default()])
        };
        Self((0..USER_CODE_LETTERS).map(letter).collect())
    }

    /// Parses a code as users type it: in any case, with or without hyphens and spaces.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() > MAX_USER_CODE_BYTES {
            return None;
        }
        let letters = text.chars().filter(|character| !matches!(character, '-' | ' '));
        let letters = letters.collect::<String>().to_ascii_uppercase();
        let is_code = letters.len() == USER_CODE_LETTERS && letters.bytes().all(|letter| LETTERS.contains(&letter));
        is_code.then_some(Self(letters))
    }

    /// Returns the code with a hyphen in the middle.
    #[must_use]
    pub fn with_hyphen(&self) -> String {
        let (first, second) = self.0.split_at(USER_CODE_LETTERS / 2);
        format!("{first}-{second}")
    }
}

/// How often a device may poll, and when it last did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PollSchedule {
    /// The minimum time between two polls.
    pub interval: Duration,
    /// When the last poll came.
    pub polled_at: Option<Timestamp>,
}

impl PollSchedule {
    /// Returns the schedule after a poll, and whether the poll came in time. Each one that came too early makes the interval
    /// longer (RFC 8628, section 3.5).
    #[must_use]
    pub fn poll(self, now: Timestamp) -> (Self, bool) {
        let earliest = self.polled_at.map(|polled_at| polled_at + self.interval - INTERVAL_TOLERANCE);
        let is_in_time = earliest.is_none_or(|earliest| earliest <= now);
        let interval = if is_in_time { self.interval } else { (self.interval + INTERVAL).min(LIFETIME) };
        (Self { interval, polled_at: Some(now) }, is_in_time)
    }
}

#[cfg(test)]
mod tests {
    use service_kit::ops::secret_file::Key;

    use super::*;
    use crate::model::refresh_token::RefreshKey;

    #[test]
    fn user_codes_are_parsed_as_users_type_them() {
        let code = UserCode("BCDFGHJK".to_owned());
        for text in ["BCDF-GHJK", "bcdfghjk", " bcdf ghjk ", "b-c-d-f-g-h-j-k"] {
            assert_eq!(UserCode::parse(text), Some(code.clone()), "{text}");
        }
        for text in ["", "BCDF-GHJ", "BCDF-GHJKL", "ABCD-EFGH", "BCDF-GHJ1", &"-".repeat(40), "ÄCDFGHJK", "BCDF_GHJK"]
        {
            assert_eq!(UserCode::parse(text), None, "{text}");
        }
        let generated = UserCode::generate();
        assert_eq!(UserCode::parse(&generated.with_hyphen()), Some(generated));
    }

    #[test]
    fn device_codes_contain_their_request() {
        let keys = RefreshKeys::new(vec![RefreshKey::new(&Key::random())]);
        let code = DeviceCode { id: Uuid::from_u128(1), expires_at: Timestamp::from_seconds(2) };
        let text = code.seal(&keys);
        assert_eq!(DeviceCode::open(&keys, &text), Some(code));
        let other_keys = RefreshKeys::new(vec![RefreshKey::new(&Key::random())]);
        assert_eq!(DeviceCode::open(&other_keys, &text), None);
        for text in [String::new(), text[1..].to_owned(), "A".repeat(text.len()), "A".repeat(4096)] {
            assert_eq!(DeviceCode::open(&keys, &text), None, "{text}");
        }
    }

    #[test]
    fn interval_grows_with_each_early_poll() {
        let at = |seconds| Timestamp::from_seconds(seconds);
        let first = PollSchedule { interval: INTERVAL, polled_at: None };
        let (second, is_in_time) = first.poll(at(100));
        assert!(is_in_time);
        let (third, is_in_time) = second.poll(at(104));
        assert_eq!((third.interval, is_in_time), (INTERVAL, true), "one second is tolerated");
        let (fourth, is_in_time) = third.poll(at(107));
        assert_eq!((fourth.interval, is_in_time), (2 * INTERVAL, false));
        let (fifth, is_in_time) = fourth.poll(at(115));
        assert_eq!((fifth.interval, is_in_time), (3 * INTERVAL, false));
        assert!(fifth.poll(at(130)).1);
        let last = (0..1000).fold(fifth, |schedule, _| schedule.poll(at(115)).0);
        assert_eq!(last.interval, LIFETIME);
    }
}
