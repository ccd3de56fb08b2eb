//! Checks a database thoroughly, for the command `doctor`.

use super::{DatabaseUrl, Migrate, PostgresUrl, ServiceDatabase, TableStatus, postgres, sqlite};
use crate::{
    clock::Clock,
    ops::doctor::{
        Finding,
        files::{check_disk, check_private},
    },
};

impl ServiceDatabase<'_> {
    /// Checks the database, and changes nothing. Reads a SQLite file completely. `program` is the name of the program, and
    /// `migrate` what its server does with older tables.
    pub async fn diagnose(&self, program: &str, migrate: Migrate, clock: &Clock) -> Vec<Finding> {
        let tables = match self.status().await {
            Ok(tables) => tables,
            Err(error) => return vec![unusable(program, &error)],
        };
        let mut findings = vec![check_tables(&tables, program, migrate)];
        match self.url {
            DatabaseUrl::Sqlite(path) => {
                findings.extend(check_private("database_file", path));
                findings.push(check_disk(path));
                let fix = "stop the program, and restore a backup";
                findings.push(Finding::from_outcome("integrity", sqlite::setup::check_integrity(path).await, fix));
            }
            DatabaseUrl::Postgres(url) => findings.extend(check_server(url, self.schema, clock).await),
        }
        findings
    }
}

/// Describes an error of a database that cannot be reached or used.
fn unusable(program: &str, error: &anyhow::Error) -> Finding {
    let is_unreachable = error.downcast_ref::<sqlx::Error>().is_some();
    let fix = if is_unreachable {
        "start the database server, or correct --database-url".to_owned()
    } else {
        format!("correct --database-url, or use the version of {program} that the tables belong to")
    };
    Finding::from_error("database", error, fix)
}

/// Describes the tables, and whether the server starts with them.
fn check_tables(tables: &TableStatus, program: &str, migrate: Migrate) -> Finding {
    let message = match (tables.pending.first(), tables.newer) {
        (None, None) => return Finding::ok("database", "the tables are those of this version"),
        (None, Some(version)) => {
            return Finding::ok(
                "database",
                format!("the tables are newer (version {version}), and this version can use them"),
            );
        }
        (Some(_), _) if tables.is_empty => "there are no tables".to_owned(),
        (Some(first), _) => {
            format!("migrations that the tables lack: {}, beginning with {first}", tables.pending.len())
        }
    };
    let fix = format!("{program} migrate");
    match migrate {
        Migrate::Never | Migrate::Unchecked => Finding::failed(
            "database",
            format!("{message}; the server does not create or migrate them (--migrate)"),
            fix,
        ),
        _ if tables.is_empty => Finding::ok("database", format!("{message}; the server creates them when it starts")),
        _ => Finding::warning("database", format!("{message}; the server applies them when it starts"), fix),
    }
}

async fn check_server(url: &PostgresUrl, schema: &str, clock: &Clock) -> [Finding; 2] {
    let integrity = postgres::setup::check_integrity(url, schema).await;
    let clock = postgres::setup::check_clock(url, clock).await;
    [
        Finding::from_outcome(
            "integrity",
            integrity,
            format!("reindex index concurrently {schema}.NAME, for each of them"),
        ),
        Finding::from_outcome("clock", clock, "timedatectl set-ntp true, on both machines"),
    ]
}
