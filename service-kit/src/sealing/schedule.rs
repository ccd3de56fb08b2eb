//! When stored secrets are encrypted with the current key again, so that earlier keys can be removed.

use std::time::Duration;

/// How often secrets are read even if the key has not changed: another server may have used the earlier key for longer.
const READ_INTERVAL: Duration = Duration::from_secs(3600);

/// Decides when the stored secrets are read: after the current key has changed, and every hour.
#[derive(Debug, Default)]
pub struct ResealSchedule {
    /// The id of the key of the last read, and the uptime.
    last_read: Option<(String, Duration)>,
}

impl ResealSchedule {
    /// Reports whether the secrets must be read now, which the caller then does.
    pub fn is_due(&mut self, key_id: &str, uptime: Duration) -> bool {
        let is_due = |(last_id, at): &(String, Duration)| last_id != key_id || *at + READ_INTERVAL <= uptime;
        let is_due = self.last_read.as_ref().is_none_or(is_due);
        if is_due {
            self.last_read = Some((key_id.to_owned(), uptime));
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_read_after_a_rotation_and_every_hour() {
        let mut schedule = ResealSchedule::default();
        let second = Duration::from_secs(1);
        assert!(schedule.is_due("old", second));
        assert!(!schedule.is_due("old", READ_INTERVAL));
        assert!(schedule.is_due("new", READ_INTERVAL));
        assert!(!schedule.is_due("new", READ_INTERVAL + second));
        assert!(schedule.is_due("new", 2 * READ_INTERVAL));
    }
}
