//! The servers of a scenario, and the proxies in front of them.

use std::{fs, net::SocketAddr, path::PathBuf, process::Command};

use aws_lc_rs::hmac;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use clap::Parser;
use serde_json::{Map, Value, json};
use service_kit::{
    auth::rotation::{self, NewKey},
    testing::{certificates::Authority, folder},
};
use task_service::{config::DatabaseArgs, recovery};
use tempfile::TempDir;
use tokio::task::spawn_blocking;
use tonic_health::pb::health_check_response::ServingStatus;

use super::{
    fake::Fake,
    scenario::{Keys, Kind, Server, Tls},
};
use crate::{
    faults::proxy::{Mode, Proxy, Upstream},
    process::{PASSWORD, Process, program, wait_for_health},
};

const LISTENERS: [&str; 4] = ["auth", "task", "gateway", "ops"];

/// The servers of one scenario, in a folder of their own.
pub struct World {
    pub folder: TempDir,
    server: Server,
    taskey: Option<Process>,
    pub fake: Option<Fake>,
    /// In front of the gateway, or of the scripted server.
    gateway: Proxy,
    /// In front of auth-service, or of the scripted server.
    auth: Proxy,
}

impl World {
    pub async fn start(server: &Server) -> Self {
        // Nothing listens there until the server is started.
        let nowhere = || Proxy::start(Upstream::Tcp(SocketAddr::from(([127, 0, 0, 1], 1))));
        let (server, folder) = (server.clone(), folder());
        let mut world = Self { folder, server, taskey: None, fake: None, gateway: nowhere(), auth: nowhere() };
        world.write_files();
        match world.server.kind {
            Kind::Taskey => world.start_taskey().await,
            Kind::Fake => {
                let fake = Fake::start().await;
                world.gateway.redirect_to(Upstream::Tcp(fake.address));
                world.auth.redirect_to(Upstream::Tcp(fake.address));
                world.fake = Some(fake);
            }
        }
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Creates the keys of access tokens, and the certificates of the server and of its clients.
    fn write_files(&self) {
        let kind = if self.server.keys == Keys::Pair { NewKey::EdDsa } else { NewKey::Hs256 };
        rotation::generate(kind, &self.path("keys.json")).expect("a key file");
        let authority = Authority::new("conformance");
        _ = authority.write(self.folder.path(), "ca");
        _ = Authority::new("other").write(self.folder.path(), "other-ca");
        _ = authority.issue(&["127.0.0.1", "localhost"]).write(self.folder.path(), "server");
        _ = authority.issue(&["client"]).write(self.folder.path(), "client");
    }

    /// Starts `taskey`, and connects the proxies to it.
    pub async fn start_taskey(&mut self) {
        let mut command = Command::new(program("taskey"));
        command.arg("--data-dir").arg(self.path("data")).arg("--key-file").arg(self.path("keys.json"));
        command.args(LISTENERS.map(|name| format!("--{name}-listen=127.0.0.1:0")));
        command.args(["--password-memory-kib", "8", "--password-passes", "1", "--log", "warn"]);
        // The machine may be busy with other tests.
        command.args(["--request-timeout", "10s", "--database-timeout", "10s"]);
        if !self.server.flags.iter().any(|flag| flag.starts_with("--rate-limits")) {
            command.args(["--rate-limits", "off"]);
        }
        if self.server.tls != Tls::Off {
            command.arg("--tls-cert-file").arg(self.path("server.crt"));
            command.arg("--tls-key-file").arg(self.path("server.key"));
        }
        if self.server.tls == Tls::Mutual {
            command.arg("--tls-client-ca-file").arg(self.path("ca.pem"));
        }
        command.args(&self.server.flags).stderr(fs::File::create(self.path("taskey.log")).expect("writable"));
        let started = spawn_blocking(move || Process::spawn(&mut command, &LISTENERS)).await;
        let taskey = started.expect("taskey starts");
        wait_for_health(crate::process::channel(taskey.address("ops")), ServingStatus::Serving).await;
        self.gateway.redirect_to(Upstream::Tcp(taskey.address("gateway")));
        self.auth.redirect_to(Upstream::Tcp(taskey.address("auth")));
        self.taskey = Some(taskey);
    }

    /// Sends a signal to `taskey`, and waits until it has exited.
    pub async fn stop_taskey(&mut self, signal: &str) {
        if let Some(mut taskey) = self.taskey.take() {
            taskey.signal(signal);
            taskey.wait_for_exit().await;
        }
    }

    /// Changes the mode of both proxies.
    pub async fn set_mode(&self, mode: &str) -> Result<(), String> {
        for proxy in [&self.gateway, &self.auth] {
            match mode {
                "forward" => proxy.set(Mode::Forward),
                "cut" => proxy.cut().await,
                "freeze" => proxy.set(Mode::Frozen),
                "stall_responses" => proxy.set(Mode::StalledResponses),
                other => return Err(format!("unknown mode {other:?} of the proxy")),
            }
        }
        Ok(())
    }

    pub fn abandon_connections(&self) {
        self.gateway.abandon_connections();
        self.auth.abandon_connections();
    }

    /// Returns the variables of a scenario: addresses, files and values.
    pub fn variables(&self) -> Map<String, Value> {
        let file = |name: &str| json!(self.path(name).display().to_string());
        let taskey = |name: &str| json!(self.taskey.as_ref().map(|taskey| taskey.address(name).to_string()));
        let entries = [
            ("gateway", json!(self.gateway.address().to_string())),
            ("auth", json!(self.auth.address().to_string())),
            ("direct", taskey("gateway")),
            ("password", json!(PASSWORD)),
            ("key_file", file("keys.json")),
            ("ca_file", file("ca.pem")),
            ("other_ca_file", file("other-ca.pem")),
            ("client_cert_file", file("client.crt")),
            ("client_key_file", file("client.key")),
        ];
        entries.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    pub fn ops_address(&self) -> Option<SocketAddr> {
        self.taskey.as_ref().map(|taskey| taskey.address("ops"))
    }

    /// Runs a command of auth-service on the data of `taskey`, and returns its output.
    pub async fn auth_service(&self, arguments: &[String]) -> Result<String, String> {
        let mut command = tokio::process::Command::new(program("auth-service"));
        let url = format!("sqlite:{}", self.path("data/auth.db").display());
        command.args(arguments).env("TASKEY_DATABASE_URL", url).env("TASKEY_KEY_FILE", self.path("keys.json"));
        let output = command.output().await.expect("the program starts");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    /// Begins a new epoch of the tasks, as the restoration of a backup does.
    pub async fn lose_history(&self) {
        #[derive(Parser)]
        struct Cli {
            #[command(flatten)]
            database: DatabaseArgs,
        }
        let url = format!("sqlite:{}", self.path("data/task.db").display());
        let database = Cli::parse_from(["", "--database-url", &url]).database;
        recovery::begin_epoch(&database).await.expect("the database is usable");
    }

    /// Signs an access token with the key of the scenario, which must be a shared secret.
    pub fn sign(&self, claims: &Value) -> String {
        let keys = fs::read(self.path("keys.json")).expect("the key file exists");
        let keys: Value = serde_json::from_slice(&keys).expect("JSON");
        let key = &keys["keys"][0];
        let encode = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        let header = json!({"alg": "HS256", "kid": key["kid"], "typ": "at+jwt"});
        let message = format!("{}.{}", encode(&header), encode(claims));
        let secret = BASE64_URL_SAFE_NO_PAD.decode(key["k"].as_str().expect("a shared secret")).expect("base64url");
        let secret = hmac::Key::new(hmac::HMAC_SHA256, &secret);
        let signature = hmac::sign(&secret, message.as_bytes());
        format!("{message}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
    }

    /// Returns the end of the log of `taskey`.
    pub fn log(&self) -> String {
        let log = fs::read_to_string(self.path("taskey.log")).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(10)..].join("\n")
    }
}
