//! Database URLs.

use std::{fmt, path::PathBuf, str::FromStr};

use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use sqlx::postgres::PgConnectOptions;

use crate::ops::secret_file;

/// The supported parameters of a `postgres://` URL. They have the same meaning as for psql (PostgreSQL manual, section
/// 32.1.2), except the last one, which is how many prepared statements a connection keeps.
const PARAMETERS: [&str; 12] = [
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "application_name",
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "statement-cache-capacity",
];

/// The parameters with which psql chooses one of several hosts.
const MULTI_HOST_PARAMETERS: [&str; 2] = ["target_session_attrs", "load_balance_hosts"];

/// What to do instead of naming several hosts. libpq tries them one after the other, which takes its whole timeout for
/// each that is frozen; HAProxy already knows which one is the primary.
const ONE_HOST: &str = "the URL must name one host: with several database servers, name HAProxy, which connects to \
                        the primary (deploy/ha shows how)";

/// `sqlite:PATH` or `postgres://...`.
#[derive(Clone)]
pub enum DatabaseUrl {
    /// A file.
    Sqlite(PathBuf),
    /// A server.
    Postgres(PostgresUrl),
}

/// A server, a database and credentials.
#[derive(Clone)]
pub struct PostgresUrl {
    options: Box<PgConnectOptions>,
    /// The files with certificates, and whether each contains the private key of the client.
    files: Vec<(PathBuf, bool)>,
}

impl PostgresUrl {
    pub(super) fn options(&self) -> &PgConnectOptions {
        &self.options
    }

    /// Checks that the files with certificates can be read, because the error of sqlx does not name them, and that other
    /// users cannot read the private key.
    pub(super) fn check_files(&self) -> anyhow::Result<()> {
        for (path, is_secret) in &self.files {
            if *is_secret {
                secret_file::read(path)?;
            } else {
                secret_file::read_public(path)?;
            }
        }
        Ok(())
    }

    /// Describes the server for an error message, without credentials.
    pub(super) fn describe(&self) -> String {
        format!("the database {self:?}")
    }
}

impl FromStr for DatabaseUrl {
    type Err = String;

    fn from_str(url: &str) -> Result<Self, String> {
        if let Some(path) = url.strip_prefix("sqlite:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return match path {
                "" | ":memory:" => Err("a SQLite database needs a file: sqlite:PATH".to_owned()),
                path if path.contains('?') => Err("sqlite:PATH takes no parameters".to_owned()),
                path => Ok(Self::Sqlite(path.into())),
            };
        }
        match url.strip_prefix("postgres://").or_else(|| url.strip_prefix("postgresql://")) {
            Some(rest) => parse_postgres(rest).map(Self::Postgres),
            None => Err("expected sqlite:PATH or postgres://...".to_owned()),
        }
    }
}

/// Parses what follows `postgres://`: `[user[:password]@][host][:port][/database][?name=value&...]`, each part with
/// percent-encoding. No error quotes a part that may be a password.
fn parse_postgres(text: &str) -> Result<PostgresUrl, String> {
    let (location, query) = text.split_once('?').unwrap_or((text, ""));
    let (authority, database) = location.split_once('/').unwrap_or((location, ""));
    let (credentials, address) = authority.rsplit_once('@').unwrap_or(("", authority));
    let (user, password) = credentials.split_once(':').unwrap_or((credentials, ""));
    let (host, port) = parse_address(address)?;
    let mut parameters =
        vec![("user", user), ("password", password), ("host", host), ("port", port), ("dbname", database)];
    parameters.retain(|(_, value)| !value.is_empty());
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').ok_or("a parameter of the URL has no value")?;
        if MULTI_HOST_PARAMETERS.contains(&name) {
            return Err(format!("{name} in the postgres:// URL is not supported; {ONE_HOST}"));
        }
        let is_supported = |supported: &&&str| **supported == name;
        let name = PARAMETERS.iter().find(is_supported).ok_or_else(|| {
            format!("unknown parameter in the postgres:// URL: {name:?}; expected one of {}", PARAMETERS.join(", "))
        })?;
        parameters.retain(|(other, _)| other != name);
        parameters.push((name, value));
    }
    // A comma can be percent-encoded.
    let has_comma = |value: &str| percent_decode_str(value).any(|byte| byte == b',');
    if parameters.iter().any(|(name, value)| ["host", "hostaddr", "port"].contains(name) && has_comma(value)) {
        return Err(format!("the postgres:// URL names several hosts; {ONE_HOST}"));
    }
    if ["host", "hostaddr"].iter().all(|name| parameters.iter().any(|(other, _)| other == name)) {
        return Err("the postgres:// URL contains a host and a hostaddr; use only one of them".to_owned());
    }
    check_tls(&mut parameters)?;
    to_options(&parameters)
}

