//! A user of `taskey token`.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Output, Stdio},
};

use serde_json::Value;
use service_kit::testing::folder;
use tempfile::TempDir;
use tokio::{io::AsyncWriteExt, process::Command};

use crate::process::{PASSWORD, program};

pub const EMAIL: &str = "ann@example.com";
pub const LOGIN: [&str; 4] = ["login", "--email", EMAIL, "--password-stdin"];

/// A user of the command, with a configuration directory.
pub struct User {
    pub folder: TempDir,
    pub url: String,
    pub environment: Vec<(String, String)>,
}

impl User {
    /// Returns a user of the gateway at this address.
    pub fn of(gateway: SocketAddr) -> Self {
        Self { folder: folder(), url: format!("http://{gateway}"), environment: Vec::new() }
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        self.subcommand("token", arguments)
    }

    fn subcommand(&self, name: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program("taskey"));
        command.arg(name).args(arguments).env("TASKEY_URL", &self.url).env("XDG_CONFIG_HOME", self.folder.path());
        command.envs(self.environment.clone()).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs the command with this standard input.
    pub async fn run(&self, arguments: &[&str], input: &str) -> Output {
        let mut child = self.command(arguments).spawn().expect("the program starts");
        // The program may end without reading its input.
        _ = child.stdin.take().expect("piped").write_all(input.as_bytes()).await;
        child.wait_with_output().await.expect("the program ends")
    }

    /// Runs `taskey users`.
    pub async fn administer(&self, arguments: &[&str]) -> Output {
        self.subcommand("users", arguments).output().await.expect("the program runs")
    }

    pub async fn log_in(&self) {
        let Output { status, stderr, .. } = self.run(&LOGIN, &format!("{PASSWORD}\n")).await;
        assert!(status.success(), "{}", text(&stderr));
    }

    pub async fn print(&self) -> String {
        let Output { status, stdout, stderr } = self.run(&["print"], "").await;
        assert!(status.success(), "{}", text(&stderr));
        text(&stdout).trim_end().to_owned()
    }

    /// Runs a command that fails with this exit code, and returns its error.
    pub async fn fail(&self, arguments: &[&str], input: &str, code: i32) -> String {
        let Output { status, stdout, stderr } = self.run(arguments, input).await;
        assert_eq!((status.code(), text(&stdout)), (Some(code), String::new()), "{}", text(&stderr));
        text(&stderr)
    }

    /// Returns the file with the tokens, and whether it exists.
    pub fn file(&self) -> (PathBuf, bool) {
        let name = self.url.replace("://", "-").replace(':', "-");
        let path = self.folder.path().join("taskey").join(name).with_added_extension("json");
        let exists = path.exists();
        (path, exists)
    }

    /// Makes the stored access token look expired.
    pub fn expire(&self) {
        let (path, _) = self.file();
        let mut stored = read(&path);
        stored["access_expire_time"] = 0.into();
        fs::write(path, stored.to_string()).expect("the file is writable");
    }
}

pub fn text(output: &[u8]) -> String {
    String::from_utf8(output.to_vec()).expect("UTF-8")
}

pub fn read(file: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(file).expect("the file exists")).expect("JSON")
}
