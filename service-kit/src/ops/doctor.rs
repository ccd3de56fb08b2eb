//! The command `doctor`: checks that take too long for a start, and their report.

use std::io::{self, Write};

use clap::Args;
use serde_json::json;

/// The options of the command.
#[derive(Args, Clone, Copy, Debug)]
pub struct DoctorArgs {
    /// Print the report as JSON
    #[arg(long)]
    pub json: bool,
}

/// One check and its outcome.
#[derive(Debug)]
pub struct Check {
    name: String,
    outcome: anyhow::Result<String>,
}

impl Check {
    /// Creates a check. Its outcome is what was found, or what is wrong.
    pub fn new(name: impl Into<String>, outcome: anyhow::Result<String>) -> Self {
        Self { name: name.into(), outcome }
    }

    /// Adds the name of a service to the name of the check, for a program with several services.
    #[must_use]
    pub fn of_service(self, service: &str) -> Self {
        Self { name: format!("{service}.{}", self.name), ..self }
    }
}

impl DoctorArgs {
    /// Prints a report.
    ///
    /// # Errors
    /// If a check has failed.
    pub fn report(self, checks: &[Check]) -> anyhow::Result<()> {
        let rows: Vec<_> = checks
            .iter()
            .map(|Check { name, outcome }| match outcome {
                Ok(found) => (name, "ok", found.clone()),
                Err(error) => (name, "failed", format!("{error:#}")),
            })
            .collect();
        if self.json {
            let rows: Vec<_> = rows
                .iter()
                .map(|(name, status, detail)| json!({"name": name, "status": status, "detail": detail}))
                .collect();
            writeln!(io::stdout(), "{:#}", json!({"checks": rows}))?;
        } else {
            for (name, status, detail) in &rows {
                writeln!(io::stdout(), "{status:<6}  {name}: {detail}")?;
            }
        }
        let failed = rows.iter().filter(|(_, status, _)| *status == "failed").count();
        anyhow::ensure!(failed == 0, "{failed} of {} checks failed", rows.len());
        Ok(())
    }
}
