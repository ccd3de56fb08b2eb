//! The command `doctor`: its findings, and their report. Each check is next to what it checks: settings of servers in
//! `server::check`, certificates in `tls`, keys in `auth`, databases in `db`, and other files in [`files`].

use std::{
    io::{self, Write},
    time::Duration,
};

use clap::Args;
use serde_json::json;

use super::secret_file::AccessibleToOthers;

pub mod files;

/// The options of the command.
#[derive(Args, Clone, Copy, Debug)]
pub struct DoctorArgs {
    /// Print the report as JSON
    #[arg(long)]
    pub json: bool,
}

/// How severe a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Nothing is wrong.
    Ok,
    /// The program works, but something is risky, or will fail later.
    Warning,
    /// Something does not work.
    Failed,
}

impl Level {
    /// Returns the name in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Failed => "failed",
        }
    }
}

/// The outcome of a check.
#[derive(Clone, Debug)]
pub struct Finding {
    name: String,
    level: Level,
    message: String,
    /// The command or the setting that solves the problem, if there is one.
    fix: Option<String>,
}

impl Finding {
    /// Creates a finding without a problem. `name` identifies the check.
    pub fn ok(name: impl Into<String>, message: impl Into<String>) -> Self {
        Self { name: name.into(), level: Level::Ok, message: message.into(), fix: None }
    }

    /// Creates a finding about a risk. `fix` is the command or the setting that removes it.
    pub fn warning(name: impl Into<String>, message: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { level: Level::Warning, fix: Some(fix.into()), ..Self::ok(name, message) }
    }

    /// Creates a finding about a failure. `fix` is the command or the setting that solves it.
    pub fn failed(name: impl Into<String>, message: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { level: Level::Failed, fix: Some(fix.into()), ..Self::ok(name, message) }
    }

    /// Creates a finding about an error. `fix` solves it, unless a file has the wrong mode.
    pub fn from_error(name: impl Into<String>, error: &anyhow::Error, fix: impl Into<String>) -> Self {
        let fix = match error.downcast_ref() {
            Some(AccessibleToOthers { path, .. }) => format!("chmod 600 {}", path.display()),
            None => fix.into(),
        };
        Self::failed(name, format!("{error:#}"), fix)
    }

    /// Creates a finding from the outcome of a check: a message, or an error that `fix` solves.
    pub fn from_outcome(
        name: impl Into<String>,
        outcome: anyhow::Result<impl Into<String>>,
        fix: impl Into<String>,
    ) -> Self {
        match outcome {
            Ok(message) => Self::ok(name, message),
            Err(error) => Self::from_error(name, &error, fix),
        }
    }

    /// Adds the name of a service to the name of the check, for a program with several services.
    #[must_use]
    pub fn of_service(self, service: &str) -> Self {
        Self { name: format!("{service}.{}", self.name), ..self }
    }

    /// Returns the finding as an object for the report in JSON.
    fn to_json(&self) -> serde_json::Value {
        let Self { name, level, message, fix } = self;
        json!({"name": name, "level": level.name(), "message": message, "fix": fix})
    }

    /// Writes the finding for people.
    fn write(&self, output: &mut impl Write) -> io::Result<()> {
        let Self { name, level, message, fix } = self;
        writeln!(output, "{:<7}  {name}: {message}", level.name())?;
        fix.as_ref().map_or(Ok(()), |fix| writeln!(output, "{:<7}  fix: {fix}", ""))
    }
}

/// Returns a duration in whole days, for messages.
#[must_use]
pub fn in_days(duration: Duration) -> String {
    match duration.as_secs() / 86_400 {
        1 => "1 day".to_owned(),
        days => format!("{days} days"),
    }
}

impl DoctorArgs {
    /// Prints a report.
    ///
    /// # Errors
    /// If a check has failed.
    pub fn report(self, findings: &[Finding]) -> anyhow::Result<()> {
        let mut output = io::stdout().lock();
        if self.json {
            let findings: Vec<_> = findings.iter().map(Finding::to_json).collect();
            writeln!(output, "{:#}", json!({"findings": findings}))?;
        } else {
            findings.iter().try_for_each(|finding| finding.write(&mut output))?;
        }
        let failed = findings.iter().filter(|finding| finding.level == Level::Failed).count();
        anyhow::ensure!(failed == 0, "{failed} of {} checks failed", findings.len());
        Ok(())
    }
}
