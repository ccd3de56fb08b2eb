//! Notifications of the service manager (sd_notify(3)).

use std::time::Duration;

use sd_notify::NotifyState;

/// Notifies the service manager that the program has started.
pub(crate) fn ready() {
    notify(&[NotifyState::Ready]);
}

/// Returns how long the program may be silent before the service manager restarts it, if there is such a limit.
pub(crate) fn watchdog() -> Option<Duration> {
    sd_notify::watchdog_enabled()
}

/// Tells the watchdog of the service manager that the program makes progress.
pub(crate) fn alive() {
    notify(&[NotifyState::Watchdog]);
}

/// Notifies the service manager that the program reloads its files, and that it continues to serve. Files are read within
/// milliseconds, and a file that is invalid changes nothing, so the end of the reload is not awaited.
pub(crate) fn reloaded() {
    // Without the time, systemd cannot tell which of several reloads has begun.
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(error) => tracing::warn!(%error, "cannot read the monotonic clock"),
    }
    notify(&[NotifyState::Ready]);
}

/// Notifies the service manager that the program shuts down.
pub(crate) fn stopping() {
    notify(&[NotifyState::Stopping]);
}

fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "cannot notify the service manager");
    }
}
