//! The subcommands of `token` and their options.

use std::{net::IpAddr, path::PathBuf};

use anyhow::Context;
use clap::{Args, Subcommand};
use service_kit::{
    clock::Clock,
    ops::config::endpoint,
    tls::{Dialer, UpstreamTlsArgs},
};
use tonic::transport::{Endpoint, Uri};

/// The commands for the tokens of a user.
#[derive(Clone, Debug, Subcommand)]
pub enum TokenCommand {
    /// Log in, and store the tokens of the session in a file with mode 0600. Asks for the password on the terminal. A
    /// session that was stored before is revoked
    Login(LoginArgs),
    /// Print an access token that is valid for at least 30 s, for scripts: `TOKEN=$(taskey token print)`. Refreshes the
    /// stored token if necessary. Can be run by several processes at the same time
    Print(InstallationArgs),
    /// Revoke the session and delete the file with its tokens. Succeeds if there is no such file
    Logout(InstallationArgs),
}

/// The options of `login`.
#[derive(Args, Clone, Debug)]
pub struct LoginArgs {
    /// Email address of the account [default: asks for it]
    #[arg(long)]
    pub email: Option<String>,

    /// Log in without a password here: prints the address of a page and a code, and waits until you allow the login on that
    /// page, in a browser on this or another machine
    #[arg(long, conflicts_with_all = ["email", "password_stdin", "code"])]
    pub device: bool,

    /// Scopes of the session, separated by spaces, such as "tasks.read tasks.write" [default: all that your roles permit]
    #[arg(long, value_name = "SCOPES", requires = "device")]
    pub scope: Option<String>,

    /// Read the password from the first line of the standard input
    #[arg(long, requires = "email")]
    pub password_stdin: bool,

    /// Code of an authenticator app, or a recovery code, if the account has a second factor [default: asked for]
    #[arg(long, value_name = "CODE")]
    pub code: Option<String>,

    /// The installation.
    #[command(flatten)]
    pub installation: InstallationArgs,
}

/// An installation of Taskey, and the file with the tokens for it.
#[derive(Args, Clone, Debug)]
pub struct InstallationArgs {
    /// URL of the gateway
    #[arg(long, env = "TASKEY_URL", default_value = "http://localhost:8080", value_name = "URL", value_parser = gateway_url)]
    pub url: Endpoint,

    /// File with the tokens [default: a file for each URL, in taskey in the user's configuration directory]
    #[arg(long, env = "TASKEY_TOKEN_FILE", value_name = "FILE")]
    pub token_file: Option<PathBuf>,

    /// File with the certificates of the authorities that issue the certificate of the gateway (PEM), for https URLs
    /// [default: the authorities of the system]
    #[arg(long, env = "TASKEY_CA_FILE", value_name = "FILE")]
    pub ca_file: Option<PathBuf>,

    /// File with the certificate of this client, and those of its issuers (PEM)
    #[arg(long, env = "TASKEY_CLIENT_CERT_FILE", value_name = "FILE", requires = "client_key_file")]
    pub client_cert_file: Option<PathBuf>,

    /// File with the private key of that certificate (PEM); must have mode 0600, or 0440 if root owns it
    #[arg(long, env = "TASKEY_CLIENT_KEY_FILE", value_name = "FILE", requires = "client_cert_file")]
    pub client_key_file: Option<PathBuf>,

    /// Allow http URLs with other hosts than this one, where the password and tokens can be intercepted
    #[arg(long, env = "TASKEY_INSECURE_PLAINTEXT")]
    pub insecure_plaintext: bool,
}

impl InstallationArgs {
    /// Returns the URL with its port, in one spelling for each installation.
    pub fn name(&self) -> String {
        let (scheme, host, port) = self.origin();
        format!("{scheme}://{host}:{port}")
    }

    /// Returns the name of the file with the tokens.
    pub fn file_name(&self) -> String {
        let (scheme, host, port) = self.origin();
        format!("{scheme}-{host}-{port}.json")
    }

    fn origin(&self) -> (&str, String, u16) {
        let url = self.url.uri();
        let scheme = url.scheme_str().unwrap_or("http");
        let default_port = if scheme == "https" { 443 } else { 80 };
        (scheme, host(url).to_lowercase(), url.port_u16().unwrap_or(default_port))
    }

    /// Returns a dialer for the URL.
    ///
    /// # Errors
    /// If a file is unusable, or the connection could be intercepted and this is not allowed.
    pub async fn dialer(&self, clock: &Clock) -> anyhow::Result<Dialer> {
        let url = self.url.uri();
        if url.scheme_str() != Some("https") {
            anyhow::ensure!(
                self.insecure_plaintext || is_local(host(url)),
                "others can intercept the password and the tokens on the way to {}: use an https URL, or \
                 --insecure-plaintext in a network where nobody else can read the traffic",
                self.name()
            );
            return Ok(Dialer::plaintext());
        }
        let ca_file = self.ca_file.clone().or_else(|| openssl_probe::probe().cert_file);
        let ca_file = ca_file.context("the authorities of this system were not found: use --ca-file")?;
        let tls = UpstreamTlsArgs {
            upstream_ca_file: Some(ca_file),
            upstream_cert_file: self.client_cert_file.clone(),
            upstream_key_file: self.client_key_file.clone(),
        };
        tls.open([url], clock).await
    }
}

fn host(url: &Uri) -> &str {
    url.host().unwrap_or_default()
}

/// Reports whether a host is this machine.
fn is_local(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse();
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address: IpAddr| address.to_canonical().is_loopback())
}

/// Parses the URL of a gateway.
fn gateway_url(text: &str) -> Result<Endpoint, String> {
    let endpoint = endpoint(text)?;
    match endpoint.uri().authority() {
        Some(authority) if authority.as_str().contains('@') => {
            Err("expected a URL without a user: use --email".to_owned())
        }
        _ => Ok(endpoint),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        installation: InstallationArgs,
    }

    fn installation(url: &str) -> InstallationArgs {
        Cli::parse_from(["test", "--url", url]).installation
    }

    #[test]
    fn spellings_of_a_url_share_a_file() {
        let file = |url| installation(url).file_name();
        assert_eq!(file("https://Tasks.example.org"), "https-tasks.example.org-443.json");
        assert_eq!(file("https://tasks.example.org:443/"), "https-tasks.example.org-443.json");
        assert_eq!(file("http://[::1]:8080"), "http-[::1]-8080.json");
        assert_ne!(file("http://localhost:443"), file("https://localhost:443"));
    }

    #[test]
    fn url_must_not_contain_a_password() {
        assert!(gateway_url("http://ann:secret@localhost:8080").is_err());
        assert!(gateway_url("http://localhost:8080/path").is_err() && gateway_url("ftp://localhost").is_err());
    }

    #[test]
    fn only_loopback_addresses_are_local() {
        assert!(is_local("localhost") && is_local("127.0.0.2") && is_local("[::1]"));
        assert!(!is_local("192.0.2.1") && !is_local("localhost.example.org") && !is_local("[2001:db8::1]"));
    }
}