/// Checks the parameters of TLS. As for psql, `require` verifies the certificate of the server if there is a file with
/// authorities; sqlx would accept any certificate.
fn check_tls(parameters: &mut [(&str, &str)]) -> Result<(), String> {
    let has = |name: &str| parameters.iter().any(|(other, _)| *other == name);
    if has("sslcert") != has("sslkey") {
        return Err("the postgres:// URL needs both sslcert and sslkey, or neither".to_owned());
    }
    if has("sslrootcert")
        && let Some(mode) = parameters.iter_mut().find(|parameter| **parameter == ("sslmode", "require"))
    {
        mode.1 = "verify-ca";
    }
    Ok(())
}

/// Splits `host:port`, where a host in brackets is an IPv6 address.
fn parse_address(address: &str) -> Result<(&str, &str), String> {
    if let Some(rest) = address.strip_prefix('[') {
        let (host, port) = rest.split_once(']').ok_or("an IPv6 address in the postgres:// URL lacks its ]")?;
        return match port.strip_prefix(':') {
            Some(port) => Ok((host, port)),
            None if port.is_empty() => Ok((host, "")),
            None => Err("expected :PORT after the ] of the postgres:// URL".to_owned()),
        };
    }
    Ok(address.rsplit_once(':').unwrap_or((address, "")))
}

/// Converts the parameters to the options of sqlx. They are passed in the query of a URL, because elsewhere sqlx keeps
/// the brackets of IPv6 addresses, and rejects credentials without a host.
fn to_options(parameters: &[(&str, &str)]) -> Result<PostgresUrl, String> {
    let (mut url, mut files) = ("postgres:///?".to_owned(), Vec::new());
    for (name, value) in parameters {
        let decoded = percent_decode_str(value).decode_utf8();
        let decoded = decoded.map_err(|_| format!("{name} in the postgres:// URL is not UTF-8"))?;
        if ["sslrootcert", "sslcert", "sslkey"].contains(name) {
            files.push((PathBuf::from(&*decoded), *name == "sslkey"));
        }
        let encoded = utf8_percent_encode(&decoded, NON_ALPHANUMERIC);
        url.extend([name, "="].into_iter().chain(encoded).chain(["&"]));
    }
    for (name, value) in parameters {
        let is_number = value.parse::<u16>().is_ok_and(|number| number > 0);
        if *name == "port" && !is_number {
            return Err("the port in the postgres:// URL must be a number from 1 to 65535".to_owned());
        }
    }
    // The error might quote the password.
    let options = url.parse().map_err(|_| "a parameter of the postgres:// URL has a wrong value".to_owned())?;
    Ok(PostgresUrl { options: Box::new(options), files })
}

impl fmt::Debug for DatabaseUrl {
    /// Shows no credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            Self::Postgres(url) => write!(f, "postgres://{url:?}"),
        }
    }
}

