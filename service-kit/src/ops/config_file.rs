//! The configuration file: a TOML file whose keys are the names of the flags, without the dashes.
//!
//! The value of a key replaces the default of its flag. Flags and environment variables therefore take precedence.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use anyhow::Context;
use clap::{Arg, ArgAction, ArgMatches, Command, parser::ValueSource};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::secret_file;

/// Maximum size of a configuration file.
const MAX_BYTES: u64 = 1024 * 1024;

/// A key is suggested instead of an unknown one if they are at least this similar, by Jaro-Winkler.
const MIN_SIMILARITY: f64 = 0.8;

/// The settings of a configuration file.
#[derive(Debug, Default)]
pub struct ConfigFile {
    path: PathBuf,
    settings: BTreeMap<String, Setting>,
}

/// The values of a key, of which only lists have several, and its line.
#[derive(Debug)]
struct Setting {
    values: Vec<String>,
    line: usize,
}

impl ConfigFile {
    /// Reads the settings of a program from a file.
    ///
    /// # Errors
    /// If it cannot be read, is not TOML, contains an unknown key or a value of the wrong type, if other users may write
    /// it, or if it contains a secret and other users may read it. The message names the file and the line.
    pub fn read(path: &Path, command: &Command) -> anyhow::Result<Self> {
        let text = read(path)?;
        let at = |offset: usize| format!("{}, line {}", path.display(), line_of(&text, offset));
        let table = DeTable::parse(&text).map_err(|error| {
            let offset = error.span().map_or(0, |span| span.start);
            anyhow::anyhow!("{}: {}", at(offset), error.message())
        })?;
        let mut settings = BTreeMap::new();
        for (key, value) in table.into_inner() {
            let place = at(key.span().start);
            let line = line_of(&text, key.span().start);
            let key = key.into_inner().into_owned();
            let flag = find(command, &key).with_context(|| format!("{place}: {}", unknown_key(command, &key)))?;
            let values = values_of(value, flag).with_context(|| format!("{place}: invalid value of `{key}`"))?;
            if is_secret(flag) && values.iter().any(|value| has_password(value)) {
                secret_file::read(path).with_context(|| format!("{place}: `{key}` contains a password"))?;
            }
            settings.insert(key, Setting { values, line });
        }
        Ok(Self { path: path.to_owned(), settings })
    }

    /// Returns the command with the values of the file as the defaults of its flags, and of the same flags of its
    /// sub-commands.
    #[must_use]
    pub fn apply(&self, command: Command) -> Command {
        let command = command.mut_args(|flag| match flag.get_long().and_then(|name| self.settings.get(name)) {
            Some(setting) => {
                let hides_default = flag.get_action().takes_values();
                flag.required(false).default_values(&setting.values).hide_default_value(hides_default)
            }
            None => flag,
        });
        command.mut_subcommands(|command| self.apply(command))
    }

    /// Returns where the file sets a flag, as `taskey.toml, line 3`, if it does.
    #[must_use]
    pub fn source(&self, name: &str) -> Option<String> {
        self.settings.get(name).map(|setting| format!("{}, line {}", self.path.display(), setting.line))
    }
}

/// Reads the text of a file that other users cannot change.
fn read(path: &Path) -> anyhow::Result<String> {
    let name = path.display();
    let metadata = fs::metadata(path).with_context(|| format!("cannot read {name}"))?;
    anyhow::ensure!(metadata.is_file(), "{name} is not a regular file");
    anyhow::ensure!(metadata.len() <= MAX_BYTES, "{name} is too large");
    let mode = metadata.permissions().mode() & 0o777;
    anyhow::ensure!(mode & 0o022 == 0, "{name} has mode {mode:04o}, so that other users can change it: chmod 600 it");
    fs::read_to_string(path).with_context(|| format!("cannot read {name}"))
}

fn line_of(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}

/// Returns the flags that a configuration file can set.
pub(super) fn flags(command: &Command) -> impl Iterator<Item = &Arg> {
    let is_setting =
        |flag: &&Arg| !matches!(flag.get_id().as_str(), "config" | "help" | "version") && flag.get_long().is_some();
    command.get_arguments().filter(is_setting)
}

