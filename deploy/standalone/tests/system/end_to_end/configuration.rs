//! Settings from flags, environment variables and the configuration file.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output},
};

use service_kit::testing::folder;

use super::processes::program;

/// Writes a configuration file with mode 0600, and returns its directory.
fn config(text: &str) -> tempfile::TempDir {
    let folder = folder();
    let file = folder.path().join("taskey.toml");
    fs::write(&file, text).expect("written");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("changed");
    folder
}

fn run(folder: &Path, variables: &[(&str, &str)], arguments: &[&str]) -> Output {
    let mut command = Command::new(program("taskey"));
    command.current_dir(folder).env_clear().envs(variables.iter().copied()).args(arguments);
    command.output().expect("the program runs")
}

/// Returns the line of a setting in the output of `config print`.
#[track_caller]
fn printed(text: &str, variables: &[(&str, &str)], flags: &[&str], setting: &str) -> String {
    let folder = config(text);
    let arguments = [&["config", "print", "--config", "taskey.toml"], flags].concat();
    let output = run(folder.path(), variables, &arguments);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let lines = String::from_utf8(output.stdout).expect("UTF-8");
    let line = lines.lines().find(|line| line.starts_with(&format!("{setting} = ")));
    line.unwrap_or_else(|| panic!("{setting} is not in {lines}")).to_owned()
}

/// Asserts that a server and `config check` refuse the settings with the same message in one line.
#[track_caller]
fn assert_refused(text: &str, variables: &[(&str, &str)], expected: &str) {
    let folder = config(text);
    for arguments in [&["config", "check", "--config", "taskey.toml"][..], &["--config", "taskey.toml"]] {
        let output = run(folder.path(), variables, arguments);
        let errors = String::from_utf8(output.stderr).expect("UTF-8");
        assert_eq!(output.status.code(), Some(2), "{errors}");
        assert!(errors.contains(expected) && errors.lines().count() == 1, "{errors}");
    }
    assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 1, "a refused server creates no files");
}

#[test]
fn flag_overrides_variable_and_variable_overrides_file() {
    let (text, name) = ("max-connections = 10", "max-connections");
    let variables = [("TASKEY_MAX_CONNECTIONS", "20")];
    assert_eq!(printed("", &[], &[], name), "max-connections = 1024 # default");
    assert_eq!(printed(text, &[], &[], name), "max-connections = 10 # taskey.toml, line 1");
    assert_eq!(printed(text, &variables, &[], name), "max-connections = 20 # variable TASKEY_MAX_CONNECTIONS");
    assert_eq!(printed(text, &variables, &["--max-connections", "30"], name), "max-connections = 30 # flag");
}

#[test]
fn empty_variable_counts_as_not_set() {
    let variables = [("TASKEY_MAX_CONNECTIONS", ""), ("TASKEY_INSECURE_PLAINTEXT", ""), ("TASKEY_CONFIG", "")];
    assert_eq!(printed("", &variables, &[], "max-connections"), "max-connections = 1024 # default");
    assert_eq!(printed("", &variables, &[], "insecure-plaintext"), "insecure-plaintext = false # default");
}

#[test]
fn booleans_may_be_true_yes_or_1() {
    for value in ["true", "yes", "1"] {
        let line = printed("", &[("TASKEY_INSECURE_PLAINTEXT", value)], &[], "insecure-plaintext");
        assert_eq!(line, "insecure-plaintext = true # variable TASKEY_INSECURE_PLAINTEXT");
    }
    let line = printed("insecure-plaintext = true", &[], &[], "insecure-plaintext");
    assert_eq!(line, "insecure-plaintext = true # taskey.toml, line 1");
}

#[test]
fn lists_are_permitted_for_flags_that_can_be_repeated() {
    let line = printed("\ntrusted-proxies = [\"192.0.2.1\", \"192.0.2.2\"]", &[], &[], "trusted-proxies");
    assert_eq!(line, "trusted-proxies = [\"192.0.2.1\", \"192.0.2.2\"] # taskey.toml, line 2");
    assert_refused("max-connections = [1, 2]", &[], "taskey.toml, line 1: invalid value of `max-connections`");
}

#[test]
fn printed_settings_contain_no_password_and_can_be_read_again() {
    let url = "postgres://taskey:secret@db.example.org/taskey";
    let line = printed(&format!("database-url = \"{url}\""), &[], &[], "database-url");
    assert!(line.starts_with("database-url = \"postgres://@db.example.org/taskey\""), "{line}");
    let folder = config("");
    let output = run(folder.path(), &[], &["config", "print"]);
    fs::write(folder.path().join("taskey.toml"), &output.stdout).expect("written");
    let output = run(folder.path(), &[], &["config", "check", "--config", "taskey.toml"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn invalid_setting_is_refused_with_its_source() {
    assert_refused(
        "max-connection = 1",
        &[],
        "taskey.toml, line 1: unknown key `max-connection`; did you mean `max-co",
    );
    assert_refused("colour = 1", &[], "taskey.toml, line 1: unknown key `colour`; the keys are the flags of");
    assert_refused("# Limits\nmax-connections = \"many\"", &[], "for `max-connections` in taskey.toml, line 2");
    assert_refused(
        "insecure-plaintext = 3",
        &[],
        "line 1: invalid value of `insecure-plaintext`: expected true or false",
    );
    assert_refused("max-connections = 2026-01-01", &[], "expected text or a number, not a date");
    assert_refused("max-connections = ", &[], "taskey.toml, line 1: ");
    assert_refused("max-connections = 1\nmax-connections = 2", &[], "taskey.toml, line 2: duplicate key");
    let variables = [("TASKEY_MAX_CONNECTIONS", "many")];
    assert_refused("", &variables, "for the variable TASKEY_MAX_CONNECTIONS");
}

#[test]
fn file_that_other_users_can_change_is_refused() {
    let folder = config("max-connections = 1");
    let file = folder.path().join("taskey.toml");
    for (mode, text, is_valid) in [
        (0o644, "max-connections = 1", true),
        (0o666, "max-connections = 1", false),
        (0o644, "database-url = \"postgres://taskey:secret@localhost/taskey\"", false),
        (0o600, "database-url = \"postgres://taskey:secret@localhost/taskey\"", true),
    ] {
        fs::write(&file, text).expect("written");
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).expect("changed");
        let output = run(folder.path(), &[], &["config", "check", "--config", "taskey.toml"]);
        let errors = String::from_utf8(output.stderr).expect("UTF-8");
        assert_eq!(output.status.success(), is_valid, "{mode:o} {errors}");
        assert!(!errors.contains("secret@") && (is_valid || errors.contains(&format!("mode {mode:04o}"))), "{errors}");
    }
}

#[test]
fn missing_file_is_refused() {
    let folder = folder();
    let output = run(folder.path(), &[], &["--config", "none.toml"]);
    let errors = String::from_utf8(output.stderr).expect("UTF-8");
    assert!(output.status.code() == Some(2) && errors.contains("cannot read none.toml"), "{errors}");
}

#[test]
fn every_program_prints_completions_and_a_manual_page() {
    for name in ["taskey", "auth-service", "task-service", "gateway"] {
        for (arguments, expected) in [(&["completions", "bash"][..], "complete -F"), (&["man"], ".TH")] {
            let output = Command::new(program(name)).env_clear().args(arguments).output().expect("the program runs");
            let text = String::from_utf8(output.stdout).expect("UTF-8");
            assert!(output.status.success() && text.contains(expected), "{name} {arguments:?}: {text}");
            assert!(text.contains("listen"), "{name} {arguments:?}");
        }
    }
}
