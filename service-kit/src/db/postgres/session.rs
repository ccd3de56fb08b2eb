//! What a session of PostgreSQL relies on: set after connecting, because a pooler may drop what is sent at the start, and
//! then verified, because a pooler or an administrator may have other ideas.

use std::time::Duration;

use sqlx::{Connection, PgConnection, postgres::PgConnectOptions};

use crate::db::Error;

/// How a session is set up.
#[derive(Clone, Debug)]
pub(super) struct SessionSettings {
    schema: String,
    /// Names and values, as `pg_settings` shows them.
    required: Vec<(&'static str, String)>,
}

/// Settings that make work better, and that not every version and platform has.
const OPTIONAL: [(&str, &str); 6] = [
    // A query whose client is gone is ended. Versions before 14 and some platforms cannot find that out.
    ("client_connection_check_interval", "1000"),
    // These would end a connection that waits in the pool.
    ("idle_session_timeout", "0"),
    ("transaction_timeout", "0"),
    // The rows of an owner are read by an index in the order of the table. To gather their pages in a bitmap first takes
    // longer: for 10,000 rows 18 ms instead of 14.
    ("enable_bitmapscan", "off"),
    // Pages of a list are read from an index in their order. Until the server has analyzed a table that was filled
    // quickly, it would rather read and sort all rows of the owner: for 6,000 rows 5 ms instead of 0.6.
    ("enable_sort", "off"),
    // Compiling a statement takes longer than all of ours.
    ("jit", "off"),
];

impl SessionSettings {
    /// Settings for the calls of a service, each of which may take as long as `limit`.
    pub(super) fn new(schema: &str, limit: Duration) -> Self {
        let limit = limit.as_millis().max(1).to_string();
        let required = vec![
            ("search_path", quoted(schema)),
            ("statement_timeout", limit.clone()),
            // A process that stopped in the middle must not hold its locks for ever.
            ("idle_in_transaction_session_timeout", limit),
            // Waiting for a lock counts towards the statement timeout.
            ("lock_timeout", "0".to_owned()),
            // At any other level concurrent writes fail instead of waiting for each other.
            ("default_transaction_isolation", "read committed".to_owned()),
            ("default_transaction_deferrable", "off".to_owned()),
            ("client_encoding", "UTF8".to_owned()),
            ("standard_conforming_strings", "on".to_owned()),
        ];
        Self { schema: schema.to_owned(), required }
    }

    /// Settings for changing tables, which may take its time.
    pub(super) fn without_limits(schema: &str) -> Self {
        let mut settings = Self::new(schema, Duration::from_millis(1));
        for (name, value) in &mut settings.required {
            if name.ends_with("_timeout") {
                "0".clone_into(value);
            }
        }
        settings
    }

    /// Connects, and sets and verifies the settings. Returns the connection and the process id of its backend.
    ///
    /// # Errors
    /// If the server cannot be reached, or the session is not what it must be.
    pub(super) async fn connect(&self, options: &PgConnectOptions) -> Result<(PgConnection, i64), Error> {
        let mut connection = PgConnection::connect_with(options).await?;
        self.set(&mut connection).await?;
        let backend = self.verify(&mut connection).await?;
        Ok((connection, backend))
    }

    async fn set(&self, connection: &mut PgConnection) -> Result<(), Error> {
        // `pg_settings` lists what this server has. An acknowledged write must survive a power cut, so `off` is no choice;
        // the stricter levels stay.
        const SET: &str = "
            select set_config(name, wanted.value, false)
            from unnest($1::text[], $2::text[]) wanted (name, value) join pg_settings using (name)
            union all
            select set_config('synchronous_commit', 'on', false) where current_setting('synchronous_commit') = 'off'";
        let required = self.required.iter().map(|(name, value)| (*name, value.as_str()));
        let (names, values): (Vec<&str>, Vec<&str>) = required.chain(OPTIONAL).unzip();
        match sqlx::query(SET).persistent(false).bind(&names).bind(&values).execute(&mut *connection).await {
            Ok(_) => Ok(()),
            // 22023: the platform does not support an optional setting.
            Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("22023") => {
                let (names, values): (Vec<&str>, Vec<&str>) =
                    self.required.iter().map(|(name, value)| (*name, value.as_str())).unzip();
                sqlx::query(SET).persistent(false).bind(names).bind(values).execute(connection).await?;
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn verify(&self, connection: &mut PgConnection) -> Result<i64, Error> {
        const FOUND: &str = "
            select name, setting from pg_settings where name = any ($1)
            union all select 'server_encoding', current_setting('server_encoding')
            union all select 'current_schema', coalesce(current_schema(), '')
            union all select 'backend', pg_backend_pid()::text";
        let names: Vec<&str> = self.required.iter().map(|(name, _)| *name).collect();
        let found: Vec<(String, String)> =
            sqlx::query_as(FOUND).persistent(false).bind(names).fetch_all(connection).await?;
        let found = |name: &str| found.iter().find(|(found, _)| found == name).map_or("", |(_, value)| value.as_str());
        if found("server_encoding") != "UTF8" {
            let encoding = found("server_encoding");
            return Err(Error::Session(format!(
                "the encoding of the database is {encoding}; create one with encoding 'UTF8'"
            )));
        }
        for (name, wanted) in &self.required {
            if found(name) != wanted {
                let value = found(name);
                return Err(Error::Session(format!(
                    "the session does not keep its settings ({name} is {value:?} instead of {wanted:?}); a pooler in front \
                     of the server must pool sessions, not transactions"
                )));
            }
        }
        if found("current_schema") != self.schema {
            return Err(Error::Session(format!("the schema {:?} does not exist or may not be used", self.schema)));
        }
        found("backend").parse().map_err(|_| Error::Session("the server does not tell its process id".to_owned()))
    }
}

/// Quotes an identifier.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
