//! The settings that a PostgreSQL session requires. They are set after connecting, because a pooler may drop start-up
//! parameters, and then verified, because a pooler or an administrator may override them.

use std::time::Duration;

use sqlx::{Connection, PgConnection, postgres::PgConnectOptions};

use crate::db::Error;

/// The settings of a session.
#[derive(Clone, Debug)]
pub(in crate::db) struct SessionSettings {
    schema: String,
    /// Names and values, as `pg_settings` shows them.
    required: Vec<(&'static str, String)>,
}

/// Settings that are useful but not required, because some versions and platforms do not have them.
const OPTIONAL: [(&str, &str); 6] = [
    // Ends a query whose client has disconnected. Versions before 14 and some platforms cannot detect that.
    ("client_connection_check_interval", "1000"),
    // Would close a connection that is idle in the pool.
    ("idle_session_timeout", "0"),
    // Would close a connection during a long transaction.
    ("transaction_timeout", "0"),
    // An index returns the rows of an owner in the order of the table. Collecting their pages in a bitmap first takes
    // longer: 18 ms instead of 14 for 10,000 rows.
    ("enable_bitmapscan", "off"),
    // An index returns the rows of a list in the order of the list. Until the server has analyzed a table that was
    // filled quickly, it would read and sort all rows of the owner: 5 ms instead of 0.6 for 6,000 rows.
    ("enable_sort", "off"),
    // Compiling a statement takes longer than executing it, for all statements of this program.
    ("jit", "off"),
];

impl SessionSettings {
    /// Returns the settings for the calls of a service. `limit` is the statement timeout.
    pub(in crate::db) fn new(schema: &str, limit: Duration) -> Self {
        let limit = limit.as_millis().max(1).to_string();
        let required = vec![
            ("search_path", quoted(schema)),
            ("statement_timeout", limit.clone()),
            // A process that hangs within a transaction must not keep its locks.
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

    /// Returns the settings for migrations, which have no time limits.
    pub(in crate::db) fn without_limits(schema: &str) -> Self {
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
    /// If the server cannot be reached, or the session does not have the settings.
    pub(in crate::db) async fn connect(&self, options: &PgConnectOptions) -> Result<(PgConnection, i64), Error> {
        let mut connection = PgConnection::connect_with(options).await?;
        let backend_pid = self.apply(&mut connection).await?;
        Ok((connection, backend_pid))
    }

    /// Sets and verifies the settings of a connection. Returns the process id of its backend.
    ///
    /// # Errors
    /// If the server does not respond, or the session does not have the settings.
    pub(in crate::db) async fn apply(&self, connection: &mut PgConnection) -> Result<i64, Error> {
        self.set(connection).await?;
        self.verify(connection).await
    }

    async fn set(&self, connection: &mut PgConnection) -> Result<(), Error> {
        // The join with `pg_settings` skips settings that the server does not have. An acknowledged write must survive
        // a power failure, so `synchronous_commit` must not be off; stricter levels remain.
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

    /// Verifies the settings, and returns the process id of the backend.
    async fn verify(&self, connection: &mut PgConnection) -> Result<i64, Error> {
        const SETTINGS: &str = "
            select name, setting from pg_settings where name = any ($1)
            union all select 'server_encoding', current_setting('server_encoding')
            union all select 'current_schema', coalesce(current_schema(), '')
            union all select 'backend', pg_backend_pid()::text";
        let names: Vec<&str> = self.required.iter().map(|(name, _)| *name).collect();
        let rows: Vec<(String, String)> =
            sqlx::query_as(SETTINGS).persistent(false).bind(names).fetch_all(connection).await?;
        let setting = |name: &str| rows.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value.as_str());
        if setting("server_encoding") != "UTF8" {
            let encoding = setting("server_encoding");
            return Err(Error::Session(format!(
                "the encoding of the database is {encoding}; create one with encoding 'UTF8'"
            )));
        }
        for (name, expected) in &self.required {
            if setting(name) != expected {
                let value = setting(name);
                return Err(Error::Session(format!(
                    "the session does not keep its settings ({name} is {value:?} instead of {expected:?}); a pooler in \
                     front of the server must pool sessions, not transactions"
                )));
            }
        }
        if setting("current_schema") != self.schema {
            return Err(Error::Session(format!("the schema {:?} does not exist or may not be used", self.schema)));
        }
        setting("backend").parse().map_err(|_| Error::Session("the server did not return its process id".to_owned()))
    }
}

/// Quotes an identifier.
pub(in crate::db) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
