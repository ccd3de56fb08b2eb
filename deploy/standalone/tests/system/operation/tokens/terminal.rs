//! `taskey token login` on a terminal, which `script` of util-linux provides.

use std::{
    io::{BufRead, BufReader, Read, Write},
    process::{Command, Stdio},
    thread::sleep,
    time::Duration,
};

use service_kit::testing::TestDatabase;

use super::{EMAIL, start_with_user, user::User};
use crate::process::{PASSWORD, program};

const PAUSE: Duration = Duration::from_millis(10);

/// Reports whether a terminal shows what is typed.
fn echoes(terminal: &str) -> bool {
    let settings = Command::new("stty").args(["-a", "-F", terminal]).output().expect("`stty` is installed");
    !String::from_utf8_lossy(&settings.stdout).split_whitespace().any(|setting| setting == "-echo")
}

/// Runs a command of `taskey` on a terminal, and types the password when it is asked for. Returns whether the command
/// succeeded, and what the terminal has shown.
pub fn run_with_password(user: &User, arguments: &str) -> (bool, String) {
    let command = format!("tty; {} {arguments}", program("taskey").display());
    let mut terminal = Command::new("script");
    terminal.args(["--quiet", "--return", "--command", &command, "/dev/null"]).env("TASKEY_URL", &user.url);
    terminal.env("XDG_CONFIG_HOME", user.folder.path()).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = terminal.spawn().expect("`script` is installed");
    let (mut keyboard, screen) = (child.stdin.take().expect("piped"), child.stdout.take().expect("piped"));
    let (mut screen, mut terminal) = (BufReader::new(screen), String::new());
    screen.read_line(&mut terminal).expect("the name of the terminal");
    while echoes(terminal.trim()) {
        assert!(child.try_wait().expect("a child").is_none(), "the program has ended");
        sleep(PAUSE);
    }
    writeln!(keyboard, "{PASSWORD}").expect("the terminal is open");
    let mut shown = String::new();
    screen.read_to_string(&mut shown).expect("UTF-8");
    (child.wait().expect("a child").success(), shown)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn password_is_typed_without_being_shown() {
    let database = TestDatabase::sqlite();
    let (_taskey, user) = start_with_user(&database).await;
    let (succeeded, shown) = run_with_password(&user, &format!("token login --email {EMAIL}"));
    assert!(succeeded && shown.contains("logged in as"), "{shown}");
    assert!(shown.contains("Password: ") && !shown.contains(PASSWORD), "{shown}");
}
