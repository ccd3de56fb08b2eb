//! Checks the keys of access tokens, for the command `doctor`.

use std::{path::Path, time::Duration};

use super::{
    jwk::JwkSet,
    key_source::{KeySource, Purpose},
};
use crate::{
    clock::Clock,
    ops::{
        doctor::{Finding, files::modify_time, in_days},
        secret_file,
    },
};

/// How old a secret may become before it should be rotated.
pub const MAX_SECRET_AGE: Duration = Duration::from_secs(365 * 86_400);

/// Checks a key file: whether it can be used, and whether its keys should be rotated.
#[must_use]
pub fn check_key_file(path: &Path, purpose: Purpose, clock: &Clock) -> Vec<Finding> {
    let name = path.display();
    match KeySource::file(path, purpose, clock.clone()) {
        Ok(keys) => {
            let count = keys.current().map_or(0, |keys| keys.ids().len());
            let usable = Finding::ok("key_file", format!("valid keys in {name}: {count}"));
            vec![usable, check_key_age(path, clock)]
        }
        Err(error) => {
            let fix = format!("auth-service keys generate --out {name}, or restore the file from a backup");
            vec![Finding::from_error("key_file", &error, fix)]
        }
    }
}

/// Checks when the file was last changed, which a rotation does. The file of an unfinished rotation has a key that waits.
fn check_key_age(path: &Path, clock: &Clock) -> Finding {
    let (name, fix) = (path.display(), format!("auth-service keys rotate --key-file {}", path.display()));
    let read = secret_file::read(path).and_then(|text| Ok((JwkSet::parse(&text)?, modify_time(path)?)));
    let (set, changed_at) = match read {
        Ok(read) => read,
        Err(error) => return Finding::from_error("key_age", &error, fix),
    };
    if set.keys.iter().any(|key| key.waiting) {
        return Finding::warning("key_age", format!("a rotation of {name} has not finished"), fix);
    }
    let age = clock.now().since(changed_at);
    let message = format!("{name} was last changed {} ago", in_days(age));
    if age > MAX_SECRET_AGE {
        Finding::warning("key_age", format!("{message}; its keys are due for a rotation"), fix)
    } else {
        Finding::ok("key_age", message)
    }
}
