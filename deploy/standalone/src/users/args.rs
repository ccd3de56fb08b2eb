//! The subcommands of `users` and their options.

use clap::{Args, Subcommand};
use service_kit::id;

use crate::token::InstallationArgs;

/// The commands for administrators.
#[derive(Clone, Debug, Subcommand)]
pub enum UsersCommand {
    /// Print the accounts, newest first: id, email address, roles, state and time of the sign-up
    List(ListArgs),
    /// Disable an account and revoke its sessions. Its user cannot log in until it is enabled
    Disable(AccountArgs),
    /// Enable an account that was disabled
    Enable(AccountArgs),
    /// Let a user log in again who has entered too many wrong passwords
    Unlock(AccountArgs),
    /// Print the active sessions of an account, newest first: id, label, IP address, time of the login and of the last use
    Sessions(SessionsArgs),
}

/// The options of `list`.
#[derive(Args, Clone, Debug)]
pub struct ListArgs {
    /// Which accounts: `email:PREFIX`, `role:NAME` or `disabled:true`, combined with AND, OR and NOT [default: all]
    #[arg(long, default_value = "", hide_default_value = true)]
    pub filter: String,

    /// How to print and which installation to call.
    #[command(flatten)]
    pub common: CommonArgs,
}

/// The options of a command for one account.
#[derive(Args, Clone, Debug)]
pub struct AccountArgs {
    /// Email address or id of the account
    #[arg(value_parser = account)]
    pub account: Account,

    /// How to print and which installation to call.
    #[command(flatten)]
    pub common: CommonArgs,
}

/// The options of `sessions`.
#[derive(Args, Clone, Debug)]
pub struct SessionsArgs {
    /// Revoke all sessions of the account, and print their number
    #[arg(long)]
    pub revoke: bool,

    /// The account.
    #[command(flatten)]
    pub account: AccountArgs,
}

/// The options of all commands.
#[derive(Args, Clone, Debug)]
pub struct CommonArgs {
    /// Print one JSON object per line, with the fields of the API
    #[arg(long)]
    pub json: bool,

    /// The installation.
    #[command(flatten)]
    pub installation: InstallationArgs,
}

/// How an account is named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Account {
    /// By its id.
    Id(String),
    /// By its email address, in lower case.
    Email(String),
}

fn account(text: &str) -> Result<Account, String> {
    match id::parse(text) {
        Some(id) => Ok(Account::Id(id.to_string())),
        None if text.contains('@') => Ok(Account::Email(text.to_lowercase())),
        None => Err("expected an email address or an id".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn account_is_an_id_or_an_email_address() {
        let id = "0198c0de-0000-7000-8000-000000000000";
        assert_eq!(account(id), Ok(Account::Id(id.to_owned())));
        assert_eq!(account("Ann@Example.com"), Ok(Account::Email("ann@example.com".to_owned())));
        assert!(account("ann").is_err() && account("").is_err());
    }
}
