//! The names of time zones in files.

use jiff::tz::TimeZone;
use windows_timezones::WindowsTimezone;

/// Returns the name in the IANA database of a time zone that a file names as this database does, or as Windows does. Other
/// names remain as they are.
pub(crate) fn iana_name(name: &str) -> &str {
    if TimeZone::get(name).is_ok() {
        return name;
    }
    match name.parse::<WindowsTimezone>() {
        Ok(zone) => zone.tzdb_id(),
        Err(_) => name,
    }
}
