//! The command line of a program. Each setting is a flag, an environment variable and a key of the configuration file,
//! in this order of precedence.

use std::{
    env,
    ffi::OsString,
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use clap::{
    Arg, ArgAction, Command, Parser,
    builder::{BoolishValueParser, Resettable},
    error::{ContextKind, ContextValue, ErrorKind},
    value_parser,
};

use super::{
    config_command,
    config_file::{self, ConfigFile, without_credentials},
};

/// The environment variable of `--config`.
const CONFIG_VARIABLE: &str = "TASKEY_CONFIG";

/// Parses the settings of a program, and runs the commands that every program has: `config`, `completions` and `man`.
///
/// # Errors
/// The exit code of the program: 0 after one of these commands or after printing `--help` or `--version`, 1 if a command
/// failed, and 2 after printing an error in one line.
pub fn parse<P: Parser>() -> Result<P, ExitCode> {
    let arguments: Vec<OsString> = env::args_os().collect();
    let file = read_file(&P::command(), &arguments).map_err(|error| {
        _ = writeln!(io::stderr(), "error: {error:#}");
        ExitCode::from(2)
    })?;
    let command = file.apply(extend(P::command()));
    let fail = |error: clap::Error| report(&error, &command, &arguments, &file);
    let mut matches = command.clone().try_get_matches_from(&arguments).map_err(fail)?;
    if let Some(code) = config_command::run(&command, &matches, &file) {
        return Err(code);
    }
    P::from_arg_matches_mut(&mut matches).map_err(fail)
}

/// Adds the flag `--config` and the commands of every program. Booleans may be `1` or `yes`, and an empty environment
/// variable counts as not set.
fn extend(command: Command) -> Command {
    let config = Arg::new("config")
        .long("config")
        .env(CONFIG_VARIABLE)
        .value_name("FILE")
        .value_parser(value_parser!(PathBuf))
        .global(true)
        .help("Configuration file in TOML. Its keys are the names of the flags; flags and variables take precedence");
    let commands = config_command::commands(&command);
    normalize(command.arg(config).subcommands(commands).subcommand_negates_reqs(true))
}

fn normalize(command: Command) -> Command {
    let command = command.mut_args(|flag| {
        let is_empty = flag.get_env().and_then(env::var_os).is_some_and(|value| value.is_empty());
        let flag = if is_empty { flag.env(Resettable::Reset) } else { flag };
        match flag.get_action() {
            ArgAction::SetTrue => flag.value_parser(BoolishValueParser::new()),
            _ => flag,
        }
    });
    command.mut_subcommands(normalize)
}

/// Reads the file that `--config` or its variable names. Without one, there are no settings.
fn read_file(command: &Command, arguments: &[OsString]) -> anyhow::Result<ConfigFile> {
    let path = flag_value(arguments, "config").or_else(|| env::var_os(CONFIG_VARIABLE));
    match path {
        Some(path) if !path.is_empty() => ConfigFile::read(path.as_ref(), command),
        _ => Ok(ConfigFile::default()),
    }
}

/// Returns the value of a flag, before the command line is parsed.
fn flag_value(arguments: &[OsString], name: &str) -> Option<OsString> {
    let flag = format!("--{name}");
    let mut arguments = arguments.iter().take_while(|argument| *argument != "--");
    while let Some(argument) = arguments.next() {
        if *argument == *flag {
            return arguments.next().cloned();
        }
        if let Some(value) = argument.to_str().and_then(|text| text.strip_prefix(&flag)?.strip_prefix('=')) {
            return Some(value.into());
        }
    }
    None
}

/// Prints the text of `--help`, or an error in one line that names the source of the invalid value.
fn report(error: &clap::Error, command: &Command, arguments: &[OsString], file: &ConfigFile) -> ExitCode {
    if !error.use_stderr() {
        // The reader may have closed the pipe, as `head` does.
        _ = write!(io::stdout(), "{error}");
        return ExitCode::SUCCESS;
    }
    let text = without_credentials(&error.to_string());
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        _ = write!(io::stderr(), "{text}");
        return ExitCode::from(2);
    }
    let lines = text.lines().take_while(|line| !line.is_empty());
    let line = lines.map(str::trim).collect::<Vec<_>>().join(" ");
    // Only the flags of a built command can be compared with the text of an error.
    let mut command = command.clone();
    command.build();
    let invalid_flag = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(flag)) => config_file::flags(&command).find(|known| known.to_string() == *flag),
        _ => None,
    };
    let source = invalid_flag.and_then(|flag| source_before_parsing(flag, arguments, file));
    let line = match (invalid_flag, source) {
        (Some(flag), Some(source)) => line.replace(&format!("'{flag}'"), &source),
        _ => line,
    };
    _ = writeln!(io::stderr(), "{line}");
    ExitCode::from(2)
}

/// Returns what sets a flag, unless it is the command line.
fn source_before_parsing(flag: &Arg, arguments: &[OsString], file: &ConfigFile) -> Option<String> {
    let name = flag.get_long()?;
    let (long, assigned) = (format!("--{name}"), format!("--{name}="));
    let is_argument =
        |argument: &OsString| *argument == *long || argument.to_str().is_some_and(|text| text.starts_with(&assigned));
    if arguments.iter().any(is_argument) {
        return None;
    }
    match flag.get_env() {
        Some(variable) if env::var_os(variable).is_some() => Some(format!("the variable {}", variable.display())),
        _ => file.source(name).map(|place| format!("`{name}` in {place}")),
    }
}
