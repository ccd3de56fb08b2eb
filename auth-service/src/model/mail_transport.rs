//! How mails are delivered.

use std::{net::IpAddr, path::PathBuf, str::FromStr};

use http::uri::Authority;

/// How mails are delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TransportSetting {
    /// By an SMTP server.
    Smtp(SmtpServer),
    /// By a program, which is followed by its arguments.
    Command(Vec<String>),
    /// As files in a directory.
    File(PathBuf),
    /// Not at all.
    Off,
}

/// An SMTP server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SmtpServer {
    /// The host name or address.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The user name. Without one, the client does not authenticate.
    pub user: Option<String>,
    /// Whether the connection begins with TLS. Otherwise, it begins in plain text and is upgraded.
    pub has_implicit_tls: bool,
}

impl SmtpServer {
    /// Reports whether the server is on this machine, so that nobody else can read the connection.
    #[must_use]
    pub fn is_local(&self) -> bool {
        let address = self.host.trim_matches(['[', ']']).parse::<IpAddr>();
        self.host == "localhost" || address.is_ok_and(|address| address.is_loopback())
    }

    fn parse(text: &str, has_implicit_tls: bool) -> Result<Self, &'static str> {
        const EXPECTED: &str = "expected smtp://USER@HOST:PORT";
        let (user, server) = match text.trim_end_matches('/').rsplit_once('@') {
            Some((user, server)) => (Some(user.to_owned()), server),
            None => (None, text.trim_end_matches('/')),
        };
        if user.as_ref().is_some_and(|user| user.contains(':')) {
            return Err("must not contain the password; use --mail-password-file");
        }
        if user.as_ref().is_some_and(|user| user.is_empty() || user.chars().any(char::is_control)) {
            return Err(EXPECTED);
        }
        let server: Authority = server.parse().map_err(|_| EXPECTED)?;
        let has_port = server.as_str().len() > server.host().len();
        let port = match has_implicit_tls {
            _ if has_port => server.port_u16().filter(|port| *port > 0).ok_or(EXPECTED)?,
            true => 465,
            false => 587,
        };
        if server.host().is_empty() {
            return Err(EXPECTED);
        }
        Ok(Self { host: server.host().to_owned(), port, user, has_implicit_tls })
    }
}

impl FromStr for TransportSetting {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "off" {
            return Ok(Self::Off);
        }
        let (kind, rest) = text.split_once(':').unwrap_or((text, ""));
        match (kind, rest.strip_prefix("//")) {
            ("smtp", Some(server)) => SmtpServer::parse(server, false).map(Self::Smtp),
            ("smtps", Some(server)) => SmtpServer::parse(server, true).map(Self::Smtp),
            ("command", _) if rest.starts_with('/') => {
                Ok(Self::Command(rest.split_ascii_whitespace().map(str::to_owned).collect()))
            }
            ("command", _) => Err("expected the absolute path of a program, and its arguments"),
            ("file", _) if !rest.is_empty() => Ok(Self::File(rest.into())),
            _ => Err("expected smtp://HOST, smtps://HOST, command:PROGRAM, file:FOLDER or off"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn smtp(text: &str) -> (String, u16, Option<String>, bool) {
        match text.parse().expect(text) {
            TransportSetting::Smtp(SmtpServer { host, port, user, has_implicit_tls }) => {
                (host, port, user, has_implicit_tls)
            }
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn smtp_servers_have_the_ports_of_submission_by_default() {
        assert_eq!(smtp("smtp://mx.example.org"), ("mx.example.org".to_owned(), 587, None, false));
        assert_eq!(smtp("smtps://mx.example.org/"), ("mx.example.org".to_owned(), 465, None, true));
        let user = Some("ann@example.org".to_owned());
        assert_eq!(smtp("smtp://ann@example.org@[::1]:25"), ("[::1]".to_owned(), 25, user, false));
    }

    #[test]
    fn programs_are_followed_by_their_arguments() {
        let setting: TransportSetting = "command:/usr/sbin/sendmail -i -t".parse().expect("valid");
        assert_eq!(setting, TransportSetting::Command(["/usr/sbin/sendmail", "-i", "-t"].map(str::to_owned).into()));
    }

    #[test]
    fn other_settings_are_refused() {
        for text in [
            "",
            "smtp:",
            "smtp://",
            "smtp://@host",
            "smtp://host:0",
            "smtp://host:99999",
            "smtp://ann:secret@host",
            "smtp://host/path",
            "smtp://a\r\nb@host",
            "command:",
            "command:sendmail",
            "file:",
            "on",
        ] {
            assert!(text.parse::<TransportSetting>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn only_this_machine_is_local() {
        let is_local = |host: &str| SmtpServer::parse(host, false).expect(host).is_local();
        assert!(["localhost", "127.0.0.1", "127.1.2.3:25", "[::1]:25"].into_iter().all(is_local));
        assert!(!["localhost.example.org", "192.0.2.1", "[2001:db8::1]"].into_iter().any(is_local));
    }
}