fn find<'c>(command: &'c Command, name: &str) -> Option<&'c Arg> {
    flags(command).find(|flag| flag.get_long() == Some(name))
}

fn unknown_key(command: &Command, key: &str) -> String {
    let names = flags(command).filter_map(Arg::get_long);
    let nearest = names
        .map(|name| (strsim::jaro_winkler(name, key), name))
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .filter(|(similarity, _)| *similarity >= MIN_SIMILARITY);
    match nearest {
        Some((_, name)) => format!("unknown key `{key}`; did you mean `{name}`?"),
        None => format!("unknown key `{key}`; the keys are the flags of `{} --help`", command.get_name()),
    }
}

/// Returns the values of a flag. A list is permitted for flags that can be repeated.
fn values_of(value: Spanned<DeValue<'_>>, flag: &Arg) -> anyhow::Result<Vec<String>> {
    let is_switch = !flag.get_action().takes_values();
    let repeats = matches!(flag.get_action(), ArgAction::Append)
        || flag.get_value_delimiter().is_some()
        || flag.get_num_args().is_some_and(|range| range.max_values() > 1);
    match value.into_inner() {
        DeValue::Array(values) if repeats => values.into_iter().map(|value| text_of(value.into_inner())).collect(),
        DeValue::Array(_) => anyhow::bail!("expected one value, not a list"),
        DeValue::Boolean(value) => Ok(vec![value.to_string()]),
        _ if is_switch => anyhow::bail!("expected true or false"),
        value => Ok(vec![text_of(value)?]),
    }
}

fn text_of(value: DeValue<'_>) -> anyhow::Result<String> {
    match value {
        DeValue::String(text) => Ok(text.into_owned()),
        DeValue::Integer(number) => Ok(number.to_string()),
        DeValue::Float(number) => Ok(number.to_string()),
        DeValue::Boolean(value) => Ok(value.to_string()),
        DeValue::Datetime(_) => anyhow::bail!("expected text or a number, not a date"),
        DeValue::Array(_) => anyhow::bail!("expected text or a number, not a list"),
        DeValue::Table(_) => anyhow::bail!("expected text or a number, not a table"),
    }
}

/// Reports whether values of a flag can contain a secret. `--help` does not show them.
pub(super) fn is_secret(flag: &Arg) -> bool {
    flag.is_hide_env_values_set()
}

/// Reports whether a URL contains a password.
fn has_password(value: &str) -> bool {
    let authority = value.split_once("://").map_or("", |(_, rest)| rest.split(['/', '?']).next().unwrap_or_default());
    authority.rsplit_once('@').is_some_and(|(user, _)| user.contains(':')) || value.contains("password=")
}

/// Returns what sets a flag: `flag`, `variable NAME`, the line of the file, or `default`.
pub(super) fn source(flag: &Arg, matches: &ArgMatches, file: &ConfigFile) -> String {
    match (matches.value_source(flag.get_id().as_str()), flag.get_env()) {
        (Some(ValueSource::CommandLine), _) => "flag".to_owned(),
        (Some(ValueSource::EnvVariable), Some(variable)) => format!("variable {}", variable.display()),
        _ => flag.get_long().and_then(|name| file.source(name)).unwrap_or("default".to_owned()),
    }
}

/// Removes user and password from every URL in a text, because error messages quote invalid values.
pub(super) fn without_credentials(text: &str) -> String {
    let mut parts = text.split("://");
    let mut clean = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let authority_end = part.find(|c: char| c.is_whitespace() || c == '\'').unwrap_or(part.len());
        let rest = part[..authority_end].rfind('@').map_or(part, |at| &part[at..]);
        clean.push_str("://");
        clean.push_str(rest);
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::without_credentials;

    #[test]
    fn credentials_are_removed_from_urls() {
        for (text, clean) in [
            ("'postgres://u:hunter2@h:x/db' for", "'postgres://@h:x/db' for"),
            ("postgres://u:p@ss@h/db", "postgres://@h/db"),
            ("http://host/a@b", "http://@b"),
            ("a://b:c@d e://f:g@h", "a://@d e://@h"),
            ("no URL, but a@b", "no URL, but a@b"),
        ] {
            assert_eq!(without_credentials(text), clean);
        }
    }
}
