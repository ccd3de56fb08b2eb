//! The commands that every program has: `config check`, `config print`, `completions` and `man`.

use std::{
    ffi::OsStr,
    fmt::Write as _,
    io::{self, Write},
    process::ExitCode,
};

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use clap_complete::Shell;
use clap_mangen::Man;
use toml::Value;

use super::config_file::{self, ConfigFile, source, without_credentials};

/// Returns the commands. Those of `config` accept the flags of the server.
pub fn commands(server: &Command) -> [Command; 3] {
    let with_flags = |name: &'static str, about: &'static str| {
        let flags = server.get_arguments().filter(|flag| !flag.is_global_set()).cloned();
        Command::new(name).about(about).args(flags)
    };
    let config = Command::new("config")
        .about("Check or print the settings of the server")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(with_flags("check", "Report invalid settings, and exit with 2 if there are any"))
        .subcommand(with_flags("print", "Print all settings in TOML, with their sources and without passwords"));
    let shell = Arg::new("shell").required(true).value_parser(value_parser!(Shell)).value_name("SHELL");
    let completions = Command::new("completions").about("Print the completions for a shell").arg(shell);
    [config, completions, Command::new("man").about("Print the manual page, in the format of man(7)")]
}

/// Runs the command, if it is one of these. Returns its exit code.
pub fn run(program: &Command, matches: &ArgMatches, file: &ConfigFile) -> Option<ExitCode> {
    let output = match matches.subcommand()? {
        ("config", config) => match config.subcommand()? {
            ("check", _) => b"the settings are valid\n".to_vec(),
            (_, settings) => print(program, settings, file),
        },
        ("completions", arguments) => {
            let mut output = Vec::new();
            let shell = *arguments.get_one::<Shell>("shell")?;
            clap_complete::generate(shell, &mut program.clone(), program.get_name(), &mut output);
            output
        }
        ("man", _) => manual(program),
        _ => return None,
    };
    Some(match io::stdout().write_all(&output) {
        // The reader may have closed the pipe, as `head` does.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => ExitCode::FAILURE,
        _ => ExitCode::SUCCESS,
    })
}

/// Returns the manual page of a program.
fn manual(program: &Command) -> Vec<u8> {
    let mut output = Vec::new();
    Man::new(program.clone()).render(&mut output).expect("writing to memory succeeds");
    output
}

/// Returns all settings as a configuration file. The comment behind each value is its source.
fn print(program: &Command, matches: &ArgMatches, file: &ConfigFile) -> Vec<u8> {
    let mut output = String::new();
    for flag in config_file::flags(program) {
        if let (Some(name), Some(value)) = (flag.get_long(), toml_value(flag, matches)) {
            _ = writeln!(output, "{name} = {value} # {}", source(flag, matches, file));
        }
    }
    output.into_bytes()
}

/// Returns the value of a flag in TOML, without passwords, or nothing if it has no value.
fn toml_value(flag: &Arg, matches: &ArgMatches) -> Option<String> {
    let id = flag.get_id().as_str();
    if !flag.get_action().takes_values() {
        return Some(matches.get_flag(id).to_string());
    }
    let to_toml = |value: &OsStr| {
        let text = value.to_string_lossy();
        let text = if config_file::is_secret(flag) { without_credentials(&text) } else { text.into_owned() };
        text.parse().map_or_else(|_| Value::String(text), Value::Integer).to_string()
    };
    let values: Vec<_> = matches.get_raw(id)?.map(to_toml).collect();
    match &values[..] {
        [value] if !matches!(flag.get_action(), ArgAction::Append) => Some(value.clone()),
        values => Some(format!("[{}]", values.join(", "))),
    }
}
