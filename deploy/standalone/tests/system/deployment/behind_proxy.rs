//! Browsers and gRPC clients of a gateway behind each proxy of `deploy/proxy`, which terminates TLS.

use std::{net::SocketAddr, path::Path, process::Stdio, time::Duration};

use serde_json::Value;
use service_kit::testing::TestDatabase;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    time::{sleep, timeout},
};

use super::{
    proxy::{HOST, Proxy},
    template::find_program,
};
use crate::{
    faults::{
        programs::start_taskey,
        users::{CALL_TIMEOUT, sign_up},
    },
    process::{PASSWORD, Process, channel},
};

/// Longer than any proxy keeps idle connections to the gateway, and than the default timeouts of the proxies.
const SILENCE: Duration = Duration::from_secs(65);

/// The client's address ends with this byte.
const CLIENT: u8 = 7;

/// `taskey` behind a proxy.
struct Site {
    proxy: Proxy,
    /// The access token of ann@example.com.
    token: String,
    /// Killed when they are dropped.
    _programs: (Process, TestDatabase),
}

impl Site {
    async fn start(start_proxy: impl AsyncFnOnce(&Path, SocketAddr) -> Proxy) -> Self {
        let database = TestDatabase::sqlite();
        let taskey = start_taskey(&database, &["--trusted-proxies", "127.0.0.1"]).await;
        let proxy = start_proxy(database.folder(), taskey.address("gateway")).await;
        sign_up(&channel(taskey.address("auth")), "ann@example.com").await.expect("signed up");
        let mut site = Self { proxy, token: String::new(), _programs: (taskey, database) };
        let login = site.log_in("/v1/auth/login", &["x-forwarded-for: 198.51.100.1, unknown"]).await;
        let body = login.rsplit("\r\n\r\n").next().expect("a body");
        let pair: Value = serde_json::from_str(body).expect("JSON");
        pair["accessToken"].as_str().expect("a token").clone_into(&mut site.token);
        site
    }

    /// Logs in, and returns the headers and the body of the response.
    async fn log_in(&self, path: &str, headers: &[&str]) -> String {
        let body = format!(r#"{{"email": "ann@example.com", "password": "{PASSWORD}"}}"#);
        let mut command = self.proxy.curl(CLIENT, path);
        command.args(["--include", "--data", &body, "--header", "content-type: application/json"]);
        command.args(headers.iter().flat_map(|header| ["--header", header]));
        let output = command.output().await.expect("curl is installed");
        assert!(output.status.success(), "{}: {}", self.proxy.name, String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    /// Calls a method with the access token, and returns the JSON.
    async fn call(&self, path: &str, options: &[&str]) -> Value {
        let mut command = self.proxy.curl(CLIENT, path);
        command.args(["--fail", "--header", &format!("authorization: Bearer {}", self.token)]).args(options);
        let output = command.output().await.expect("curl is installed");
        assert!(output.status.success(), "{} {path}: {}", self.proxy.name, String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).expect("JSON")
    }

    async fn assert_client_address_is_seen(&self) {
        let events = self.call("/v1/me/securityEvents", &[]).await;
        let addresses: Vec<_> =
            events["events"].as_array().expect("events").iter().map(|event| &event["ipAddress"]).collect();
        assert_eq!(*addresses[0], format!("127.0.1.{CLIENT}"), "{}: {addresses:?}", self.proxy.name);
    }

    /// A browser without `Sec-Fetch-Site`: its origin is compared with the host that the gateway sees.
    async fn assert_cookies_are_secure(&self) {
        let origin = format!("origin: https://{HOST}:{}", self.proxy.address.port());
        let response = self.log_in("/v1/auth/login?cookie=true", &[&origin]).await.to_ascii_lowercase();
        let cookies: Vec<_> = response.lines().filter(|line| line.starts_with("set-cookie: ")).collect();
        assert_eq!(cookies.len(), 2, "{}: {response}", self.proxy.name);
        for cookie in cookies {
            assert!(cookie.starts_with("set-cookie: __host-taskey_") && cookie.contains("; secure"), "{cookie}");
        }
        let refused = self.log_in("/v1/auth/login?cookie=true", &["origin: https://evil.example"]).await;
        assert!(refused.contains(" 403") && refused.contains("PERMISSION_DENIED"), "{}: {refused}", self.proxy.name);
    }

    async fn assert_grpc_clients_are_served(&self) {
        let authority = self.proxy.certificate.authority.to_str().expect("made of ASCII");
        let mut command = tokio::process::Command::new(find_program("grpcurl"));
        command.args([
            "-cacert",
            authority,
            "-authority",
            HOST,
            "-H",
            &format!("authorization: Bearer {}", self.token),
        ]);
        command.args([&self.proxy.address.to_string(), "taskey.auth.v1.AccountService/GetMe"]);
        let output = command.output().await.expect("the program starts");
        let text = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(text.contains("ann@example.com"), "{}: {text}{errors}", self.proxy.name);
    }

    /// A watch has no changes for long, and the connections of the proxy to the gateway are idle. Then both are used.
    async fn assert_long_silence_breaks_nothing(&self) {
        let mut command = self.proxy.curl(CLIENT, "/v1/tasks:watch");
        command.args(["--no-buffer", "--header", &format!("authorization: Bearer {}", self.token)]);
        let mut watch = command.stdout(Stdio::piped()).spawn().expect("curl is installed");
        let mut messages = BufReader::new(watch.stdout.take().expect("piped")).lines();
        let first = timeout(CALL_TIMEOUT, messages.next_line()).await;
        first.expect("the first message arrives at once").expect("UTF-8").expect("not the end");
        sleep(SILENCE).await;
        let title = ["--data", r#"{"title": "Buy milk"}"#, "--header", "content-type: application/json"];
        let task = self.call("/v1/tasks", &title).await;
        let id = task["id"].as_str().expect("an id");
        let arrived = async {
            // Checkpoints came before it.
            while !messages.next_line().await.expect("UTF-8").expect("not the end").contains(id) {}
        };
        assert!(timeout(CALL_TIMEOUT, arrived).await.is_ok(), "{}: no change arrived", self.proxy.name);
    }

    async fn assert_everything(self) {
        self.assert_client_address_is_seen().await;
        self.assert_cookies_are_secure().await;
        self.assert_grpc_clients_are_served().await;
        self.assert_long_silence_breaks_nothing().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_behind_nginx_are_served() {
    Site::start(Proxy::nginx).await.assert_everything().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_behind_haproxy_are_served() {
    Site::start(Proxy::haproxy).await.assert_everything().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_behind_caddy_are_served() {
    Site::start(Proxy::caddy).await.assert_everything().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_behind_envoy_are_served() {
    let start = async |folder: &Path, gateway| Proxy::envoy(folder, [gateway, gateway]).await;
    Site::start(start).await.assert_everything().await;
}