impl fmt::Debug for PostgresUrl {
    /// Shows the host and the port only.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let port = self.options.get_port();
        match (self.options.get_socket(), self.options.get_host()) {
            (Some(folder), _) => write!(f, "{}:{port}", folder.display()),
            (None, host) if host.contains(':') => write!(f, "[{host}]:{port}"),
            (None, host) => write!(f, "{host}:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use sqlx::postgres::PgSslMode;

    use super::*;

    fn options(url: &str) -> PgConnectOptions {
        match url.parse() {
            Ok(DatabaseUrl::Postgres(url)) => *url.options,
            other => panic!("{url}: {other:?}"),
        }
    }

    #[test]
    fn url_has_the_same_meaning_as_for_psql() {
        let plain = options("postgres://me:p%40ss@db.example.com:6543/tasks?sslmode=verify-full&application_name=x");
        assert_eq!((plain.get_host(), plain.get_port(), plain.get_username()), ("db.example.com", 6543, "me"));
        assert_eq!((plain.get_database(), plain.get_application_name()), (Some("tasks"), Some("x")));
        assert!(matches!(plain.get_ssl_mode(), PgSslMode::VerifyFull));
        let address = options("postgresql://u:p@[::1]:5432/d");
        assert_eq!((address.get_host(), address.get_port()), ("::1", 5432));
        for socket in ["postgres://u:p@/d?host=/run/postgresql", "postgres://u:p@%2Frun%2Fpostgresql/d"] {
            let socket = options(socket);
            assert_eq!(socket.get_socket().and_then(|path| path.to_str()), Some("/run/postgresql"));
            assert_eq!((socket.get_username(), socket.get_database()), ("u", Some("d")));
        }
        let parameters = options("postgres:///?host=h&port=1&dbname=d&user=u");
        assert_eq!((parameters.get_host(), parameters.get_port(), parameters.get_username()), ("h", 1, "u"));
    }

    #[test]
    fn required_tls_is_verified_if_there_are_authorities() {
        let mode = |parameters: &str| options(&format!("postgres://u@h/d?{parameters}")).get_ssl_mode();
        assert!(matches!(mode("sslmode=require"), PgSslMode::Require));
        assert!(matches!(mode("sslmode=require&sslrootcert=ca.pem"), PgSslMode::VerifyCa));
        assert!(matches!(mode("sslrootcert=ca.pem&sslmode=verify-full"), PgSslMode::VerifyFull));
    }

    #[test]
    fn error_of_an_invalid_url_does_not_contain_the_password() {
        for (url, part) in [
            ("postgres://u:hunter2@h/d?sslmod=verify-full", "sslmod"),
            ("postgres://u:hunter2@h/d?sslmode=sometimes", "wrong value"),
            ("postgres://u:hunter2@h:x/d", "port"),
            ("postgres://u:hunter2@h:0/d", "port"),
            ("postgres://u:hunter2@h1,h2/d", "HAProxy"),
            ("postgres://u:hunter2@h1:1,h2:2/d?target_session_attrs=read-write", "HAProxy"),
            ("postgres://u:hunter2@[::1]:1,[::2]:2/d", "HAProxy"),
            ("postgres://u:hunter2@/d?host=h1%2Ch2", "HAProxy"),
            ("postgres://u:hunter2@h/d?port=1,2", "HAProxy"),
            ("postgres://u:hunter2@h/d?target_session_attrs=primary", "target_session_attrs"),
            ("postgres://u:hunter2@h/d?load_balance_hosts=random", "HAProxy"),
            ("postgres://u:hunter2@[::1/d", "]"),
            ("postgres://u:hunter2@h/d?host=other&hostaddr=127.0.0.1", "hostaddr"),
            ("postgres://u:hunter2@h/d?sslmode", "no value"),
            ("postgres://u:hunter2@h/d?sslcert=x", "both sslcert and sslkey"),
            ("mysql://u:hunter2@h/d", "expected"),
        ] {
            let error = url.parse::<DatabaseUrl>().expect_err(url);
            assert!(error.contains(part) && !error.contains("hunter2"), "{url}: {error}");
        }
    }

    #[test]
    fn server_is_shown_without_credentials() {
        for (url, shown) in [
            ("postgres://u:hunter2@h:1/d", "postgres://h:1"),
            ("postgres://u:hunter2@[::1]:1/d", "postgres://[::1]:1"),
            ("postgres://u:hunter2@:2/d?host=/run", "postgres:///run:2"),
        ] {
            assert_eq!(format!("{:?}", url.parse::<DatabaseUrl>().expect(url)), shown);
        }
    }
}
